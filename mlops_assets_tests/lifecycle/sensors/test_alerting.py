"""The sensors that raise and deliver alerts, against real runs on a real instance."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType, JobFailureData, RunFailureReason
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    SensorInstigatorData,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from mlops_assets import settings
from mlops_assets.compute.diagnosis import KINDS, POD, TITLES
from mlops_assets.lifecycle.common import partitions_definition
from mlops_assets.lifecycle.endings import OUTAGE, REQUEST
from mlops_assets.lifecycle.sensors.alerting import ASSET, alerting, deliver_alerts, raise_alerts
from mlops_assets.lifecycle.sensors.new_labels import Memories as LabelMemories
from mlops_assets.lifecycle.sensors.retrain_on_decision import Asked
from mlops_assets.lifecycle.sensors.retrain_on_decision import Memory as AskedToTrain
from mlops_assets.ml.planning import CANCELLED, DIED, GivenUp, Memory
from mlops_assets.resources.alerts import Alerts
from mlops_assets.resources.records import Records
from mlops_assets_tests import evidence, toy
from mlops_assets_tests.homes import instance_at
from mlops_assets_tests.sinks import http_sink

DATA = ["raw_data", "validated_features", "quarantined_rows"]
CANARY = "canary0123456789"


@dataclass
class Office:
    """The two sensors over the toy model, an instance, alerts, a clock that is moved by hand, and their cursors."""

    instance: dg.DagsterInstance
    home: Path
    ahead: timedelta = timedelta(0)
    cursors: dict[str, str | None] = field(default_factory=dict)

    @property
    def alerts(self) -> Alerts:
        return Alerts(root=str(self.home), ui="http://ui")

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def tick(self, make, *, keep=True, alerts=None):
        """One look. Unless it is kept, it is as if the daemon had died before it wrote down the cursor."""
        sensor = make([toy.spec(self.home / "landing")], self.now)
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursors.get(sensor.name),
            resources={"alerts": alerts or self.alerts},
            sensor_name=sensor.name,
        ) as context:
            seen = sensor.evaluate_tick(context)
        if keep:
            self.cursors[sensor.name] = seen.cursor
        return seen

    def look(self, **how):
        """What is open after a look, by kind."""
        self.tick(raise_alerts, **how)
        return {known.alert.kind: known.alert for known in self.alerts.open()}


@pytest.fixture
def office(tmp_path):
    with instance_at(tmp_path) as instance:
        yield Office(instance, tmp_path / "home")


def run(office, asset, tags=None):
    """Materialize one asset."""
    return dg.materialize([asset], instance=office.instance, raise_on_error=False, tags=tags)


def thing(work, **described):
    """An asset of the toy model that does what it is told."""

    @dg.asset(key_prefix="toy", name="thing", **described)
    def made():
        return work()

    return made


def checked(passed, severity=dg.AssetCheckSeverity.WARN, name="is_well", partitions_def=None, **said):
    @dg.asset(
        key_prefix="toy",
        name="thing",
        partitions_def=partitions_def,
        check_specs=[dg.AssetCheckSpec(name, asset=dg.AssetKey(["toy", "thing"]))],
    )
    def made():
        result = dg.AssetCheckResult(check_name=name, passed=passed, severity=severity, **said)
        return dg.MaterializeResult(check_results=[result])

    return made


def broken():
    raise ValueError(f"could not convert {CANARY}")


def refusing():
    raise dg.Failure("Nothing was made: the source is empty.", allow_retries=False)


def test_nothing_wrong_raises_nothing(office):
    assert run(office, thing(lambda: None)).success
    assert office.look() == {}


def test_a_stage_that_refuses_is_told_with_its_words_and_a_link(office):
    ran = run(office, thing(refusing))
    alert = office.look()["failed_run"]
    assert alert.model == "toy"
    assert alert.sentence == "toy/thing failed: Nothing was made: the source is empty."
    assert alert.link == f"http://ui/runs/{ran.run_id}"


def test_an_error_that_nobody_raised_on_purpose_is_told_without_its_text(office):
    run(office, thing(broken))
    alert = office.look()["failed_run"]
    assert "ValueError" in alert.sentence
    assert CANARY not in alert.model_dump_json()


def test_the_same_step_failing_again_is_the_same_alert_and_success_ends_it(office):
    for _ in range(2):
        run(office, thing(refusing))
    office.look()
    run(office, thing(refusing))
    assert len(office.look()) == 1
    assert len(office.alerts.open()) == 1
    run(office, thing(lambda: None))
    assert office.look() == {}


def test_a_check_that_fails_is_told_although_the_run_succeeded(office):
    assert run(office, checked(passed=False, description="Half the rows are gone.")).success
    alert = office.look()["failed_check"]
    assert alert.sentence == "toy/thing fails the check is_well: Half the rows are gone."
    assert alert.link == "http://ui/assets/toy/thing?view=checks&checkDetail=is_well"
    run(office, checked(passed=True))
    assert office.look() == {}


@pytest.mark.parametrize(("name", "kind"), [("has_not_drifted", "drift"), ("has_usual_row_count", "unusual_volume")])
def test_some_checks_have_a_kind_of_alert_of_their_own(office, name, kind):
    drifted = {"2026-01": "It moved a little.", "2026-02": "It moved much."}
    run(office, checked(passed=False, name=name, metadata={"drifted": dg.MetadataValue.json(drifted)}))
    found = office.look()
    assert set(found) == {kind}
    assert found[kind].partition == "2026-02"
    assert found[kind].sentence == "It moved much. So it is with 1 more partitions of the run."
    run(office, checked(passed=True, name=name))
    assert office.look() == {}


def test_of_gates_the_check_on_all_of_them_tells_and_the_check_of_each_does_not(office):
    names = ("skill_is_high_enough", "clears_every_gate")
    key = dg.AssetKey(["toy", "evaluation_report"])

    @dg.asset(key=key, check_specs=[dg.AssetCheckSpec(name, asset=key) for name in names])
    def judged():
        failed = [dg.AssetCheckResult(check_name=name, passed=False, description="skill is 0.1") for name in names]
        return dg.MaterializeResult(check_results=failed)

    run(office, judged)
    found = office.look()
    assert set(found) == {"failed_check"}
    assert found["failed_check"].sentence == "toy/evaluation_report fails the check clears_every_gate: skill is 0.1"
    assert len(office.alerts.open()) == 1


def test_a_performance_that_drops_is_told_by_its_own_sensor_only(office):
    run(office, checked(passed=False, name="performs_as_registered"))
    assert office.look() == {}


def test_a_refused_delivery_is_one_alert_a_partition_and_over_when_its_correction_comes(workshop, tmp_path):
    shop = workshop()
    desk = Office(shop.instance, tmp_path / "desk")
    bad = toy.rows("2024-03").assign(price=999.0)
    for month, frame in (("2024-01", bad), ("2024-02", None), ("2024-03", bad)):
        toy.deliver(shop.landing, month, frame)
    shop.run(toy.MONTHS[:3], DATA)
    desk.tick(raise_alerts)
    opened = [known.alert for known in desk.alerts.open()]
    assert {(alert.kind, alert.partition) for alert in opened} == {
        ("failed_check", "2024-01-01"),
        ("failed_check", "2024-03-01"),
    }
    assert all("999" not in alert.sentence for alert in opened)
    toy.deliver(shop.landing, "2024-03")
    shop.run(["2024-03"], DATA)
    desk.tick(raise_alerts)
    assert [known.alert.partition for known in desk.alerts.open()] == ["2024-01-01"]


@dataclass
class Warned:
    """Runs of a toy model's check for some partitions, and what is open after each."""

    office: Office
    changes: dict

    def run(self, *partitions, passed):
        spec = toy.spec(self.office.home / "landing", **self.changes)
        definition = partitions_definition(spec)
        if spec.partitions.every == "batch":
            self.office.instance.add_dynamic_partitions(definition.name, list(partitions))
        found = {} if passed else {"drifted": dg.MetadataValue.json(dict.fromkeys(partitions, "It moved."))}
        asset = checked(passed, name="has_not_drifted", partitions_def=definition, metadata=found)
        dg.materialize([asset], instance=self.office.instance, partition_key=partitions[0])
        sensor = raise_alerts([spec], self.office.now)
        with dg.build_sensor_context(
            instance=self.office.instance,
            cursor=self.office.cursors.get("raise_alerts"),
            resources={"alerts": self.office.alerts},
            sensor_name="raise_alerts",
        ) as context:
            self.office.cursors["raise_alerts"] = sensor.evaluate_tick(context).cursor
        return len(self.office.alerts.open())


