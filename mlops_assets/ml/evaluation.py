"""Judging a candidate: metrics with intervals, slices, gates, and the comparison with champion and naive baseline."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from mlops_assets.ml import metrics
from mlops_assets.ml.baselines import History, guesses
from mlops_assets.ml.charts import figure
from mlops_assets.ml.gates import Finding, GateResult, measurement, too_few
from mlops_assets.ml.holdout import EvaluationError, HoldOut, Trial, aligned, codes, groups, listed, moments
from mlops_assets.ml.measuring import measured
from mlops_assets.ml.metrics import NEEDS_TWO_CLASSES, Scores
from mlops_assets.ml.spec import ChampionGate, Gate, MetricGate, ModelSpec, Value
from mlops_assets.ml.training import Candidate


class Estimate(Value):
    """A figure with its confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{figure(self.value)} ({figure(self.low)} to {figure(self.high)})"


class SliceMetrics(Value):
    """The metrics of one slice: the rows where `column` has `value`."""

    column: str
    value: str
    rows: int
    metrics: dict[str, float]


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
    """What `evaluation_report` says of one candidate, named by the digest of its artifact and its MLflow run.

    `metric` is the one that decides. `absent` are metrics that the rows do not define, with the reason. `unopposed`
    says that there was no champion to be compared with, or that the candidate is it.
    """

    model: str
    candidate: str
    mlflow_run_id: str
    partitions: tuple[str, ...]
    rows: int
    metric: str
    confidence: float
    metrics: dict[str, Estimate]
    absent: dict[str, str] = Field(default_factory=dict)
    baseline: dict[str, Estimate]
    baseline_name: str
    skill: float | None
    champion: Comparison | None
    champion_absent: str | None
    unopposed: bool = False
    slices: tuple[SliceMetrics, ...]
    gates: tuple[GateResult, ...]
    notes: tuple[str, ...] = ()
    sentence: str

    @property
    def figures(self) -> dict[str, float]:
        """What gates are held against: every metric that the rows define, and the skill."""
        skill = {} if self.skill is None else {"skill": self.skill}
        return {name: estimate.value for name, estimate in self.metrics.items()} | skill

    def held(self, spec: ModelSpec) -> tuple[GateResult, ...]:
        """Every gate that is declared now, held against what the report has measured.

        A report from before a gate was declared, or measured otherwise, does not clear it.
        """
        return tuple(GateResult.of_finding(gate, self.finding(gate, spec)) for gate in spec.gates)

    def finding(self, gate: Gate, spec: ModelSpec) -> Finding:
        """What the report has measured for a gate."""
        match gate:
            case MetricGate(metric=metric):
                estimate = self.metrics.get(metric)
                low, high = (estimate.low, estimate.high) if estimate else (None, None)
                why = self.absent.get(metric, "")
                return Finding(value=self.figures.get(metric), low=low, high=high, rows=self.rows, missing=why)
            case ChampionGate():
                return self._gain(gate)
        wanted = measurement(gate, spec)
        known = next((result for result in self.gates if result.of == wanted), None)
        if known is None:
            return Finding(missing="this report does not hold it: materialize evaluation_report again")
        return Finding.model_validate(known.model_dump(include=set(Finding.model_fields)))

    def _gain(self, gate: ChampionGate) -> Finding:
        if self.champion is None:
            absent = str(self.champion_absent)
            return Finding(exempt=absent) if self.unopposed else Finding(missing=absent)
        gain, rows = self.champion.gain, self.champion.rows
        about = f"on champion v{self.champion.champion_version}"
        missing = too_few(rows, gate.min_rows) if rows < gate.min_rows else ""
        return Finding(value=gain.value, low=gain.low, high=gain.high, rows=rows, about=about, missing=missing)


class Unopposed(str):
    """Why a candidate is compared with nobody, where that is no fault: nobody serves yet, or it serves itself."""

    __slots__ = ()


NOBODY_SERVES = Unopposed("There is no champion yet.")


@dataclass(frozen=True)
class Contender:
    """The champion's predictions for the rows of the hold-out partitions that it was not fitted on."""

    version: int
    partitions: tuple[str, ...]
    predicted: np.ndarray
    classes: tuple[Any, ...]


