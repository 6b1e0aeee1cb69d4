"""A history lived through again: nothing is known before its time, and nothing is computed twice."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from mlops_assets.ml.backtest import History, Replay, Step, replay
from mlops_assets.ml.evaluation import Estimate
from mlops_assets.ml.policies import POLICIES
from mlops_assets.ml.profiles import Profile
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets_tests import toy

MONTHS = ("2024-01", "2024-02", "2024-03", "2024-04", "2024-05", "2024-06", "2024-07", "2024-08")
INPUTS = ("event_time", "kind", "price", "wind")
QUICK = {
    "estimator": {"path": "sklearn.linear_model.Ridge"},
    "evaluation": {"metric": "mae", "replicates": 50},
    "gates": [],
    "retraining": {"policy": "gain", "cooldown": 0, "worth": 0.01},
}


def declared(**changes):
    return toy.spec("/nowhere", **{**QUICK, **changes})


def frame(month, shift=0.0, worse=0.0):
    """A month of the toy's world as validation leaves it; `worse` is added to what is sold."""
    rows = toy.rows(month, 120, shift=shift)
    rows["event_time"] = pd.to_datetime(rows.pop("ts"), utc=True)
    rows["kind"] = rows["kind"].astype("category")
    return rows.assign(sales=rows["sales"] + worse).sort_values("event_time", ignore_index=True)


def lives(frames, **changes):
    """A history in memory, which counts what is read of it."""
    parts = []
    for month, rows in frames.items():
        first, last = (at.to_pydatetime() for at in (rows["event_time"].min(), rows["event_time"].max()))
        parts.append(
            ValidatedPartition(
                model="toy",
                partition=f"{month}-01",
                delivery=month,
                delivered=last,
                rows_in=len(rows),
                rows_out=len(rows),
                rows_quarantined=0,
                broken_rules=(),
                first=first,
                last=last,
                table_version=0,
                files={month: month},
                content=month,
                profile=Profile(rows=len(rows), columns={}),
            )
        )

    def read(wanted, columns):
        chosen = pd.concat([frames[part.delivery] for part in wanted], ignore_index=True)
        return chosen if columns is None else chosen[list(columns)]

    return History(parts, read, INPUTS, **changes)


@pytest.fixture(scope="module")
def growing():
    """Sales that grow from month to month, so that a model ages."""
    return {month: frame(month, worse=6.0 * place) for place, month in enumerate(MONTHS)}


def told(step):
    return step.model_dump(exclude={"sentence"})


def test_each_partition_is_predicted_by_the_champion_of_its_moment(growing):
    lived = replay(lives(growing), declared(), POLICIES["always"])
    assert [step.version for step in lived.steps[:3]] == [None, None, None]
    assert [step.trained for step in lived.steps] == [False, False, *[True] * 6]
    assert [step.version for step in lived.steps[3:]] == [1, 2, 3, 4, 5]
    assert lived.retrainings == 5
    assert len(lived.trainings) == 6
    assert lived.mean == pytest.approx(sum(step.measured.value for step in lived.judged) / 5)


def test_never_keeps_the_first_version_and_ages(growing):
    lived = replay(lives(growing), declared(), POLICIES["never"])
    assert {step.version for step in lived.judged} == {1}
    assert lived.retrainings == 0
    errors = [step.measured.value for step in lived.judged]
    assert errors == sorted(errors)
    assert lived.mean > replay(lives(growing), declared(), POLICIES["gain"]).mean


@pytest.mark.parametrize("name", POLICIES)
def test_rows_of_the_future_change_no_decision_of_the_past(growing, name):
    now = 5
    changed = {**growing, **{month: frame(month, shift=15.0, worse=-30.0) for month in MONTHS[now:]}}
    rule = {**QUICK["retraining"], "policy": name}
    before, after = (
        replay(lives(frames), declared(training={"window": [3, None]}, retraining=rule), POLICIES[name]).steps
        for frames in (growing, changed)
    )
    assert [told(step) for step in before[:now]] == [told(step) for step in after[:now]]
    assert [step.measured for step in before[now:]] != [step.measured for step in after[now:]]


def test_no_fit_and_no_look_is_paid_for_twice(growing):
    history = lives(growing)
    first = replay(history, declared(), POLICIES["always"])
    paid = dict(history.kept)
    again = replay(history, declared(), POLICIES["always"])
    every = replay(history, declared(retraining={"policy": "every_n", "every": 2}), POLICIES["every_n"])
    fits = {key for key in history.kept if key.startswith("fit")}
    assert first == again
    assert fits == {key for key in paid if key.startswith("fit")}
    assert every.retrainings == 2
    assert every.trainings[-1].cpu_seconds == first.trainings[-2].cpu_seconds


def test_labels_that_come_later_are_known_later(growing):
    late = {
        part.partition: part.last + timedelta(days=40) for part in lives(growing).parts if part.partition < "2024-07"
    }
    lived = replay(lives(growing, matured=late), declared(), POLICIES["gain"])
    first = next(step for step in lived.steps if step.trained)
    assert first.partition == "2024-05-01"
    assert all(step.measured for step in lived.steps if step.version)


def test_a_training_that_fails_is_told_and_changes_nothing(growing):
    flat = {**growing, **{month: growing[month].assign(sales=7.0) for month in MONTHS[:3]}}
    lived = replay(lives(flat), declared(), POLICIES["always"])
    assert "the same value in all" in lived.steps[2].note
    assert not lived.steps[2].became_champion
    assert lived.steps[-1].version is not None


def step(place, *, alarm):
    return Step(partition=str(place), first=datetime(2024, 1, 1, tzinfo=UTC) + timedelta(weeks=place), alarm=alarm)


def lasting(*alarms):
    steps = tuple(step(place, alarm=alarm) for place, alarm in enumerate(alarms))
    return Replay(model="toy", policy="x", metric="mae", better="lower", steps=steps, trainings=())


def test_an_alarm_is_true_soon_after_a_change_and_counted_once_while_it_lasts():
    change = datetime(2024, 1, 16, tzinfo=UTC)
    assert lasting(False, False, False, True, True, False, False, True).alarms([change], within=2) == (1, 1)
    assert lasting(True, False).alarms([], within=2) == (0, 1)
    assert lasting(False, False, True, True).alarms([change], within=0) == (1, 0)


def test_what_was_not_judged_has_no_mean():
    assert lasting(False).mean != lasting(False).mean
    assert lasting(False).judged == ()


def test_the_cost_is_of_all_trainings_at_the_declared_prices(growing):
    lived = replay(lives(growing), declared(), POLICIES["always"])
    rule = declared(retraining={"cpu_hour": 3600.0}).retraining
    assert lived.cost(rule) == pytest.approx(sum(each.cpu_seconds for each in lived.trainings))


def test_an_estimate_has_its_interval(growing):
    lived = replay(lives(growing), declared(), POLICIES["never"])
    assert all(isinstance(each.measured, Estimate) and each.measured.low < each.measured.high for each in lived.judged)
