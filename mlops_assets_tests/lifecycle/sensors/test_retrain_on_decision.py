"""retrain_on_decision, ticked as the daemon ticks it: once a decision, for all models, whatever dies in between."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from mlops_assets.lifecycle.sensors.retrain_on_decision import retrain_on_decision
from mlops_assets.ml.evidence import Learned, Watched, gather
from mlops_assets.ml.policies import policy
from mlops_assets_tests import evidence, toy
from mlops_assets_tests.faults.forking import told
from mlops_assets_tests.lifecycle import dying_ticks

DRIFTED = ("drifted", "drifted")
ON_DRIFT = {"policy": "on_drift", "cooldown": 0}
FIRST = evidence.FIRST


class Ticks:
    """The sensor over some models, with the cursor that the last tick left and a clock that is set by hand."""

    def __init__(self, shop, *specs):
        self.shop, self.cursor, self.now = shop, None, datetime.now(UTC)
        self.records = shop.resources["records"]
        self.sensor = retrain_on_decision(specs or (shop.spec,), lambda: self.now)
        self.parts, self.reports, self.said = {}, {}, ""

    def tick(self) -> Sequence[dg.RunRequest]:
        """The requests of one look; what it said instead is in `said`."""
        context = dg.build_sensor_context(
            instance=self.shop.instance, cursor=self.cursor, resources={"records": self.records}
        )
        found = self.sensor(context)
        self.cursor, self.said = found.cursor, found.skip_reason.skip_message if found.skip_reason else ""
        return found.run_requests

    def judge(self, month, verdict, **changes):
        """A month came, and its drift was judged."""
        report = evidence.drift(month, verdict, **changes)
        self.reports[report.partition] = report
        self.parts[report.partition] = evidence.validated(month, partition=report.partition)

    def decide(self, spec=None):
        """Decide as the asset does, with one candidate known."""
        spec = spec or self.shop.spec
        candidate = evidence.candidate(run="run-0")
        self.records.put(spec.name, "trained_model", candidate)
        found = gather(spec, Watched(self.parts, self.reports), Learned(candidate), [FIRST], ())
        decision = policy(spec.retraining).decide(found, spec.retraining)
        self.records.put(spec.name, "retraining_decision", decision)
        return decision

    def train(self, run="run-1"):
        """A candidate came out of a training."""
        self.records.put("toy", "trained_model", evidence.candidate(run=run))

    def release(self, run="run-1"):
        """A candidate was trained, judged, registered and released."""
        self.train(run)
        self.records.put("toy", "champion", evidence.champion(evidence.candidate(run=run)))

    def end(self, asked, how):
        """The run that was asked for ends: `failed`, `canceled` or `success`."""
        run = dg.DagsterRun(job_name="toy_lifecycle", tags=asked.tags)
        self.shop.instance.add_run(run)
        if how == "success":
            self.shop.instance.report_dagster_event(
                dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, run.job_name), run.run_id
            )
        else:
            getattr(self.shop.instance, f"report_run_{how}")(run)
        return run


@pytest.fixture
def ticks(workshop):
    """The sensor on a workshop whose months from January on were judged with these verdicts, and decided on."""

    def open_ticks(*verdicts, **changes):
        ticking = Ticks(workshop(**{"retraining": ON_DRIFT, **changes}))
        for month, verdict in zip(toy.MONTHS, verdicts, strict=False):
            ticking.judge(month, verdict)
        if verdicts:
            ticking.decide()
        return ticking

    return open_ticks


def test_the_sensor_says_that_nothing_is_decided_yet(ticks):
    ticking = ticks()
    assert ticking.tick() == []
    assert ticking.said == "toy: nothing is decided yet."


@pytest.mark.parametrize(
    ("verdicts", "asks"),
    [
        (["drifted"], False),
        (["drifted", "stable", "drifted"], True),
        (["drifted", "drifted", "stable"], False),
        (["drifted", "stable", "stable", "drifted"], False),
        (["stable", "drifted", "drifted"], True),
    ],
)
def test_on_drift_asks_when_k_of_the_last_n_reports_drifted(ticks, verdicts, asks):
    assert bool(ticks(*verdicts).tick()) == asks


def test_the_sensor_says_of_each_model_why_it_is_not_trained(ticks):
    ticking = ticks("drifted", "watch")
    other = ticking.shop.spec.model_copy(update={"name": "other"})
    both = Ticks(ticking.shop, ticking.shop.spec, other)
    assert both.tick() == []
    first, second = both.said.splitlines()
    assert first.startswith("toy: 2024-02-01: WAIT: 1 of the newest 2 drift reports since the last training")
    assert second == "other: nothing is decided yet."


def test_of_many_models_those_that_were_asked_to_train_are_told_first(ticks):
    ticking = ticks(*DRIFTED)
    others = [ticking.shop.spec.model_copy(update={"name": f"other_{number}"}) for number in range(30)]
    many = Ticks(ticking.shop, *others, ticking.shop.spec)
    [asked] = many.tick()
    many.end(asked, "success")
    assert many.tick() == []
    told = many.said.splitlines()
    assert told[0] == "toy: RETRAIN on 2024-02-01 was asked for already."
    assert told[-1] == "And 11 more models are not asked to train."


def test_a_decision_asks_once_however_often_it_is_looked_at(ticks):
    ticking = ticks(*DRIFTED)
    [asked] = ticking.tick()
    because = {"mlops/model": "toy", "mlops/reason": "decision", "mlops/because": "2024-02-01"}
    assert asked.tags == {**because, "mlops/request": asked.run_key}
    ticking.end(asked, "success")
    assert ticking.tick() == []
    assert "RETRAIN on 2024-02-01 was asked for already" in ticking.said


def test_without_its_memory_it_asks_with_the_same_run_key_which_dagster_knows(ticks):
    ticking = ticks(*DRIFTED)
    [asked] = ticking.tick()
    ticking.end(asked, "success")
    for lost in (None, '{"asked": {"toy": {"decision": "x", "attempt": "many"}}}', "toy:2024-02-01:x:y"):
        ticking.cursor = lost
        assert [again.run_key for again in ticking.tick()] == [asked.run_key]


def test_the_same_decision_made_again_asks_for_nothing_more(ticks):
    ticking = ticks(*DRIFTED)
    [asked] = ticking.tick()
    ticking.end(asked, "success")
    ticking.decide()
    assert ticking.tick() == []


def test_training_whose_run_died_is_asked_for_once_more_after_a_while_and_then_given_up_with_the_reason(ticks):
    ticking = ticks(*DRIFTED)
    [first] = ticking.tick()
    ticking.end(first, "failed")
    assert ticking.tick() == []
    assert "came to nothing and is asked for again at" in ticking.said
    ticking.now += timedelta(minutes=2)
    [second] = ticking.tick()
    assert second.run_key != first.run_key
    ticking.end(second, "failed")
    for _ in range(2):
        assert ticking.tick() == []
        assert "is given up: runs died on it 2 times; materialize trained_model." in ticking.said
    ticking.judge("2024-03", "drifted")
    ticking.decide()
    assert len(ticking.tick()) == 1


def test_an_outage_is_waited_for_longer_each_time_and_then_given_up_with_the_reason(ticks):
    ticking = ticks(*DRIFTED)
    waited, began = [], ticking.now
    [asked] = ticking.tick()
    for attempt in range(1, 5):
        outage(ticking, asked)
        while not (again := ticking.tick()) and "given up" not in ticking.said:
            ticking.now += timedelta(seconds=30)
        waited.append((ticking.now - began).total_seconds() // 60)
        if again:
            [asked] = again
            assert asked.run_key.endswith(f":{attempt + 1}")
    assert waited == [1, 5, 25, 25]
    assert "a service did not answer in 4 runs" in ticking.said


def outage(ticking, asked):
    """A run that fails because a service does not answer."""

    @dg.op
    def trained_model():
        raise dg.Failure("MLflow did not answer", metadata={"outage": True}, allow_retries=False)

    @dg.job
    def toy_lifecycle():
        trained_model()

    toy_lifecycle.execute_in_process(instance=ticking.shop.instance, tags=asked.tags, raise_on_error=False)


def test_training_that_a_person_cancelled_is_not_asked_for_again(ticks):
    ticking = ticks(*DRIFTED)
    ticking.end(ticking.tick()[0], "canceled")
    for _ in range(2):
        assert ticking.tick() == []
        assert "is given up: its run was cancelled; materialize trained_model." in ticking.said


def test_a_run_that_broke_after_its_model_was_trained_is_asked_for_again_and_then_given_up(ticks):
    ticking = ticks(*DRIFTED)
    [first] = ticking.tick()
    ticking.train("run-1")
    ticking.end(first, "failed")
    assert ticking.tick() == []
    assert "came to nothing and is asked for again at" in ticking.said
    ticking.now += timedelta(minutes=2)
    [second] = ticking.tick()
    ticking.train("run-2")
    ticking.end(second, "failed")
    for _ in range(2):
        assert ticking.tick() == []
        assert "is given up: runs died on it 2 times; materialize trained_model." in ticking.said


def test_an_outage_after_the_model_was_trained_is_waited_for(ticks):
    ticking = ticks(*DRIFTED)
    [first] = ticking.tick()
    ticking.train()
    outage(ticking, first)
    assert ticking.tick() == []
    assert "came to nothing and is asked for again at" in ticking.said
    ticking.now += timedelta(minutes=2)
    assert len(ticking.tick()) == 1


def test_a_run_that_was_cancelled_after_its_model_was_trained_is_given_up(ticks):
    ticking = ticks(*DRIFTED)
    [asked] = ticking.tick()
    ticking.train()
    ticking.end(asked, "canceled")
    assert ticking.tick() == []
    assert "is given up: its run was cancelled; materialize trained_model." in ticking.said


def test_a_verdict_without_a_version_settles_a_decision(ticks):
    ticking = ticks(*DRIFTED)
    [asked] = ticking.tick()
    ticking.train()
    ticking.end(asked, "success")
    for _ in range(2):
        assert ticking.tick() == []
        assert "RETRAIN on 2024-02-01 was asked for already" in ticking.said


@pytest.mark.parametrize("how", ["failed", "canceled"])
def test_a_version_released_by_hand_settles_what_its_run_did_not(ticks, how):
    ticking = ticks(*DRIFTED)
    [asked] = ticking.tick()
    ticking.end(asked, how)
    assert ticking.tick() == []
    ticking.release()
    ticking.now += timedelta(hours=1)
    assert ticking.tick() == []
    assert ticking.said == "toy: 2024-02-01: it has been trained since RETRAIN was decided."
    assert json.loads(ticking.cursor) == {"asked": {}}


def test_the_version_of_an_older_candidate_settles_nothing(ticks):
    ticking = ticks(*DRIFTED)
    [asked] = ticking.tick()
    ticking.release()
    ticking.records.put("toy", "trained_model", evidence.candidate("d" * 64, run="run-2"))
    ticking.end(asked, "failed")
    assert ticking.tick() == []
    assert "came to nothing and is asked for again at" in ticking.said


@pytest.mark.parametrize("trained", [False, True])
def test_training_whose_run_was_deleted_is_asked_for_again_at_once_and_then_given_up(ticks, trained):
    ticking = ticks(*DRIFTED)
    for _ in range(2):
        [asked] = ticking.tick()
        if trained:
            ticking.train()
        ticking.shop.instance.delete_run(ticking.end(asked, "success").run_id)
    assert ticking.tick() == []
    assert "is given up: runs died on it 2 times; materialize trained_model." in ticking.said


def test_what_was_given_up_stays_so_when_its_run_is_deleted(ticks):
    ticking = ticks(*DRIFTED)
    cancelled = ticking.end(ticking.tick()[0], "canceled")
    assert ticking.tick() == []
    ticking.shop.instance.delete_run(cancelled.run_id)
    assert ticking.tick() == []
    assert "is given up: its run was cancelled; materialize trained_model." in ticking.said


def test_the_next_decision_asks_anew(ticks):
    ticking = ticks(*DRIFTED)
    [first] = ticking.tick()
    ticking.judge("2024-03", "drifted")
    ticking.decide()
    [second] = ticking.tick()
    assert second.run_key != first.run_key


def test_the_run_that_is_asked_for_trains_judges_registers_releases_and_decides_nothing(ticks):
    shop = ticks(*DRIFTED).shop
    sensor = shop.definitions.resolve_sensor_def("retrain_on_decision")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    wired = {"definitions": shop.definitions, "resources": {"records": shop.resources["records"]}}
    context = dg.build_sensor_context(instance=shop.instance, sensor_name="retrain_on_decision", **wired)
    [asked] = sensor.evaluate_tick(context).run_requests
    names = [key.path[-1] for key in asked.asset_selection]
    assert names == ["trained_model", "evaluation_report", "registered_version", "champion"]


def test_reports_against_a_version_that_no_longer_serves_do_not_count(ticks):
    ticking = ticks(*DRIFTED)
    ticking.judge("2024-03", "drifted", version=2)
    ticking.decide()
    assert ticking.tick() == []
    assert "1 of the newest 1 drift reports since the last training are drifted" in ticking.said


def test_batches_are_looked_at_in_order_of_their_rows_whatever_their_names(ticks):
    source = {"uri": "landing", "files": ["{partition}.csv"]}
    ticking = ticks(source=source, partitions={"every": "batch"})
    named = zip(toy.MONTHS, ("b-9", "b-10", "b-11"), ("stable", "drifted", "drifted"), strict=False)
    for month, name, verdict in named:
        ticking.judge(month, verdict, partition=name)
    ticking.decide()
    [asked] = ticking.tick()
    assert asked.tags["mlops/because"] == "b-11"


def test_what_was_trained_since_the_decision_asks_for_nothing(ticks):
    ticking = ticks(*DRIFTED)
    ticking.train("run-1")
    assert ticking.tick() == []
    assert ticking.said == "toy: 2024-02-01: it has been trained since RETRAIN was decided."
    ticking.train("run-0")
    assert len(ticking.tick()) == 1


def test_always_is_trained_in_the_run_of_each_delivery_and_not_once_more(ticks):
    ticking = ticks(*DRIFTED, retraining={"policy": "always"})
    assert ticking.records.get(type(ticking.decide()), "toy", "retraining_decision").verdict == "RETRAIN"
    assert ticking.tick() == []
    assert ticking.said == "toy: 2024-02-01: it is trained in the run of each delivery."


def test_nothing_is_asked_for_while_a_run_of_the_model_is_going_on(ticks):
    ticking = ticks(*DRIFTED)
    instance = ticking.shop.instance
    job = dg.job(name="toy_lifecycle", tags={"mlops/model": "toy"})(lambda: None)
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags={"mlops/model": "toy"})
    assert ticking.tick() == []
    assert f"run {run.run_id} is going on" in ticking.said
    instance.report_run_failed(run)
    assert len(ticking.tick()) == 1


def test_a_run_of_another_model_is_not_waited_for(ticks):
    ticking = ticks(*DRIFTED)
    running = dg.DagsterRun(
        job_name="other_lifecycle", status=dg.DagsterRunStatus.STARTED, tags={"mlops/model": "other"}
    )
    ticking.shop.instance.add_run(running)
    assert len(ticking.tick()) == 1


def test_a_run_that_dagster_is_about_to_retry_is_going_on_and_its_retry_is_what_counts(ticks):
    ticking = ticks(*DRIFTED)
    instance = ticking.shop.instance
    [asked] = ticking.tick()
    died = ticking.end(asked, "failed")
    instance.add_run_tags(died.run_id, {"dagster/will_retry": "true"})
    ticking.now += timedelta(hours=1)
    assert ticking.tick() == []
    assert f"run {died.run_id} is going on" in ticking.said
    ticking.end(asked, "success")
    instance.add_run_tags(died.run_id, {"dagster/auto_retry_run_id": "the run above"})
    assert ticking.tick() == []
    assert "was asked for already" in ticking.said


def test_a_record_that_was_changed_stops_its_own_model_only(ticks):
    ticking = ticks(*DRIFTED)
    other = ticking.shop.spec.model_copy(update={"name": "other"})
    path = ticking.shop.home / "records" / "other" / "retraining_decision" / "latest.json"
    path.parent.mkdir(parents=True)
    path.write_text((ticking.shop.home / "records/toy/retraining_decision/latest.json").read_text().replace("2", "3"))
    both = Ticks(ticking.shop, other, ticking.shop.spec)
    assert [asked.tags["mlops/model"] for asked in both.tick()] == ["toy"]


def test_wherever_the_daemon_is_killed_inside_a_tick_a_decision_is_trained_once(tmp_path):
    trials = told(dying_ticks.main, tmp_path)
    assert [trial["point"] for trial in trials] == [*dying_ticks.POINTS]
    for trial in trials:
        assert trial["died"], trial
        assert list(trial["runs"].values()) == [1], trial
