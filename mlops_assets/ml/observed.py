"""Partitions side by side: what one is held against, and how far a column leapt from those before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from math import isfinite, sqrt
from typing import NamedTuple

import numpy as np

from mlops_assets.ml.distributions import disagreement, distance, quantiles, symbols, variety
from mlops_assets.ml.profiles import ColumnProfile, Profile

ABRUPT = 3.0
FLOOR, NOISE = 0.05, 1.5
FEW = 3


class Observed(NamedTuple):
    """One partition as it was observed: how many rows came, from when to when, and how they are distributed."""

    partition: str
    first: datetime
    last: datetime
    rows: int
    profile: Profile


class History(NamedTuple):
    """What a partition is held against: the `recent` ones, oldest first, and those a cycle or a year ago."""

    recent: Sequence[Observed]
    likewise: Sequence[Observed] = ()

    @property
    def all(self) -> list[Observed]:
        """Every one of them."""
        return [*self.likewise, *self.recent]

    def columns(self, name: str) -> list[ColumnProfile]:
        """The column in each of them that has it. Where it was constant a year ago, that says nothing of today."""
        then = [each.profile.columns[name] for each in self.likewise if name in each.profile.columns]
        lately = [each.profile.columns[name] for each in self.recent if name in each.profile.columns]
        return [column for column in then if variety(column) > 1] + lately

    def neighbours(self, name: str) -> list[ColumnProfile]:
        """The column in the newest of them and a cycle or a year ago: what the next one is most like."""
        lately = sum(name in each.profile.columns for each in self.recent)
        known = self.columns(name)
        return known[: len(known) - lately] + known[-1:] if lately else known

    def steps(self, name: str) -> list[tuple[ColumnProfile, ColumnProfile]]:
        """The column in each two recent ones that follow each other."""
        there = [each.profile.columns[name] for each in self.recent if name in each.profile.columns]
        return list(pairwise(there))


class Leap(NamedTuple):
    """How far a column lies from its nearest neighbour, and how far two partitions in a row lie apart at most."""

    apart: float
    usual: float

    @property
    def abrupt(self) -> bool:
        """Whether it is beyond what the column has ever done."""
        return isfinite(self.usual) and self.apart >= ABRUPT * self.usual


def leaps(now: Observed, history: History) -> dict[str, Leap]:
    """How far each column has leapt, where that can be told."""
    found = {name: leap_of(column, now, history, name) for name, column in now.profile.columns.items()}
    return {name: leap for name, leap in found.items() if leap is not None}


def leap_of(column: ColumnProfile, now: Observed, history: History, name: str) -> Leap | None:
    """How far one column has leapt: by its symbols where they are few, by its deciles otherwise."""
    before = history.neighbours(name)
    known = [symbols(each) for each in before]
    there = symbols(column)
    if there is not None and known and None not in known:
        steps = [_between(symbols(one), symbols(other)) for one, other in history.steps(name)]
        noise = FLOOR + 0.5 * sqrt(len(there) / max(now.rows, 1))
        return Leap(min(_between(there, each) for each in known), max([*steps, noise]))
    here = quantiles(column)
    others = [each for each in map(quantiles, before) if each is not None]
    if here is None or not others:
        return None
    return Leap(nearest(here, others), usual_step(now, history, name))


def _between(one: Mapping[str, float] | None, other: Mapping[str, float] | None) -> float:
    return 1.0 if one is None or other is None else disagreement(one, other)


def usual_step(now: Observed, history: History, name: str) -> float:
    """How far the deciles of two partitions in a row lie apart at most, and never less than chance alone explains."""
    pairs = [(quantiles(one), quantiles(other)) for one, other in history.steps(name)]
    steps = [distance(one, other) for one, other in pairs if one is not None and other is not None]
    fewest = min([now.rows, *(each.rows for each in history.recent)])
    chance = FLOOR + NOISE / sqrt(max(fewest, 1))
    return max([*steps, chance if len(steps) >= FEW - 1 else ABRUPT * chance])


def nearest(here: np.ndarray, others: Sequence[np.ndarray]) -> float:
    """The distance of a column's deciles from the nearest of others."""
    return min((distance(here, each) for each in others), default=float("inf"))
