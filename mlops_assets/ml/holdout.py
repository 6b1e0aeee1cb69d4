"""The rows that judge a candidate: which they are, their labels as numbers, their slices, how they are drawn again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mlops_assets.ml import metrics
from mlops_assets.ml.charts import figure
from mlops_assets.ml.metrics import Resampling, Scores, Task
from mlops_assets.ml.spec import ModelSpec

BY_VALUE, QUANTILES, MAX_SLICES = 12, 4, 20


class EvaluationError(ValueError):
    """A candidate that cannot be judged, with the reason."""


@dataclass(frozen=True)
class HoldOut:
    """Labelled rows in time order that no candidate was fitted on, and the place in `partitions` of each."""

    frame: pd.DataFrame
    times: np.ndarray
    partitions: tuple[str, ...]
    partition: np.ndarray
    unlabelled: int

    @classmethod
    def of(cls, spec: ModelSpec, frame: pd.DataFrame, rows: Mapping[str, int]) -> HoldOut:
        """The rows of partitions read one after the other, `rows` of each, without those that have no label."""
        partition = np.repeat(np.arange(len(rows)), list(rows.values()))
        times = moments(frame[spec.time.name])
        labelled = frame[spec.target].notna().to_numpy()
        if not labelled.any():
            raise EvaluationError(f"{spec.name}: none of the {len(frame)} rows of {listed(rows)} has a {spec.target}.")
        if not labelled.all() or (times[1:] < times[:-1]).any():
            kept = np.argsort(times, kind="stable")
            kept = kept[labelled[kept]]
            frame, times, partition = frame.iloc[kept], times[kept], partition[kept]
        return cls(frame, times, tuple(rows), partition, int((~labelled).sum()))

    def within(self, partitions: Collection[str]) -> np.ndarray:
        """Which rows belong to `partitions`, as booleans."""
        return np.isin(self.partition, [place for place, key in enumerate(self.partitions) if key in partitions])


@dataclass(frozen=True)
class Trial:
    """A judgement under way: labels as numbers, the classes they stand for, and how rows are drawn again."""

    spec: ModelSpec
    holdout: HoldOut
    actual: np.ndarray
    classes: tuple[Any, ...]
    how: Resampling

    @classmethod
    def of(cls, spec: ModelSpec, holdout: HoldOut, classes: Sequence[Any]) -> Trial:
        """The trial of a model that knows `classes` (none in a regression); a label beyond them becomes a class."""
        target = holdout.frame[spec.target]
        how = _resampling(spec, holdout.times)
        if spec.task == "regression":
            return cls(spec, holdout, target.to_numpy(float), (), how)
        known = (*classes, *_new_labels(target, classes))
        if spec.task == "binary" and len(known) != 2:
            raise EvaluationError(
                f"{spec.name}: {spec.target} has {len(known)} classes in fitting and hold-out, and the task is binary. "
                + ("Declare multiclass." if len(known) > 2 else "Choose a window of training that holds both.")
            )
        return cls(spec, holdout, codes(target, known), known, how)

    def scores(self, predicted: np.ndarray, where: np.ndarray | None = None) -> Scores:
        """Metrics with replicates of predictions for all rows, or for those where `where` is true."""
        if where is None or where.all():
            return metrics.scores(self.spec.task, self.actual, predicted, self.how)
        return metrics.scores(self.spec.task, self.actual[where], predicted, self.resampled(where))

    def resampled(self, where: np.ndarray) -> Resampling:
        """How the rows where `where` is true are drawn again."""
        return _resampling(self.spec, self.holdout.times[where])


def moments(times: pd.Series) -> np.ndarray:
    """Points in time as NumPy's, in UTC and to the nanosecond."""
    return times.to_numpy("datetime64[ns]")


def codes(target: pd.Series, classes: Sequence[Any]) -> np.ndarray:
    """The place of each label among `classes`, -1 for one that is not among them."""
    return pd.Categorical(target, categories=pd.Index(classes)).codes.astype(int)


def answers(task: Task, pipeline: Any, rows: pd.DataFrame, inputs: Sequence[str]) -> np.ndarray:
    """What a fitted pipeline says of each row: numbers, or a column of probabilities for each class."""
    given = rows[list(inputs)]
    if task == "regression":
        return np.asarray(pipeline.predict(given), float)
    return np.asarray(pipeline.predict_proba(given), float)


def aligned(predicted: np.ndarray, classes: Sequence[Any], wanted: Sequence[Any]) -> np.ndarray:
    """Probabilities of `classes` as columns for `wanted`, which holds them all: 0 where a model does not know one."""
    if tuple(classes) == tuple(wanted):
        return predicted
    wide = np.zeros((len(predicted), len(wanted)))
    wide[:, [list(wanted).index(name) for name in classes]] = predicted
    return wide


def groups(column: pd.Series, *, hidden: bool) -> Iterator[tuple[str, np.ndarray]]:
    """The rows of each of the 20 most frequent values, or of each quarter of a number with many; and the missing.

    A hidden value is called by its place.
    """
    if pd.api.types.is_numeric_dtype(column) and column.nunique() > BY_VALUE:
        column = pd.qcut(column, QUANTILES, duplicates="drop")
    counts = column.value_counts()
    for place, value in enumerate(sorted(counts[counts > 0].index[:MAX_SLICES]), start=1):
        yield f"group {place}" if hidden else _label(value), (column == value).to_numpy()
    if column.isna().any():
        yield "missing", column.isna().to_numpy()


def listed(keys: Collection[str]) -> str:
    """The keys in words: all of a few, the ends of many."""
    names = list(keys)
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} to {names[-1]} ({len(names)} partitions)"


def _label(value: Any) -> str:
    return f"{figure(value.left)} to {figure(value.right)}" if isinstance(value, pd.Interval) else str(value)


def _resampling(spec: ModelSpec, times: np.ndarray) -> Resampling:
    days = (times[-1] - times[0]) / np.timedelta64(1, "D")
    return metrics.resampling(len(times), days, spec.evaluation.replicates, spec.seed)


def _new_labels(target: pd.Series, classes: Sequence[Any]) -> list[Any]:
    labels = target.unique().tolist()
    return sorted(label for label in labels if label not in classes)
