"""Symptoms: what a broken feed leaves in a partition, each held against the partitions before it.

Every symptom is a jump: beyond anything that the partitions before differ by from each other, so that neither season
nor growth nor an old habit of the feed is taken for a fault. Shares and deciles are told, never a category's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from math import isfinite, sqrt
from statistics import median
from typing import NamedTuple

import numpy as np

from mlops_assets.ml.distributions import decimals, disagreement, distance, largest_share, quantiles, symbols, variety
from mlops_assets.ml.profiles import ColumnProfile, Profile
from mlops_assets.ml.spec import Value
from mlops_assets.ml.units import CONVERSIONS, Conversion

ABRUPT, ABRUPT_IF_FINER = 3.0, 1.0
FLOOR, NOISE = 0.05, 1.5
SAME_SCALE, DOUBLE, FIVEFOLD = 0.03, 2.0, 5.0
FEW = 3
NULL_JUMP, STUCK_JUMP, STUCK = 0.1, 0.3, 0.5
NEW_SHARE, RENAMED, WAS_NEVER_NEW = 0.05, 0.9, 0.01
MOST_ROWS_LOST, FEWER = 0.6, 0.75
GONE, EVIDENT, RARE = 0.05, 10, 0.02


class Finding(Value):
    """One piece of evidence: what kind, in which columns, and the sentence with its numbers."""

    kind: str
    columns: tuple[str, ...]
    sentence: str


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
    found = {name: _leap(column, now, history, name) for name, column in now.profile.columns.items()}
    return {name: leap for name, leap in found.items() if leap is not None}


def symptoms(now: Observed, history: History, least_rows: float) -> list[Finding]:
    """What looks like a broken feed. `least_rows` is the share of the usual number of rows that is still allowed."""
    if not history.recent:
        return []
    leapt = leaps(now, history)
    found = [*_lost_rows(now, history, least_rows)]
    for name, column in now.profile.columns.items():
        before = history.columns(name)
        if before:
            found += _of_column(name, column, before, now, history)
    moved = [name for name, leap in leapt.items() if leap.abrupt]
    return [finding for finding in found if finding.kind != "perhaps_units" or set(moved) <= set(finding.columns)]


def _of_column(
    name: str, column: ColumnProfile, before: Sequence[ColumnProfile], now: Observed, history: History
) -> Iterator[Finding]:
    yield from _missing(name, column, before, now, history)
    yield from _stuck(name, column, before, history)
    yield from _in_other_units(name, column, before, now, history)
    yield from _recoded(name, column, before, now, history)


def _leap(column: ColumnProfile, now: Observed, history: History, name: str) -> Leap | None:
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
    return Leap(_nearest(here, others), _usual(now, history, name))


def _between(one: Mapping[str, float] | None, other: Mapping[str, float] | None) -> float:
    return 1.0 if one is None or other is None else disagreement(one, other)


def _usual(now: Observed, history: History, name: str) -> float:
    """How far the deciles of two partitions in a row lie apart at most, and never less than chance alone explains."""
    pairs = [(quantiles(one), quantiles(other)) for one, other in history.steps(name)]
    steps = [distance(one, other) for one, other in pairs if one is not None and other is not None]
    fewest = min([now.rows, *(each.rows for each in history.recent)])
    chance = FLOOR + NOISE / sqrt(max(fewest, 1))
    return max([*steps, chance if len(steps) >= FEW - 1 else ABRUPT * chance])


def _missing(
    name: str, column: ColumnProfile, before: Sequence[ColumnProfile], now: Observed, history: History
) -> Iterator[Finding]:
    most = max(each.nulls for each in before)
    steps = [abs(one.nulls - other.nulls) for one, other in history.steps(name)]
    jump = column.nulls - most
    if jump >= max(NULL_JUMP, ABRUPT * max(steps, default=0.0)) and jump * now.rows >= EVIDENT:
        yield Finding(
            kind="missing",
            columns=(name,),
            sentence=f"{name} is missing in {column.nulls:.1%} of the rows, and was in at most {most:.1%} before.",
        )


def _stuck(name: str, column: ColumnProfile, before: Sequence[ColumnProfile], history: History) -> Iterator[Finding]:
    """One value in far more rows than any had: a reading that froze, or a default in place of readings.

    A column of two values, or nearly of one, may well hold only one of them for a while.
    """
    most, share = max(map(largest_share, before)), largest_share(column)
    steps = [abs(largest_share(one) - largest_share(other)) for one, other in history.steps(name)]
    varied = min(map(variety, before)) > FEW
    if varied and share >= max(STUCK, most + max([STUCK_JUMP, *(ABRUPT * step for step in steps)])):
        yield Finding(
            kind="stuck",
            columns=(name,),
            sentence=f"{name} has one value in {share:.0%} of its rows, and never had one in more than {most:.0%}.",
        )


def _in_other_units(
    name: str, column: ColumnProfile, before: Sequence[ColumnProfile], now: Observed, history: History
) -> Iterator[Finding]:
    here = quantiles(column)
    others = [each for each in map(quantiles, before) if each is not None]
    if here is None or not others or (symbols(column) is not None and len(column.shares) < len(here)):
        return
    usual = _usual(now, history, name)
    finer = is_finer(column, before)
    least = (ABRUPT_IF_FINER if finer else ABRUPT) * usual
    neighbours = [each for each in map(quantiles, history.neighbours(name)) if each is not None]
    if not isfinite(usual) or (_nearest(here, neighbours) < least and not _beyond_zero(here, others)):
        return
    tried = [(_nearest(way.undone(here), others), way) for way in CONVERSIONS if way.fits(here)]
    left, way = min(tried, key=lambda each: each[0])
    if left > usual or not (finer or way.factor >= DOUBLE or _same_scale(way, here, others)):
        return
    was = others[-1]
    yield Finding(
        kind="units" if finer or way.factor >= FIVEFOLD else "perhaps_units",
        columns=(name,),
        sentence=(
            f"{name} looks converted ({way.name}): its median went from {was[4]:.4g} to {here[4]:.4g}, and with the "
            "conversion undone its deciles are as before."
        ),
    )


def _nearest(here: np.ndarray, others: Sequence[np.ndarray]) -> float:
    return min((distance(here, each) for each in others), default=float("inf"))


def is_finer(column: ColumnProfile, before: Sequence[ColumnProfile]) -> bool:
    """Whether its values take more decimals than ever: the world moves what is measured, not how it is written."""
    here, ever = decimals(column), [each for each in map(decimals, before) if each is not None]
    return here is not None and len(ever) >= FEW and here > max(ever)


def _beyond_zero(here: np.ndarray, others: Sequence[np.ndarray]) -> bool:
    """Whether all of the deciles lie on the side of zero on which none ever lay."""
    lowest, highest = min(each[0] for each in others), max(each[-1] for each in others)
    return bool(here[-1] < 0 < lowest or highest < 0 < here[0])


def _same_scale(way: Conversion, here: np.ndarray, others: Sequence[np.ndarray]) -> bool:
    """Whether the deciles grew by nearly the very factor of a conversion."""
    scales = [float(np.sum(here * each) / np.sum(each * each)) for each in others if np.any(each)]
    return bool(scales) and abs(median(scales) / way.scale - 1) <= SAME_SCALE


def _recoded(
    name: str, column: ColumnProfile, before: Sequence[ColumnProfile], now: Observed, history: History
) -> Iterator[Finding]:
    """Symbols never seen, where none was new before, that stand for those that are gone."""
    here, known = symbols(column), [each for each in map(symbols, before) if each is not None]
    if here is None or not known or len(known) < len(before):
        return
    frequent = {symbol for each in known for symbol, share in each.items() if share >= RARE}
    new = {symbol: share for symbol, share in here.items() if symbol not in frequent}
    leap = _leap(column, now, history, name)
    if sum(new.values()) < NEW_SHARE or leap is None or _newest_before(history, name) > WAS_NEVER_NEW:
        return
    how = _how_recoded(here, new, known, leap.usual, numeric=column.kind == "numeric")
    if how:
        yield Finding(
            kind="recoded",
            columns=(name,),
            sentence=f"{name} holds values hardly seen before in {sum(new.values()):.0%} of the rows: {how}.",
        )


def _newest_before(history: History, name: str) -> float:
    """The largest share that symbols new at the time have had in the recent partitions."""
    known = [symbols(each.profile.columns[name]) or {} for each in history.recent if name in each.profile.columns]
    newest, union = 0.0, set(known[0]) if known else set()
    for each in known[1:]:
        newest = max(newest, sum(share for symbol, share in each.items() if symbol not in union))
        union |= each.keys()
    return newest


def _how_recoded(
    here: Mapping[str, float],
    new: Mapping[str, float],
    known: Sequence[Mapping[str, float]],
    usual: float,
    *,
    numeric: bool,
) -> str | None:
    """What became of the symbols, in words; None where the new ones are news. `usual` is how far shares ever moved."""
    if not numeric:
        plain = {_plain(symbol) for each in known for symbol in each}
        if sum(share for symbol, share in new.items() if _plain(symbol) in plain) >= RENAMED * sum(new.values()):
            return "the earlier ones in another spelling"
    ranked = sorted(here.values(), reverse=True)
    for each in known:
        if numeric and _in_order(here, each, usual):
            return "as many as before, in the same order and the same shares"
        others = sorted(each.values(), reverse=True)
        if len(here) > 2 and len(others) == len(here) and sum(new.values()) >= RENAMED:
            off = sum(abs(one - other) for one, other in zip(ranked, others, strict=True)) / 2
            if off <= usual:
                return "none of the earlier ones is left, and the shares are the same"
    return None


def _in_order(here: Mapping[str, float], before: Mapping[str, float], usual: float) -> bool:
    """Whether the frequent numbers come in the same shares, the least first, and so on."""
    one, other = ([each[name] for name in sorted(each, key=float) if each[name] >= RARE] for each in (here, before))
    return len(one) == len(other) > 2 and sum(abs(a - b) for a, b in zip(one, other, strict=True)) / 2 <= usual


def _plain(symbol: str) -> str:
    """A symbol without case, spaces, signs, leading zeros and empty decimals."""
    text = "".join(letter for letter in symbol.removesuffix(".0").casefold() if letter.isalnum())
    return text.lstrip("0") or text[:1]


def _lost_rows(now: Observed, history: History, least: float) -> Iterator[Finding]:
    counts = [each.rows for each in history.all]
    usual = median(each.rows for each in history.recent)
    if now.rows < max(least, MOST_ROWS_LOST) * usual and now.rows < FEWER * min(counts):
        yield Finding(
            kind="rows",
            columns=(),
            sentence=(
                f"{now.rows} rows came, where {usual:.0f} are usual and no fewer than {min(counts)} ever came"
                f"{_end(now, history)}."
            ),
        )


def _end(now: Observed, history: History) -> str:
    """What the rows leave uncovered, in words, where it is much."""
    usual = median((each.last - each.first) / timedelta(days=1) for each in history.recent)
    days = (now.last - now.first) / timedelta(days=1)
    return f"; they cover {days:.1f} days of the usual {usual:.1f}" if isfinite(usual) and days < FEWER * usual else ""


def missing_groups(now: Observed, history: History) -> Iterator[Finding]:
    """Values of columns that always had some rows and have none now: a part of the feed, or of the world, is gone."""
    for name, column in now.profile.columns.items():
        here = symbols(column)
        known = [symbols(each) for each in history.columns(name)]
        if here is None or not known or None in known:
            continue
        always = set.intersection(*(set(each or {}) for each in known)) - here.keys()
        gone = min((sum(each[symbol] for symbol in always) for each in known if each), default=0.0)
        if gone >= GONE and gone * now.rows >= EVIDENT:
            yield Finding(
                kind="groups",
                columns=(name,),
                sentence=f"{len(always)} values of {name} that always had rows, {gone:.0%} of all, have none.",
            )