MONTHLY = {"partitions": {"every": "monthly", "start": "2023-01-01", "end": "2025-01-01"}}
BATCHES = {
    "partitions": {"every": "batch"},
    "source": {"uri": "landing", "files": ["b-{partition}.csv"], "settle_seconds": 0},
}


@pytest.mark.parametrize("ends", ["2024-06-01", "2024-07-01"])
def test_a_warning_is_over_by_the_same_or_a_later_partition_and_not_by_an_earlier_one(office, ends):
    warned = Warned(office, MONTHLY)
    assert warned.run("2024-06-01", passed=False) == 1
    assert warned.run("2023-02-01", passed=True) == 1
    assert warned.run(ends, passed=True) == 0


@pytest.mark.parametrize("first", [("2023-02-01", "2024-06-01"), ("2024-06-01", "2023-02-01")])
def test_a_warning_of_an_old_and_a_new_partition_is_not_over_by_the_correction_of_the_old(office, first):
    warned = Warned(office, MONTHLY)
    for partition in first:
        assert warned.run(partition, passed=False) == 1
    assert warned.run("2023-02-01", passed=True) == 1
    assert warned.run("2024-06-01", passed=True) == 0


def test_batches_are_in_the_order_of_their_rows_and_without_it_only_the_same_ends_a_warning(office):
    warned = Warned(office, BATCHES)
    records = Records(root=str(office.home))
    for batch, month in (("z", 1), ("b10", 2), ("b2", 3)):
        records.put("toy", "validated_features", evidence.validated(f"2024-{month:02}", partition=batch), batch)
    assert warned.run("b10", passed=False) == 1
    assert warned.run("z", passed=True) == 1
    assert warned.run("unknown", passed=True) == 1
    assert warned.run("b2", passed=True) == 0
    assert warned.run("unknown", passed=False) == 1
    assert warned.run("b2", passed=True) == 1
    assert warned.run("unknown", passed=True) == 0


