"""Symptoms: what a broken feed leaves in a partition, each held against the partitions before it.

Every symptom is a jump: beyond anything that the partitions before differ by from each other, so that neither season
nor growth nor an old habit of the feed is taken for a fault. Shares and deciles are told, never a category's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from math import isfinite
from statistics import median

import numpy as np

from mlops_assets.ml.distributions import decimals, largest_share, quantiles, symbols, variety
from mlops_assets.ml.observed import ABRUPT, FEW, History, Observed, leap_of, leaps, nearest, usual_step
from mlops_assets.ml.profiles import ColumnProfile
from mlops_assets.ml.recoding import RARE, how_recoded, newest_before
from mlops_assets.ml.spec import Value
from mlops_assets.ml.units import CONVERSIONS, Conversion

ABRUPT_IF_FINER = 1.0
SAME_SCALE, LIKE_SCALE, DOUBLE, FIVEFOLD = 0.03, 0.25, 2.0, 5.0
NULL_JUMP, STUCK_JUMP, STUCK = 0.1, 0.3, 0.5
NEW_SHARE, WAS_NEVER_NEW = 0.05, 0.01
MOST_ROWS_LOST, FEWER = 0.6, 0.75
GONE, EVIDENT = 0.05, 10


class Finding(Value):
    """One piece of evidence: what kind, in which columns, and the sentence with its numbers."""

    kind: str
    columns: tuple[str, ...]
    sentence: str


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
    usual = usual_step(now, history, name)
    finer = is_finer(column, before)
    least = (ABRUPT_IF_FINER if finer else ABRUPT) * usual
    neighbours = [each for each in map(quantiles, history.neighbours(name)) if each is not None]
    if not isfinite(usual) or (nearest(here, neighbours) < least and not _beyond_zero(here, others)):
        return
    tried = [(nearest(way.undone(here), others), way) for way in CONVERSIONS if way.fits(here)]
    left, way = min(tried, key=lambda each: each[0])
    if left > usual or not (finer or _is_that_scale(way, here, others)):
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


def is_finer(column: ColumnProfile, before: Sequence[ColumnProfile]) -> bool:
    """Whether its values take more decimals than ever: the world moves what is measured, not how it is written."""
    here, ever = decimals(column), [each for each in map(decimals, before) if each is not None]
    return here is not None and len(ever) >= FEW and here > max(ever)


def _beyond_zero(here: np.ndarray, others: Sequence[np.ndarray]) -> bool:
    """Whether all of the deciles lie on the side of zero on which none ever lay."""
    lowest, highest = min(each[0] for each in others), max(each[-1] for each in others)
    return bool(here[-1] < 0 < lowest or highest < 0 < here[0])


def _is_that_scale(way: Conversion, here: np.ndarray, others: Sequence[np.ndarray]) -> bool:
    """Whether the deciles grew by about the factor of a conversion: the likelier by chance, the nearer to it."""
    scales = [float(np.sum(here * each) / np.sum(each * each)) for each in others if np.any(each)]
    off = abs(median(scales) / way.scale - 1) if scales else float("inf")
    return way.factor >= FIVEFOLD or off <= (LIKE_SCALE if way.factor >= DOUBLE else SAME_SCALE)


def _recoded(
    name: str, column: ColumnProfile, before: Sequence[ColumnProfile], now: Observed, history: History
) -> Iterator[Finding]:
    """Symbols never seen, where none was new before, that stand for those that are gone."""
    here, known = symbols(column), [each for each in map(symbols, before) if each is not None]
    if here is None or not known or len(known) < len(before):
        return
    frequent = {symbol for each in known for symbol, share in each.items() if share >= RARE}
    new = {symbol: share for symbol, share in here.items() if symbol not in frequent}
    leap = leap_of(column, now, history, name)
    if sum(new.values()) < NEW_SHARE or leap is None or newest_before(history, name) > WAS_NEVER_NEW:
        return
    how = how_recoded(here, new, known, leap.usual, numeric=column.kind == "numeric")
    if how:
        yield Finding(
            kind="recoded",
            columns=(name,),
            sentence=f"{name} holds values hardly seen before in {sum(new.values()):.0%} of the rows: {how}.",
        )


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
