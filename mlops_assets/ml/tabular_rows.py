"""Rows for a network: categories as places in one table of embeddings, numbers on one scale. Learned from rows once."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

UNKNOWN, MISSING, SPECIAL = 0, 1, 2


class Encoded(NamedTuple):
    """Rows as a network takes them: places in the table of embeddings, and numbers, a row each."""

    codes: NDArray[np.int32]
    numbers: NDArray[np.float32]

    def take(self, rows: NDArray[np.intp] | slice) -> Encoded:
        """Some of the rows."""
        return Encoded(self.codes[rows], self.numbers[rows])

    def digest(self, *more: np.ndarray | None) -> str:
        """SHA-256 of the rows, and of what else belongs to them."""
        found = hashlib.sha256()
        for array in (self.codes, self.numbers, *more):
            if array is not None:
                found.update(f"{array.dtype} {array.shape} ".encode())
                found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()


class Encoding(NamedTuple):
    """How rows are encoded, as plain lists and arrays.

    `categories` are, by the position of a column, the values that it had: each has a row in the table of embeddings,
    and so have values that were never seen, and what is missing. `numbers` are the positions of the other columns;
    `gaps` are those among them that lacked values, and get a column more that says so.
    """

    categories: dict[int, list[Any]]
    numbers: list[int]
    gaps: list[int]
    means: NDArray[np.float64]
    scales: NDArray[np.float64]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Self:
        """The encoding that suits rows."""
        texts = [place for place, dtype in enumerate(rows.dtypes) if is_category(dtype)]
        numbers = [place for place in range(rows.shape[1]) if place not in texts]
        values = plain(rows, numbers)
        known = np.isfinite(values)
        filled = known.sum(axis=0)
        counts = np.maximum(filled, 1)
        means = np.where(known, values, 0.0).sum(axis=0) / counts
        spread = np.sqrt((np.where(known, values - means, 0.0) ** 2).sum(axis=0) / counts)
        return cls(
            categories={place: _distinct(rows.iloc[:, place]) for place in texts},
            numbers=numbers,
            gaps=[place for place, gap in zip(numbers, filled < len(rows), strict=True) if gap],
            means=means,
            scales=np.where(spread > 0, spread, 1.0),
        )

    @property
    def table(self) -> int:
        """How many rows the table of embeddings has."""
        return sum(SPECIAL + len(values) for values in self.categories.values())

    @property
    def spans(self) -> list[tuple[int, int]]:
        """From where to where each column's values stand in the table."""
        stops = np.cumsum([SPECIAL + len(values) for values in self.categories.values()]).tolist()
        return list(zip([0, *stops], stops, strict=False))

    @property
    def width(self) -> int:
        """How many numbers a row has."""
        return len(self.numbers) + len(self.gaps)

    def encode(self, rows: pd.DataFrame) -> Encoded:
        """Rows, encoded."""
        codes = np.empty((len(rows), len(self.categories)), np.int32)
        for place, ((column, values), (start, _)) in enumerate(zip(self.categories.items(), self.spans, strict=True)):
            codes[:, place] = start + _places(rows.iloc[:, column], values)
        values = plain(rows, self.numbers)
        known = np.isfinite(values)
        scaled = np.where(known, (values - self.means) / self.scales, 0.0)
        gaps = ~known[:, [self.numbers.index(place) for place in self.gaps]]
        return Encoded(codes, np.hstack([scaled, gaps]).astype(np.float32))


def is_category(dtype: Any) -> bool:
    """Whether a column of this type holds categories and no numbers."""
    return not (pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype))


def plain(rows: pd.DataFrame, places: list[int]) -> NDArray[np.float64]:
    """Columns as NumPy's floats, with NaN for what is missing."""
    if not places:
        return np.empty((len(rows), 0))
    return np.column_stack([rows.iloc[:, place].to_numpy(np.float64, na_value=np.nan) for place in places])


def _distinct(column: pd.Series) -> list[Any]:
    """The values of a column in order, as Python knows them."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        values = column.cat.categories
    else:
        values = pd.Index(column.dropna().unique())
    return sorted(_named(values))


def _places(column: pd.Series, known: list[Any]) -> NDArray[np.int64]:
    """Where in a column's part of the table each of its values stands."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes, values = column.cat.codes.to_numpy(), column.cat.categories
    else:
        codes, values = pd.factorize(column)
    found = pd.Index(known).get_indexer(pd.Index(_named(values))) if len(known) else np.full(len(values), -1)
    places = np.where(found < 0, UNKNOWN, found + SPECIAL)
    return np.append(places, MISSING)[codes]


def _named(values: pd.Index) -> list[Any]:
    """Values that have an order among them: whole numbers as they are, anything else as text."""
    return values.tolist() if values.inferred_type == "integer" else [str(value) for value in values]
