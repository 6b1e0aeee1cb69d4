"""A history lived through again: nothing is known before its time, and nothing is computed twice."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mlops_assets.ml.backtest import History, Replay, Step, Trained, replay
from mlops_assets.ml.causes import Feed
from mlops_assets.ml.evaluation import Estimate
from mlops_assets.ml.policies import POLICIES
from mlops_assets.ml.profiles import profile
from mlops_assets.ml.threads import libraries, limited
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
                profile=profile(rows, ["kind", "price", "wind", "sales"]),
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


@pytest.fixture(scope="module")
def history(growing):
    """Their history. Whoever lives through it finds what others have fitted."""
    return lives(growing)


NOW = 5


@pytest.fixture(scope="module")
def otherwise(growing):
    """The same history until now, with another future."""
    return lives({**growing, **{month: frame(month, shift=15.0, worse=-30.0) for month in MONTHS[NOW:]}})


def without_wind(month, **changes):
    rows = frame(month, **changes)
    return rows.assign(wind=rows["wind"].where(rows.index >= 0.7 * len(rows)))


def told(step):
    return step.model_dump(exclude={"sentence"})


def test_each_partition_is_predicted_by_the_champion_of_its_moment(history):
    lived = replay(history, declared(), POLICIES["always"])
    assert [step.version for step in lived.steps[:3]] == [None, None, None]
    assert [step.trained for step in lived.steps] == [False, False, *[True] * 6]
    assert [step.version for step in lived.steps[3:]] == [1, 2, 3, 4, 5]
    assert lived.retrainings == 5
    assert len(lived.trainings) == 6
    assert lived.mean == pytest.approx(sum(step.measured.value for step in lived.judged) / 5)


def test_never_keeps_the_first_version_and_ages(history):
    lived = replay(history, declared(), POLICIES["never"])
    assert {step.version for step in lived.judged} == {1}
    assert lived.retrainings == 0
    errors = [step.measured.value for step in lived.judged]
    assert errors == sorted(errors)
    assert lived.mean > replay(history, declared(), POLICIES["gain"]).mean


@pytest.mark.parametrize("name", POLICIES)
def test_rows_of_the_future_change_no_decision_of_the_past(history, otherwise, name):
    rule = {**QUICK["retraining"], "policy": name}
    before, after = (
        replay(lived, declared(training={"window": [3, None]}, retraining=rule), POLICIES[name]).steps
        for lived in (history, otherwise)
    )
    assert [told(step) for step in before[:NOW]] == [told(step) for step in after[:NOW]]
    assert [step.measured for step in before[NOW:]] != [step.measured for step in after[NOW:]]


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


def test_labels_that_come_later_are_known_later(history):
    late = {part.partition: part.last + timedelta(days=40) for part in history.parts if part.partition < "2024-07"}
    lived = replay(replace(history, matured=late), declared(), POLICIES["gain"])
    first = next(step for step in lived.steps if step.trained)
    assert first.partition == "2024-05-01"
    assert all(step.measured for step in lived.steps if step.version)


def test_a_training_that_fails_is_told_and_changes_nothing(growing):
    flat = {**growing, **{month: growing[month].assign(sales=7.0) for month in MONTHS[:3]}}
    lived = replay(lives(flat), declared(), POLICIES["always"])
    assert "the same value in all" in lived.steps[2].note
    assert not lived.steps[2].became_champion
    assert lived.steps[-1].version is not None


def test_a_broken_feed_is_called_so_on_its_day_by_the_policy_that_looks_at_causes(growing):
    broken = lives({**growing, "2024-06": without_wind("2024-06", worse=30.0)})
    gain, always = (replay(broken, declared(), POLICIES[name]) for name in ("gain", "always"))
    assert [step.partition for step in gain.blamed] == ["2024-06-01"]
    assert "wind is missing in 70.0% of the rows" in gain.blamed[0].sentence
    assert not gain.blamed[0].trained
    assert always.blamed == ()


def test_a_fault_that_lasts_is_called_so_each_time_and_no_measure_for_those_after_it(growing):
    lasting = {month: without_wind(month, worse=6.0 * MONTHS.index(month)) for month in MONTHS[5:7]}
    lived = replay(lives({**growing, **lasting}), declared(), POLICIES["gain"])
    assert [step.partition for step in lived.blamed] == ["2024-06-01", "2024-07-01"]


def half_a_year(last):
    """Three months, and six in which most of the wind is missing; it is so `last` as well, or back again."""
    months = [f"2024-{month:02}" for month in range(1, 12)]
    broken = months[3:9] + (months[9:] if last == "missing" else [])
    return {month: without_wind(month) if month in broken else frame(month) for month in months}


@pytest.mark.parametrize(("last", "fitted"), [("missing", 9), ("back again", 3)])
def test_what_was_blamed_until_it_became_normal_teaches_again_and_not_where_the_feed_was_repaired(last, fitted):
    history = lives(half_a_year(last))
    always, gain = (replay(history, declared(), POLICIES[name]) for name in ("always", "gain"))
    assert [step.partition[5:7] for step in gain.blamed] == ["04", "05", "06", "07", "08", "09"]
    assert [each.fitted for each in always.trainings if each.partition <= "2024-10-01"] == [2, fitted]


def test_before_there_is_a_version_no_cause_is_told_of(growing):
    early = {**growing, "2024-03": without_wind("2024-03", worse=12.0)}
    assert replay(lives(early), declared(), POLICIES["gain"]).blamed == ()


def test_a_leap_with_files_of_another_name_is_upstream_and_without_them_it_cannot_be_told(growing):
    leapt = {**growing, "2024-06": frame("2024-06", shift=40.0)}
    usual, other = Feed(producer=("shop-#.csv",)), Feed(producer=("export-#.csv",))
    feeds = {f"{month}-01": other if month == "2024-06" else usual for month in MONTHS}
    assert replay(lives(leapt), declared(), POLICIES["gain"]).blamed == ()
    told = replay(lives(leapt, feeds=feeds), declared(), POLICIES["gain"])
    assert [step.partition for step in told.blamed] == ["2024-06-01"]


def test_another_delivery_of_a_partition_is_looked_at_anew(growing, history):
    before = replay(history, declared(), POLICIES["never"])
    other = lives({**growing, "2024-08": frame("2024-08", worse=90.0)}, kept=history.kept)
    other.parts[-1] = other.parts[-1].model_copy(update={"delivery": "corrected"})
    frames = {**growing, "corrected": frame("2024-08", worse=90.0)}
    other.read = lambda wanted, columns: pd.concat([frames[part.delivery] for part in wanted], ignore_index=True)[
        slice(None) if columns is None else list(columns)
    ]
    after = replay(other, declared(), POLICIES["never"])
    assert after.steps[:-1] == before.steps[:-1]
    assert after.steps[-1].measured.value > before.steps[-1].measured.value + 40


def step(place, *, alarm=False, verdict=None):
    first = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(weeks=place)
    return Step(partition=str(place), first=first, alarm=alarm, verdict=verdict)


def lasting(*alarms):
    steps = tuple(step(place, alarm=alarm) for place, alarm in enumerate(alarms))
    return Replay(model="toy", policy="x", metric="mae", better="lower", steps=steps, trainings=())


def test_an_alarm_is_true_soon_after_a_change_and_counted_once_while_it_lasts():
    change = datetime(2024, 1, 16, tzinfo=UTC)
    assert lasting(False, False, False, True, True, False, False, True).alarms([change], within=2) == (1, 1)
    assert lasting(True, False).alarms([], within=2) == (0, 1)
    assert lasting(False, False, True, True).alarms([change], within=0) == (1, 0)


@pytest.mark.parametrize(
    ("days", "counted"),
    [([], (0, 2)), ([8], (1, 1)), ([14], (1, 1)), ([15, 22], (1, 1)), ([8, 9, 28], (2, 0)), ([21], (0, 2))],
)
def test_a_partition_is_rightly_called_a_broken_feed_where_it_holds_a_day_of_a_known_fault(days, counted):
    verdicts = ("WAIT", "FIX_UPSTREAM", "RETRAIN", "FIX_UPSTREAM")
    steps = tuple(step(place, verdict=verdict) for place, verdict in enumerate(verdicts))
    lived = Replay(model="toy", policy="x", metric="mae", better="lower", steps=steps, trainings=())
    assert lived.faults([datetime(2024, 1, day, tzinfo=UTC) for day in days]) == counted


def test_a_day_before_all_partitions_falls_into_none_of_them():
    lived = lasting(True, True)
    assert [lived.place(datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=days)) for days in (-1, 0, 7, 99)] == [
        -1,
        0,
        1,
        1,
    ]


def test_what_was_not_judged_has_no_mean():
    assert lasting(False).mean != lasting(False).mean
    assert lasting(False).judged == ()


def test_the_cost_is_of_all_trainings_at_the_declared_prices(history):
    lived = replay(history, declared(), POLICIES["always"])
    rule = declared(retraining={"cpu_hour": 3600.0}).retraining
    assert lived.cost(rule) == pytest.approx(sum(each.cpu_seconds for each in lived.trainings))


def test_an_estimate_has_its_interval(history):
    lived = replay(history, declared(), POLICIES["never"])
    assert all(isinstance(each.measured, Estimate) and each.measured.low < each.measured.high for each in lived.judged)


def test_each_question_about_few_rows_limits_itself_to_one_thread():
    import sklearn.ensemble  # noqa: F401

    seen = []

    class Noting:
        def predict(self, rows: pd.DataFrame) -> np.ndarray:
            seen.append({each["num_threads"] for each in libraries() if each["user_api"] == "openmp"})
            return np.zeros(len(rows))

    asked = Trained(SimpleNamespace(inputs=("x",)), SimpleNamespace(pipeline=Noting()))
    with limited(2, "openmp"):
        assert asked.answers(SimpleNamespace(task="regression"), pd.DataFrame({"x": [1.0, 2.0]})).tolist() == [0.0, 0.0]
    assert seen == [{1}]
