"""The public data sets as worlds: their rows, cut into the deliveries that a provider would have sent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from mlops_assets.simulation.bike import BikeWorld
from mlops_assets.simulation.delivery import World
from mlops_assets.simulation.electricity import SETTLED, WEEK, ElectricityWorld, label_file

BIKES, MARKET = "bike_sharing_hourly/hour.csv", "elec2_nsw/elec2_with_ts_derived.parquet"


class NoDataError(Exception):
    """A folder does not hold the public data sets."""


@dataclass(frozen=True, eq=False)
class RecordedWorld:
    """What really happened, window by window: `windows` holds the first day of the window of each of `rows`.

    It is delivered as the simulated world `like` it is: under the same names, and without the same columns at first.
    """

    rows: pd.DataFrame
    windows: np.ndarray
    like: World

    @property
    def model(self) -> str:
        """Whose deliveries they are."""
        return self.like.model

    @property
    def late(self) -> tuple[str, ...]:
        """The columns that the simulated world knows only later."""
        return self.like.late

    def starts(self) -> list[date]:
        """The first day of each window that has rows."""
        return sorted(pd.Timestamp(window).date() for window in np.unique(self.windows))

    def file_name(self, start: date) -> str:
        """The name that the simulated provider would give the file."""
        return self.like.file_name(start)

    def attempts(self, start: date) -> int:  # noqa: ARG002
        """One: what happened cannot be corrected."""
        return 1

    def partition(self, start: date, attempt: int = 0) -> pd.DataFrame:  # noqa: ARG002
        """All of the window, in the raw format."""
        return self.rows[self.windows == np.datetime64(start)].reset_index(drop=True)

    def comes(self, start: date) -> date:
        """The first day after the window."""
        return self.like.comes(start)

    def labels(self, start: date) -> dict[str, pd.DataFrame]:
        """All labels of the window before. Nothing says when they were known: a week after their rows, as it were."""
        before = max((each for each in self.starts() if each < start), default=None)
        if before is None or not self.late:
            return {}
        rows = self.partition(before)[["ts", *self.late]]
        return {label_file(before, 1): rows.assign(**{SETTLED: rows["ts"] + WEEK})}


def recorded_worlds(folder: Path) -> list[RecordedWorld]:
    """The bike and electricity data sets under `folder`. Raises NoDataError naming the file that is not there."""
    for name in (BIKES, MARKET):
        if not (folder / name).is_file():
            raise NoDataError(f"--data: there is no {folder / name}.")
    bikes, market = pd.read_csv(folder / BIKES), pd.read_parquet(folder / MARKET)
    months = bikes["dteday"].to_numpy().astype("M8[M]").astype("M8[D]")
    days = market["ts"].to_numpy().astype("M8[D]")
    weeks = days - (days - np.datetime64(ElectricityWorld().starts()[0])) % np.timedelta64(7, "D")
    return [RecordedWorld(bikes, months, BikeWorld()), RecordedWorld(market, weeks, ElectricityWorld())]
