"""Whether to train anew, and why: the policies, what they look at, and what they answer. Pure values and functions."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal, Protocol

from mlops_assets.ml.causes import Cause
from mlops_assets.ml.evaluation import Estimate
from mlops_assets.ml.monitoring import Verdict as DriftVerdict
from mlops_assets.ml.spec import Retraining, Value

Verdict = Literal["RETRAIN", "WAIT", "FIX_UPSTREAM", "NEED_LABELS"]


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

    `stale` are the partitions that were corrected after the champion had learned from them. `latest` is the newest
    candidate of that moment, judged or not, by its MLflow run.
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


class Policy(Protocol):
    """A way to decide: a value that can be replayed over any history."""

    @property
    def name(self) -> str:
        """Its name, as declared."""

    def decide(self, evidence: Evidence, rule: Retraining) -> RetrainingDecision:
        """The decision on the newest partition of the evidence, by what was known then."""
