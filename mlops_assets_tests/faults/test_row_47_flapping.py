"""Row 47: data that swing to and fro drift at every partition, and must not be chased with a training each time."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from mlops_assets.lifecycle.sensors.retrain_on_decision import retrain_on_decision
from mlops_assets.ml.evaluation import Comparison
from mlops_assets.ml.evidence import Learned, Watched, depth, gather
from mlops_assets.ml.policies import policy
from mlops_assets.ml.retraining import RetrainingDecision
from mlops_assets_tests import evidence

DAYS, LOOKS_A_DAY = 60, 2
WITHIN, BEYOND = 3.0, 6.0
DAILY = {"every": "daily", "start": "2024-01-01"}
NAIVE = {"policy": "on_drift", "cooldown": 0}
pytestmark = pytest.mark.fault(47)


@dataclass
class Life:
    """A model whose data swing between two worlds, each of which a champion errs twice as much in as in its own.

    Reports are made by hand, decisions by the declared policy, requests by the sensor; a run that is asked for ends
    with a candidate of the world of its day, which is champion where it is better there.
    """

    shop: Any
    period: int
    started: datetime = datetime(2024, 1, 1, tzinfo=UTC)
    cursor: str | None = None
    parts: dict = field(default_factory=dict)
    drift: dict = field(default_factory=dict)
    performance: dict = field(default_factory=dict)
    learned: Learned = field(default_factory=Learned)
    world: int = 0
    version: int = 0
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sensor = retrain_on_decision([self.shop.spec], lambda: self.started + timedelta(days=DAYS))
        self.records = self.shop.resources["records"]

    def live(self) -> float:
        """Every day delivered, judged and decided on, and looked at more than once; the trainings of a day."""
        self.train(0)
        for day in range(1, DAYS):
            self.deliver(day)
            self.decide()
            for _ in range(LOOKS_A_DAY):
                self.look(day)
        return len(self.asked) / DAYS

    def deliver(self, day: int) -> None:
        key, first = self.key(day), self.started + timedelta(days=day)
        of = {"partition": key, "first": first, "delivery": key}
        away = self.world_of(day) != self.world
        self.parts[key] = evidence.validated("2024-01", **of)
        self.drift[key] = evidence.drift("2024-01", "drifted" if away else "stable", version=self.version, **of)
        self.performance[key] = evidence.performance("2024-01", BEYOND if away else WITHIN, **of)

    def decide(self) -> None:
        """As the asset does, from the newest partitions."""
        spec = self.shop.spec
        before = self.records.get(RetrainingDecision, "toy", "retraining_decision")
        newest = dict(list(self.parts.items())[-depth(spec) :])
        known = before.evidence.trainings if before else ()
        found = gather(spec, Watched(newest, self.drift, self.performance), self.learned, known, ())
        self.records.put("toy", "retraining_decision", policy(spec.retraining).decide(found, spec.retraining))

    def look(self, day: int) -> None:
        context = dg.build_sensor_context(
            instance=self.shop.instance, cursor=self.cursor, resources={"records": self.records}
        )
        found = self.sensor(context)
        self.cursor = found.cursor
        for request in found.run_requests:
            self.asked.append(request.tags["mlops/because"])
            self.train(day)

    def train(self, day: int) -> None:
        """A candidate of the world of this day, judged on it."""
        self.version += 1
        better = self.version == 1 or self.world_of(day) != self.world
        candidate = evidence.candidate(run=f"run-{self.version}", holdout=(self.key(day),))
        against = None if self.version == 1 else self.against(better)
        self.learned = Learned(
            candidate, evidence.report(candidate, WITHIN, champion=against), candidate.mlflow_run_id if better else None
        )
        self.records.put("toy", "trained_model", candidate)
        self.records.put("toy", "champion", evidence.champion(candidate, self.version))
        self.world = self.world_of(day) if better else self.world

    def against(self, better: bool) -> Comparison:
        return evidence.comparison(BEYOND - WITHIN if better else 0.0)

    def key(self, day: int) -> str:
        return f"{self.started + timedelta(days=day):%Y-%m-%d}"

    def world_of(self, day: int) -> int:
        return day // self.period % 2


@pytest.fixture
def life(workshop):
    def lived(period, **retraining):
        shop = workshop(partitions=DAILY, drift={"k": 1, "n": 1}, retraining=retraining)
        return Life(shop, period)

    return lived


@pytest.mark.parametrize("period", [1, 2, 5])
def test_the_default_policy_stays_within_its_bound_where_a_naive_one_flaps(life, tmp_path, record_figure, period):
    ours = life(period)
    rule = ours.shop.spec.retraining
    bound = rule.most / rule.horizon
    found = ours.live()
    assert found <= bound
    record_figure(period_days=period, retrainings_a_day=round(found, 3), bound=round(bound, 3))


@pytest.mark.parametrize("period", [1, 2])
def test_a_naive_policy_retrains_at_every_swing(life, record_figure, period):
    found = life(period, **NAIVE).live()
    assert found >= 0.9 / period
    record_figure(period_days=period, retrainings_a_day=round(found, 3), control=True)


@pytest.mark.parametrize("cooldown", [1, 3])
def test_a_cooldown_is_a_bound_for_the_naive_policy_too(life, record_figure, cooldown):
    found, bound = life(1, policy="on_drift", cooldown=cooldown).live(), 1 / (1 + cooldown)
    assert 0 < found <= bound
    record_figure(period_days=1, cooldown=cooldown, retrainings_a_day=round(found, 3), bound=round(bound, 3))


def test_a_training_feeds_no_decision_that_asks_for_another(life):
    lived = life(1, **NAIVE)
    lived.train(0)
    lived.deliver(1)
    lived.decide()
    for _ in range(20):
        lived.look(1)
    assert lived.asked == [lived.key(1)]
    lived.decide()
    lived.look(1)
    assert lived.asked == [lived.key(1)]
