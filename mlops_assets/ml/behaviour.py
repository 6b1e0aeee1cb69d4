"""Tests of how a model behaves, in three lines each: what must not move it, what must, and what it must know.

A test is a function of a `Subject` that returns, for each case that it tried, whether the model behaved:

    def a_storm_never_raises_demand(model: Subject) -> Cases:
        \"\"\"With all else equal, nobody rents more bicycles because it storms.\"\"\"
        return moved(model, "down", weathersit=4)

The three kinds are those of Ribeiro et al. 2020, Beyond Accuracy (doi:10.18653/v1/2020.acl-main.442).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

Cases = np.ndarray
"""Whether the model behaved, for each case."""


class BehaviourError(ValueError):
    """A test of behaviour that does not say of each case whether the model behaved."""


@dataclass(frozen=True)
class Subject:
    """A candidate to be tried: `rows` of its inputs that it has not seen, and what it answers to such rows.

    `classes` are those of a classification, in the order of the columns of what `answers` gives; none in a regression.
    """

    rows: pd.DataFrame
    answers: Callable[[pd.DataFrame], np.ndarray]
    classes: tuple[Any, ...] = ()

    def says(self, rows: pd.DataFrame, of: Any = None) -> np.ndarray:
        """A number for each row: a regression's answer, or the probability of class `of`; of two, the second."""
        said = np.asarray(self.answers(rows), float)
        if not self.classes:
            return said
        if of is None and len(self.classes) > 2:
            raise BehaviourError(f"say which class: of={self.classes[0]!r}, for example.")
        return said[:, self.classes.index(self.classes[1] if of is None else of)]


def unmoved(model: Subject, tolerance: float, of: Any = None, **columns: Any) -> Cases:
    """Invariance: the answer to each row moves by no more than `tolerance` when the columns are changed."""
    return np.abs(_moves(model, of, columns)) <= tolerance


def moved(
    model: Subject, direction: Literal["up", "down"], tolerance: float = 0.0, of: Any = None, **columns: Any
) -> Cases:
    """Direction: the answer to each row moves in the direction, or no more than `tolerance` against it."""
    if direction not in {"up", "down"}:
        raise BehaviourError(f"the direction is up or down, not {direction!r}.")
    moves = _moves(model, of, columns)
    return (moves if direction == "up" else -moves) >= -tolerance


def within(model: Subject, examples: Sequence[tuple[Mapping[str, Any], float, float]], of: Any = None) -> Cases:
    """Minimum examples: each is what to change in the first row, and the least and the most that may be answered."""
    first = model.rows.iloc[[0]]
    said = [float(model.says(changed(first, **columns), of)[0]) for columns, _, _ in examples]
    return np.array([least <= answer <= most for answer, (_, least, most) in zip(said, examples, strict=True)], bool)


def changed(rows: pd.DataFrame, **columns: Any) -> pd.DataFrame:
    """The rows with columns replaced: by one value for all, or by a function of the column."""
    new = rows.copy()
    for name, value in columns.items():
        if name not in rows.columns:
            raise BehaviourError(f"there is no input {name!r}: {', '.join(map(str, rows.columns))}.")
        column = value(rows[name]) if callable(value) else pd.Series([value] * len(rows), rows.index)
        if isinstance(kind := rows[name].dtype, pd.CategoricalDtype):
            column = column.astype(pd.CategoricalDtype(kind.categories.union(pd.Index(column.dropna().unique()))))
        new[name] = column
    return new


def _moves(model: Subject, of: Any, columns: Mapping[str, Any]) -> np.ndarray:
    if not columns:
        raise BehaviourError("name the columns to change.")
    return model.says(changed(model.rows, **columns), of) - model.says(model.rows, of)
