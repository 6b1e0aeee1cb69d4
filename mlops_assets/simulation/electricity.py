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
FAULTS = (Fault("nswdemand", None), Fault("nswdemand", 7.5), Fault("transfer", "OFFLINE"), Fault("period", 24))
LATE, SETTLED = ("nswprice", "class"), "settled_at"
WEEK, WRITTEN = timedelta(days=7), "%Y-%m-%d %H:%M:%S"
DISPUTED_SHARE, WRONG_SHARE = 0.03, 0.01


@dataclass(frozen=True)
class ElectricityWorld:
    """The feeds of `electricity_price`, week by week: the columns of the public data set, out of a seed.

    The price follows demand, and the label says whether it is above its mean of the last 24 hours. Until
    `VICTORIA_JOINS` the neighbour's columns hold fill values; from then on its market is coupled to this one: its
    columns live, demand is higher and swings less, and the transfer between the two tells of the price.
    0.5 % of the rows is broken; of `DIRTY_DELIVERY` the first attempt is 10 % broken.

    Price and label are known when a half-hour is settled, three to seven days after it, and come in files of their own:
    most of a week's a week after its rows. Another week later come those of `DISPUTED_SHARE` of the half-hours, and the
    corrections of the `WRONG_SHARE` whose label was wrong at first.
    """

    seed: int = 19960506
    model: str = "electricity_price"
    late: tuple[str, ...] = LATE

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
        """All of the week that begins on `start`."""
        rows, random = self._week(start)
        share = 0.1 if attempt + 1 < self.attempts(start) else 0.005
        return spoiled(rows, share, FAULTS, random)

    def comes(self, start: date) -> date:
        """The next Monday."""
        return start + WEEK

    def labels(self, start: date) -> dict[str, pd.DataFrame]:
        """What was settled of the two weeks before, each with the half-hour and the moment when it was settled."""
        files = {}
        for number, week in enumerate((start - WEEK, start - 2 * WEEK), 1):
            if week >= FIRST:
                known = self._settled(week)
                earlier = known[SETTLED] < f"{self.comes(week) + WEEK}"
                files[label_file(week, number)] = known[earlier if number == 1 else ~earlier]
        return files

    def _week(self, start: date) -> tuple[pd.DataFrame, np.random.Generator]:
        """The sound rows of a week, and what is left of its chance."""
        random = np.random.default_rng([self.seed, start.year, start.month, start.day])
        times = pd.date_range(start - timedelta(days=1), periods=8 * DAY, freq="30min")
        return _market(times, start >= VICTORIA_JOINS, random)[DAY:].reset_index(drop=True), random

    def _settled(self, start: date) -> pd.DataFrame:
        """Every label of a week that was ever known, in the order in which they became known."""
        random = np.random.default_rng([self.seed, start.year, start.month, start.day, 1])
        rows = self._week(start)[0][["ts", *LATE]]
        chosen = random.permutation(len(rows))
        disputed, wrong = np.split(chosen, [round(DISPUTED_SHARE * len(rows))])
        wrong = wrong[: round(WRONG_SHARE * len(rows))]
        days = 3 + np.minimum(random.gamma(4, 0.4, len(rows)), 3.9)
        days[disputed] += 7
        settled = pd.to_datetime(rows["ts"]) + pd.to_timedelta(days, unit="D")
        known = rows.assign(**{SETTLED: settled.dt.strftime(WRITTEN)})
        again = rows.loc[wrong].assign(**{SETTLED: (settled[wrong] + WEEK).dt.strftime(WRITTEN)})
        known.loc[wrong, "class"] = 1 - known.loc[wrong, "class"]
        return pd.concat([known, again]).sort_values([SETTLED, "ts"], kind="stable", ignore_index=True)


def label_file(week: date, number: int) -> str:
    """Such as labels-1996-05-06-1.csv.gz, for the first labels of a week."""
    return f"labels-{week:%Y-%m-%d}-{number}.csv.gz"


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
            "ts": times.strftime(WRITTEN),
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
