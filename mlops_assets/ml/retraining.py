"""Whether to train anew: what a decision looks at, what it answers, and what follows from both for every policy.

The policies themselves are in policies.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, Protocol

from pydantic import Field

from mlops_assets.ml.causes import Cause
from mlops_assets.ml.evaluation import Estimate
from mlops_assets.ml.monitoring import Verdict as DriftVerdict
from mlops_assets.ml.monitoring import needs_retraining
from mlops_assets.ml.resource_card import machines
from mlops_assets.ml.spec import Retraining, Value

Verdict = Literal["RETRAIN", "WAIT", "FIX_UPSTREAM", "NEED_LABELS"]
LIFETIME = 1_000
NAMED = 3


class PartitionFacts(Value):
    """What is known of one partition at the moment of a decision. Missing is None: never a guess.

    `version` predicted it. `measured` is the deciding metric on the labelled rows, mature or not; `estimated` is what
    is expected of it without labels, and `held` how many of how many of the last such intervals the truth fell into;
    `baseline` is the naive guess on the same rows.
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
    held: tuple[int, int] = (0, 0)
    baseline: float | None = None

    @property
    def broken(self) -> bool:
        """Whether its feed looks broken: it is not learned from, and says nothing of the champion."""
        return self.cause is not None and self.cause.likely == "upstream"


class TrainingFacts(Value):
    """One training of the past: the newest partition at hand, what it cost, and how the candidate did.

    `holdout` is the candidate's metric on its hold-out, `gain` how much better than the champion of that time it was on
    the same rows (positive is better); missing for a first version. `fitted` is how many partitions it learned from,
    `candidate` names it by its MLflow run. `baseline` is the naive guess on the hold-out. `judged` is the newest
    partition of the hold-out, older than `partition` where labels come late; empty where it is the same.
    """

    partition: str
    fitted: int
    holdout: Estimate
    gain: Estimate | None
    became_champion: bool
    cpu_seconds: float
    gpu_seconds: float = 0.0
    gib_seconds: float = 0.0
    candidate: str = ""
    baseline: float | None = None
    judged: str = ""


