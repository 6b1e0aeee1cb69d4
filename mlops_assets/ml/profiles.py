"""Profiles: the distribution of each column over all rows, and how far one lies from another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from mlops_assets.ml.spec import Value

Method = Literal["psi", "js"]
CATEGORIES = 100
EPSILON = 1e-4
LARGEST = np.finfo(np.float64).max
NUMBERS = {"decimal", "floating", "integer", "mixed-integer-float"}


class ColumnProfile(Value):
    """The distribution of one column, as shares of all rows.

    Numeric: `edges` are the inner bin edges (ascending), each the upper end of its bin; `shares` has one more entry.
    Categorical: `categories` are the named ones, `shares` has one more entry, for every other category.
    `nulls` is the share of missing values, so `sum(shares) + nulls == 1` where there are rows.
    """

    kind: Literal["numeric", "categorical"]
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    shares: tuple[float, ...]
    nulls: float


class Profile(Value):
    """The distribution of every column of a table of `rows` rows."""

    rows: int
    columns: dict[str, ColumnProfile]


class Shift(Value):
    """How far one column moved: the effect size, and the shares that stand beside it."""

    effect: float
    nulls_before: float
    nulls_now: float
    new_category_share: float = 0.0


def profile(frame: pd.DataFrame, columns: Sequence[str] | None = None, bins: int = 10) -> Profile:
    """The distribution of each column over all rows; one that holds neither numbers nor categories is not in it.

    Category values are kept as they are: name the columns that hold no personal data.
    """
    names = list(frame.columns) if columns is None else list(columns)
    found = {name: _profile_of(frame[name], bins) for name in names}
    return Profile(rows=len(frame), columns={name: column for name, column in found.items() if column is not None})


def effect_sizes(
    reference: Profile, frame: pd.DataFrame, methods: Mapping[str, Method] | None = None
) -> dict[str, Shift]:
    """How far each column of `reference` that `frame` holds has moved, over all rows, by PSI unless `methods` says JS.

    Missing values are a bin of their own, and so are all categories that the reference does not name.
    """
    shifts = {}
    for name, before in reference.columns.items():
        now = _within(before, frame[name]) if name in frame.columns else None
        if now is not None:
            shifts[name] = _shift(before, now, (methods or {}).get(name, "psi"))
    return shifts


def psi(before: np.ndarray, now: np.ndarray) -> float:
    """The population stability index: the sum of (now - before) * ln(now / before), each share at least EPSILON.

    N. Siddiqi, Credit Risk Scorecards (2006). Zero for equal shares; 0.1 and 0.25 are the customary limits.
    """
    before, now = np.maximum(before, EPSILON), np.maximum(now, EPSILON)
    return float(np.sum((now - before) * np.log(now / before)))


def jensen_shannon(before: np.ndarray, now: np.ndarray) -> float:
    """The Jensen-Shannon distance: the square root of the divergence to base 2, from 0 (equal) to 1 (disjoint).

    J. Lin, Divergence measures based on the Shannon entropy, IEEE Transactions on Information Theory 37 (1991).
    """
    middle = (before + now) / 2
    divergence = sum(
        float(np.sum(side[side > 0] * np.log2(side[side > 0] / middle[side > 0]))) for side in (before, now)
    )
    return float(np.sqrt(min(max(divergence / 2, 0.0), 1.0)))


def _shift(before: ColumnProfile, now: ColumnProfile, method: Method) -> Shift:
    measure = psi if method == "psi" else jensen_shannon
    other = now.shares[-1] - before.shares[-1] if before.kind == "categorical" else 0.0
    return Shift(
        effect=measure(np.array([*before.shares, before.nulls]), np.array([*now.shares, now.nulls])),
        nulls_before=before.nulls,
        nulls_now=now.nulls,
        new_category_share=max(other, 0.0),
    )


def _profile_of(column: pd.Series, bins: int) -> ColumnProfile | None:
    values = numbers(column)
    if values is not None:
        return _numeric(values, _edges(values[~np.isnan(values)], bins))
    counts = _counts(column)
    if counts is None:
        return None
    named = sorted(counts, key=lambda name: (-counts[name], name))[:CATEGORIES]
    return _categorical(counts, tuple(sorted(named)), len(column))


def _within(reference: ColumnProfile, column: pd.Series) -> ColumnProfile | None:
    """The column in the bins of the reference; None where it holds another kind of thing."""
    if column.isna().all():
        return reference.model_copy(update={"shares": (0.0,) * len(reference.shares), "nulls": float(len(column) > 0)})
    if reference.kind == "numeric":
        values = numbers(column)
        return None if values is None else _numeric(values, reference.edges)
    counts = _counts(column)
    return None if counts is None else _categorical(counts, reference.categories, len(column))


def numbers(column: pd.Series) -> np.ndarray | None:
    """The column as floats with NaN for what is missing; None where it does not hold numbers."""
    types = pd.api.types
    if types.is_object_dtype(column.dtype):
        numeric = types.infer_dtype(column, skipna=True) in NUMBERS
    else:
        numeric = types.is_numeric_dtype(column.dtype) and column.dtype.kind not in "bc"
    return column.to_numpy(np.float64, na_value=np.nan) if numeric else None


def _edges(values: np.ndarray, bins: int) -> tuple[float, ...]:
    """Edges at observed values, so that equal values never part: every value where they are few, quantiles otherwise.

    A value as heavy as a bin gets a bin of its own. No edge is interpolated: nothing overflows near the largest float.
    """
    if not len(values):
        return ()
    marks = _few(values, 2 * bins)
    if marks is None:
        ranks = -(-len(values) * np.arange(1, bins) // bins) - 1
        marks = np.partition(values, ranks)[ranks]
        heavy = marks[1:][marks[1:] == marks[:-1]]
    else:
        heavy = marks[:1]
    below = np.nextafter(np.clip(heavy, -LARGEST, LARGEST), -LARGEST)
    return tuple(np.unique(np.clip([*marks, *below], -LARGEST, LARGEST)).tolist())


def _few(values: np.ndarray, limit: int) -> np.ndarray | None:
    """The distinct values in ascending order, None where there are more than `limit`."""
    some = values[:: max(len(values) // 1000, 1)]
    if len(np.unique(some)) > limit:
        return None
    distinct = np.sort(pd.unique(values))
    return distinct if len(distinct) <= limit else None


def _numeric(values: np.ndarray, edges: Sequence[float]) -> ColumnProfile:
    rows = len(values)
    nulls = int(np.count_nonzero(np.isnan(values)))
    # A comparison a bin is several times faster than a binary search a row, and NaN is below no edge.
    upto = [int(np.count_nonzero(values <= edge)) for edge in edges]
    counts = np.diff([0, *upto, rows - nulls])
    return ColumnProfile(
        kind="numeric",
        edges=tuple(edges),
        shares=tuple((counts / max(rows, 1)).tolist()),
        nulls=nulls / max(rows, 1),
    )


def category_codes(column: pd.Series) -> tuple[np.ndarray, pd.Index]:
    """Codes into the distinct values, -1 for missing ones. Raises TypeError where a value is nested."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(), column.cat.categories
    codes, values = pd.factorize(column)
    return codes, pd.Index(values)


def _counts(column: pd.Series) -> dict[str, int] | None:
    """Rows a category, missing values aside; None where the column holds moments, durations or nested values."""
    if column.dtype.kind in "mM":
        return None
    try:
        codes, values = category_codes(column)
    except TypeError:
        return None
    counts: dict[str, int] = {}
    for value, count in zip(values, np.bincount(codes[codes >= 0], minlength=len(values)).tolist(), strict=True):
        if count:
            counts[str(value)] = counts.get(str(value), 0) + count
    return counts


def _categorical(counts: Mapping[str, int], categories: Sequence[str], rows: int) -> ColumnProfile:
    named = [counts.get(name, 0) for name in categories]
    valid = sum(counts.values())
    return ColumnProfile(
        kind="categorical",
        categories=tuple(categories),
        shares=tuple(count / max(rows, 1) for count in (*named, valid - sum(named))),
        nulls=(rows - valid) / max(rows, 1),
    )
