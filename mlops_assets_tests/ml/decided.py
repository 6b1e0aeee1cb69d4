"""Evidence made by hand: what the tests of the policies decide on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from mlops_assets.ml.causes import Cause
from mlops_assets.ml.evaluation import Estimate
from mlops_assets.ml.policies import policy
from mlops_assets.ml.retraining import Evidence, PartitionFacts, RetrainingDecision, TrainingFacts
from mlops_assets.ml.spec import Retraining

START = datetime(2024, 1, 1, tzinfo=UTC)
UPSTREAM = Cause(likely="upstream", findings=(), sentence="temp stands in other units.")
WORLD = Cause(likely="world", findings=(), sentence="Nothing upstream has changed.")


def about(value: float, width: float = 0.05) -> Estimate:
    """A figure with an interval around it."""
    return Estimate(value=value, low=value * (1 - width), high=value * (1 + width))


def key(place: int) -> str:
    """The name of a partition by its place."""
    return f"p{place:03}"


def partition(place: int, measured: float | None = 10.0, **changes: Any) -> PartitionFacts:
    """A week with mature labels, on which the champion had `measured`."""
    fields: dict[str, Any] = {
        "partition": key(place),
        "first": START + timedelta(weeks=place),
        "rows": 100,
        "measured": None if measured is None else about(measured),
        "mature": measured is not None,
        "labelled_share": float(measured is not None),
        "drift": "stable",
    }
    return PartitionFacts(**{**fields, **changes})


def training(place: int, holdout: float = 10.0, gain: float | None = None, **changes: Any) -> TrainingFacts:
    """A training with the partition at `place` at hand, which cost an hour of CPU; the first by default."""
    fields: dict[str, Any] = {
        "partition": key(place),
        "fitted": place,
        "holdout": about(holdout),
        "gain": None if gain is None else Estimate(value=gain, low=gain - 0.1, high=gain + 0.1),
        "became_champion": gain is None or gain > 0,
        "cpu_seconds": 3600.0,
    }
    return TrainingFacts(**{**fields, **changes})


def evidence(
    after: Sequence[float | PartitionFacts | None], trainings: Sequence[TrainingFacts] | None = None, **changes: Any
) -> Evidence:
    """Four partitions, a training on them where no others are given, and what was seen of those that came after."""
    seen = [each if isinstance(each, PartitionFacts) else partition(4 + i, each) for i, each in enumerate(after)]
    fields: dict[str, Any] = {
        "model": "toy",
        "metric": "mae",
        "better": "lower",
        "partitions": (*[partition(place, None) for place in range(4)], *seen),
        "trainings": tuple([training(3)] if trainings is None else trainings),
        "n": 3,
        "k": 2,
    }
    told = {**fields, **changes}
    return Evidence(**{"fresh": _after(told["partitions"], told["trainings"]), **told})


def _after(partitions: Sequence[PartitionFacts], trainings: Sequence[TrainingFacts]) -> tuple[str, ...]:
    """What can be learned from and came after the last training."""
    last = trainings[-1].partition if trainings else ""
    return tuple(facts.partition for facts in partitions if facts.partition > last and not facts.broken)


def decided(found: Evidence, rule: Mapping[str, Any] | Retraining | None = None) -> RetrainingDecision:
    """The decision of the policy that the rule names."""
    rule = rule if isinstance(rule, Retraining) else Retraining(**(rule or {}))
    return policy(rule).decide(found, rule)