def evaluate(
    spec: ModelSpec,
    candidate: Candidate,
    holdout: HoldOut,
    predicted: np.ndarray,
    history: pd.DataFrame,
    champion: Contender | str,
    personal: Collection[str] = (),
    tried: Mapping[str, Finding] | None = None,
) -> EvaluationReport:
    """Judge a candidate by its predictions for the hold-out: numbers, or a column of probabilities for each class.

    `history` holds time and target of the rows of fitting; `champion` its predictions, or why there is none to compare
    with. Values of `personal` columns are not shown. `tried` are the findings of gates that need the candidate itself,
    by name. Raises EvaluationError when the hold-out cannot judge.
    """
    _refuse_seen_rows(spec, candidate, holdout)
    trial = Trial.of(spec, holdout, candidate.classes)
    predicted = aligned(predicted, candidate.classes, trial.classes)
    judged = trial.scores(predicted)
    found, absent = estimates(spec, judged)
    baseline_name, baseline = naive(trial, history)
    skill = _skill(spec, judged, baseline)
    slices, notes = _slices(trial, predicted, personal)
    comparison = champion if isinstance(champion, str) else _comparison(trial, predicted, judged, champion)
    report = EvaluationReport(
        model=spec.name,
        candidate=candidate.model_sha256,
        mlflow_run_id=candidate.mlflow_run_id,
        partitions=holdout.partitions,
        rows=len(holdout.frame),
        metric=spec.evaluation.metric,
        confidence=spec.evaluation.confidence,
        metrics=found,
        absent=absent,
        baseline=estimates(spec, baseline)[0],
        baseline_name=baseline_name,
        skill=skill,
        champion=comparison if isinstance(comparison, Comparison) else None,
        champion_absent=comparison if isinstance(comparison, str) else None,
        unopposed=isinstance(comparison, Unopposed),
        slices=slices,
        gates=(),
        notes=(*_notes(trial, candidate), *notes),
        sentence="",
    )
    report = report.model_copy(update={"gates": _gates(report, trial, predicted, personal, tried or {})})
    return report.model_copy(update={"sentence": _sentence(report)})


def incomparable(candidate: Candidate, champion: Candidate, version: int, holdout: HoldOut) -> str | None:
    """Why a champion cannot be judged on the hold-out beside the candidate; None when it can."""
    if (champion.model_sha256, champion.manifest) == (candidate.model_sha256, candidate.manifest):
        return Unopposed(f"The candidate is champion v{version} itself.")
    if not unseen(champion, holdout):
        return f"Champion v{version} was fitted on every hold-out partition ({listed(holdout.partitions)})."
    before, now = (judged.manifest.spec["target"] for judged in (champion, candidate))
    if before != now:
        return f"Champion v{version} predicts {before!r}, the candidate {now!r}."
    if unknown := [name for name in champion.classes if name not in candidate.classes]:
        return f"Champion v{version} predicts classes that the candidate does not: {', '.join(map(str, unknown))}."
    if missing := [name for name in champion.inputs if name not in holdout.frame.columns]:
        return f"Champion v{version} needs columns that the contract no longer has: {', '.join(missing)}."
    return None


def unseen(champion: Candidate, holdout: HoldOut) -> tuple[str, ...]:
    """The hold-out partitions that the champion was not fitted on."""
    return tuple(key for key in holdout.partitions if key not in champion.manifest.fitted_partitions)


def _refuse_seen_rows(spec: ModelSpec, candidate: Candidate, holdout: HoldOut) -> None:
    if seen := [key for key in holdout.partitions if key in candidate.manifest.fitted_partitions]:
        raise EvaluationError(f"{spec.name}: the candidate was fitted on {listed(seen)}, which cannot judge it.")


def estimates(spec: ModelSpec, scores: Scores) -> tuple[dict[str, Estimate], dict[str, str]]:
    """Every metric that the rows define, and why the others are not."""
    found, absent = {}, {}
    for name, value in scores.values.items():
        low, high = metrics.interval(scores.replicates[name], spec.evaluation.confidence)
        if math.isfinite(value) and math.isfinite(low):
            found[name] = Estimate(value=value, low=low, high=high)
        elif name in NEEDS_TWO_CLASSES:
            absent[name] = "the rows or the predictions hold one class only"
        else:
            absent[name] = "the target is constant"
    return found, absent


def naive(trial: Trial, history: pd.DataFrame, later: pd.DataFrame | None = None) -> tuple[str, Scores]:
    """The naive guess that comes out best on the metric that decides. `later` rows, where labels come late, help it."""
    spec = trial.spec
    past = _past(trial, history)
    if later is not None:
        past = replace(past, later=_past(trial, later))
    weeks = 1 if spec.labels is None else math.ceil(spec.labels.delay_days / 7)
    times, classes = trial.holdout.times, len(trial.classes)
    offered = guesses(spec.task, spec.evaluation.metric, past, times, trial.actual, classes, weeks)
    scored = {name: trial.scores(guess) for name, guess in offered.items()}

    def badness(name: str) -> float:
        value = float(metrics.loss(spec.task, spec.evaluation.metric, scored[name].values[spec.evaluation.metric]))
        return value if math.isfinite(value) else math.inf

    best = min(scored, key=badness)
    return best, scored[best]


def _past(trial: Trial, history: pd.DataFrame) -> History:
    spec = trial.spec
    history = history[history[spec.target].notna()]
    times, target = moments(history[spec.time.name]), history[spec.target]
    if not trial.classes:
        return History(times, target.to_numpy(float))
    places = codes(target, trial.classes)
    return History(times[places >= 0], places[places >= 0])


def _skill(spec: ModelSpec, judged: Scores, baseline: Scores) -> float | None:
    metric = spec.evaluation.metric
    value = metrics.skill(spec.task, metric, judged.values[metric], baseline.values[metric])
    return value if math.isfinite(value) else None


