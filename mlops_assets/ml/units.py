"""Units: the conversions by which a column is found to come in another unit than before."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Conversion(NamedTuple):
    """A linear map from one unit to another: `scale` times the value, plus `offset`.

    It is thought of where the median was from `least` to `most` before.
    """

    name: str
    scale: float
    offset: float = 0.0
    least: float = float("-inf")
    most: float = float("inf")

    def undone(self, values: np.ndarray) -> np.ndarray:
        """What the values were before they were converted, in ascending order where they were."""
        with np.errstate(over="ignore"):  # of values near the largest float
            before = (values - self.offset) / self.scale
        return before if self.scale > 0 else before[::-1]

    def fits(self, deciles: np.ndarray) -> bool:
        """Whether it is thought of for a column that has these deciles now."""
        return bool(self.least <= self.undone(deciles)[len(deciles) // 2] <= self.most)

    @property
    def factor(self) -> float:
        """By how much it multiplies or divides, at least 1; infinite where it also moves the zero or turns the sign."""
        if self.offset or self.scale < 0:
            return float("inf")
        return max(self.scale, 1 / self.scale)


SCALES = {
    "from a number to its thousandfold": 1000.0,
    "from a number to its millionfold": 1e6,
    "from a share to per cent": 100.0,
    "from a number to its tenfold": 10.0,
    "from hours to minutes, or minutes to seconds": 60.0,
    "from hours to seconds": 3600.0,
    "from days to hours": 24.0,
    "from m/s to km/h": 3.6,
    "from miles to kilometres": 1.609344,
    "from kilograms to pounds, or m/s to mph": 2.20462,
    "from inches to centimetres": 2.54,
    "from inches to millimetres": 25.4,
    "from metres to feet": 3.28084,
    "from ounces to grams": 28.3495,
}
CELSIUS, FAHRENHEIT, KELVIN = (-100.0, 500.0), (-150.0, 930.0), (170.0, 775.0)
TEMPERATURES = (
    Conversion("from degrees Celsius to Fahrenheit", 1.8, 32.0, *CELSIUS),
    Conversion("from degrees Fahrenheit to Celsius", 1 / 1.8, -32 / 1.8, *FAHRENHEIT),
    Conversion("from degrees Celsius to kelvin", 1.0, 273.15, *CELSIUS),
    Conversion("from kelvin to degrees Celsius", 1.0, -273.15, *KELVIN),
    Conversion("from degrees Fahrenheit to kelvin", 1 / 1.8, 273.15 - 32 / 1.8, *FAHRENHEIT),
    Conversion("from kelvin to degrees Fahrenheit", 1.8, 32 - 1.8 * 273.15, *KELVIN),
)
CONVERSIONS = (
    *(Conversion(name, scale) for name, scale in SCALES.items()),
    *(Conversion(f"{name}, undone", 1 / scale) for name, scale in SCALES.items()),
    *TEMPERATURES,
    Conversion("the sign turned round", -1.0),
)
