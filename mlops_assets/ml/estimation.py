"""Performance before labels: what is expected of a version on rows whose labels have not come, with an interval.

A version's own hold-out shows how its errors depend on its scores (ml/relations.py). Laid over the scores of new rows,
that gives the expected value of each metric: in classification confidence-based performance estimation with an
isotonic relation (compare Garg et al. 2022, arXiv:2201.04234), in regression direct loss estimation.

It sees that rows have become harder or easier, as far as the scores tell. It cannot see that the relation itself has
changed (concept drift): that shows only when labels come, in estimates that were off, by which later ones are
corrected and widened. The interval covers the scatter of the labels themselves and the error of a relation learned
from one hold-out, both over blocks of neighbours in time, and how far off earlier estimates were beyond that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import timedelta

import numpy as np

from mlops_assets.ml.evaluation import Estimate
from mlops_assets.ml.metrics import METRICS, Task
from mlops_assets.ml.performance import Expected, PerformanceReport
from mlops_assets.ml.relations import Relations, expect
from mlops_assets.ml.spec import ModelSpec, Value

REMEMBERED, FADING, DOUBT, RECORD = 12, 0.8, 2, 20
BLIND = "it cannot see whether the same inputs still lead to the same outcomes"
NOTHING_KEPT = "it was evaluated before its labels were declared to come late"
OWN_HOLDOUT = "they are what its errors were learned from"


class Missed(Value):
    """An estimate whose truth has come: by how much the truth was above it, what error it had, and of which version."""

    version: int
    distance: float
    error: float


def with_estimate(
    spec: ModelSpec,
    report: PerformanceReport,
    learned: Relations | None,
    scores: np.ndarray,
    known: Iterable[PerformanceReport],
) -> PerformanceReport:
    """A partition's report with what was expected of its rows before their labels, and how that came out.

    What was said once of the same delivery by the same version stands. `known` are reports of any partitions.
    """
    others = sorted((each for each in known if each.metric == report.metric), key=lambda each: each.first)
    said = next((each for each in others if _is_of_the_same(each, report)), None)
    earlier = [each for each in others if each.first < report.first]
    if said is None:
        said = _said(spec, report, learned, scores, earlier)
    truth, estimated = report.measured if report.mature else None, said.estimated
    inside = None if truth is None or estimated is None else estimated.low <= truth.value <= estimated.high
    held = [each for each in (*(each.inside for each in earlier), inside) if each is not None][-RECORD:]
    found = report.model_copy(
        update={
            "expected": said.expected,
            "estimated": estimated,
            "unestimated": said.unestimated,
            "inside": inside,
            "held": (sum(held), len(held)),
        }
    )
    return found.model_copy(update={"sentence": f"{report.sentence} {_sentence(found)}"})


def estimate(spec: ModelSpec, metric: str, expected: Expected, version: int, past: Sequence[Missed] = ()) -> Estimate:
    """The expectation, corrected and widened by how far off earlier ones were (oldest first), as an interval.

    The correction is what the version's own estimates were off on average, each weighing FADING times the one after it,
    with one estimate that was right added; its own error is in the interval. The error beyond sampling and learning is
    taken to be as large as theirs at first, which counts as DOUBT estimates, and then what has been seen: the interval
    is Student's t with as many degrees of freedom.
    """
    from scipy.special import stdtrit

    past = past[-REMEMBERED:]
    distances, errors = (np.array([getattr(missed, name) for missed in past]) for name in ("distance", "error"))
    own = np.array([missed.version == version for missed in past], float)
    weights = own * FADING ** np.arange(len(past))[::-1]
    weights /= weights.sum() + 1
    shift = float(weights @ distances)
    excess = float(((distances - shift * own) ** 2 - errors**2).sum())
    freedom = DOUBT + len(past)
    beyond = max(0.0, (DOUBT * expected.error**2 + excess) / freedom)
    variance = (expected.error**2 + beyond) * (1 + float(weights @ weights))
    half = float(stdtrit(freedom, (1 + spec.evaluation.confidence) / 2)) * math.sqrt(variance)
    least, most = _bounds(spec.task, metric)
    value, low, high = np.clip(expected.value + shift + np.array([0.0, -half, half]), least, most).tolist()
    return Estimate(value=value, low=low, high=high)


def _is_of_the_same(said: PerformanceReport, report: PerformanceReport) -> bool:
    """Whether something was said already of these rows by this version."""
    same = (said.partition, said.version, said.delivery) == (report.partition, report.version, report.delivery)
    return same and (said.estimated is not None or said.unestimated is not None)


def _said(
    spec: ModelSpec,
    report: PerformanceReport,
    learned: Relations | None,
    scores: np.ndarray,
    earlier: Iterable[PerformanceReport],
) -> PerformanceReport:
    """The report with what is expected of its rows, or why nothing is."""
    if learned is None or report.partition in learned.partitions:
        return report.model_copy(update={"unestimated": NOTHING_KEPT if learned is None else OWN_HOLDOUT})
    expected, absent = expect(spec, learned, scores)
    if report.metric not in expected:
        return report.model_copy(update={"expected": expected, "unestimated": absent[report.metric]})
    past = [_missed(each) for each in earlier if _had_come(spec, each, report)]
    estimated = estimate(spec, report.metric, expected[report.metric], report.version, past)
    return report.model_copy(update={"expected": expected, "estimated": estimated})


def _had_come(spec: ModelSpec, earlier: PerformanceReport, report: PerformanceReport) -> bool:
    """Whether the truth of an earlier estimate was known before the labels of these rows were."""
    late = timedelta(days=spec.labels.delay_days) if spec.labels else timedelta()
    judged = earlier.mature and earlier.measured is not None and earlier.metric in earlier.expected
    return judged and earlier.first + late <= report.first


def _missed(report: PerformanceReport) -> Missed:
    expected, truth = report.expected[report.metric], report.metrics[report.metric].value
    return Missed(version=report.version, distance=truth - expected.value, error=expected.error)


def _sentence(report: PerformanceReport) -> str:
    """What was expected, and how it came out or what to beware of."""
    if report.estimated is None:
        return f"Without labels nothing is estimated: {report.unestimated}."
    said = f"Estimated without labels: {report.metric} {report.estimated}"
    if report.inside is None:
        return f"{said}; {BLIND}. {_record(report)}".rstrip()
    return f"{said}, and the truth fell {'into' if report.inside else 'outside'} that interval. {_record(report)}"


def _record(report: PerformanceReport) -> str:
    inside, of = report.held
    return f"The truth fell into {inside} of the last {of} estimates." if of else ""


def _bounds(task: Task, metric: str) -> tuple[float, float]:
    """The values that a metric can have at all."""
    least = -math.inf if metric in {"r2", "bias"} else 0.0
    return least, 1.0 if METRICS[task][metric] == "higher" or metric == "brier" else math.inf
