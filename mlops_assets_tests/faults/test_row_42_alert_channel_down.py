"""Row 42: an alert channel that is down or slow, and processes that are killed while they raise or tell.

MLOPS_ALERT_KILLS_EVERY says at which of their moments they are killed: 1 is at each.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from mlops_assets.ml.alerts import WAITS, Alert
from mlops_assets.resources import channels
from mlops_assets.resources.alerts import Alerts
from mlops_assets.resources.channels import Channel, Note, send
from mlops_assets_tests.faults import forking, telling
from mlops_assets_tests.faults.telling import COUNT
from mlops_assets_tests.sinks import Sink, http_sink

pytestmark = pytest.mark.fault(42)
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
NUMBER = 40
NAMED = re.compile(r"<(?P<trial>[\w-]+) (?P<number>\d+)>")
CHANNELS = 2


@dataclass
class Clock:
    """A clock that is moved by hand."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Heard:
    """What a webhook heard of one trial: by key, which alerts, and how often it came."""

    alerts: dict[str, set[str]] = field(default_factory=dict)
    times: Counter = field(default_factory=Counter)

    @property
    def lost(self) -> int:
        """Alerts that a channel never heard of."""
        heard = Counter(number for numbers in self.alerts.values() for number in numbers)
        return sum(CHANNELS - min(CHANNELS, heard[str(number)]) for number in range(COUNT))

    @property
    def doubled(self) -> int:
        """Alerts that a channel heard under more than one key: a receiver cannot know that they are the same."""
        heard = Counter(number for numbers in self.alerts.values() for number in numbers)
        return sum(max(0, count - CHANNELS) for count in heard.values())

    @property
    def repeated(self) -> int:
        """Messages that came again with the same key."""
        return sum(count - 1 for count in self.times.values())


