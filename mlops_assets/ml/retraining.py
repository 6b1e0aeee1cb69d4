"""Whether to train anew, and why: the policies, what they look at, and what they answer. Pure values and functions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, Protocol

from pydantic import Field

from mlops_assets.ml.causes import Cause
from mlops_assets.ml.charts import figure
from mlops_assets.ml.evaluation import Estimate
from mlops_assets.ml.gain import Observation, error, rate, share
from mlops_assets.ml.monitoring import Verdict as DriftVerdict
from mlops_assets.ml.monitoring import needs_retraining
from mlops_assets.ml.spec import Retraining, Value

Verdict = Literal["RETRAIN", "WAIT", "FIX_UPSTREAM", "NEED_LABELS"]
LIFETIME = 1_000
LEAST = 0.03
NAMED = 3


class PartitionFacts(Value):
    """What is known of one partition at the moment of a decision. Missing is None: never a guess.

    `version` predicted it. `measured` is the deciding metric on the labelled rows, mature or not; `estimated` is what
    is expected of it without labels; `baseline` is the naive guess on the same rows.
    """

    partition: str
    first: datetime
    rows: int
    version: int | None = None
    drift: DriftVerdict | None = None
    drifted_share: float | None = None
    cause: Cause | None = None
    measured: Estimate | None = None
    labelled_share: float = 0.0
    mature: bool = False
    estimated: Estimate | None = None
    baseline: float | None = None


class TrainingFacts(Value):
    """One training of the past: the newest partition at hand, what it cost, and how the candidate did.

    `holdout` is the candidate's metric on its hold-out, `gain` how much better than the champion of that time it was on
    the same rows (positive is better); missing for a first version. `fitted` is how many partitions it learned from,
    `candidate` names it by its MLflow run.
    """

    partition: str
    fitted: int
    holdout: Estimate
    gain: Estimate | None
    became_champion: bool
    cpu_seconds: float
    gpu_seconds: float = 0.0
    candidate: str = ""


class Evidence(Value):
    """All that a policy looks at, oldest first: the newest partitions, and the newest trainings.

    `stale` are the partitions that were corrected after the champion, and every candidate since, had learned from them.
    `latest` is the newest candidate of that moment, judged or not, by its MLflow run.
    """

    model: str
    metric: str
    better: Literal["higher", "lower"]
    partitions: tuple[PartitionFacts, ...]
    trainings: tuple[TrainingFacts, ...]
    n: int
    k: int
    stale: tuple[str, ...] = ()
    latest: str | None = None


class RetrainingDecision(Value):
    """The verdict on the newest partition, what it rests on, and what would have made it another.

    `expected_gain` is in units of the metric and per partition, positive being better; `cost` is of one training and
    `pays_back` the day on which the gain has paid for it, where the model's metric has a declared value in money.
    `past` are the verdicts on earlier partitions.
    """

    model: str
    partition: str
    policy: str
    verdict: Verdict
    expected_gain: Estimate | None
    cost: float
    currency: str
    pays_back: date | None
    sentence: str
    would_change: str
    evidence: Evidence
    past: dict[str, Verdict] = Field(default_factory=dict)


class Policy(Protocol):
    """A way to decide: a value that can be replayed over any history."""

    @property
    def name(self) -> str:
        """Its name, as declared."""

    def decide(self, evidence: Evidence, rule: Retraining) -> RetrainingDecision:
        """The decision on the newest partition of the evidence, by what was known then."""


@dataclass(frozen=True)
class Answer:
    """A verdict with its reason and the smallest change that gives another."""

    verdict: Verdict
    reason: str
    otherwise: str


@dataclass(frozen=True)
class Case:
    """The evidence and the rule that it is judged by, and what follows from both for every policy."""

    evidence: Evidence
    rule: Retraining

    @property
    def newest(self) -> PartitionFacts:
        """The partition that is decided on."""
        return self.evidence.partitions[-1]

    @property
    def trainings(self) -> tuple[TrainingFacts, ...]:
        """The trainings of the past, oldest first."""
        return self.evidence.trainings

    @property
    def unlearned(self) -> tuple[PartitionFacts, ...]:
        """The partitions that came after the last training."""
        return self.after(self.trainings[-1].partition if self.trainings else None)

    @property
    def age(self) -> int:
        """How many partitions came after the training of the champion."""
        champions = [training.partition for training in self.trainings if training.became_champion]
        return len(self.after(champions[-1] if champions else None))

    @property
    def drifted(self) -> bool:
        """Whether drift has lasted: the newest partition has drifted and so have `k` of the newest `n`."""
        alike = [facts.drift for facts in self.unlearned if facts.drift is not None]
        return needs_retraining(alike[::-1], self.evidence.k, self.evidence.n)

    @property
    def cost(self) -> float:
        """What the last training cost, at the declared prices."""
        if not self.trainings:
            return 0.0
        last = self.trainings[-1]
        return (last.cpu_seconds * self.rule.cpu_hour + last.gpu_seconds * self.rule.gpu_hour) / 3600

    def after(self, partition: str | None) -> tuple[PartitionFacts, ...]:
        """The partitions after `partition`; all where it is not among them."""
        keys = [facts.partition for facts in self.evidence.partitions]
        return self.evidence.partitions[keys.index(partition) + 1 if partition in keys else 0 :]

    def settled(self) -> Answer | None:
        """Why there is nothing to decide, whatever the policy; None where there is."""
        if not self.trainings:
            return Answer(
                "WAIT",
                "There is no version yet: the first is trained with the delivery that makes enough partitions.",
                "After a first training it is decided by the policy.",
            )
        if not self.unlearned and not self.evidence.stale:
            return Answer(
                "WAIT",
                f"The newest candidate was trained with {self.newest.partition} at hand.",
                "The next partition is decided on anew.",
            )
        return None

    def resting(self) -> Answer | None:
        """Why the last training is too near for another; None where it is not."""
        passed, cooldown = len(self.unlearned), self.rule.cooldown
        if passed > cooldown:
            return None
        return Answer(
            "WAIT",
            f"{_count(passed)} came after the last training, at {self.trainings[-1].partition}; the cooldown is "
            f"{_count(cooldown)}.",
            f"{_count(cooldown + 1 - passed)} later it is decided by what is known then.",
        )

    def decision(self, policy: str, answer: Answer, gain: Estimate | None = None) -> RetrainingDecision:
        """The answer as a record, with the cost and the day on which the gain has paid for it."""
        return RetrainingDecision(
            model=self.evidence.model,
            partition=self.newest.partition,
            policy=policy,
            verdict=answer.verdict,
            expected_gain=gain,
            cost=self.cost,
            currency=self.rule.currency,
            pays_back=self._pays_back(gain),
            sentence=f"{answer.verdict}: {answer.reason}",
            would_change=answer.otherwise,
            evidence=self.evidence,
        )

    def _pays_back(self, gain: Estimate | None) -> date | None:
        """The day on which a gain in every partition has paid for the training, within a lifetime of a model."""
        partitions, value = self.evidence.partitions, self.rule.value
        if gain is None or gain.value <= 0 or not value or len(partitions) < 2:
            return None
        needed = math.ceil(self.cost / (gain.value * value))
        every = (partitions[-1].first - partitions[0].first) / (len(partitions) - 1)
        return None if needed > LIFETIME else (self.newest.first + every * (1 + needed)).date()


@dataclass(frozen=True)
class Never:
    """What was trained first serves for ever."""

    name: str = "never"

    def decide(self, evidence: Evidence, rule: Retraining) -> RetrainingDecision:
        """WAIT."""
        answer = Answer("WAIT", "The declared policy never retrains.", "Only another policy would retrain.")
        return Case(evidence, rule).decision(self.name, answer)


@dataclass(frozen=True)
class Always:
    """Every partition is learned from as it comes."""

    name: str = "always"

    def decide(self, evidence: Evidence, rule: Retraining) -> RetrainingDecision:
        """RETRAIN unless the newest partition has been trained with."""
        case = Case(evidence, rule)
        retrain = Answer("RETRAIN", "The declared policy retrains with every partition.", "Only another policy waits.")
        return case.decision(self.name, case.settled() or retrain)


@dataclass(frozen=True)
class EveryN:
    """By the calendar: every so many partitions, whatever they hold."""

    name: str = "every_n"

    def decide(self, evidence: Evidence, rule: Retraining) -> RetrainingDecision:
        """RETRAIN when as many partitions as declared came after the last training."""
        case = Case(evidence, rule)
        return case.decision(self.name, case.settled() or self._by_count(len(case.unlearned), rule.every))

    def _by_count(self, passed: int, every: int) -> Answer:
        reason = f"{_count(passed)} came after the last training; the policy retrains every {_count(every)}."
        if passed >= every:
            return Answer("RETRAIN", reason, f"With {_count(every - 1)} after the last training it would be WAIT.")
        return Answer("WAIT", reason, f"{_count(every - passed)} later it is RETRAIN.")


@dataclass(frozen=True)
class OnDrift:
    """Whenever drift has lasted, and only then."""

    name: str = "on_drift"

    def decide(self, evidence: Evidence, rule: Retraining) -> RetrainingDecision:
        """RETRAIN when the newest partition has drifted and so have `k` of the newest `n` since the last training."""
        case = Case(evidence, rule)
        return case.decision(self.name, case.settled() or case.resting() or self._by_drift(case))

    def _by_drift(self, case: Case) -> Answer:
        k, n = case.evidence.k, case.evidence.n
        recent = [facts for facts in case.unlearned if facts.drift is not None][-n:]
        found = sum(facts.drift == "drifted" for facts in recent)
        reason = (
            f"{found} of the newest {len(recent)} drift reports since the last training are drifted, the newest is "
            f"{recent[-1].drift if recent else 'missing'}; the policy retrains at {k} of {n}, the newest among them."
        )
        if case.drifted:
            return Answer("RETRAIN", reason, f"Had {case.newest.partition} not drifted, it would be WAIT.")
        missing = max(k - found - (bool(recent) and recent[-1].drift != "drifted"), 0)
        also = f" and {missing} of those before it" if missing else ""
        return Answer("WAIT", reason, f"Had {case.newest.partition}{also} drifted, it would be RETRAIN.")


@dataclass(frozen=True)
class Gain:
    """When a better model is worth its training: by what the trainings of the past have gained."""

    name: str = "gain"

    def decide(self, evidence: Evidence, rule: Retraining) -> RetrainingDecision:
        """FIX_UPSTREAM for broken data, NEED_LABELS where nothing new can be learned, RETRAIN when it pays."""
        case = Case(evidence, rule)
        gain = None if case.settled() else expected_gain(case)
        blocked = case.settled() or _upstream(case)
        corrected = (_spent(case) or _corrected(case)) if evidence.stale else None
        answer = blocked or corrected or case.resting() or _spent(case) or _by_gain(case, gain)
        return case.decision(self.name, answer, gain)


POLICIES: dict[str, Policy] = {each.name: each for each in (Gain(), Never(), Always(), EveryN(), OnDrift())}


def policy(rule: Retraining) -> Policy:
    """The policy that a declaration names."""
    return POLICIES[rule.policy]


def expected_gain(case: Case) -> Estimate | None:
    """How much better than the champion a model trained now would be, in units of the metric; None if unknown."""
    level = _level(case)
    if level is None:
        return None
    believed = rate(_observations(case))
    return Estimate(
        **dict(zip(("value", "low", "high"), (level * part for part in share(believed, case.age)), strict=True))
    )


def _level(case: Case) -> float | None:
    """The error of the champion, by the newest mature figures, else by its hold-out."""
    better = case.evidence.better
    recent = [error(facts.measured.value, better) for facts in case.unlearned if facts.mature and facts.measured]
    held = [error(training.holdout.value, better) for training in case.trainings[-1:]]
    known = [value for value in (recent[-case.evidence.n :] or held) if math.isfinite(value)]
    return sum(known) / len(known) if known else None


def _observations(case: Case) -> Iterator[Observation]:
    """What each training of the past gained on rows that neither model had seen, at the age that the champion had."""
    champion: str | None = None
    better = case.evidence.better
    keys = [facts.partition for facts in case.evidence.partitions]
    for training in case.trainings:
        if training.gain is not None and champion in keys and training.partition in keys:
            after = error(training.holdout.value, better)
            before = after + training.gain.value
            if before > 0 and after > 0 and math.isfinite(before):
                age = keys.index(training.partition) - keys.index(champion)
                yield Observation(age, math.log(before / after), (training.gain.high - training.gain.low) / 4 / before)
        if training.became_champion:
            champion = training.partition


def _upstream(case: Case) -> Answer | None:
    """Broken data teaches nothing: the feed is to be repaired. None where the newest partition is not said to be."""
    newest = case.newest
    if newest.cause is None or newest.cause.likely != "upstream" or newest.drift in (None, "stable"):
        return None
    return Answer(
        "FIX_UPSTREAM",
        f"{newest.partition} is {newest.drift}, and its source is the likely reason: {newest.cause.sentence}",
        "Once the partition is delivered anew, or its cause is found in the world, it is decided by the gain.",
    )


def _corrected(case: Case) -> Answer:
    """What was learned from wrong rows is learned again, once and without a cooldown."""
    stale = case.evidence.stale
    named = ", ".join(stale[:NAMED]) + (f" and {len(stale) - NAMED} more" if len(stale) > NAMED else "")
    return Answer(
        "RETRAIN",
        f"The champion learned from rows that were corrected since: {named}.",
        "Without that correction it would be decided by the gain.",
    )


def _spent(case: Case) -> Answer | None:
    """At most a third of the partitions of a horizon is trained with, however the data swing."""
    horizon = case.rule.horizon
    most = max(horizon // 3, 1)
    recent = case.evidence.partitions[-horizon:]
    trained = sum(training.partition in {facts.partition for facts in recent} for training in case.trainings[1:])
    if trained < most:
        return None
    return Answer(
        "WAIT",
        f"{trained} of the newest {_count(len(recent))} were trained with, and at most {most} may be.",
        "Once the oldest of them lies outside the horizon, it is decided by the gain.",
    )


def _by_gain(case: Case, gain: Estimate | None) -> Answer:
    bar = _bar(case)
    if gain is None or bar is None or not math.isfinite(gain.value):
        return Answer(
            "NEED_LABELS",
            "No figure of the champion is known, neither from labels nor from its hold-out.",
            "Mature labels of one partition would tell.",
        )
    age, metric = case.age, case.evidence.metric
    reason = (
        f"The champion is {_count(age)} old; by {len(case.trainings) - 1} earlier trainings another is expected to "
        f"gain {gain} of {metric} in each, and must gain {figure(bar)}."
    )
    if gain.value < bar and not case.drifted:
        return Answer("WAIT", reason, f"At an expected gain of {figure(bar)} it would be RETRAIN.")
    if not any(facts.mature for facts in case.unlearned):
        return Answer(
            "NEED_LABELS",
            f"{reason} But of {_count(len(case.unlearned))} since the last training none has mature labels to learn "
            "from.",
            "With mature labels of one of them it would be decided by the gain.",
        )
    if gain.value < bar:
        return Answer(
            "WAIT",
            f"{reason} The data have drifted all the same.",
            f"At an expected gain of {figure(bar)} it would be RETRAIN.",
        )
    return Answer("RETRAIN", reason, f"Below an expected gain of {figure(bar)} it would be WAIT.")


def _bar(case: Case) -> float | None:
    """The gain that a training must promise: its cost over the horizon, else a share of the error."""
    if case.rule.value:
        return case.cost / (case.rule.value * case.rule.horizon)
    level = _level(case)
    return None if level is None else LEAST * level


def _count(number: int) -> str:
    return f"{number} partition{'' if number == 1 else 's'}"
