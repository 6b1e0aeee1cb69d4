"""Golden rows: a few rows, what a model said of them when it was made, and whether it still says the same."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ConfigDict

from mlops_assets.ml.holdout import answers
from mlops_assets.ml.metrics import Task
from mlops_assets.ml.spec import Value
from mlops_assets.ml.threads import libraries, limited

ROWS = 64
TOLERANCE = 1e-6
SERVING = ("numpy", "pandas", "scikit-learn", "skops")
WITHHELD = "withheld"

Answers = tuple[tuple[float, ...], ...]


class Golden(Value):
    """What a model said of a few rows: a number, or one for each class. `rows` is the Parquet, by its SHA-256.

    `made_in` is what may move the last bits of an answer: versions, lock and processor.
    """

    model_config = ConfigDict(ser_json_inf_nan="constants")

    rows: str
    answers: Answers
    made_in: dict[str, str]


def golden_rows(rows: pd.DataFrame, inputs: Sequence[str], personal: Collection[str], seed: int) -> pd.DataFrame:
    """At most ROWS rows as a model takes them, drawn once, in their order; a stand-in for what is personal."""
    drawn = np.sort(np.random.default_rng(seed).choice(len(rows), min(ROWS, len(rows)), replace=False))
    chosen = rows[list(inputs)].iloc[drawn].reset_index(drop=True)
    return chosen.assign(**{name: _stand_in(rows[name], len(drawn)) for name in inputs if name in personal})


def said(task: Task, pipeline: Any, rows: pd.DataFrame, inputs: Sequence[str]) -> Answers:
    """What a fitted pipeline says of rows, on one thread: how work is shared out moves the last bits."""
    with limited(1):
        found = answers(task, pipeline, rows, inputs)
    return tuple(tuple(row) for row in found.reshape(len(rows), -1).tolist())


def different(golden: Golden, now: Answers, made_in: Mapping[str, str]) -> str | None:
    """How other answers are than they were then; None where they are the same.

    In the same surroundings they have to be equal in every bit. In others the largest answer's millionth is allowed.
    """
    before, after = np.array(golden.answers, float), np.array(now, float)
    if before.shape != after.shape:
        return f"it answered {before.shape} and answers {after.shape} now (rows, numbers for each)."
    if changed := changes(golden, made_in):
        allowed = TOLERANCE * float(np.max(np.abs(before), where=np.isfinite(before), initial=0.0))
        rule = f"more than {allowed:.3g} is too much, where {changed}"
    else:
        allowed, rule = 0.0, "they have to be equal, as nothing around them has changed"
    with np.errstate(invalid="ignore"):
        moved = np.abs(before - after)
    same = (before == after) | (moved <= allowed) | (np.isnan(before) & np.isnan(after))
    wrong = ~same.all(axis=1)
    if not wrong.any():
        return None
    most = float(np.max(moved, where=~np.isnan(moved), initial=0.0))
    return f"{wrong.sum()} of {len(before)} golden rows are answered otherwise, by up to {most:.3g}: {rule}."


def changes(golden: Golden, made_in: Mapping[str, str]) -> str:
    """What is not as it was when the answers were given, in words; empty where all is."""
    names = sorted({*golden.made_in, *made_in})
    pairs = {name: (golden.made_in.get(name, "absent"), made_in.get(name, "absent")) for name in names}
    told = {name: (_short(then), _short(now)) for name, (then, now) in pairs.items() if then != now}
    return ", ".join(f"{name} was {then} and is {now}" for name, (then, now) in told.items())


def surroundings(packages: Collection[str], lock: str) -> dict[str, str]:
    """What may move the last bits of an answer here: Python, packages, lock, and for which processor they compute."""
    kernels = {str(each.get("architecture")) for each in libraries() if each["user_api"] == "blas"}
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "kernels": " ".join(sorted(kernels)),
        "lock": lock,
        **versions(packages),
    }


def versions(packages: Collection[str]) -> dict[str, str]:
    """The versions of these packages in this process, by name."""
    return {name: _version(name) for name in sorted(packages)}


_version = cache(importlib.metadata.version)


def _short(value: str) -> str:
    return value[:12]


def _stand_in(column: pd.Series, count: int) -> pd.Series:
    """The same harmless value for every row: the median of numbers and moments, and a word for text."""
    if pd.api.types.is_bool_dtype(column.dtype):
        return pd.Series([False] * count, dtype=column.dtype)
    if pd.api.types.is_integer_dtype(column.dtype):
        return pd.Series([round(float(column.median()))] * count, dtype=column.dtype)
    if pd.api.types.is_numeric_dtype(column.dtype) or column.dtype.kind in "mM":
        return pd.Series([column.median()] * count, dtype=column.dtype)
    return pd.Series([WITHHELD] * count, dtype="category")
