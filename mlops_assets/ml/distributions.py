"""Two profiles of one column side by side: quantiles, symbols, and how far apart they are in units that are its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from mlops_assets.ml.profiles import LARGEST, ColumnProfile

LEVELS = np.arange(1, 10) / 10
UNNAMED = 0.05
DECIMALS, EXACT = 9, 1e-9

kept = lru_cache(maxsize=1024)
"""What was read off a profile is read off it again by each symptom, and for each later partition."""


@kept
def quantiles(column: ColumnProfile) -> np.ndarray | None:
    """The nine deciles of a numeric column's values; None where it has none. Exact for the rows it was made of."""
    there = sum(column.shares)
    if column.kind != "numeric" or there <= 0 or not column.edges:
        return None
    upto = np.cumsum(column.shares[:-1]) / there
    places = np.searchsorted(upto, LEVELS - 1e-9)
    values = np.asarray(column.edges)[np.minimum(places, len(column.edges) - 1)]
    values.setflags(write=False)
    return values


@kept
def decimals(column: ColumnProfile) -> int | None:
    """How many decimals the deciles of a numeric column take, DECIMALS at most; None where it has none."""
    values = quantiles(column)
    if values is None:
        return None
    for count in range(DECIMALS):
        scaled = values * 10.0**count
        if np.all(np.abs(scaled - np.rint(scaled)) <= EXACT * np.maximum(np.abs(scaled), 1.0)):
            return count
    return DECIMALS


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """The mean distance of two columns' deciles, in widths (from first to last decile) of the narrower of the two."""
    with np.errstate(over="ignore", invalid="ignore"):  # of values near the largest float
        apart = float(np.mean(np.abs(one - other)))
        width = float(min(one[-1] - one[0], other[-1] - other[0]))
    if apart == 0:
        return 0.0
    return apart / width if width > 0 else float("inf")


@kept
def symbols(column: ColumnProfile) -> Mapping[str, float] | None:
    """The share of each distinct value among the values, where all but a few of them are named; None otherwise."""
    there = sum(column.shares)
    if there <= 0:
        return None
    if column.kind == "categorical":
        if column.shares[-1] > UNNAMED * there:
            return None
        named = zip(column.categories, column.shares, strict=False)
    else:
        if column.shares[0] > 0 or column.shares[-1] > 0:
            return None
        named = zip(map(_text, column.edges[1:]), column.shares[1:], strict=False)
    return {name: share / there for name, share in named if share > 0}


def disagreement(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """The total variation of two distributions of symbols: the share of rows that would have to change."""
    return sum(abs(one.get(name, 0.0) - other.get(name, 0.0)) for name in one.keys() | other.keys()) / 2


@kept
def largest_share(column: ColumnProfile) -> float:
    """The share of the values that one single value holds; a tenth where no number is known to hold more."""
    there = sum(column.shares)
    if there <= 0:
        return 0.0
    if (known := symbols(column)) is not None:
        return max(known.values())
    if column.kind == "categorical":
        return max(column.shares[:-1], default=0.0) / there
    edges = np.asarray(column.edges)
    alone = edges[:-1] == np.nextafter(edges[1:], -LARGEST)
    return float(np.max(np.asarray(column.shares[1:-1]) / there * alone, initial=0.1))


def variety(column: ColumnProfile) -> float:
    """How many values a column has, weighed by their shares: that many equally frequent ones differ as much."""
    shares = np.asarray(column.shares)
    there = shares.sum()
    return float(there**2 / np.sum(shares**2)) if there > 0 else 0.0


def _text(number: float) -> str:
    return f"{number:g}"