def heard(sink: Sink) -> dict[str, Heard]:
    """What the webhook heard, by trial. A key is one for each channel, by the path that it was sent to."""
    found: dict[str, Heard] = {}
    for content, key, path in zip(sink.taken, sink.keys, sink.paths, strict=True):
        named = list(NAMED.finditer(content["message"]))
        trial = found.setdefault(named[0]["trial"], Heard())
        trial.alerts.setdefault(f"{path} {key}", set()).update(match["number"] for match in named)
        trial.times[f"{path} {key}"] += 1
    return found


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Every trial of the program, with what the webhook heard of it."""
    with http_sink() as sink:
        trials = forking.told(telling.main, tmp_path_factory.mktemp("told"), sink.port)
        told = heard(sink)
    return [trial | {"heard": told.get(trial["trial"], Heard())} for trial in trials]


def of(killed, name):
    return [trial for trial in killed if trial["trial"].startswith(name)]


@pytest.mark.parametrize("phase", ["raise", "deliver"])
def test_a_process_killed_at_any_moment_loses_nothing_and_doubles_nothing(killed, phase, record_figure):
    trials = of(killed, f"Trial-{phase}")
    lost = {trial["mark"]: trial["heard"].lost for trial in trials if trial["heard"].lost}
    doubled = {trial["mark"]: trial["heard"].doubled for trial in trials if trial["heard"].doubled}
    repeated = sum(trial["heard"].repeated for trial in trials)
    record_figure(
        killed_while=phase,
        kills=sum(trial["killed"] for trial in trials),
        alerts=len(trials) * COUNT,
        lost=sum(lost.values()),
        doubled=sum(doubled.values()),
        sent_again_with_the_same_key=repeated,
    )
    assert sum(trial["killed"] for trial in trials) > 0.9 * len(trials)
    assert len(trials) > COUNT
    assert (lost, doubled) == ({}, {})


def test_what_is_sent_again_has_the_same_key_and_says_that_it_may_have_come_before(killed):
    repeated = [trial["heard"].repeated for trial in of(killed, "Trial-deliver")]
    assert set(repeated) <= {0, 1, 2}
    assert sum(repeated) > 0


def test_a_list_that_is_forgotten_when_all_is_told_doubles_alerts(killed, record_figure):
    trials = of(killed, "Naive")
    doubled = sum(trial["heard"].doubled for trial in trials)
    record_figure(control=True, kills=len(trials), alerts=len(trials) * COUNT, doubled=doubled)
    assert doubled > 0


def alert(number):
    return Alert(
        kind="failed_check",
        model=f"model_{number}",
        partition=None,
        about="a check",
        sentence=f"<down {number}>",
        link=None,
        raised=START,
    )


def test_while_a_channel_refuses_work_goes_on_and_when_it_is_back_everything_is_told_once(tmp_path, record_figure):
    with http_sink() as sink:
        port = sink.port
    alerts, clock = Alerts(root=str(tmp_path), ui="http://127.0.0.1:3000"), Clock()
    hook = Channel("hook", frozenset(), f"json://127.0.0.1:{port}/hook")
    seconds = []
    for number in range(NUMBER):
        began = time.perf_counter()
        assert alerts.raise_(alert(number))
        seconds.append(time.perf_counter() - began)
        if number % 10 == 9:
            clock.now += timedelta(minutes=1)
            alerts.deliver(clock, to=lambda: [hook])
    with http_sink(port) as sink:
        for _ in range(NUMBER):
            clock.now += WAITS[-1]
            if not alerts.deliver(clock, to=lambda: [hook]).waiting:
                break
    told = Counter(match["number"] for content in sink.taken for match in NAMED.finditer(content["message"]))
    failed = sum(len(delivery.attempts) - 1 for telling in alerts.tellings(NUMBER) for delivery in telling.deliveries)
    record_figure(
        refused="connections, then back",
        alerts=NUMBER,
        lost=NUMBER - len(told),
        doubled=sum(told.values()) - len(told),
        failed_attempts=failed,
        milliseconds_to_raise=round(1000 * sorted(seconds)[NUMBER // 2], 1),
    )
    assert told == Counter(map(str, range(NUMBER)))
    assert failed > 0


def test_telling_from_where_it_happens_loses_what_the_channel_refuses(record_figure):
    with http_sink() as sink:
        port = sink.port
    hook = Channel("hook", frozenset(), f"json://127.0.0.1:{port}/hook")
    for number in range(NUMBER // 4):
        send(hook, Note(str(number), "a check failed", f"<down {number}>", urgent=True))
    with http_sink(port) as sink:
        pass
    record_figure(control=True, refused="connections, then back", alerts=NUMBER // 4, lost=NUMBER // 4)
    assert sink.taken == []


def test_a_channel_that_answers_late_or_never_holds_nobody_up(tmp_path, monkeypatch, record_figure):
    monkeypatch.setattr(channels, "READ_SECONDS", 0.3)
    alerts, clock = Alerts(root=str(tmp_path), ui="http://127.0.0.1:3000"), Clock()
    with http_sink() as slow, http_sink() as quick:
        slow.slow.set()
        found = [Channel("slow", frozenset(), slow.uri), Channel("quick", frozenset(), quick.uri)]
        for number in range(5):
            alerts.raise_(alert(number))
        began = time.perf_counter()
        alerts.deliver(clock, to=lambda: found)
        seconds = time.perf_counter() - began
        told_by_then = len(quick.taken)
        slow.slow.clear()
        slow.go_on.set()
        for _ in range(8):
            clock.now += WAITS[-1]
            alerts.deliver(clock, to=lambda: found)
    by_key = Counter(slow.keys)
    record_figure(
        slow="no answer in time",
        alerts=5,
        told_to_the_other_at_once=told_by_then,
        lost=5 - len(by_key),
        doubled=0,
        sent_again_with_the_same_key=sum(by_key.values()) - len(by_key),
        seconds_of_the_round=round(seconds, 1),
    )
    assert told_by_then == 5
    assert len(by_key) == len(set(quick.keys)) == 5
    assert set(by_key) == set(quick.keys)