def a_run(office, *events, **made):
    """A run that no process executed, with the events that somebody reported of it."""

    @dg.job
    def lonely():
        pass

    ran = office.instance.create_run_for_job(lonely, **made)
    for event in events:
        event(ran)
    return ran


def test_what_a_person_cancelled_is_no_alert(office):
    a_run(office, office.instance.report_run_canceling, office.instance.report_run_canceled)
    a_run(office, office.instance.report_run_canceled)
    assert office.look() == {}


def test_what_nobody_cancelled_is_one(office):
    interrupted = "Execution of run for lonely canceled."
    a_run(office, lambda ran: office.instance.report_run_canceled(ran, interrupted))
    assert office.look()["failed_run"].sentence == "It was cancelled by nobody."


def test_a_run_that_took_too_long_is_one(office):
    limit = "Canceling due to exceeding maximum runtime of 60 seconds."
    a_run(
        office,
        lambda ran: office.instance.report_run_canceling(ran, limit),
        lambda ran: office.instance.report_run_failed(ran, "Exceeded maximum runtime of 60 seconds."),
    )
    assert "it exceeded the maximum runtime of 60 seconds" in office.look()["failed_run"].sentence


def test_a_run_that_failed_outside_its_steps_is_told_in_our_own_words(office):
    data = JobFailureData(error=None, failure_reason=RunFailureReason.START_TIMEOUT)
    a_run(office, lambda ran: office.instance.report_run_failed(ran, f"password={CANARY}", data))
    sentence = office.look()["failed_run"].sentence
    assert sentence == "The run failed outside its steps: it did not start in time."


def test_a_run_that_is_retried_has_not_failed_yet(office):
    a_run(office, office.instance.report_run_failed, tags={"dagster/will_retry": "true"})
    assert office.look() == {}


def outage():
    raise dg.Failure("MLflow did not answer.", metadata={OUTAGE: True}, allow_retries=False)


