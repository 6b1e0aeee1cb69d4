"""The pictures that more than one stage shows: a candidate's answers, and its metric over versions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mlops_assets.ml import charts
from mlops_assets.ml.charts import Point
from mlops_assets.ml.evaluation import Estimate, EvaluationReport
from mlops_assets.ml.holdout import codes
from mlops_assets.ml.metrics import METRICS
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.resources.registry import Version

METRIC = "mlops.metric"


def answers(spec: ModelSpec, target: pd.Series, predicted: np.ndarray, classes: Sequence[Any]) -> str:
    """A picture of what a candidate said against what came: density, calibration or confusion."""
    if spec.task == "regression":
        title = f"{spec.target}: predicted against actual, unseen rows"
        return charts.density(target.to_numpy(float), predicted, title)
    known = codes(target, classes)
    seen = known >= 0
    if spec.task == "binary":
        title = f"How often {spec.target} was {classes[-1]}, unseen rows"
        return charts.calibration(known[seen], predicted[seen, -1], title)
    cells = known[seen] * len(classes) + predicted[seen].argmax(axis=1)
    counts = np.bincount(cells, minlength=len(classes) ** 2).reshape(len(classes), -1)
    title = f"{spec.target}: how each class was called, unseen rows"
    return charts.confusion(counts, [str(name) for name in classes], title)


def metric_tag(report: EvaluationReport) -> dict[str, str]:
    """What a version's tags remember of its report, for the picture over versions."""
    found = report.metrics.get(report.metric)
    return {} if found is None else {METRIC: json.dumps({"metric": report.metric, **found.model_dump()})}


def at_registration(spec: ModelSpec, version: Version) -> Estimate | None:
    """The figure of the metric that decides which a version had when it was registered, where it is remembered."""
    found = json.loads(version.tags.get(METRIC, "{}"))
    if found.pop("metric", None) != spec.evaluation.metric:
        return None
    return Estimate.model_validate(found)


def over_versions(spec: ModelSpec, report: EvaluationReport, versions: Sequence[Version]) -> str:
    """The metric that decides, of every version on the rows that judged it; then the candidate's, until it has one."""
    metric = report.metric
    remembered = [(version, json.loads(version.tags.get(METRIC, "{}"))) for version in versions]
    points = [
        Point(f"v{version.number}", found["value"], found["low"], found["high"], champion=version.reign is not None)
        for version, found in remembered
        if found.get("metric") == metric
    ]
    known = any(version.mlflow_run_id == report.mlflow_run_id for version in versions)
    if metric in report.metrics and not known:
        candidate = report.metrics[metric]
        points.append(Point("candidate", candidate.value, candidate.low, candidate.high))
    better = "nearer to zero" if metric == "bias" else METRICS[spec.task][metric]
    return charts.line(points, f"{metric} over versions, each on its own hold-out ({better} is better)")
