"""Leaks: columns that alone tell the target, because they were known only after it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from mlops_assets.ml.spec import ModelSpec

LIMIT = 0.98
ROWS = 5_000
FEWEST_ROWS = 200
BINS = 50
MOST_CLASSES = 20


class LeakError(Exception):
    """A column tells the target by itself."""


class Leak(NamedTuple):
    """A column that tells the target of its own row, or of the row after it, and how surely (at most 1)."""

    column: str
    score: float
    ahead: bool

    def __str__(self) -> str:
        """The column, what it tells and how surely."""
        return f"{self.column!r} tells the target of {'the next' if self.ahead else 'its'} row ({self.score:.3f})"


def refuse_leaks(rows: pd.DataFrame, spec: ModelSpec, columns: Iterable[str]) -> None:
    """Raise LeakError when a column alone tells the target; columns declared as known in advance are believed."""
    suspects = [name for name in columns if name not in (*spec.training.known_in_advance, spec.time.name)]
    if leaks := find_leaks(rows, spec, suspects):
        raise LeakError(
            f"{spec.name}: {'; '.join(map(str, leaks))}; the limit is {LIMIT}. A column that is known only after the "
            "target must be listed in exclude; one that is truly known in time, in training.known_in_advance."
        )


def find_leaks(rows: pd.DataFrame, spec: ModelSpec, columns: Iterable[str]) -> list[Leak]:
    """The columns that tell the target, judged on at most ROWS rows; `rows` are in order of time.

    Each column is cut into bins (missing values and categories included), the mean outcome of each bin is learned on
    one half of the rows and judged on the other. The score is the correlation with the target's rank in regression,
    the area under the ROC curve otherwise: it sees copies, any function of the target, gaps and identifiers alike.
    """
    if len(rows) < FEWEST_ROWS:
        return []
    chosen = np.sort(np.random.default_rng(spec.seed).choice(len(rows), min(len(rows), ROWS), replace=False))
    sample, newest = rows.iloc[chosen], rows.iloc[-ROWS:]
    outcomes, following = (_outcomes(part[spec.target], spec) for part in (sample, newest))
    leaks = []
    for name in columns:
        own = _score(_ordered(sample[name]), outcomes, spec)
        ahead = _score(_ordered(newest[name])[:-1], following[1:], spec)
        if max(own, ahead) > LIMIT:
            leaks.append(Leak(name, max(own, ahead), ahead=ahead > own))
    return leaks


def _outcomes(target: pd.Series, spec: ModelSpec) -> np.ndarray:
    """A column of ranks in regression, else a column of zeros and ones for each of the most frequent classes."""
    if spec.task == "regression":
        return (target.rank().to_numpy(np.float64) / len(target))[:, None]
    codes, classes = pd.factorize(target)
    frequent = np.argsort(-np.bincount(codes, minlength=len(classes)), kind="stable")[:MOST_CLASSES]
    return (codes[:, None] == frequent).astype(np.float64)


def _ordered(column: pd.Series) -> np.ndarray:
    """The column as numbers; text as its place in the alphabet, so that identifiers with a common start are near."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(np.float64, na_value=np.nan)
    codes, values = pd.factorize(column.astype(object))
    places = np.empty(len(values) + 1)
    places[np.argsort(values.astype(str))] = np.arange(len(values))
    places[-1] = np.nan
    return places[codes]


def _score(values: np.ndarray, outcomes: np.ndarray, spec: ModelSpec) -> float:
    learn, judge = slice(0, None, 2), slice(1, None, 2)
    bins = _bins(values, values[learn])
    counts = np.bincount(bins[learn], minlength=BINS + 2)
    middle = outcomes[learn].mean(axis=0)
    told = np.empty_like(outcomes[judge])
    for place in range(outcomes.shape[1]):
        sums = np.bincount(bins[learn], outcomes[learn, place], minlength=BINS + 2)
        told[:, place] = ((sums + middle[place]) / (counts + 1))[bins[judge]]
    if spec.task == "regression":
        return _correlation(told[:, 0], outcomes[judge, 0])
    return _area(told, outcomes[judge])


def _bins(values: np.ndarray, learned: np.ndarray) -> np.ndarray:
    """Bins of equal weight; the last one is for missing values."""
    known = learned[np.isfinite(learned)]
    edges = np.unique(np.quantile(known, np.arange(1, BINS) / BINS, method="inverted_cdf")) if len(known) else known
    return np.where(np.isnan(values), BINS + 1, np.searchsorted(edges, values))


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    if not one.std() or not other.std():
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _area(told: np.ndarray, outcomes: np.ndarray) -> float:
    """The mean area under the ROC curve over the classes, weighted by how many rows each has."""
    positives = outcomes.sum(axis=0)
    negatives = len(outcomes) - positives
    usable = (positives > 0) & (negatives > 0)
    if not usable.any():
        return 0.0
    ranks = pd.DataFrame(told[:, usable]).rank().to_numpy()
    above = (ranks * outcomes[:, usable]).sum(axis=0) - positives[usable] * (positives[usable] + 1) / 2
    return float(np.average(above / (positives[usable] * negatives[usable]), weights=positives[usable]))
