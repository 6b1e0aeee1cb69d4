"""The outbox: what is raised is told once to each channel, and seen until it is over."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from mlops_assets.ml.alerts import PATIENCE, WAITS, Alert, name_of
from mlops_assets.resources import outbox
from mlops_assets.resources.alerts import Alerts
from mlops_assets.resources.channels import Channel, ChannelError
from mlops_assets.resources.outbox import Over, Shelves
from mlops_assets_tests.s3 import s3_server

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@dataclass
class Desk:
    """Alerts on a home, channels that are lists, and a clock."""

    home: str
    now: datetime = START
    names: tuple[str, ...] = ("mail",)
    only: dict[str, frozenset[str]] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    told: dict[str, list] = field(default_factory=dict)

    @property
    def alerts(self) -> Alerts:
        """As another process would open them."""
        return Alerts(root=self.home, ui="http://127.0.0.1:3000")

    def tell(self, channel, note):
        if channel.name in self.down:
            return False, "refused"
        self.told.setdefault(channel.name, []).append(note)
        return True, "told"

    def deliver(self):
        found = [Channel(name, self.only.get(name, frozenset()), "json://x") for name in self.names]
        owners = {"toy": "team:shop"}
        return self.alerts.deliver(lambda: self.now, owners, to=lambda: found, tell=self.tell)

    def subjects(self, channel="mail"):
        return [note.subject for note in self.told.get(channel, [])]


@pytest.fixture
def desk(tmp_path):
    return Desk(str(tmp_path / "home"))


def alert(about="prices", at=START, **changes):
    fields = {
        "kind": "drift",
        "model": "toy",
        "partition": "2026-02",
        "about": about,
        "sentence": f"Something with {about}.",
        "link": None,
        "raised": at,
    }
    return Alert.model_validate(fields | changes)


def test_what_is_raised_is_told_once_to_each_channel(desk):
    desk.names = ("mail", "hook")
    assert desk.alerts.raise_(alert())
    for _ in range(3):
        desk.deliver()
    assert desk.subjects("mail") == desk.subjects("hook") == ["toy: the data have drifted (2026-02)"]


def test_the_same_alert_is_raised_once_however_often_it_is_seen(desk):
    assert [desk.alerts.raise_(alert(at=START + n * MINUTE)) for n in range(3)] == [True, False, False]
    desk.deliver()
    assert not desk.alerts.raise_(alert(at=START + HOUR))
    assert not desk.alerts.raise_(alert(at=START))
    desk.deliver()
    assert len(desk.told["mail"]) == 1


def test_alerts_of_one_model_and_kind_are_one_message(desk):
    for about in ("prices", "wind", "hours"):
        desk.alerts.raise_(alert(about))
    desk.alerts.raise_(alert(model="bike"))
    desk.alerts.raise_(alert(kind="given_up"))
    desk.deliver()
    assert sorted(desk.subjects()) == [
        "bike: the data have drifted (2026-02)",
        "toy: a delivery was given up (2026-02)",
        "toy: the data have drifted, 3 times",
    ]


def test_what_lasts_is_told_again_after_a_day(desk):
    desk.alerts.raise_(alert())
    desk.deliver()
    assert desk.alerts.raise_(alert(at=START + DAY))
    desk.deliver()
    assert len(desk.told["mail"]) == 2
    [known] = desk.alerts.open()
    assert (known.since, known.times, known.alert.raised) == (START, 2, START + DAY)


def test_what_is_over_is_open_no_more_and_told_again_when_it_comes_back(desk):
    desk.alerts.raise_(alert())
    desk.deliver()
    desk.alerts.resolve([alert().name], START + HOUR)
    assert desk.alerts.open() == []
    desk.deliver()
    [known] = desk.alerts.past()
    assert known.resolved == START + HOUR
    assert desk.alerts.raise_(alert(at=START + 2 * HOUR))
    assert desk.alerts.open_names() == {alert().name}
    desk.deliver()
    assert len(desk.told["mail"]) == 2
    [known] = desk.alerts.open()
    assert known.since == START + 2 * HOUR


def test_what_was_over_before_it_could_be_told_is_told_and_then_put_away(desk):
    desk.alerts.raise_(alert())
    desk.alerts.resolve([alert().name], START + MINUTE)
    assert desk.alerts.open() == []
    desk.deliver()
    desk.deliver()
    assert len(desk.told["mail"]) == 1
    assert [known.alert for known in desk.alerts.past()] == [alert()]
    assert desk.alerts.open() == []


def test_what_failed_was_well_and_failed_again_before_it_was_told_is_open(desk):
    desk.alerts.raise_(alert())
    desk.alerts.resolve([alert().name], START + MINUTE)
    assert desk.alerts.raise_(alert(at=START + 2 * MINUTE))
    for _ in range(2):
        desk.deliver()
    assert [known.alert.raised for known in desk.alerts.open()] == [START + 2 * MINUTE]
    desk.alerts.resolve([alert().name], START + 3 * MINUTE)
    desk.deliver()
    assert desk.alerts.open() == []


def test_what_came_back_is_open_before_it_is_told_and_an_end_that_is_seen_again_ends_it_not(desk):
    desk.alerts.raise_(alert())
    desk.deliver()
    desk.alerts.resolve([alert().name], START + HOUR)
    desk.alerts.raise_(alert(at=START + 2 * HOUR))
    assert desk.alerts.open_names() == {alert().name}
    desk.alerts.resolve([alert().name], START + HOUR)
    assert desk.alerts.open_names() == {alert().name}
    desk.deliver()
    desk.alerts.resolve([alert().name], START + HOUR)
    desk.deliver()
    assert [known.since for known in desk.alerts.open()] == [START + 2 * HOUR]


def test_what_is_not_open_cannot_be_over(desk):
    desk.alerts.resolve([alert().name], START)
    assert desk.alerts.raise_(alert(at=START - HOUR))
    assert len(desk.alerts.open()) == 1


def test_all_that_is_true_now_is_raised_and_the_rest_is_over(desk):
    first, second = alert("one", kind="given_up"), alert("two", kind="given_up")
    drifted = alert("three")
    desk.alerts.raise_(drifted)
    assert desk.alerts.hold(("given_up",), [first, second], START) == [first, second]
    assert desk.alerts.hold(("given_up",), [first, second], START + MINUTE) == []
    assert desk.alerts.hold(("given_up",), [second], START + MINUTE) == []
    assert desk.alerts.open_names() == {second.name, drifted.name}
    assert desk.alerts.hold(("given_up",), [], START + HOUR) == []
    assert desk.alerts.open_names() == {drifted.name}


def test_what_is_true_no_more_is_over_although_the_clock_was_set_back(desk):
    desk.alerts.hold(("given_up",), [alert(kind="given_up", at=START + DAY)], START + DAY)
    desk.deliver()
    desk.alerts.hold(("given_up",), [], START)
    assert desk.alerts.open() == []
    desk.deliver()
    assert len(desk.alerts.past()) == 1


def test_without_a_channel_alerts_are_kept_and_seen(desk):
    desk.names = ()
    desk.alerts.raise_(alert())
    assert [message.alerts for message in desk.deliver().made] == [(alert(),)]
    [telling] = desk.alerts.tellings(10)
    assert telling.deliveries == ()
    assert [known.alert for known in desk.alerts.open()] == [alert()]


def test_a_channel_is_told_only_what_it_takes(desk):
    desk.names, desk.only = ("page", "shop", "all"), {"page": frozenset({"urgent"}), "shop": frozenset({"team:shop"})}
    desk.alerts.raise_(alert())
    desk.alerts.raise_(alert(kind="failed_run", model="bike"))
    desk.deliver()
    assert [note.subject.partition(":")[0] for note in desk.told["page"]] == ["bike"]
    assert [note.subject.partition(":")[0] for note in desk.told["shop"]] == ["toy"]
    assert len(desk.told["all"]) == 2


def test_a_channel_that_is_down_is_tried_again_and_every_attempt_is_on_record(desk):
    desk.names, desk.down = ("mail", "hook"), {"mail"}
    desk.alerts.raise_(alert())
    for wait in (timedelta(0), *WAITS[:2]):
        desk.now += wait
        desk.deliver()
        desk.deliver()
    desk.down = set()
    desk.now += WAITS[2]
    desk.deliver()
    [telling] = desk.alerts.tellings(10)
    [hook, mail] = sorted(telling.deliveries, key=lambda delivery: delivery.channel)
    assert (hook.state, len(hook.attempts)) == ("told", 1)
    assert [(attempt.taken, attempt.said) for attempt in mail.attempts] == [(False, "refused")] * 3 + [(True, "told")]
    assert len(desk.told["mail"]) == len(desk.told["hook"]) == 1


def test_a_message_that_no_channel_takes_keeps_none_of_the_others_waiting(desk):
    for about in ("one", "two", "three"):
        desk.alerts.raise_(alert(model=about))

    def picky(channel, note):
        return (False, "too long") if note.subject.startswith("one") else desk.tell(channel, note)

    for _ in range(4):
        desk.alerts.deliver(lambda: desk.now, to=lambda: [Channel("mail", frozenset(), "x")], tell=picky)
    assert sorted(subject.partition(":")[0] for subject in desk.subjects()) == ["three", "two"]


def test_a_channel_that_is_down_for_long_is_given_up_and_that_is_seen(desk):
    desk.down = {"mail"}
    desk.alerts.raise_(alert())
    desk.deliver()
    desk.now += PATIENCE
    desk.deliver()
    [telling] = desk.alerts.tellings(10)
    assert [delivery.state for delivery in telling.deliveries] == ["given_up"]
    desk.down = set()
    desk.now += PATIENCE
    desk.deliver()
    assert desk.told == {}


def test_a_channel_that_is_slow_keeps_no_other_waiting(desk):
    desk.names = ("slow", "quick")
    desk.alerts.raise_(alert())
    quick_was_told = threading.Event()

    def tell(channel, note):
        if channel.name == "slow":
            return quick_was_told.wait(10), "told"
        quick_was_told.set()
        return True, "told"

    found = [Channel(name, frozenset(), "x") for name in desk.names]
    done = desk.alerts.deliver(lambda: desk.now, to=lambda: found, tell=tell)
    assert [delivery.state for delivery in done.over[0].deliveries] == ["told", "told"]


def test_a_round_ends_in_time_and_the_next_goes_on(desk, monkeypatch):
    monkeypatch.setattr(outbox, "BUDGET_SECONDS", 0.0)
    for about in ("one", "two", "three"):
        desk.alerts.raise_(alert(model=about))
    for _ in range(2):
        desk.deliver()
    assert len(desk.told.get("mail", [])) == 0
    monkeypatch.setattr(outbox, "BUDGET_SECONDS", 15.0)
    desk.deliver()
    assert len(desk.told["mail"]) == 3


def test_only_one_process_delivers_at_a_time(desk):
    desk.alerts.raise_(alert())
    inside, go_on = threading.Event(), threading.Event()

    def tell(channel, note):
        inside.set()
        go_on.wait(10)
        return desk.tell(channel, note)

    first = threading.Thread(
        target=desk.alerts.deliver,
        args=(lambda: START,),
        kwargs={"to": lambda: [Channel("mail", frozenset(), "x")], "tell": tell},
    )
    first.start()
    inside.wait(10)
    assert desk.deliver().busy
    go_on.set()
    first.join()
    assert not desk.deliver().busy
    assert len(desk.told["mail"]) == 1


def test_raising_goes_on_while_a_channel_is_slow(desk):
    desk.alerts.raise_(alert())
    raised = []

    def tell(channel, note):
        raised.append(desk.alerts.raise_(alert("while it was told")))
        return desk.tell(channel, note)

    desk.alerts.deliver(lambda: START, to=lambda: [Channel("mail", frozenset(), "x")], tell=tell)
    assert raised == [True]
    desk.deliver()
    assert len(desk.told["mail"]) == 2


def test_channels_that_cannot_be_read_lose_nothing(desk):
    desk.alerts.raise_(alert())

    def broken():
        raise ChannelError("entry 1 is no channel")

    with pytest.raises(ChannelError):
        desk.alerts.deliver(lambda: START, to=broken)
    desk.deliver()
    assert len(desk.told["mail"]) == 1


def test_a_damaged_record_keeps_no_other_back(desk, tmp_path):
    for about in ("one", "two"):
        desk.alerts.raise_(alert(model=about))
    (tmp_path / "home/records/_alerts/new" / f"{alert(model='one').name}.json").write_text("{")
    done = desk.deliver()
    assert desk.subjects() == ["two: the data have drifted (2026-02)"]
    assert len(done.unreadable) == 1
    assert "is not a record any more" in done.unreadable[0]


def test_it_works_on_an_object_store(monkeypatch):
    with s3_server(monkeypatch, "alerts") as bucket:
        desk = Desk(f"{bucket}/home")
        assert [desk.alerts.raise_(alert()) for _ in range(2)] == [True, False]
        desk.deliver()
        desk.alerts.resolve([alert().name], START + HOUR)
        desk.deliver()
        assert desk.subjects() == ["toy: the data have drifted (2026-02)"]
        assert len(desk.alerts.past()) == len(desk.alerts.tellings(10)) == 1
        assert desk.alerts.open() == []


def test_links_lead_into_the_ui(desk):
    key = dg.AssetKey(["toy", "drift_report"])
    assert desk.alerts.run_url("abc") == "http://127.0.0.1:3000/runs/abc"
    assert desk.alerts.asset_url(key) == "http://127.0.0.1:3000/assets/toy/drift_report"
    assert desk.alerts.asset_url(key, "2026-02").endswith("?view=partitions&partition=2026-02")
    assert desk.alerts.asset_url(key, check="is_fresh").endswith("?view=checks&checkDetail=is_fresh")


def test_the_name_of_an_alert_is_the_name_of_its_record(desk, tmp_path):
    desk.alerts.raise_(alert())
    [path] = (tmp_path / "home/records/_alerts/new").iterdir()
    assert path.stem == name_of("drift", "toy", "prices")


def test_a_newer_alert_of_the_same_name_stays_although_an_older_one_is_put_into_a_message(desk, monkeypatch):
    desk.alerts.raise_(alert())
    interfere(monkeypatch, "new", lambda: desk.alerts.raise_(alert(at=START + DAY)))
    desk.deliver()
    assert len(desk.told["mail"]) == 1
    desk.deliver()
    assert len(desk.told["mail"]) == 2
    assert [known.alert.raised for known in desk.alerts.open()] == [START + DAY]


def test_a_newer_end_stays_although_an_older_one_is_tidied_up(desk, monkeypatch):
    desk.alerts.raise_(alert())
    desk.deliver()
    desk.alerts.resolve([alert().name], START + HOUR)
    desk.alerts.raise_(alert(at=START + 2 * HOUR))
    for _ in range(2):
        desk.deliver()
    desk.alerts.raise_(alert(at=START + 2 * DAY))
    Shelves(desk.home).put("resolved", alert().name, Over(at=START + HOUR))
    desk.deliver()
    Shelves(desk.home).put("resolved", alert().name, Over(at=START + HOUR))
    interfere(monkeypatch, "resolved", lambda: desk.alerts.resolve([alert().name], START + 3 * DAY))
    for _ in range(2):
        desk.deliver()
    assert desk.alerts.open() == []
    assert desk.alerts.past()[0].resolved == START + 3 * DAY


def interfere(monkeypatch, shelf, work):
    """Another process does something once, just before a record is taken from a shelf."""
    remove = Shelves.remove

    def removed(shelves, where, name, *read):
        if where == shelf:
            monkeypatch.setattr(Shelves, "remove", remove)
            work()
        remove(shelves, where, name, *read)

    monkeypatch.setattr(Shelves, "remove", removed)


@pytest.mark.parametrize("shelf", ["open", "resolved", "new", "outbox"])
def test_a_damaged_record_is_set_aside_and_said_once_and_the_rest_is_told(desk, tmp_path, shelf):
    desk.alerts.raise_(alert(model="one"))
    desk.down = {"mail"}
    desk.deliver()
    desk.alerts.resolve([alert(model="one").name], START + HOUR)
    desk.alerts.raise_(alert(model="one", at=START + 2 * HOUR))
    desk.alerts.raise_(alert(model="two"))
    [*_, path] = (
        each
        for each in (tmp_path / "home/records/_alerts" / shelf).glob("*.json")
        if shelf == "outbox" or each.stem == alert(model="one").name
    )
    path.write_text("{")
    assert not desk.alerts.raise_(alert(model="two", at=START + MINUTE))
    desk.down = set()
    desk.now += DAY
    done = desk.deliver()
    assert "two: the data have drifted (2026-02)" in desk.subjects()
    assert len(done.unreadable) == 1
    assert (tmp_path / "home/records/_alerts/damaged" / f"{shelf}-{path.name}").read_text() == "{"
    assert desk.deliver().unreadable == []


def test_a_damaged_record_hinders_nobody_who_raises_or_resolves(desk, tmp_path):
    desk.alerts.raise_(alert())
    desk.deliver()
    (tmp_path / "home/records/_alerts/open" / f"{alert().name}.json").write_text("{")
    assert desk.alerts.raise_(alert(at=START + HOUR))
    desk.deliver()
    desk.alerts.resolve([alert().name], START + 2 * HOUR)
    desk.deliver()
    assert desk.alerts.open() == []
    assert desk.subjects() == ["toy: the data have drifted (2026-02)"] * 2


def test_a_round_of_some_kinds_leaves_the_others_to_the_next(desk):
    desk.names, desk.only = ("shop",), {"shop": frozenset({"team:shop"})}
    desk.alerts.raise_(alert(kind="failed_run"))
    desk.alerts.deliver(lambda: desk.now, to=tuple, tell=desk.tell, kinds=["silent_daemon"])
    desk.deliver()
    assert desk.subjects("shop") == ["toy: a run failed (2026-02)"]


def test_an_alert_about_several_partitions_is_over_when_all_of_them_are(desk):
    for day, partition in enumerate(("2026-02", "2026-03", "2026-01")):
        desk.alerts.raise_(alert(partition=partition, at=START + day * MINUTE))
        desk.deliver()
    for left, partition in enumerate(("2026-01", "2026-03", "2026-02")):
        assert len(desk.alerts.open()) == 1, left
        desk.alerts.resolve_of([alert().name], START + DAY, lambda each, well=partition: each == well)
        desk.deliver()
    assert desk.alerts.open() == []
    desk.alerts.raise_(alert(partition="2026-04", at=START + 2 * DAY))
    desk.alerts.resolve_of([alert().name], START + 3 * DAY, lambda each: each == "2026-04")
    assert desk.alerts.open() == []