class Evidence(Value):
    """All that a policy looks at, oldest first: the newest partitions, and the newest trainings.

    `stale` are the partitions that were corrected after the champion, and every candidate since, had learned from them,
    `fresh` those that a training now would have and the newest judged candidate did not. `latest` is the newest
    candidate of that moment, judged or not, by its MLflow run. `confidence` is that of every interval. `before` is how
    many partitions came before those.
    """

    model: str
    metric: str
    better: Literal["higher", "lower"]
    partitions: tuple[PartitionFacts, ...]
    trainings: tuple[TrainingFacts, ...]
    n: int
    k: int
    stale: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    latest: str | None = None
    confidence: float = 0.95
    before: int = 0


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
    def unjudged(self) -> tuple[PartitionFacts, ...]:
        """The partitions that came after all whose labels the last training had: the same where none come late."""
        return self.after(self.trainings[-1].judged or self.trainings[-1].partition if self.trainings else None)

    @property
    def keys(self) -> list[str]:
        """The partitions, oldest first."""
        return [facts.partition for facts in self.evidence.partitions]

    @property
    def champions(self) -> tuple[TrainingFacts, ...]:
        """The trainings whose candidate became champion, oldest first."""
        return tuple(training for training in self.trainings if training.became_champion)

    @property
    def reign(self) -> tuple[PartitionFacts, ...]:
        """The partitions that came after the training of the champion."""
        return self.after(self.champions[-1].partition if self.champions else None)

    @property
    def age(self) -> int:
        """How many partitions came after the training of the champion."""
        return len(self.reign)

    @property
    def learned(self) -> float:
        """How many rows the champion could have learned from; those of one partition where that is not known."""
        partitions = self.evidence.partitions
        mean = sum(facts.rows for facts in partitions) / len(partitions)
        return self.learned_by(self.champions[-1]) if self.champions else mean

    def learned_by(self, training: TrainingFacts) -> float:
        """How many rows were at hand for a training, whatever window it took.

        Partitions that are not known any more are taken to have been like the others.
        """
        place = max(self.place(training), 0)
        partitions = self.evidence.partitions
        known = [facts.rows for facts in partitions[:place] or partitions]
        at_hand = place + self.evidence.before if place else 0
        return max(training.fitted, at_hand, 1) * sum(known) / len(known)

    def place(self, training: TrainingFacts) -> int:
        """The place of the newest partition that a training had at hand; -1 where it is older than all of these."""
        return self.keys.index(training.partition) if training.partition in self.keys else -1

    @property
    def drifted(self) -> bool:
        """Whether drift has lasted: the newest partition has drifted and so have `k` of the newest `n`."""
        alike = [facts.drift for facts in self.unlearned if facts.drift is not None]
        return needs_retraining(alike[::-1], self.evidence.k, self.evidence.n)

    @property
    def cost(self) -> float:
        """What the last training cost, at the declared prices."""
        return cost_of(self.trainings[-1], self.rule) if self.trainings else 0.0

    def after(self, partition: str | None) -> tuple[PartitionFacts, ...]:
        """The partitions after `partition`; all where it is not among them."""
        return self.evidence.partitions[self.keys.index(partition) + 1 if partition in self.keys else 0 :]

    def between(self, training: TrainingFacts, successor: TrainingFacts | None) -> tuple[PartitionFacts, ...]:
        """The partitions after one training up to that of its successor, or up to now."""
        reign = self.after(training.partition)
        return reign if successor is None else reign[: len(reign) - len(self.after(successor.partition))]

    def age_of(self, facts: PartitionFacts, training: TrainingFacts) -> int:
        """How many partitions after a training one came."""
        return self.keys.index(facts.partition) - self.keys.index(training.partition)

    def settled(self) -> Answer | None:
        """Why there is nothing to decide, whatever the policy; None where there is."""
        if not self.trainings:
            return Answer(
                "WAIT",
                "There is no version yet: the first is trained with the delivery that makes enough partitions.",
                "After a first training it is decided by the policy.",
            )
        if not (self.unlearned or self.evidence.fresh or self.evidence.stale):
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
            f"{counted(passed)} came after the last training, at {self.trainings[-1].partition}; the cooldown is "
            f"{counted(cooldown)}.",
            f"{counted(cooldown + 1 - passed)} later it is decided by what is known then.",
        )

    def decision(self, policy: str, answer: Answer, gain: Estimate | None = None) -> RetrainingDecision:
        """The answer as a record, with the cost and the day on which the gain has paid for it."""
        if answer.verdict == "RETRAIN" and not (self.evidence.fresh or self.evidence.stale):
            answer = self._in_vain(answer)
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

    def _in_vain(self, answer: Answer) -> Answer:
        """Why nothing is trained after all: it would be the same model."""
        broken = [facts.partition for facts in self.unlearned if facts.broken]
        left = f" Left out for their feed: {', '.join(broken[-NAMED:])}." if broken else ""
        return Answer(
            "WAIT",
            f"{answer.reason} But nothing has come to learn from since the last training, at "
            f"{self.trainings[-1].partition}.{left}",
            "With a partition more to learn from it would be RETRAIN.",
        )

    def _pays_back(self, gain: Estimate | None) -> date | None:
        """The day on which a gain in every partition has paid for the training, within a lifetime of a model."""
        partitions, value = self.evidence.partitions, self.rule.value
        if gain is None or gain.value <= 0 or not value or len(partitions) < 2:
            return None
        needed = math.ceil(self.cost / (gain.value * value))
        every = (partitions[-1].first - partitions[0].first) / (len(partitions) - 1)
        return None if needed > LIFETIME else (self.newest.first + every * (1 + needed)).date()


def cost_of(training: TrainingFacts, rule: Retraining) -> float:
    """What a training cost at the declared prices: what people do about it, and the machines."""
    return rule.review + machines(training.cpu_seconds, training.gpu_seconds, training.gib_seconds, rule)


def counted(number: int, what: str = "partition") -> str:
    """So many of something, in words."""
    return f"{number} {what}{'' if number == 1 else 's'}"