@pytest.mark.parametrize(("work", "told"), [(broken, False), (outage, False), (refusing, True)])
def test_what_a_sensor_asks_for_again_is_told_when_it_is_given_up(office, work, told):
    run(office, thing(work), tags={REQUEST: "toy/1"})
    assert ("failed_run" in office.look()) is told


def remember(office, sensor, memory, last=0.0, place="mlops_assets"):
    """As if the daemon had kept the cursor of a sensor."""
    location = InProcessCodeLocationOrigin(LoadableTargetOrigin(python_file="x.py"), location_name=place)
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), sensor)
    data = SensorInstigatorData(cursor=memory.model_dump_json(), last_tick_timestamp=last)
    state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, data)
    known = office.instance.get_instigator_state(state.instigator_origin_id, state.selector_id)
    (office.instance.update_instigator_state if known else office.instance.add_instigator_state)(state)


def test_a_delivery_that_is_given_up_is_told_until_somebody_sees_to_it(office):
    gone = {"2024-02-01": GivenUp(version="v1", reason=DIED), "2024-03-01": GivenUp(version="v1", reason=CANCELLED)}
    remember(office, "toy_new_data", Memory(given_up=gone))
    alert = office.look()["given_up"]
    assert alert.partition == "2024-02-01"
    assert DIED in alert.sentence
    assert len(office.alerts.open()) == 1
    remember(office, "toy_new_data", Memory())
    assert office.look() == {}


def test_a_training_that_is_given_up_is_told(office):
    remember(office, "toy_new_data", Memory(training_given_up=GivenUp(version="v", reason=DIED)))
    assert office.look()["given_up"].partition is None
    remember(office, "toy_new_data", Memory())
    remember(office, "retrain_on_decision", AskedToTrain(asked={"toy": Asked(decision="d", attempt=2, given_up=DIED)}))
    assert "toy/trained_model is not asked for any more" in office.look()["given_up"].sentence
    remember(office, "retrain_on_decision", AskedToTrain())
    assert office.look() == {}


def test_a_delivery_of_labels_that_is_given_up_is_told(office):
    gone = Memory(given_up={"2024-02-01": GivenUp(version="v1", reason=DIED)})
    remember(office, "new_labels", LabelMemories(models={"toy": gone}))
    assert office.look()["given_up"].sentence.startswith("toy/raw_labels of 2024-02-01 is not asked for any more")


def test_of_two_memories_of_one_sensor_the_one_counts_that_looked_last(office):
    gone = Memory(given_up={"2024-02-01": GivenUp(version="v1", reason=DIED)})
    remember(office, "toy_new_data", gone, last=1.0, place="renamed_since")
    remember(office, "toy_new_data", Memory(), last=2.0)
    assert office.look() == {}


def test_what_another_version_of_the_code_remembers_is_left_alone(office):
    remember(office, "toy_new_data", toy.spec("x"))
    assert office.look() == {}


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING])
def test_a_run_that_does_not_get_on_is_told_once_it_took_longer_than_declared(office, monkeypatch, status):
    monkeypatch.setenv(settings.STUCK.name, "30")
    ran = a_run(office, status=status)
    office.ahead = timedelta(minutes=29)
    assert office.look() == {}
    office.ahead = timedelta(minutes=31)
    alert = office.look()["stuck_run"]
    assert f"{status.value.lower().replace('_', ' ')} since" in alert.sentence
    assert "longer than 30 minutes" in alert.sentence
    office.instance.report_run_canceling(ran)
    office.instance.report_run_canceled(ran)
    assert office.look() == {}


def test_a_run_that_is_at_work_for_too_long_is_told(office):
    def start(ran):
        event = DagsterEvent(DagsterEventType.RUN_START.value, ran.job_name)
        office.instance.report_dagster_event(event, ran.run_id)

    a_run(office, start)
    office.ahead = timedelta(minutes=119)
    assert office.look() == {}
    office.ahead = timedelta(minutes=121)
    assert "started since" in office.look()["stuck_run"].sentence


def test_on_the_first_look_what_ended_long_ago_is_no_news(office):
    run(office, thing(refusing))
    office.ahead = timedelta(hours=25)
    assert office.look() == {}
    office.cursors.clear()
    office.ahead = timedelta(hours=23)
    assert set(office.look()) == {"failed_run"}


