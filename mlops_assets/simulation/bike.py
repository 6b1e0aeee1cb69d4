"""A city's rental bicycles by the hour: season, weather, growth, and the day when weekends are closed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd

from mlops_assets.simulation.dirt import Fault, spoiled
from mlops_assets.simulation.series import lasting

FIRST, LAST = date(2011, 1, 1), date(2012, 12, 1)
WEEKENDS_CLOSED = date(2012, 2, 1)
DIRTY_DELIVERY = date(2011, 12, 1)
FAULTS = (
    Fault("cnt", None),
    Fault("hum", 1.73),
    Fault("windspeed", "E-14"),
    Fault("temp", -9.99),
    Fault("weathersit", 0),
)
WORKDAY = [2, 1, 1, 1, 2, 8, 30, 85, 120, 60, 38, 44, 58, 56, 54, 64, 98, 150, 135, 92, 66, 48, 32, 16]
WEEKEND = [28, 22, 16, 8, 3, 4, 8, 16, 34, 58, 84, 104, 120, 124, 122, 118, 110, 98, 80, 62, 48, 40, 34, 26]
HOLIDAYS = {(1, 1), (1, 17), (2, 21), (4, 16), (5, 30), (7, 4), (9, 5), (10, 10), (11, 11), (11, 24), (12, 25)}


@dataclass(frozen=True)
class BikeWorld:
    """The feed of `bike_demand`, month by month: the columns of the public data set, out of a seed.

    Rentals follow the hour, the kind of day, the weather and the season, and grow by 3 % a month. From
    `WEEKENDS_CLOSED` on nothing is rented at weekends: those rows are gone, and some of their rides move to other days.
    1 % of the hours is missing and 1 % of the rows is broken; of `DIRTY_DELIVERY` the first attempt is 12 % broken.
    """

    seed: int = 20110101
    model: str = "bike_demand"
    late: tuple[str, ...] = ()

    def starts(self) -> list[date]:
        """The first day of each month, January 2011 to December 2012."""
        return [month.date() for month in pd.date_range(FIRST, LAST, freq="MS")]

    def file_name(self, start: date) -> str:
        """Such as bike-2011-01.csv."""
        return f"bike-{start:%Y-%m}.csv"

    def comes(self, start: date) -> date:
        """The first day of the next month."""
        return start + timedelta(days=pd.Timestamp(start).days_in_month)

    def labels(self, start: date) -> dict[str, pd.DataFrame]:  # noqa: ARG002
        """None: the rentals stand in the rows."""
        return {}

    def attempts(self, start: date) -> int:
        """Two for the dirty delivery, one for every other."""
        return 2 if start == DIRTY_DELIVERY else 1

    def partition(self, start: date, attempt: int = 0) -> pd.DataFrame:
        """The rows of the month that begins on `start`."""
        random = np.random.default_rng([self.seed, start.year, start.month])
        times = pd.date_range(start, periods=pd.Timestamp(start).days_in_month * 24, freq="h")
        weather = _weather(times, random)
        rows = _rentals(_calendar(times), weather, random)
        kept = random.random(len(rows)) > 0.01
        if start >= WEEKENDS_CLOSED:
            kept &= times.dayofweek < 5
        share = 0.12 if attempt + 1 < self.attempts(start) else 0.01
        return spoiled(rows[kept].reset_index(drop=True), share, FAULTS, random)


def _calendar(times: pd.DatetimeIndex) -> pd.DataFrame:
    weekday = (times.dayofweek + 1) % 7
    holiday = np.array([(time.month, time.day) in HOLIDAYS for time in times])
    return pd.DataFrame(
        {
            "instant": (times - pd.Timestamp(FIRST)) // pd.Timedelta(hours=1) + 1,
            "dteday": times.strftime("%Y-%m-%d"),
            "season": (times.month % 12 // 3) + 1,
            "yr": times.year - FIRST.year,
            "mnth": times.month,
            "hr": times.hour,
            "holiday": holiday.astype(int),
            "weekday": weekday,
            "workingday": (~holiday & (weekday > 0) & (weekday < 6)).astype(int),
        }
    )


def _weather(times: pd.DatetimeIndex, random: np.random.Generator) -> pd.DataFrame:
    """Temperature with season, day and a warm or cold spell of days; clouds that last; all as shares of a maximum."""
    days = int(np.ceil(len(times) / 24))
    spell = np.repeat(lasting(days, 0.7, random), 24)[: len(times)]
    season = -np.cos(2 * np.pi * (times.dayofyear.to_numpy() - 20) / 365)
    hour = -np.cos(2 * np.pi * (times.hour.to_numpy() - 3) / 24)
    temp = 0.5 + 0.22 * season + 0.07 * hour + 0.06 * spell + random.normal(0, 0.01, len(times))
    clouds = lasting(len(times), 0.93, random)
    hum = 0.62 - 0.12 * hour + 0.13 * clouds + random.normal(0, 0.03, len(times))
    wind = random.gamma(2.2, 0.085, len(times))
    return pd.DataFrame(
        {
            "weathersit": np.select([clouds < 0.5, clouds < 1.4, clouds < 2.8], [1, 2, 3], 4),
            "temp": np.clip(temp, 0.02, 1).round(2),
            "atemp": np.clip(temp - 0.15 * wind + 0.02, 0, 1).round(4),
            "hum": np.clip(hum, 0.15, 1).round(2),
            "windspeed": np.clip(wind, 0, 0.85).round(4),
        }
    )


def _rentals(calendar: pd.DataFrame, weather: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    """Calendar and weather with the rides of members and of visitors, and their sum, the target."""
    hours, working = calendar["hr"].to_numpy(), calendar["workingday"].to_numpy() == 1
    profile = np.where(working, np.take(WORKDAY, hours), np.take(WEEKEND, hours))
    comfort = np.exp(-(((weather["temp"] - 0.66) / 0.4) ** 2)) * (1.15 - 0.35 * weather["hum"])
    sky = np.take([1.0, 0.93, 0.62, 0.35], weather["weathersit"] - 1)
    months = calendar["yr"] * 12 + calendar["mnth"] - 1
    closed = (months >= (WEEKENDS_CLOSED.year - FIRST.year) * 12 + WEEKENDS_CLOSED.month - 1).to_numpy()
    moved = np.where(closed & (hours >= 17), 1.3, 1.0)
    expected = profile * comfort * sky * 1.03**months * moved * 1.9
    total = random.poisson(expected * random.gamma(25, 1 / 25, len(expected)))
    visitors = random.binomial(total, np.where(working, 0.13, 0.32))
    rides = pd.DataFrame({"casual": visitors, "registered": total - visitors, "cnt": total})
    return pd.concat([calendar, weather, rides], axis=1)
