"""Performance: what was predicted for a partition, and how good it was on the rows whose labels have come."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pydantic import Field

from mlops_assets.ml import metrics
from mlops_assets.ml.charts import figure
from mlops_assets.ml.evaluation import Estimate, estimates, naive
from mlops_assets.ml.holdout import HoldOut, Trial, aligned
from mlops_assets.ml.labels import LabelledPartition, matured
from mlops_assets.ml.metrics import NEEDS_TWO_CLASSES, Task
from mlops_assets.ml.prediction_id import PINNED, PredictionId
from mlops_assets.ml.spec import ModelSpec, Value, canonical
from mlops_assets.ml.windows import partitions_in

if TYPE_CHECKING:
    import pyarrow as pa

SCORE = "score"
KNOWN = "known"
STEPS = 50


class PredictedPartition(Value):
    """What `predictions` says of one partition: which version scored which rows, and where the scores are.

    `files` maps each data file of the table to its SHA-256; its rows are in the order of `validated_features`, whose
    content digest is `rows_of` and whose files are `rows_files`. `classes` are what the columns of scores stand for.
    `replaces` is the version whose predictions stood here before, where it was another one; `before` is the record of
    what stood here before, whichever version said it, by its SHA-256.
    """

    model: str
    partition: str
    first: datetime
    delivery: str
    rows_of: str
    version: int
    candidate: str
    rows: int
    table_version: int
    files: dict[str, str]
    classes: tuple[Any, ...] = ()
    replaces: int | None = None
    rows_files: dict[str, str] = Field(default_factory=dict)
    before: str | None = None

    def said(self) -> bytes:
        """The record as it is kept for good, under its SHA-256."""
        return canonical(self.model_dump(mode="json")).encode()


class Expected(Value):
    """What the scores of rows alone let a metric be, and the standard error of that by sampling and learning."""

    value: float
    error: float


class PerformanceReport(Value):
    """What `performance_report` says of one partition: the champion of that moment on the rows that have labels.

    `mature` when the share of labelled rows reaches the declared one; before, the figures say of themselves that they
    are not. `measured` is missing while no row has a label. `estimated` is what was expected of the rows before their
    labels, with its interval (or `unestimated` why not), `expected` what it was made from, for every metric; `inside`
    whether the mature figure fell into it, `held` how many of how many of the last estimates it did so. `baseline` is
    the naive guess on the same rows, `at_registration` what the version had on its hold-out. `arrival` is the share of
    rows whose label was known so many hours after the row's time. `conflicting` labels of one row differ; `unknown`
    ones have no row.
    """

    model: str
    partition: str
    first: datetime
    version: int
    delivery: str
    labels: str | None
    metric: str
    rows: int
    labelled: int
    mature: bool
    metrics: dict[str, Estimate] = Field(default_factory=dict)
    baseline: float | None = None
    at_registration: Estimate | None = None
    expected: dict[str, Expected] = Field(default_factory=dict)
    estimated: Estimate | None = None
    unestimated: str | None = None
    inside: bool | None = None
    held: tuple[int, int] = (0, 0)
    arrival: tuple[tuple[float, float], ...] = ()
    conflicting: int = 0
    unknown: int = 0
    sentence: str

    @property
    def measured(self) -> Estimate | None:
        """The deciding metric on the labelled rows."""
        return self.metrics.get(self.metric)


@dataclass(frozen=True)
class Late:
    """What is known of labels that come later than their rows: how many did not count, and when each was known."""

    labels: LabelledPartition
    known: pd.Series


@dataclass(frozen=True)
class Answered:
    """A partition's rows beside what was predicted for them: times, labels (missing where there is none), scores."""

    predicted: PredictedPartition
    times: pd.Series
    target: pd.Series
    scores: np.ndarray
    late: Late | None = None


@dataclass(frozen=True)
class Yardsticks:
    """What a partition's figure is held against: time and target of rows of fitting, and the hold-out's figure.

    Where labels come late, `later` are rows since fitting whose labels the naive guess may look at.
    """

    history: pd.DataFrame
    at_registration: Estimate | None
    later: pd.DataFrame | None = None


def first_of(made: PredictedPartition) -> PredictionId:
    """The name of a partition's first prediction; the others differ in the number of their row only."""
    return PredictionId(
        model=made.model, partition=made.partition, row=1, version=made.version, pin=made.digest()[:PINNED]
    )


def score_columns(task: Task, classes: Sequence[Any]) -> list[str]:
    """The columns of a table of scores: one in a regression, else one for each class."""
    return [SCORE] if task == "regression" else [f"{SCORE}_{place}" for place in range(len(classes))]


def as_table(spec: ModelSpec, scores: np.ndarray, classes: Sequence[Any], version: int, candidate: str) -> pa.Table:
    """The scores of rows as they are stored: in the rows' order, with the version and the digest of its artifact."""
    import pyarrow as pa

    columns = scores.reshape(len(scores), -1).T
    named = dict(zip(score_columns(spec.task, classes), map(pa.array, columns), strict=True))
    artifact = pa.DictionaryArray.from_arrays(np.zeros(len(scores), np.int32), pa.array([candidate]))
    return pa.table({**named, "version": pa.repeat(pa.scalar(version, pa.int32()), len(scores)), "candidate": artifact})