def _comparison(trial: Trial, predicted: np.ndarray, judged: Scores, champion: Contender) -> Comparison | str:
    """Both on the rows that the champion has not seen either, with the same replicates for both."""
    spec, metric = trial.spec, trial.spec.evaluation.metric
    where = trial.holdout.within(champion.partitions)
    try:
        theirs = trial.scores(aligned(champion.predicted, champion.classes, trial.classes), where)
    except metrics.UnusablePredictionsError as error:
        return f"Champion v{champion.version} cannot be compared: {error}"
    ours = judged if where.all() else trial.scores(predicted[where], where)
    ahead = _loss(spec, theirs.replicates[metric]) - _loss(spec, ours.replicates[metric])
    gain = float(_loss(spec, theirs.values[metric]) - _loss(spec, ours.values[metric]))
    low, high = metrics.interval(ahead, spec.evaluation.confidence)
    if not math.isfinite(gain) or not math.isfinite(low):
        return f"{metric} is undefined on the rows that champion v{champion.version} has not seen."
    return Comparison(
        champion_version=champion.version,
        partitions=champion.partitions,
        rows=int(where.sum()),
        champion=estimates(spec, theirs)[0][metric],
        candidate=estimates(spec, ours)[0][metric],
        gain=Estimate(value=gain, low=low, high=high),
        verdict="better" if low > 0 else "worse" if high < 0 else "undecided",
    )


def _loss(spec: ModelSpec, value: np.ndarray | float) -> np.ndarray:
    return metrics.loss(spec.task, spec.evaluation.metric, value)


def _slices(
    trial: Trial, predicted: np.ndarray, personal: Collection[str]
) -> tuple[tuple[SliceMetrics, ...], tuple[str, ...]]:
    spec, frame = trial.spec, trial.holdout.frame
    found, notes = [], []
    for column in spec.evaluation.slices:
        if column not in frame.columns:
            raise EvaluationError(
                f"{spec.name}: slice {column!r} is not a column of validated_features: {', '.join(frame.columns)}."
            )
        small = 0
        for label, where in groups(frame[column], hidden=column in personal):
            rows = int(where.sum())
            if rows < spec.evaluation.min_slice_rows:
                small += 1
                continue
            values = metrics.values(spec.task, trial.actual[where], predicted[where])
            found.append(SliceMetrics(column=column, value=label, rows=rows, metrics=values))
        if small:
            notes.append(f"{small} slices of {column} have fewer than {spec.evaluation.min_slice_rows} rows: left out.")
    return tuple(found), tuple(notes)


def _gates(
    report: EvaluationReport,
    trial: Trial,
    predicted: np.ndarray,
    personal: Collection[str],
    tried: Mapping[str, Finding],
) -> tuple[GateResult, ...]:
    found = {**measured(trial, predicted, personal), **tried}
    return tuple(
        GateResult.of_finding(gate, found.get(gate.called) or report.finding(gate, trial.spec))
        for gate in trial.spec.gates
    )


def _notes(trial: Trial, candidate: Candidate) -> Iterator[str]:
    if trial.holdout.unlabelled:
        yield f"{trial.holdout.unlabelled:,} rows without a label were not judged."
    if new := trial.classes[len(candidate.classes) :]:
        yield f"The hold-out has classes that fitting never saw: {', '.join(map(str, new))}."
    if len(trial.how.starts) < metrics.MIN_BLOCKS:
        yield f"{len(trial.actual)} rows are few: the intervals are rough."


def _sentence(report: EvaluationReport) -> str:
    metric, skill = report.metric, report.skill
    judged = f"{metric} {report.metrics[metric]}" if metric in report.metrics else f"{metric} is undefined"
    parts = [f"{judged} on {report.rows:,} unseen rows of {listed(report.partitions)}"]
    if skill is not None:
        word = "better" if skill > 0 else "worse"
        parts.append(f"{abs(skill):.0%} {word} than the naive guess ({report.baseline_name})")
    parts.append(_against(report.champion) if report.champion else _within_a_sentence(str(report.champion_absent)))
    if failed := [gate for gate in report.gates if not gate.passed]:
        parts.append(f"fails {len(failed)} of {len(report.gates)} gates: {'; '.join(map(str, failed))}")
    elif report.gates:
        parts.append(f"clears all {len(report.gates)} gates" if len(report.gates) > 1 else "clears its gate")
    return "; ".join(parts) + "."


def _against(comparison: Comparison) -> str:
    version, gain = f"champion v{comparison.champion_version}", comparison.gain
    if not gain.value:
        return f"no better than {version}"
    size = f"{'better' if gain.value > 0 else 'worse'} than {version} by {figure(abs(gain.value))}"
    chance = ", which may be chance" if comparison.verdict == "undecided" else ""
    return f"{size}{chance} (gain {figure(gain.low)} to {figure(gain.high)})"


def _within_a_sentence(text: str) -> str:
    return text[:1].lower() + text[1:].rstrip(".")
