"""Windows of time: their keys, their bounds, and which window a time falls into. All in UTC, the same as Dagster's."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

import numpy as np

if TYPE_CHECKING:
    from mlops_assets.ml.spec import Partitions

UNITS = {"hourly": "h", "daily": "D", "weekly": "D", "monthly": "M"}
DAYS_A_WEEK = 7
SHORTEST_HOURS = {"hourly": 1, "daily": 24, "weekly": 24 * DAYS_A_WEEK, "monthly": 24 * 28}


class Dated(Protocol):
    """What is known of one partition, with the time of its first row."""

    @property
    def first(self) -> datetime | None:
        """The time of its first row."""

    @property
    def partition(self) -> str:
        """Its key."""


Known = TypeVar("Known", bound=Dated)


def oldest_first(known: Iterable[Known]) -> list[Known]:
    """In order of time, whatever the partitions are named: those of windows sort like it, those of batches do not."""
    return sorted(known, key=lambda each: (each.first, each.partition))


def partitions_in(days: float, every: str) -> int:
    """How many partitions so many days can span, at most; none of batches, which have no cadence."""
    return math.ceil(days * 24 / SHORTEST_HOURS[every]) if every in SHORTEST_HOURS else 0


@dataclass(frozen=True)
class Windows:
    """The windows of a model, numbered so that neighbours differ by one."""

    every: str
    start: np.datetime64
    end: np.datetime64 | None

    @classmethod
    def of(cls, partitions: Partitions) -> Self:
        """The windows that a declaration describes. Raises ValueError for batches, which have none."""
        if partitions.every == "batch" or partitions.start is None:
            raise ValueError("batches are named by their files: they have no windows of time.")
        end = None if partitions.end is None else np.datetime64(partitions.end, "s")
        return cls(partitions.every, np.datetime64(partitions.start, "s"), end)

    @property
    def key_format(self) -> str:
        """The `strptime` format of a key."""
        return "%Y-%m-%d-%H" if self.every == "hourly" else "%Y-%m-%d"

    def numbers(self, times: np.ndarray) -> np.ndarray:
        """The number of the window that each time (UTC, datetime64) falls into."""
        counted = times.astype(f"M8[{UNITS[self.every]}]").astype(np.int64)
        return (counted - self._anchor) // DAYS_A_WEEK if self.every == "weekly" else counted

    def number(self, time: datetime) -> int:
        """The number of the window that a time falls into; without an offset it is UTC."""
        return int(self.numbers(np.array([_utc(time)]))[0])

    def begin(self, number: int) -> np.datetime64:
        """The first second of a window."""
        counted = number * DAYS_A_WEEK + self._anchor if self.every == "weekly" else number
        return np.array([counted], f"M8[{UNITS[self.every]}]").astype("M8[s]")[0]

    def key(self, number: int) -> str:
        """The partition key of a window."""
        return self.begin(number).astype(datetime).strftime(self.key_format)

    def position(self, key: str) -> int:
        """The number of the window that has this key."""
        return self.number(datetime.strptime(key, self.key_format).replace(tzinfo=UTC))

    def has(self, key: str) -> bool:
        """Whether one of the declared windows has this key."""
        try:
            number = self.position(key)
        except ValueError:
            return False
        over = self.end is not None and number >= int(self.numbers(np.array([self.end]))[0])
        return self.key(number) == key and number >= self.first() and not over

    def positions(self, keys: Iterable[str]) -> np.ndarray:
        """The numbers of the windows that have these keys, all at once."""
        times = [f"{key[:10]}T{key[11:]}" if self.every == "hourly" else key for key in keys]
        return self.numbers(np.array(times, "M8[s]"))

    def bounds(self, key: str) -> tuple[datetime, datetime]:
        """The first moment of a window and the first moment after it, in UTC."""
        number = self.position(key)
        first, after = (self.begin(each).astype(datetime).replace(tzinfo=UTC) for each in (number, number + 1))
        return first, after

    def first(self) -> int:
        """The number of the first declared window: the first that begins at the declared start or later."""
        number = int(self.numbers(np.array([self.start]))[0])
        return number if self.begin(number) >= self.start else number + 1

    def last(self, now: datetime) -> int:
        """The number of the last window that is over at `now`, and within the declared end."""
        over = _utc(now) if self.end is None else min(_utc(now), self.end)
        return int(self.numbers(np.array([over]))[0]) - 1

    @property
    def _anchor(self) -> int:
        return int(self.start.astype("M8[D]").astype(np.int64))


def _utc(time: datetime) -> np.datetime64:
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return np.datetime64(aware.astimezone(UTC).replace(tzinfo=None), "s")
