"""The public data sets as worlds: their rows, cut into the deliveries that a provider would have sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from mlops_assets.simulation.bike import BikeWorld
from mlops_assets.simulation.electricity import ElectricityWorld

BIKES, MARKET = "bike_sharing_hourly/hour.csv", "elec2_nsw/elec2_with_ts_derived.parquet"


class NoDataError(Exception):
    """A folder does not hold the public data sets."""


@dataclass(frozen=True, eq=False)
class RecordedWorld:
    """What really happened, window by window: `windows` holds the first day of the window of each of `rows`."""

    model: str
    rows: pd.DataFrame
    windows: np.ndarray
    named: Callable[[date], str]

    def starts(self) -> list[date]:
        """The first day of each window that has rows."""
        return sorted(pd.Timestamp(window).date() for window in np.unique(self.windows))

    def file_name(self, start: date) -> str:
        """The name that the simulated provider would give the file."""
        return self.named(start)

    def attempts(self, start: date) -> int:  # noqa: ARG002
        """One: what happened cannot be corrected."""
        return 1

    def partition(self, start: date, attempt: int = 0) -> pd.DataFrame:  # noqa: ARG002
        """The rows of the window, in the raw format."""
        return self.rows[self.windows == np.datetime64(start)].reset_index(drop=True)


def recorded_worlds(folder: Path) -> list[RecordedWorld]:
    """The bike and electricity data sets under `folder`. Raises NoDataError naming the file that is not there."""
    for name in (BIKES, MARKET):
        if not (folder / name).is_file():
            raise NoDataError(f"--data: there is no {folder / name}.")
    bikes, market = pd.read_csv(folder / BIKES), pd.read_parquet(folder / MARKET)
    months = bikes["dteday"].to_numpy().astype("M8[M]").astype("M8[D]")
    days = market["ts"].to_numpy().astype("M8[D]")
    weeks = days - (days - np.datetime64(ElectricityWorld().starts()[0])) % np.timedelta64(7, "D")
    return [
        RecordedWorld("bike_demand", bikes, months, BikeWorld().file_name),
        RecordedWorld("electricity_price", market, weeks, ElectricityWorld().file_name),
    ]
