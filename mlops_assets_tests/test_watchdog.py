"""The watch: each kind of silence is seen once its time is up, and nothing is said while all goes on."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._daemon.types import DaemonHeartbeat
from dagster._utils.error import SerializableErrorInfo

from mlops_assets import settings, watchdog
from mlops_assets.resources.alerts import Alerts
from mlops_assets.resources.channels import Channel
from mlops_assets.watchdog import DAEMON, SENSORS, STORAGE, Sight, Sign, Time, Watch, sensor_signs, sight
from mlops_assets_tests.homes import instance_at

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


def at(seconds):
    return NOON + timedelta(seconds=seconds)


def healthy(seconds, **silent):
    """What a look finds at a time when all is well, but for the signs that stopped so many seconds after the start."""
    value = {
        name: NOON.timestamp() + min(seconds, silent.get(name, seconds)) for name in ("storage", "daemon", "sensor")
    }
    return Sight(
        {
            STORAGE: Sign(value["storage"]),
            DAEMON: Sign(value["daemon"], 60),
            SENSORS: Sign(value["sensor"]),
            "daemon SENSOR": Sign(value["daemon"]),
            "sensor toy_new_data": Sign(value["sensor"]),
        }
    )


def watched(until, clock=at, **silent):
    """The alerts of every look, five seconds apart, as (seconds, alert)."""
    watch, found = Watch(), []
    for seconds in range(0, until + 1, 5):
        found += [(seconds, alert) for alert in watch.look(healthy(seconds, **silent), seconds, clock(seconds))]
    return found


def test_nothing_is_said_while_all_goes_on():
    assert watched(600) == []


@pytest.mark.parametrize(
    ("silent", "first", "said"),
    [
        ({"sensor": 100}, 195, "No look of any sensor has ended well for 95 s although the daemon lives"),
        ({"daemon": 100, "sensor": 100}, 165, "Dagster's daemon has given no sign for 65 s"),
        ({"storage": 100}, 195, "The instance's storage could not be read for 95 s"),
    ],
)
def test_each_silence_is_seen_when_its_time_is_up_and_is_one_alert_for_as_long_as_it_lasts(silent, first, said):
    found = watched(300, **silent)
    assert found[0][0] == first
    assert {alert.kind for _, alert in found} == {"silent_daemon"}
    assert len({alert.name for _, alert in found}) == 1
    assert found[0][1].sentence.startswith(said)
    assert first - 100 < 120


def test_a_silence_at_the_limit_is_none_and_one_that_ends_is_over():
    assert watched(190, sensor=100) == []
    watch = Watch()
    for seconds in range(0, 200, 5):
        watch.look(healthy(seconds, sensor=50), seconds, at(seconds))
    assert watch.look(healthy(200, sensor=50), 200, at(200))
    assert watch.look(healthy(205), 205, at(205)) == []


def test_one_sensor_that_fails_while_others_go_on_is_named_with_its_error():
    watch, found = Watch(), []
    for seconds in range(0, 200, 5):
        signs = healthy(seconds).signs | {"sensor shop_new_data": Sign(5.0)}
        found += watch.look(Sight(signs, ["shop_new_data: no route to host"]), seconds, at(seconds))
    assert {alert.sentence for alert in found[:1]} == {
        "sensor shop_new_data is silent or fails for 95 s while others go on. shop_new_data: no route to host"
    }
    assert len({alert.name for alert in found}) == 1


def test_the_same_silence_is_the_same_alert_for_a_watch_that_was_started_again():
    first = watched(300, sensor=100)[0][1]
    watch = Watch()
    for seconds in range(150, 300, 5):
        found = watch.look(healthy(seconds, sensor=100), seconds, at(seconds))
    assert found[0].name == first.name


def test_a_watch_that_was_stopped_itself_blames_nobody():
    watch = Watch()
    watch.look(healthy(0), 0, at(0))
    watch.look(healthy(5), 5, at(5))
    assert watch.look(healthy(5), 1000, at(1000)) == []
    assert watch.look(healthy(1005), 1005, at(1005)) == []


@pytest.mark.parametrize(("back", "alarms"), [(29, 0), (30, 1), (7200, 1)])
def test_a_clock_that_goes_back_is_said_at_once_and_until_it_has_caught_up(back, alarms):
    watch = Watch()
    watch.look(healthy(0), 0, at(0))
    found = watch.look(healthy(5), 5, at(5 - back))
    assert len(found) == alarms
    if alarms:
        assert f"went back by {timedelta(seconds=back)}: " in found[0].sentence
        assert f"before it shows {at(5):%Y-%m-%d %H:%M:%S} UTC" in found[0].sentence
        assert watch.look(healthy(10), 10, at(10 - back)) == found
        assert watch.look(healthy(15), 15, at(15)) == []


def test_a_daemon_whose_clock_went_back_is_told_from_one_whose_code_is_broken():
    ahead = timedelta(hours=2)
    found = watched(200, clock=lambda seconds: at(seconds) - ahead, sensor=100)
    assert "Their newest look is dated 1:58:25 ahead of now: the clock went back." in found[0][1].sentence
    assert "ahead of now" not in watched(200, sensor=100)[0][1].sentence


def state(name, began, ended, *, status=InstigatorStatus.DECLARED_IN_CODE, every=30):
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("mlops_assets"), "__repository__")
    data = SensorInstigatorData(
        last_tick_start_timestamp=began,
        last_tick_timestamp=began,
        last_tick_success_timestamp=ended,
        min_interval=every,
    )
    return InstigatorState(RemoteInstigatorOrigin(repository, name), InstigatorType.SENSOR, status, data)


def test_a_sensor_that_is_declared_no_more_or_switched_off_is_no_silence():
    states = [
        state("alive", 1000.0, 999.0),
        state("failing", 999.0, None),
        state("gone", 10.0, 11.0),
        state("hourly", 10.0, 11.0, every=3600),
        state("off", 1000.0, 999.0, status=InstigatorStatus.STOPPED),
    ]
    assert sensor_signs(states) == {
        SENSORS: Sign(999.0),
        "sensor alive": Sign(999.0),
        "sensor failing": Sign(None),
        "sensor hourly": Sign(11.0, 3 * 3600),
    }


@pytest.fixture
def instance(tmp_path):
    with instance_at(tmp_path) as made:
        yield made


def test_storage_is_read_with_the_error_of_a_failing_sensor(instance):
    failing = state("shop_new_data", 1000.0, None)
    instance.add_instigator_state(failing)
    instance.add_instigator_state(state("toy_new_data", 1000.0, 1001.0))
    inner = SerializableErrorInfo("ConnectionError: postgresql://user:secret@host", [], "ConnectionError")
    instance.create_tick(
        TickData(
            instigator_origin_id=failing.instigator_origin_id,
            selector_id=failing.selector_id,
            instigator_name="shop_new_data",
            instigator_type=InstigatorType.SENSOR,
            status=TickStatus.FAILURE,
            timestamp=1000.0,
            error=SerializableErrorInfo("Unreachable\n", [], "DagsterUserCodeUnreachableError", cause=inner),
        )
    )
    instance.add_daemon_heartbeat(DaemonHeartbeat(900.0, "SENSOR", "id", []))
    found = sight(instance, Watch(), 0.0)
    assert found.errors == ["shop_new_data: ConnectionError."]
    assert found.signs[DAEMON] == Sign(900.0, 60)
    assert found.signs[SENSORS] == Sign(1001.0)
    assert found.signs["sensor shop_new_data"] == Sign(None)


def test_storage_that_cannot_be_read_is_a_finding_and_nothing_else_changes(instance, tmp_path):
    watch = Watch()
    watch.look(healthy(0), 0, at(0))
    for database in (tmp_path / "schedules").rglob("*.db"):
        database.write_bytes(b"no database")
    found = sight(instance, watch, 5.0)
    assert found.signs[STORAGE] == Sign(None)
    assert found.signs[SENSORS] == watch.seen[SENSORS]
    assert found.errors == ["DatabaseError"]


@dataclass
class Clocks:
    """Clocks that go on when somebody waits. `happens` is what is done at which second."""

    happens: dict[float, Callable[[], None]]
    seconds: float = 0.0

    def sleep(self, seconds):
        self.seconds += seconds
        self.happens.get(self.seconds, lambda: None)()

    @property
    def time(self):
        return Time(lambda: self.seconds, lambda: at(self.seconds), self.sleep)


def test_silence_is_kept_as_an_open_alert_that_is_told_from_here_and_over_with_the_next_sign(instance, tmp_path):
    def sign():
        instance.add_daemon_heartbeat(DaemonHeartbeat(clocks.seconds, "SENSOR", "id", []))

    def look_after():
        opened.append([known.alert.sentence for known in alerts.open()])

    alerts, said, opened = Alerts(root=str(tmp_path / "home"), ui="http://ui"), [], []
    clocks = Clocks({10: sign, 80: look_after, 85: sign, 90: look_after})
    sign()
    watchdog.watch(instance, alerts, said.append, clocks.time, looks=19)
    assert opened == [said, []]
    assert said == ["Dagster's daemon has given no sign for 65 s: nothing is looked at, and nothing is started."]
    assert [telling.message.alerts[0].link for telling in alerts.tellings(9)] == ["http://ui/deployment/daemons"]


def test_what_was_open_when_a_watch_began_is_over_when_all_is_well(instance, tmp_path):
    alerts = Alerts(root=str(tmp_path / "home"), ui="http://ui")
    alerts.raise_(watched(300, daemon=100, sensor=100)[0][1])

    def sign():
        instance.add_daemon_heartbeat(DaemonHeartbeat(clocks.seconds, "SENSOR", "id", []))
        instance.update_instigator_state(state("toy_new_data", clocks.seconds, clocks.seconds))

    instance.add_instigator_state(state("toy_new_data", 0.5, 0.5))
    clocks = Clocks({5.0 * step: sign for step in range(100)})
    watchdog.watch(instance, alerts, print, clocks.time, looks=36)
    assert len(alerts.open()) == 1
    watchdog.watch(instance, alerts, print, clocks.time, looks=38)
    assert alerts.open() == []


def silent_watch(instance, alerts, say, looks=19):
    """A watch over a daemon that gives no sign but its first."""
    instance.add_daemon_heartbeat(DaemonHeartbeat(0.0, "SENSOR", "id", []))
    watchdog.watch(instance, alerts, say, Clocks({}).time, looks=looks)


def test_the_watch_leaves_alerts_of_other_kinds_to_the_round_that_knows_their_owners(instance, tmp_path, monkeypatch):
    alerts, told = Alerts(root=str(tmp_path / "home"), ui="http://ui"), []
    channel = Channel("shop", frozenset({"team:shop"}), "json://127.0.0.1:9")
    monkeypatch.setenv(settings.ALERTS.name, "shop[team:shop]=json://127.0.0.1:9")
    failed = watched(300, daemon=100)[0][1].model_copy(update={"kind": "failed_run", "model": "toy"})
    alerts.raise_(failed)
    silent_watch(instance, alerts, print)
    assert [telling.message.kind for telling in alerts.tellings(9)] == ["silent_daemon"]

    def tell(_, note):
        told.append(note.subject)
        return True, "told"

    alerts.deliver(lambda: NOON, {"toy": "team:shop"}, to=lambda: [channel], tell=tell)
    assert told == ["toy: a run failed"]


def test_a_damaged_record_is_said_and_the_watch_goes_on(instance, tmp_path):
    alerts, said = Alerts(root=str(tmp_path / "home"), ui="http://ui"), []
    silent_watch(instance, alerts, said.append)
    [path] = (tmp_path / "home/records/_alerts/open").glob("*.json")
    path.write_text("{")
    silent_watch(instance, alerts, said.append)
    assert [line for line in said if "is not a record any more" in line] != []
    assert len(alerts.open()) == 1
