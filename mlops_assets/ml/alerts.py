"""Alerts: what a person is told, when two of them are the same, and how several become one message."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Literal

from pydantic import AwareDatetime

from mlops_assets.ml.spec import Value, digest_of

Kind = Literal[
    "failed_check",
    "failed_run",
    "stuck_run",
    "given_up",
    "drift",
    "performance_drop",
    "overdue_data",
    "overdue_labels",
    "unusual_volume",
    "silent_daemon",
    "approval_wanted",
]
State = Literal["waiting", "told", "given_up"]
GIVEN_UP: State = "given_up"

TITLES: Mapping[Kind, str] = {
    "failed_check": "a check failed",
    "failed_run": "a run failed",
    "stuck_run": "a run is stuck",
    "given_up": "a delivery was given up",
    "drift": "the data have drifted",
    "performance_drop": "the model has become worse",
    "overdue_data": "data are overdue",
    "overdue_labels": "labels are overdue",
    "unusual_volume": "an unusual number of rows",
    "silent_daemon": "the daemon is silent",
    "approval_wanted": "an approval is wanted",
}
URGENT: frozenset[Kind] = frozenset({"failed_run", "stuck_run", "given_up", "overdue_data", "silent_daemon"})
SEVERITIES = ("urgent", "notice")
SEVERAL = 5
SHOWN = 10
LONGEST = 600
WAITS = tuple(timedelta(seconds=seconds) for seconds in (15, 60, 300, 900, 3600))
PATIENCE = timedelta(days=3)


class Alert(Value):
    """One thing that a person has to look at. `about` names what happened: equal names are the same alert.

    `sentence` says what, with numbers and without a value of any row. `link` leads into the UI. The runbook is
    docs/runbooks/<kind>.md. `raised` is when it happened: the same time for the same event, however often it is seen.
    """

    kind: Kind
    model: str | None
    partition: str | None
    about: str
    sentence: str
    link: str | None
    raised: AwareDatetime

    @property
    def name(self) -> str:
        """What is equal for alerts that are the same, as part of a file's name."""
        return name_of(self.kind, self.model, self.about)

    @property
    def severity(self) -> str:
        """`urgent` where work stands still until somebody acts, `notice` otherwise."""
        return "urgent" if self.kind in URGENT else "notice"


def name_of(kind: Kind, model: str | None, about: str) -> str:
    """The name of every alert of this kind and model about the same thing."""
    return f"{kind}-{digest_of([kind, model, about])[:24]}"


class Known(Value):
    """An alert that is in a message: as it was raised last, since when, how often, and when it was over."""

    alert: Alert
    since: AwareDatetime
    times: int = 1
    resolved: AwareDatetime | None = None


def is_news(raised: datetime, last: datetime | None, resolved: datetime | None, repeat: timedelta) -> bool:
    """Whether an alert is told, given when the same was raised last and when that was over.

    It is told when it is the first, when it comes back after it was over, and again as long as it lasts, every
    `repeat`. What happened before the last time is being seen again, and no news, unless a clock was wrong.
    """
    if last is None:
        return True
    if resolved is not None and resolved >= last:
        return raised > resolved
    return abs(raised - last) >= repeat


class Message(Value):
    """What is sent once to each channel: alerts of one kind, of one model or of several. `id` proves it is the same."""

    id: str
    kind: Kind
    model: str | None
    alerts: tuple[Alert, ...]
    made: AwareDatetime

    @property
    def urgent(self) -> bool:
        """Whether work stands still until somebody acts."""
        return self.kind in URGENT


class Attempt(Value):
    """One try to tell one channel. Without an end, the process that tried died: whether it was told is not known."""

    begun: AwareDatetime
    ended: AwareDatetime | None = None
    taken: bool = False
    said: str = ""


class Delivery(Value):
    """A message's way to one channel."""

    channel: str
    state: State = "waiting"
    attempts: tuple[Attempt, ...] = ()

    def is_due(self, now: datetime) -> bool:
        """Whether to try (again) now: after waits that grow, or at once when the clock was set back."""
        if self.state != "waiting":
            return False
        if not self.attempts:
            return True
        last = self.attempts[-1]
        waited = now - (last.ended or last.begun)
        return waited < timedelta(0) or waited >= WAITS[min(len(self.attempts), len(WAITS)) - 1]

    @property
    def interrupted(self) -> bool:
        """Whether the process that tried last died, so that nobody knows whether it had told."""
        return bool(self.attempts) and self.attempts[-1].ended is None

    def begun(self, now: datetime) -> Delivery:
        """With one more attempt, of which nothing is known yet."""
        return self.model_copy(update={"attempts": (*self.attempts, Attempt(begun=now))})

    def ended(self, now: datetime, taken: bool, said: str) -> Delivery:
        """With the outcome of the last attempt. After PATIENCE a channel that takes nothing is given up."""
        *before, last = self.attempts
        first = before[0].begun if before else last.begun
        state: State = "told" if taken else "given_up" if now - first >= PATIENCE else "waiting"
        attempt = last.model_copy(update={"ended": now, "taken": taken, "said": said})
        return self.model_copy(update={"state": state, "attempts": (*before, attempt)})


