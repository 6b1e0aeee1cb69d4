"""Drift: profiles of columns, effect sizes between them, and the verdict with the sentence that explains it."""

from __future__ import annotations

from typing import Literal

from mlops_assets.ml.spec import Value


class ColumnProfile(Value):
    """The distribution of one column, as shares of all rows.

    Numeric: `edges` are the inner bin edges (ascending), `shares` has one more entry than `edges`.
    Categorical: `categories` are the named ones, `shares` has one more entry, for every other category.
    `nulls` is the share of missing values, so `sum(shares) + nulls == 1`.
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


class ColumnEffect(Value):
    """How far one column moved: the effect size, its method, its threshold and its weight (importance, sums to 1)."""

    column: str
    method: Literal["psi", "js"]
    effect: float
    threshold: float
    weight: float
    nulls_before: float
    nulls_now: float
    new_category_share: float = 0.0


class DriftReport(Value):
    """What `drift_report` says of one partition against the training reference of one version."""

    model: str
    partition: str
    version: int
    rows: int
    reference_rows: int
    columns: tuple[ColumnEffect, ...]
    left_out: dict[str, str] = {}
    prediction: ColumnEffect
    weighted_share: float
    verdict: Literal["stable", "watch", "drifted"]
    sentence: str
