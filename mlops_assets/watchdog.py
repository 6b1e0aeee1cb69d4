"""`mlops-assets watch`: a small process that notices when the daemon or its sensors have gone silent.

Dagster says nothing when a code location is broken or unreachable, when looks stop, or when the clock steps back. This
process loads no definitions and trusts no clock: it reads the instance's storage, and counts the seconds in which
nothing there has changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from mlops_assets.ml.alerts import Alert, Kind
from mlops_assets.resources.alerts import Alerts
from mlops_assets.resources.channels import ChannelError
from mlops_assets.resources.postgresql import outages

if TYPE_CHECKING:
    import dagster as dg
    from dagster._core.scheduler.instigation import InstigatorState, SensorInstigatorData
    from dagster._utils.error import SerializableErrorInfo

LOOK_SECONDS = 5
LIMIT_SECONDS, DAEMON_LIMIT_SECONDS = 90, 60  # a daemon gives a sign every 30 s, and a look may take 60
STEP_SECONDS = 30
INTERVALS = 3
KINDS: tuple[Kind, ...] = ("silent_daemon",)
DAEMON, SENSORS, STORAGE, ONE = "the daemon", "its sensors", "the storage", "one"
SENTENCES = {
    STORAGE: "The instance's storage could not be read for {seconds}.",
    DAEMON: "Dagster's daemon has given no sign for {seconds}: nothing is looked at, and nothing is started.",
    SENSORS: "No look of any sensor has ended well for {seconds} although the daemon lives: what comes is not noticed.",
    ONE: "{name} is silent or fails for {seconds} while others go on.",
}


@dataclass(frozen=True)
class Sign:
    """Something that changes as long as all is well: its value, and for how many seconds it may stay the same."""

    value: float | None
    limit: float = LIMIT_SECONDS


@dataclass(frozen=True)
class Sight:
    """What one look at the instance's storage found: the signs of life, and the errors that stand there."""

    signs: Mapping[str, Sign]
    errors: Sequence[str] = ()


@dataclass
class Watch:
    """What has been seen so far. Two clocks are told with each look: `now` only goes on, `wall` is what people read."""

    link: str | None = None
    seen: dict[str, Sign] = field(default_factory=dict)
    since: dict[str, float] = field(default_factory=dict)
    began: datetime | None = None
    last: float | None = None
    ahead: float | None = None
    stepped: Alert | None = None

    def look(self, sight: Sight, now: float, wall: datetime) -> list[Alert]:
        """Every alert that is true now: equal ones for as long as the same silence lasts."""
        self.began = self.began or wall
        self._note(sight, now)
        self._note_clock(now, wall)
        silent = [name for name, sign in self.seen.items() if now - self.since[name] > sign.limit]
        whole = next((name for name in (STORAGE, DAEMON, SENSORS) if name in silent), None)
        found = [self._silence(name, sight, now, wall) for name in ([whole] if whole else silent)]
        return [self.stepped, *found] if self.stepped else found

    def _note(self, sight: Sight, now: float) -> None:
        """A process that was stopped has seen no change because it did not look: that is nobody's silence."""
        absent = now - self.last if self.last is not None else 0.0
        self.last = now
        for name in self.since if absent > LIMIT_SECONDS / 2 else ():
            self.since[name] += absent
        for name, sign in sight.signs.items():
            known = self.seen.get(name)
            if known is None or (sign.value is not None and sign.value != known.value):
                self.seen[name], self.since[name] = sign, now
        for name in self.seen.keys() - sight.signs.keys():
            del self.seen[name], self.since[name]

    def _note_clock(self, now: float, wall: datetime) -> None:
        """A clock that went back is an alert until it shows again what it showed before."""
        before, self.ahead = self.ahead, wall.timestamp() - now
        back = timedelta(seconds=round(before - self.ahead)) if before is not None else timedelta()
        if back.total_seconds() >= STEP_SECONDS:
            until = wall + back
            sentence = (
                f"The clock of this machine went back by {back}: sensors do not look again before it shows "
                f"{until:%Y-%m-%d %H:%M:%S} UTC. Set it right; nothing that is delivered is lost."
            )
            self.stepped = self._alert(f"the clock went back at {_iso(until)}", sentence, until)
        elif self.stepped and wall >= self.stepped.raised:
            self.stepped = None

    def _silence(self, name: str, sight: Sight, now: float, wall: datetime) -> Alert:
        seconds, value = now - self.since[name], self.seen[name].value
        known = name != STORAGE and value is not None
        raised = datetime.fromtimestamp(value, UTC) if known else self.began or wall
        sentence = SENTENCES.get(name, SENTENCES[ONE]).format(name=name, seconds=f"{seconds:.0f} s")
        ahead = timedelta(seconds=round((raised - wall).total_seconds()))
        if name == SENSORS and ahead.total_seconds() > STEP_SECONDS:
            sentence += f" Their newest look is dated {ahead} ahead of now: the clock went back."
        elif name != DAEMON and sight.errors:
            sentence += f" {sight.errors[0]}"
        return self._alert(f"{name} silent since {_iso(raised)}", sentence, raised)

    def _alert(self, about: str, sentence: str, raised: datetime) -> Alert:
        return Alert(
            kind="silent_daemon",
            model=None,
            partition=None,
            about=about,
            sentence=sentence,
            link=self.link,
            raised=raised,
        )