class Telling(Value):
    """A message and its ways to the channels. Without a channel it is kept, and over."""

    message: Message
    deliveries: tuple[Delivery, ...] = ()

    @property
    def over(self) -> bool:
        """Whether nothing is left to try."""
        return all(delivery.state != "waiting" for delivery in self.deliveries)

    def to(self, channel: str) -> Delivery | None:
        """The way to a channel, None where it does not go there."""
        return next((each for each in self.deliveries if each.channel == channel), None)

    def without_those_gone(self, channels: Collection[str], now: datetime) -> Telling:
        """With channels given up that have not been among those configured for as long as PATIENCE lasts."""
        if now - self.message.made < PATIENCE:
            return self
        kept = tuple(
            each if each.state != "waiting" or each.channel in channels else each.model_copy(update={"state": GIVEN_UP})
            for each in self.deliveries
        )
        return self.model_copy(update={"deliveries": kept})

    def with_delivery(self, changed: Delivery) -> Telling:
        """With one delivery as it is now."""
        kept = tuple(changed if each.channel == changed.channel else each for each in self.deliveries)
        return self.model_copy(update={"deliveries": kept})


def grouped(alerts: Iterable[Alert], made: datetime) -> list[Message]:
    """Each alert in exactly one message: those of one kind and model together, or of one kind where models are many."""
    ordered = sorted(alerts, key=lambda alert: (alert.kind, alert.model or "", alert.raised, alert.name))
    messages = []
    for kind, alike in groupby(ordered, key=lambda alert: alert.kind):
        of_kind = list(alike)
        if len({alert.model for alert in of_kind}) > SEVERAL:
            messages.append(_message(kind, None, of_kind, made))
        else:
            for model, group in groupby(of_kind, key=lambda alert: alert.model):
                messages.append(_message(kind, model, list(group), made))
    return messages


def _message(kind: Kind, model: str | None, alerts: Sequence[Alert], made: datetime) -> Message:
    held = [[alert.name, alert.raised.isoformat()] for alert in alerts]
    identity = f"{made:%Y%m%dT%H%M%S}-{digest_of(held)[:16]}"
    return Message(id=identity, kind=kind, model=model, alerts=tuple(alerts), made=made)


def concerns(message: Message, only: Collection[str], owners: Mapping[str, str]) -> bool:
    """Whether a channel that takes `only` some severities, kinds, models and owners takes a message. No limits: all."""
    models = {alert.model for alert in message.alerts if alert.model is not None}
    labels = {message.kind, *(alert.severity for alert in message.alerts), *models}
    return not only or not labels.isdisjoint(only) or any(owners.get(model) in only for model in models)


def subject(message: Message) -> str:
    """The one line of a message."""
    models = {alert.model for alert in message.alerts}
    whose = message.model or (f"{len(models)} models" if len(models) > 1 else "mlops_assets")
    count = len(message.alerts)
    if count > 1:
        return f"{whose}: {TITLES[message.kind]}, {count} times"
    partition = message.alerts[0].partition
    return f"{whose}: {TITLES[message.kind]}" + (f" ({partition})" if partition else "")


def body(message: Message, runbooks: str, *, again: bool = False) -> str:
    """The text of a message. `again` says that a process died while it told this, and nobody knows whether it had."""
    parts = [_told(alert) for alert in message.alerts[:SHOWN]]
    if more := len(message.alerts) - SHOWN:
        parts += [f"... and {more} more: mlops-assets alerts lists them."] if more > 0 else []
    end = [f"What to do: {runbooks}/{message.kind}.md", f"Message {message.id}"]
    if again:
        end.append("This may have been told before: the process that told it died before it knew.")
    return "\n\n".join([*parts, "\n".join(end)])


def _told(alert: Alert) -> str:
    where = ", ".join(part for part in (alert.model, alert.partition and f"partition {alert.partition}") if part)
    facts = f"{where or 'the instance'}, {alert.raised:%Y-%m-%d %H:%M %Z}"
    return "\n".join([plain(alert.sentence), facts, *([alert.link] if alert.link else [])])


def plain(text: str) -> str:
    """A text as it may stand in any message: printable, without empty lines, and not too long."""
    lines = ("".join(mark if mark.isprintable() else "?" for mark in line.strip()) for line in text.splitlines())
    kept = "\n".join(line for line in lines if line)
    return kept if len(kept) <= LONGEST else kept[: LONGEST - 4] + " ..."