def test_a_look_whose_cursor_was_lost_tells_nothing_twice(office):
    run(office, thing(refusing))
    office.look(keep=False)
    assert len(office.alerts.deliver(office.now, to=tuple).made) == 1
    office.look(keep=False)
    run(office, thing(lambda: None))
    office.look(keep=False)
    office.look()
    assert office.alerts.open() == []
    assert office.alerts.deliver(office.now, to=tuple).made == []


def test_a_look_that_dies_half_way_loses_nothing(office):
    run(office, checked(passed=False))
    run(office, thing(refusing))
    (office.home / "records").write_text("no folder")
    with pytest.raises(OSError, match="records"):
        office.tick(raise_alerts)
    (office.home / "records").unlink()
    assert set(office.look()) == {"failed_run", "failed_check"}


def test_what_is_raised_is_told_to_the_channels_and_seen_in_the_catalog(office, monkeypatch):
    run(office, thing(refusing))
    office.look()
    with http_sink() as sink:
        monkeypatch.setenv(settings.ALERTS.name, f"hook={sink.uri}")
        seen = office.tick(deliver_alerts)
        again = office.tick(deliver_alerts)
    assert [each["title"] for each in sink.taken] == ["toy: a run failed"]
    [event] = seen.asset_events
    assert event.asset_key == ASSET
    assert event.metadata["open"].value == 1
    assert event.metadata["messages"].records[0].data["state"] == "told"
    assert "hook: told" in seen.skip_message
    assert (again.asset_events, again.skip_message) == ([], "Nothing to tell.")


def test_that_no_channel_is_configured_is_logged_once(office, monkeypatch):
    monkeypatch.setenv(settings.ALERTS.name, "")
    run(office, thing(refusing))
    office.look()
    seen = office.tick(deliver_alerts)
    assert settings.ALERTS.name in seen.skip_message
    assert seen.cursor
    assert seen.asset_events[0].metadata["messages"].records[0].data["state"] == "kept"


def test_a_setting_that_cannot_be_read_is_said_and_shows_no_secret(office, monkeypatch):
    monkeypatch.setenv(settings.ALERTS.name, f"no-channel-{CANARY}")
    seen = office.tick(deliver_alerts)
    assert "entry 1 is no channel" in seen.skip_message
    assert CANARY not in seen.skip_message


def test_the_place_in_the_catalog_says_what_it_is():
    spec = alerting()
    assert spec.description
    assert spec.owners


def dead(kind):
    """A step whose pod died, as the executor for Kubernetes writes it."""
    raise dg.Failure(f"{TITLES[kind]}: so it was.", metadata={POD: kind}, allow_retries=False)


@pytest.mark.parametrize("kind", KINDS)
def test_why_a_pod_died_is_told_in_the_alert(office, kind):
    run(office, thing(lambda: dead(kind)))
    assert office.look()["failed_run"].sentence == f"toy/thing failed: {TITLES[kind]}: so it was."


@pytest.mark.parametrize("kind", KINDS)
def test_a_pod_that_would_die_again_is_told_at_once_and_another_is_asked_for_again(office, kind):
    run(office, thing(lambda: dead(kind)), {REQUEST: "r"})
    assert set(office.look()) == ({"failed_run"} if kind in {"oom", "deadline", "image", "configuration"} else set())


def test_why_a_step_was_interrupted_is_told_from_the_runs_tag(office):
    said = "preempted: its node was shut down."
    run(office, thing(broken), {"mlops/step_failure/toy__thing": said})
    assert office.look()["failed_run"].sentence == f"toy/thing failed: {said}"


def test_what_is_given_up_says_why_its_last_pod_died(office):
    said, partition = "evicted: its node was lost. It is not tried again after 2 attempts.", "2024-02-01"
    tags = {"mlops/model": "toy", "mlops/step_failure/toy__thing": said}
    run(office, thing(broken), tags | {"dagster/partition": partition, REQUEST: "r"})
    run(office, thing(broken), tags | {"mlops/step_failure/toy__thing": "of another", REQUEST: "r"})
    remember(office, "toy_new_data", Memory(given_up={partition: GivenUp(version="v1", reason=DIED)}))
    assert f"{DIED}. The last one: {said} See to the cause" in office.look()["given_up"].sentence
