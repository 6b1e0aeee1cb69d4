"""Judging a candidate: metrics with intervals, slices, gates, and the comparison with champion and naive baseline."""

from __future__ import annotations

from typing import Literal

from mlops_assets.ml.spec import Gate, Value


class Estimate(Value):
    """A figure with its confidence interval."""

    value: float
    low: float
    high: float


class SliceMetrics(Value):
    """The metrics of one slice: the rows where `column` has `value`."""

    column: str
    value: str
    rows: int
    metrics: dict[str, float]


class GateResult(Value):
    """One gate, the figure it was held against, and whether it passed."""

    gate: Gate
    value: float | None
    passed: bool


class Comparison(Value):
    """Candidate against champion on the same rows, neither having learned from them.

    `gain` is how much better the candidate is in units of the metric, positive being better, with its interval.
    """

    champion_version: int
    partitions: tuple[str, ...]
    rows: int
    champion: Estimate
    candidate: Estimate
    gain: Estimate
    verdict: Literal["better", "undecided", "worse"]


class EvaluationReport(Value):
    """What `evaluation_report` says of one candidate, named by the digest of its artifact and its MLflow run."""

    model: str
    candidate: str
    mlflow_run_id: str
    partitions: tuple[str, ...]
    rows: int
    metrics: dict[str, Estimate]
    baseline: dict[str, Estimate]
    baseline_name: str
    skill: float
    champion: Comparison | None
    champion_absent: str | None
    slices: tuple[SliceMetrics, ...]
    gates: tuple[GateResult, ...]
    sentence: str