def sight(instance: dg.DagsterInstance, watch: Watch, now: float) -> Sight:
    """Look at the instance's storage once. Where it cannot be read, nothing but that is known to have changed."""
    from dagster._core.definitions.run_request import InstigatorType

    try:
        heartbeats = instance.get_daemon_heartbeats()
        states = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
        failures = _failures(instance, states)
    except outages() as error:
        return Sight({**watch.seen, STORAGE: Sign(None)}, [type(error).__name__])
    errors = [_cause(each) for beat in heartbeats.values() for each in beat.errors or ()]
    signs = {f"daemon {name}": Sign(beat.timestamp) for name, beat in heartbeats.items()}
    newest = Sign(max((beat.timestamp for beat in heartbeats.values()), default=None), DAEMON_LIMIT_SECONDS)
    return Sight({STORAGE: Sign(now), DAEMON: newest, **signs, **sensor_signs(states)}, failures + errors)


def sensor_signs(states: Iterable[InstigatorState]) -> dict[str, Sign]:
    """When each running sensor's newest look ended well; and that of all of them.

    Sensors that are declared no more keep their state for ever: those that do not look while others do are left out.
    """
    running = {state.instigator_name: data for state, data in _running(states)}
    limits = {name: max(LIMIT_SECONDS, INTERVALS * (data.min_interval or 0)) for name, data in running.items()}
    newest = max((data.last_tick_start_timestamp or 0.0 for data in running.values()), default=0.0)
    ended = [data.last_tick_success_timestamp for data in running.values() if data.last_tick_success_timestamp]
    looking = {
        f"sensor {name}": Sign(data.last_tick_success_timestamp, limits[name])
        for name, data in running.items()
        if newest - (data.last_tick_start_timestamp or 0.0) < limits[name]
    }
    return {SENSORS: Sign(max(ended, default=None)), **looking}


def _failures(instance: dg.DagsterInstance, states: Iterable[InstigatorState]) -> list[str]:
    """What the newest look of one failing sensor says."""
    for state, data in _running(states):
        if data.last_tick_timestamp and data.last_tick_success_timestamp is None:
            ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
            found = [f"{state.instigator_name}: {_cause(tick.error)}" for tick in ticks if tick.error]
            if found:
                return found
    return []


def _running(states: Iterable[InstigatorState]) -> Iterator[tuple[InstigatorState, SensorInstigatorData]]:
    from dagster._core.scheduler.instigation import SensorInstigatorData

    for state in states:
        if state.is_running and isinstance(state.instigator_data, SensorInstigatorData):
            yield state, state.instigator_data


def _cause(error: SerializableErrorInfo) -> str:
    """The name of the innermost error. What it says may hold rows or secrets: it is read in the UI."""
    while error.cause:
        error = error.cause
    return f"{error.cls_name or 'an unknown error'}."


def _iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


@dataclass(frozen=True)
class Time:
    """The clocks of this machine, and how to wait."""

    now: Callable[[], float] = time.monotonic
    wall: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], None] = time.sleep


def watch(
    instance: dg.DagsterInstance,
    alerts: Alerts,
    say: Callable[[str], None],
    time: Time = Time(),
    looks: int | None = None,
) -> None:
    """Look every few seconds, for ever or so many times. What falls silent is raised and told from here.

    The sensor that tells alerts is silent too when the daemon is.
    """
    watching, began, number = Watch(f"{alerts.ui}/deployment/daemons"), time.now(), 0
    held, inherited = False, True
    while looks is None or number < looks:
        now, wall = time.now(), time.wall()
        found = watching.look(sight(instance, watching, now), now, wall)
        sure = now - began > 2 * LIMIT_SECONDS  # before, what an earlier watch saw may still be so
        if found or held or (inherited and sure):
            for news in _hold(alerts, found, wall, say):
                say(news.sentence)
            held, inherited = bool(found), inherited and not sure
        number += 1
        time.sleep(LOOK_SECONDS)


def _hold(alerts: Alerts, found: Sequence[Alert], wall: datetime, say: Callable[[str], None]) -> list[Alert]:
    """What of it is news. That it cannot be kept or told for the moment is said, and no reason to stop looking."""
    news: list[Alert] = []
    try:
        news = alerts.hold(KINDS, found, wall)
        for wrong in alerts.deliver(lambda: wall, kinds=KINDS).unreadable:
            say(wrong)
    except (ChannelError, OSError) as error:
        say(f"{type(error).__name__}: {error}")
    return news
