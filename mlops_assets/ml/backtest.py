"""The back-test: a model's stored history lived through again under any policy of retraining, partition by partition.

At each partition nothing is known but what was known then: the partition is predicted and judged by the champion of
that moment, labels come when they came, the policy decides, and a candidate is fitted, judged on the hold-out and
promoted by the code that does so in the lifecycle. What was fitted once is fitted once, however many policies want it.

So is the cause of what is seen in a partition: it is searched for anew among the partitions that had come by then. The
causes in the stored drift reports are not taken over: a report is written again when an earlier partition is corrected,
and it was judged by the settings of its day, not by those that are tried.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mlops_assets.ml.causes import Cause, Earlier, Feed, accepted, earlier, explain
from mlops_assets.ml.evaluation import (
    NOBODY_SERVES,
    Contender,
    Estimate,
    EvaluationReport,
    evaluate,
    incomparable,
    unseen,
)
from mlops_assets.ml.evidence import Learned, Watched, depth, gather
from mlops_assets.ml.gates import NEEDS_THE_MODEL
from mlops_assets.ml.holdout import EvaluationError, HoldOut, answers
from mlops_assets.ml.leaks import LeakError
from mlops_assets.ml.metrics import METRICS, UnusablePredictionsError
from mlops_assets.ml.monitoring import DriftReport, Subject, in_force, judge, needs_retraining, predictions
from mlops_assets.ml.performance import (
    Answered,
    PerformanceReport,
    PredictedPartition,
    Yardsticks,
    looked_back,
    measure,
)
from mlops_assets.ml.registration import decide, refusal
from mlops_assets.ml.retraining import Policy, TrainingFacts, Verdict, cost_of
from mlops_assets.ml.spec import ModelSpec, Retraining, Value, digest_of
from mlops_assets.ml.threads import for_rows
from mlops_assets.ml.training import (
    Candidate,
    Choice,
    Fitted,
    Split,
    TrainingError,
    choose,
    fit,
    manifest,
    needed_inputs,
    splits,
)
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.ml.windows import oldest_first

NOT_TRAINED = (TrainingError, LeakError, EvaluationError, UnusablePredictionsError)
YARDSTICK = 12


class Step(Value):
    """One partition of a replay: what the champion of that moment had on it, what was decided, and what came of it.

    `measured` is what its labels said once they had come; `alarm` whether drift had lasted when it came.
    """

    partition: str
    first: datetime
    version: int | None = None
    measured: Estimate | None = None
    baseline: float | None = None
    drifted_share: float | None = None
    alarm: bool = False
    verdict: Verdict | None = None
    sentence: str = ""
    trained: bool = False
    became_champion: bool = False
    note: str = ""


class Replay(Value):
    """A history lived through under one policy."""

    model: str
    policy: str
    metric: str
    better: str
    steps: tuple[Step, ...]
    trainings: tuple[TrainingFacts, ...]

    @property
    def judged(self) -> tuple[Step, ...]:
        """The partitions that a champion predicted and labels judged."""
        return tuple(step for step in self.steps if step.measured is not None)

    @property
    def mean(self) -> float:
        """The mean of the metric over the partitions that were judged; NaN where none was."""
        return float(np.mean([step.measured.value for step in self.judged if step.measured])) if self.judged else np.nan

    @property
    def retrainings(self) -> int:
        """How often the policy trained: the first version is not its doing."""
        return sum(step.trained and step.verdict is not None for step in self.steps)

    def cost(self, rule: Retraining) -> float:
        """What all trainings cost at the declared prices, the first one included."""
        return sum(cost_of(each, rule) for each in self.trainings)

    def alarms(self, changes: Sequence[datetime], within: int) -> tuple[int, int]:
        """How many alarms were true and false: true within so many partitions after a declared change."""
        raised = [place for place, step in enumerate(self.steps) if step.alarm and not self.steps[place - 1].alarm]
        due = {place + later for change in changes for place in [self.place(change)] for later in range(within + 1)}
        true = sum(place in due for place in raised)
        return true, len(raised) - true

    @property
    def blamed(self) -> tuple[Step, ...]:
        """The partitions that the policy said to come from a broken feed."""
        return tuple(step for step in self.steps if step.verdict == "FIX_UPSTREAM")

    def faults(self, days: Sequence[datetime]) -> tuple[int, int]:
        """How many partitions were rightly said to come from a broken feed, and how many wrongly.

        Rightly is one that holds a day on which the feed is known to have been broken.
        """
        known = {self.steps[place] for place in map(self.place, days) if place >= 0}
        true = sum(step in known for step in self.blamed)
        return true, len(self.blamed) - true

    def place(self, day: datetime) -> int:
        """The partition into which a day falls, by its place; -1 where it is before all of them."""
        return sum(step.first.date() <= day.date() for step in self.steps) - 1


class Trained(NamedTuple):
    """A fitted candidate, with what it is made of."""

    candidate: Candidate
    fitted: Fitted

    def answers(self, spec: ModelSpec, rows: pd.DataFrame) -> np.ndarray:
        """What the candidate says of each row."""
        with for_rows(len(rows)):
            return answers(spec.task, self.fitted.pipeline, rows, self.candidate.inputs)


class Look(NamedTuple):
    """What is to be seen of a partition by one candidate: how far it drifted, and how right the predictions were."""

    drift: DriftReport
    performance: PerformanceReport | None


Reader = Callable[[Sequence[ValidatedPartition], Sequence[str] | None], pd.DataFrame]
"""Reads columns (all where None) of validated partitions, one after the other."""


@dataclass
class History:
    """A model's validated partitions and the way to their rows; what was computed from them is kept for every policy.

    `inputs` and `personal` are the contract's. Where labels come later than rows, `matured` says when those of each
    partition had come. `feeds` say how partitions came to be, as far as it is on record. `notes` are the sentences that
    a person has to know beside the figures: what is assumed, and what cannot be lived through. `kept` may be any
    mapping, such as one on disk.
    """

    parts: Sequence[ValidatedPartition]
    read: Reader
    inputs: Sequence[str]
    personal: Sequence[str] = ()
    matured: Mapping[str, datetime] | None = None
    feeds: Mapping[str, Feed] = field(default_factory=dict)
    notes: Sequence[str] = ()
    kept: MutableMapping[str, Any] = field(default_factory=dict)

    def known(self, part: ValidatedPartition, now: datetime) -> bool:
        """Whether the labels of a partition had come at a moment."""
        if self.matured is None:
            return part.last <= now
        return part.partition in self.matured and self.matured[part.partition] <= now

    def trained(self, spec: ModelSpec, offered: Sequence[Split]) -> tuple[Split, Trained]:
        """The candidate that training makes of what it is offered. Its cost is that of all fits behind it."""
        choice, tried = self._once("choice", [_keys(parts) for parts in offered], lambda: self._chosen(spec, offered))
        parts = offered[choice]
        made = self._once("fit", _keys(parts), lambda: self._fitted(spec, parts))
        spent = made.candidate.cpu_seconds + tried
        return parts, made._replace(candidate=made.candidate.model_copy(update={"cpu_seconds": spent}))

    def look(self, spec: ModelSpec, made: Trained, part: ValidatedPartition) -> Look:
        """What one candidate says of a partition that it has not learned from."""
        key = [made.candidate.manifest.fitted_partitions, made.candidate.model_sha256, part.partition, part.delivery]
        return self._once("look", key, lambda: self._looked(spec, made, part))

    def cause(self, spec: ModelSpec, part: ValidatedPartition, before: Earlier, moved: Sequence[str]) -> Cause:
        """What most likely moved a partition, by those that it is held against."""
        key = [*_keys(((part,), before.recent, before.likewise)), moved]
        return self._once("cause", key, lambda: explain(spec, part, before, self.feeds, moved))

    def _once(self, what: str, key: Any, work: Callable[[], Any]) -> Any:
        name = f"{what}-{digest_of(key)}"
        if name not in self.kept:
            self.kept[name] = work()
        return self.kept[name]

    def _chosen(self, spec: ModelSpec, offered: Sequence[Split]) -> tuple[int, float]:
        started = time.process_time()
        given = needed_inputs(spec, self.inputs)
        columns = [*dict.fromkeys([*given, spec.target, spec.time.name])]
        choice: Choice = choose(offered, spec, given, lambda parts: self.read(parts, columns))
        return list(offered).index(choice.parts), time.process_time() - started

    def _fitted(self, spec: ModelSpec, parts: Split) -> Trained:
        started = time.process_time()
        given = needed_inputs(spec, self.inputs)
        fitted = fit(self.read(parts.fitted, [*given, spec.target]), spec, given, self.personal)
        seconds = time.process_time() - started
        candidate = Candidate(
            model=spec.name,
            mlflow_run_id=fitted.sha256[:32],
            model_uri="",
            model_sha256=fitted.sha256,
            manifest=manifest(spec, parts, {}),
            inputs=tuple(fitted.inputs),
            classes=fitted.classes,
            fitted_rows=fitted.rows,
            importance=fitted.importance,
            reference="",
            reference_sample="",
            cpu_seconds=seconds,
        )
        return Trained(candidate, fitted)

    def _looked(self, spec: ModelSpec, made: Trained, part: ValidatedPartition) -> Look:
        rows, candidate = self.read([part], None), made.candidate
        subject = Subject(
            partition=part.partition,
            first=part.first,
            delivery=part.delivery,
            version=0,
            usual_rows=made.fitted.reference.rows / len(candidate.manifest.fitted_partitions),
        )
        inputs = rows[list(candidate.inputs)]
        said = made.answers(spec, rows)
        watched = predictions(made.fitted.pipeline, inputs, spec.task, said)
        drift = judge(spec, subject, made.fitted.reference, inputs, watched, candidate.importance, self.personal)
        try:
            return Look(drift, self._measured(spec, made, part, rows, said))
        except (EvaluationError, UnusablePredictionsError):
            return Look(drift, None)

    def _measured(
        self, spec: ModelSpec, made: Trained, part: ValidatedPartition, rows: pd.DataFrame, said: np.ndarray
    ) -> PerformanceReport:
        candidate = made.candidate
        predicted = PredictedPartition(
            model=spec.name,
            partition=part.partition,
            first=part.first,
            delivery=part.delivery,
            rows_of=part.content,
            version=0,
            candidate=candidate.model_sha256,
            rows=len(rows),
            table_version=part.table_version,
            files={},
            classes=candidate.classes,
        )
        learned = [each for each in self.parts if each.partition in candidate.manifest.fitted_partitions]
        columns = [spec.time.name, spec.target]
        past = self.read(learned[-YARDSTICK:], columns)
        before = oldest_first(each for each in self.parts if each.first < part.first)
        back = looked_back(spec)
        later = self.read(before[-back:], columns) if back and before else None
        answered = Answered(predicted, rows[spec.time.name], rows[spec.target], said)
        return measure(spec, answered, Yardsticks(past, None, later))


@dataclass
class Version:
    """A candidate with its number, as the registry would have given it."""

    number: int
    made: Trained


@dataclass
class Life:
    """What has come to be known at one moment of a replay, and what is done with it."""

    history: History
    spec: ModelSpec
    policy: Policy
    seen: dict[str, ValidatedPartition] = field(default_factory=dict)
    drift: dict[str, DriftReport] = field(default_factory=dict)
    performance: dict[str, PerformanceReport] = field(default_factory=dict)
    trainings: tuple[TrainingFacts, ...] = ()
    newest: Learned = field(default_factory=Learned)
    champion: Version | None = None
    versions: int = 0
    coming: list[tuple[ValidatedPartition, PerformanceReport]] = field(default_factory=list)

    def live(self, part: ValidatedPartition) -> Step:
        """The day on which a partition comes."""
        self.seen[part.partition] = part
        told = self._look(self.champion, part) if self.champion else {}
        self._learn_labels(part.last)
        if self.champion is None:
            enough = len(self._labelled(part.last)) >= self.spec.training.min_partitions
            return Step(partition=part.partition, first=part.first, **(self._train(part) if enough else {}))
        decision = self.policy.decide(self._evidence(), self.spec.retraining)
        told |= {"verdict": decision.verdict, "sentence": decision.sentence}
        done = self._train(part) if decision.verdict == "RETRAIN" else {}
        return Step(partition=part.partition, first=part.first, **told, **done)

    def _look(self, version: Version, part: ValidatedPartition) -> dict[str, Any]:
        """What the champion of this moment says of a new partition. Its labels are kept until they are known."""
        look = self.history.look(self.spec, version.made, part)
        drift = look.drift.model_copy(update={"version": version.number, **self._cause(part, look.drift)})
        self.drift = in_force({**self.drift, part.partition: drift}, self.spec.drift)
        report = look.performance
        if report is not None:
            self.coming.append((part, report.model_copy(update={"version": version.number})))
        return {
            "version": version.number,
            "measured": report.measured if report else None,
            "baseline": report.baseline if report else None,
            "drifted_share": look.drift.weighted_share,
            "alarm": self._alarm(version.number),
        }

    def _cause(self, part: ValidatedPartition, drift: DriftReport) -> dict[str, Any]:
        """What most likely moved a partition, by those that have come, and which of them it shows to be sound."""
        before, broken = earlier(self.seen, part, self.spec.partitions), self._broken()
        cause = self.history.cause(self.spec, part, before.without(broken), drift.moved)
        if not before.all_in(broken):
            return {"cause": cause}
        sound = {key: each for key, each in self.seen.items() if key not in broken}
        beside = self.history.cause(self.spec, part, earlier(sound, part, self.spec.partitions), drift.moved)
        return {"cause": cause, "accepts": accepted(before.recent, cause, beside)}

    def _broken(self) -> list[str]:
        """The partitions of a broken feed, as far as it is said."""
        return [key for key, report in self.drift.items() if report.is_broken_feed]

    def _alarm(self, version: int) -> bool:
        rule = self.spec.drift
        alike = [report.verdict for report in self.drift.values() if report.version == version]
        return needs_retraining(alike[::-1], rule.k, rule.n)

    def _learn_labels(self, now: datetime) -> None:
        known = [each for each in self.coming if self.history.known(each[0], now)]
        self.performance |= {part.partition: report for part, report in known}
        self.coming = [each for each in self.coming if each not in known]

    def _labelled(self, now: datetime) -> dict[str, ValidatedPartition]:
        return {key: part for key, part in self.seen.items() if self.history.known(part, now)}

    def _evidence(self) -> Any:
        newest = dict(list(self.seen.items())[-depth(self.spec) :])
        now = next(reversed(newest.values())).last
        unlabelled = [key for key, part in newest.items() if not self.history.known(part, now)]
        before = len(self.seen) - len(newest)
        watched = Watched(newest, self.drift, self.performance, unlabelled=unlabelled, before=before)
        return gather(self.spec, watched, self.newest, self.trainings, (), next(reversed(self.seen)))

    def _train(self, part: ValidatedPartition) -> dict[str, Any]:
        """Fit, judge and promote, as the lifecycle does. A training that fails leaves everything as it was."""
        try:
            return self.train(self._labelled(part.last))
        except NOT_TRAINED as error:
            return {"trained": True, "note": str(error)}

    def train(self, validated: dict[str, ValidatedPartition]) -> dict[str, Any]:
        """A candidate of those of these partitions that come from a sound feed, and whether it serves from now on."""
        sound = {key: part for key, part in validated.items() if key not in self._broken()}
        parts, made = self.history.trained(self.spec, splits(sound, self.spec))
        candidate = made.candidate.model_copy(update={"mlflow_run_id": f"training {len(self.trainings) + 1}"})
        report = self._judged(parts, Trained(candidate, made.fitted))
        refused = refusal(candidate, report, self._replayed)
        champion = self.champion.number if self.champion else None
        promoted = refused is None and decide(report, champion, self.spec).champion
        if promoted:
            self.versions += 1
            self.champion = Version(self.versions, Trained(candidate, made.fitted))
        self.newest = Learned(candidate, report, candidate.mlflow_run_id if promoted else None)
        self.trainings = self._evidence().trainings
        return {"trained": True, "became_champion": promoted, "note": refused or ""}

    def _judged(self, parts: Split, made: Trained) -> EvaluationReport:
        spec, read = self._replayed, self.history.read
        rows = {part.partition: part.rows_out for part in parts.holdout}
        holdout = HoldOut.of(spec, read(parts.holdout, None), rows)
        past = read(parts.fitted, [spec.time.name, spec.target])
        said = made.answers(spec, holdout.frame)
        against = self._contender(made.candidate, holdout)
        return evaluate(spec, made.candidate, holdout, said, past, against, self.history.personal)

    @property
    def _replayed(self) -> ModelSpec:
        """The declaration with the gates that rows alone can judge: what a machine was like then is not known."""
        gates = tuple(gate for gate in self.spec.gates if not isinstance(gate, NEEDS_THE_MODEL))
        return self.spec.model_copy(update={"gates": gates})

    def _contender(self, candidate: Candidate, holdout: HoldOut) -> Contender | str:
        if self.champion is None:
            return NOBODY_SERVES
        champion, number = self.champion.made, self.champion.number
        if reason := incomparable(candidate, champion.candidate, number, holdout):
            return reason
        partitions = unseen(champion.candidate, holdout)
        rows = holdout.frame[holdout.within(partitions)]
        said = champion.answers(self.spec, rows)
        return Contender(number, partitions, said, champion.candidate.classes)


def replay(
    history: History, spec: ModelSpec, policy: Policy, label: str | None = None, life: type[Life] = Life
) -> Replay:
    """The history lived through under `policy` and the rule that `spec` declares."""
    lived = life(history, spec, policy)
    steps = [lived.live(part) for part in oldest_first(part for part in history.parts if part.rows_out)]
    metric = spec.evaluation.metric
    return Replay(
        model=spec.name,
        policy=label or policy.name,
        metric=metric,
        better=METRICS[spec.task][metric],
        steps=tuple(steps),
        trainings=lived.trainings,
    )


def _keys(parts: Iterable[Sequence[ValidatedPartition]]) -> list[list[str]]:
    return [[f"{part.partition} of {part.delivery}" for part in side] for side in parts]