def scored(task: Task, table: pd.DataFrame) -> np.ndarray:
    """The scores that were stored: numbers, or a column of probabilities for each class."""
    return table[SCORE].to_numpy() if task == "regression" else table.to_numpy()


def measure(spec: ModelSpec, rows: Answered, against: Yardsticks) -> PerformanceReport:
    """How good the predictions were on the rows that have a label. Raises EvaluationError where that cannot be said."""
    part, late = rows.predicted, rows.late.labels if rows.late else None
    labelled = int(rows.target.notna().sum())
    report = PerformanceReport(
        model=spec.name,
        partition=part.partition,
        first=part.first,
        version=part.version,
        delivery=part.delivery,
        labels=late.delivery if late else None,
        metric=spec.evaluation.metric,
        rows=part.rows,
        labelled=labelled,
        mature=matured(spec, labelled, part.rows),
        at_registration=against.at_registration,
        arrival=arrival(rows),
        conflicting=late.conflicting if late else 0,
        unknown=late.unknown if late else 0,
        sentence="",
    )
    if labelled:
        report = report.model_copy(update=_figures(spec, rows, against))
    return report.model_copy(update={"sentence": _sentence(spec, report)})


def arrival(rows: Answered) -> tuple[tuple[float, float], ...]:
    """The share of rows whose label was known so many hours after the row's time, at most STEPS points."""
    labelled = rows.target.notna().to_numpy()
    if not labelled.any():
        return ()
    if rows.late is None:
        return ((0.0, float(labelled.mean())),)
    late = (rows.late.known[labelled] - rows.times[labelled]).dt.total_seconds().to_numpy()
    hours, counts = np.unique(np.maximum(late, 0) / 3600, return_counts=True)
    shares = counts.cumsum() / len(labelled)
    places = np.unique(np.linspace(0, len(hours) - 1, STEPS).astype(int))
    return tuple((float(hours[place]), float(shares[place])) for place in places)


def looked_back(spec: ModelSpec) -> int:
    """How many partitions before one the naive guess may look at where labels come late: as far as their delay reaches.

    None of batches, which are in no order.
    """
    if spec.labels is None or spec.partitions.every == "batch":
        return 0
    return partitions_in(7 * math.ceil(spec.labels.delay_days / 7), spec.partitions.every) + 1


def worse_than_registered(spec: ModelSpec, report: PerformanceReport) -> bool | None:
    """Whether the whole interval is worse than the whole of the hold-out's; None where there is nothing to compare."""
    measured, registered = report.measured, report.at_registration
    if not report.mature or measured is None or registered is None:
        return None
    return _losses(spec, measured)[0] > _losses(spec, registered)[1]


def _losses(spec: ModelSpec, estimate: Estimate) -> tuple[float, float]:
    """The least and the most loss within an interval."""
    ends = [float(metrics.loss(spec.task, spec.evaluation.metric, end)) for end in (estimate.low, estimate.high)]
    spans_zero = spec.evaluation.metric == "bias" and estimate.low < 0 < estimate.high
    return 0.0 if spans_zero else min(ends), max(ends)


def _figures(spec: ModelSpec, rows: Answered, against: Yardsticks) -> dict[str, Any]:
    columns = score_columns(spec.task, rows.predicted.classes)
    frame = pd.DataFrame(rows.scores.reshape(len(rows.scores), -1), columns=columns)
    frame = frame.assign(**{spec.time.name: rows.times.array, spec.target: rows.target.array})
    holdout = HoldOut.of(spec, frame, {rows.predicted.partition: len(frame)})
    trial = Trial.of(spec, holdout, rows.predicted.classes)
    answers = scored(spec.task, holdout.frame[columns])
    judged = trial.scores(aligned(answers, rows.predicted.classes, trial.classes))
    return {"metrics": estimates(spec, judged)[0], "baseline": _baseline(trial, against)}


def _baseline(trial: Trial, against: Yardsticks) -> float | None:
    """What the best naive guess has on the same rows, None where no old label is left to make one of."""
    if against.history[trial.spec.target].isna().all():
        return None
    value = naive(trial, against.history, against.later)[1].values[trial.spec.evaluation.metric]
    return value if np.isfinite(value) else None


def _sentence(spec: ModelSpec, report: PerformanceReport) -> str:
    who = f"v{report.version} on {report.partition}"
    have = f"{report.labelled:,} of {report.rows:,} rows have a label"
    if not report.labelled:
        return f"{who}: {have}: nothing can be measured yet."
    if report.measured is None:
        reason = "one class only" if report.metric in NEEDS_TWO_CLASSES else "one value only"
        return f"{who}: {report.metric} is undefined: {have}, of {reason}."
    said = f"{who}: {report.metric} {report.measured}"
    if not report.mature and spec.labels is not None:
        share = f"{spec.labels.matured:.0%}"
        return f"{said} so far, not mature: {have} ({report.labelled / report.rows:.0%}, {share} are asked for)."
    parts = [f"{said}, {have}"]
    if report.baseline is not None:
        parts.append(f"the naive guess has {figure(report.baseline)}")
    if report.at_registration is not None:
        word = "worse than" if worse_than_registered(spec, report) else "no worse than"
        parts.append(f"{word} at registration ({report.at_registration})")
    return "; ".join(parts) + "."
