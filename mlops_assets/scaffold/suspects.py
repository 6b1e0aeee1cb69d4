"""Columns that a model should not learn from: they tell the target, add up to it, or merely count the rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from mlops_assets.ml.leaks import find_leaks
from mlops_assets.ml.spec import ModelSpec

ADVICE = "If it is known in time, see training.known_in_advance"


def suspects(rows: pd.DataFrame, spec: ModelSpec, names: Sequence[str], newest: int) -> dict[str, str]:
    """The columns among `names` not to learn from, and why.

    `rows` are in order of time; a candidate would learn from the `newest` of them.
    """
    labelled = rows[rows[spec.target].notna()]
    found = {name: "it only counts the rows" for name in names if _counts_rows(rows[name])}
    for part in (labelled, labelled.iloc[-newest:]):
        for leak in find_leaks(part, spec, [name for name in names if name not in found]):
            found[leak.column] = f"{leak}. {ADVICE}"
    return found | _parts_of_a_sum(labelled, spec.target, names)


def _counts_rows(column: pd.Series) -> bool:
    """Whether a column of whole numbers never repeats and always rises with time."""
    whole = pd.api.types.is_integer_dtype(column.dtype) and len(column) > 1
    return whole and bool((np.diff(column.to_numpy()) > 0).all())


def _parts_of_a_sum(rows: pd.DataFrame, target: str, names: Iterable[str]) -> dict[str, str]:
    """The pairs of columns that add up to the target in every row."""
    if not pd.api.types.is_numeric_dtype(rows[target].dtype):
        return {}
    numbers = [name for name in names if pd.api.types.is_numeric_dtype(rows[name].dtype) and rows[name].any()]
    outcomes = rows[target].to_numpy(float)
    found = {}
    for one, other in combinations(numbers, 2):
        first = rows[one].iat[0] + rows[other].iat[0]
        if np.isclose(first, outcomes[0]) and np.allclose(rows[one] + rows[other], outcomes):
            found |= dict.fromkeys((one, other), f"{one} + {other} is the target in every row")
    return found
