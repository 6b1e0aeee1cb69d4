"""An electricity market by the half-hour: demand and price of one state, and the day when its neighbour joins."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd

from mlops_assets.simulation.dirt import Fault, spoiled
from mlops_assets.simulation.series import lasting

FIRST, LAST = date(1996, 5, 6), date(1998, 11, 30)
VICTORIA_JOINS = date(1997, 5, 5)
DIRTY_DELIVERY = date(1997, 4, 14)
DAY = 48
FILL = {"vicprice": 0.003467, "vicdemand": 0.422915, "transfer": 0.414912}
FAULTS = (Fault("nswdemand", None), Fault("nswdemand", 7.5), Fault("transfer", "OFFLINE"), Fault("class", 2))


@dataclass(frozen=True)
class ElectricityWorld:
    """The feed of `electricity_price`, week by week: the columns of the public data set, out of a seed.

    The price follows demand, and the label says whether it is above its mean of the last 24 hours. Until
    `VICTORIA_JOINS` the neighbour's columns hold fill values; from then on its market is coupled to this one: its
    columns live, demand is higher and swings less, and the transfer between the two tells of the price.
    0.5 % of the rows is broken; of `DIRTY_DELIVERY` the first attempt is 10 % broken.
    """

    seed: int = 19960506
    model: str = "electricity_price"

    def starts(self) -> list[date]:
        """Each Monday from 6 May 1996 to 30 November 1998."""
        return [monday.date() for monday in pd.date_range(FIRST, LAST, freq="7D")]

    def file_name(self, start: date) -> str:
        """Such as electricity-1996-05-06.csv.gz."""
        return f"electricity-{start:%Y-%m-%d}.csv.gz"

    def attempts(self, start: date) -> int:
        """Two for the dirty delivery, one for every other."""
        return 2 if start == DIRTY_DELIVERY else 1

    def partition(self, start: date, attempt: int = 0) -> pd.DataFrame:
        """The rows of the week that begins on `start`."""
        random = np.random.default_rng([self.seed, start.year, start.month, start.day])
        times = pd.date_range(start - timedelta(days=1), periods=8 * DAY, freq="30min")
        rows = _market(times, start >= VICTORIA_JOINS, random)[DAY:].reset_index(drop=True)
        share = 0.1 if attempt + 1 < self.attempts(start) else 0.005
        return spoiled(rows, share, FAULTS, random)


def _market(times: pd.DatetimeIndex, joined: bool, random: np.random.Generator) -> pd.DataFrame:
    """Demand, prices and label of one week and the day before it, by which its first labels are known."""
    period = ((times.hour * 60 + times.minute) / 1410).to_numpy()
    nsw = _demand(times, 0.42, 0.16, random)
    neighbour = {name: np.full(len(times), value) for name, value in FILL.items()}
    price = 0.02 + 0.09 * nsw**1.5 + 0.008 * lasting(len(times), 0.9, random)
    if joined:
        nsw = 0.22 + 0.75 * nsw
        vic = _demand(times, 0.45, 0.12, random)
        transfer = np.clip(0.5 + 0.6 * (nsw - vic) + 0.05 * lasting(len(times), 0.8, random), 0, 1)
        vicprice = np.clip(0.001 + 0.006 * vic**1.5 + 0.0008 * lasting(len(times), 0.9, random), 0, 1)
        price = price - 0.05 * (transfer - 0.5) + 4 * (vicprice - 0.003)
        neighbour = {"vicprice": vicprice.round(6), "vicdemand": vic.round(6), "transfer": transfer.round(6)}
    label = price > pd.Series(price).rolling(DAY).mean().to_numpy()
    return pd.DataFrame(
        {
            "ts": times.strftime("%Y-%m-%d %H:%M:%S"),
            "day": times.dayofweek + 1,
            "period": period.round(6),
            "nswprice": np.clip(price, 0, 1).round(6),
            "nswdemand": nsw.round(6),
            **neighbour,
            "class": label.astype(int),
        }
    )


def _demand(times: pd.DatetimeIndex, level: float, swing: float, random: np.random.Generator) -> np.ndarray:
    """Two peaks a day, quieter at the weekend and busier in winter (July), with weather that lasts for hours."""
    hours = (times.hour + times.minute / 60).to_numpy()
    daily = -np.cos(2 * np.pi * (hours - 4) / 24) + 0.4 * np.cos(4 * np.pi * (hours - 9) / 24)
    weekend = np.where(times.dayofweek >= 5, -0.06, 0.0)
    season = -0.02 * np.cos(2 * np.pi * (times.dayofyear.to_numpy() - 10) / 365)
    return np.clip(level + swing * daily + weekend + season + 0.035 * lasting(len(times), 0.97, random), 0, 1)
