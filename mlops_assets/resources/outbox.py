"""The outbox: alerts on their way to the channels. It loses none, and tells each once, whatever dies when.

Records under `records/_alerts`: `new` (raised, in no message yet), `open` and `past` (in a message, still so or over),
`resolved` (when it was over), `outbox` and `told` (messages with their attempts). Whoever raises writes `new`, whoever
resolves writes `resolved`, and one process at a time, which delivers, writes the others. `also` (which partitions an
alert still is about, where they are several) is written by whoever raises and resolves it.

What delivery takes away is what it has read: a newer record of the same name stays. A damaged one is moved to
`damaged`, and said.

Each step can be repeated: a message is written whole before its alerts leave `new`, and an attempt before it begins and
after it ended. What was being sent when a process died is sent again with the same key, because only the receiver can
know whether it had arrived.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from pydantic import AwareDatetime

from mlops_assets.ml.alerts import Alert, Delivery, Kind, Known, Message, Telling, body, concerns, grouped, subject
from mlops_assets.ml.spec import Value
from mlops_assets.resources.blobs import CorruptBytesError
from mlops_assets.resources.channels import Channel, Note
from mlops_assets.resources.places import filesystem
from mlops_assets.resources.records import Records

MODEL = "_alerts"
BUDGET_SECONDS = 15.0
Clock = Callable[[], datetime]
Tell = Callable[[Channel, Note], tuple[bool, str]]
Record = TypeVar("Record", bound=Value)


class Over(Value):
    """When an alert was over."""

    at: AwareDatetime


class Also(Value):
    """The partitions that an alert is still about."""

    partitions: tuple[str | None, ...]


@dataclass
class Round:
    """What one round of delivery did: the messages made, those over and those waiting, and what it could not read."""

    made: list[Message] = field(default_factory=list)
    over: list[Telling] = field(default_factory=list)
    waiting: list[Telling] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    busy: bool = False


@dataclass(frozen=True)
class Shelves:
    """The records of the outbox, by shelf and name."""

    root: str

    @property
    def _records(self) -> Records:
        return Records(root=self.root)

    def names(self, shelf: str) -> list[str]:
        """What stands on a shelf, in ascending order. Nothing is read for it."""
        return self._records.partitions(MODEL, shelf)

    def get(self, kind: type[Record], shelf: str, name: str) -> Record | None:
        """A record, None where there is none or it is damaged: whoever delivers says so."""
        try:
            return self._records.get(kind, MODEL, shelf, name)
        except CorruptBytesError:
            return None

    def all(self, kind: type[Record], shelf: str) -> dict[str, Record]:
        """Every record of a shelf, by name, but for damaged ones."""
        found = {name: self.get(kind, shelf, name) for name in self.names(shelf)}
        return {name: record for name, record in found.items() if record is not None}

    def put(self, shelf: str, name: str, value: Value) -> None:
        """Make `value` the record of this name."""
        with FileLock(self._lock_path("change")):
            self._records.put(MODEL, shelf, value, name)

    def remove(self, shelf: str, name: str, read: Value) -> None:
        """Take away the record that was read. What has been put in its place since stays."""
        with FileLock(self._lock_path("change")):
            if self.get(type(read), shelf, name) == read:
                self._records.remove(MODEL, shelf, name)

    def set_aside(self, kind: type[Record], shelf: str, name: str) -> str | None:
        """What is wrong with a damaged record, which is moved to `damaged`; None where it is whole, or gone."""
        with FileLock(self._lock_path("change")):
            try:
                self._records.get(kind, MODEL, shelf, name)
            except CorruptBytesError as error:
                system, base = filesystem(self.root)
                folder = f"{base}/records/{MODEL}"
                system.create_dir(f"{folder}/damaged")
                system.move(f"{folder}/{shelf}/{name}.json", f"{folder}/damaged/{shelf}-{name}.json")
                return f"{error} It was set aside as damaged/{shelf}-{name}.json."
        return None

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether no other process of this machine is at it. The lock is gone with its process."""
        lock = FileLock(self._lock_path("deliver"))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _lock_path(self, what: str) -> Path:
        if "://" in self.root:
            name = hashlib.sha256(self.root.encode()).hexdigest()[:16]
            return Path(tempfile.gettempdir()) / f"mlops_assets-alerts-{name}.{what}.lock"
        folder = Path(self.root) / "records" / MODEL
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f".{what}.lock"


@dataclass
class Work:
    """One round of delivery, by whoever holds the lock: of alerts of some kinds, or of all."""

    shelves: Shelves
    channels: Sequence[Channel]
    runbooks: str
    tell: Tell
    clock: Clock
    kinds: Collection[Kind] | None = None
    done: Round = field(default_factory=Round)
    _tellings: dict[str, Telling] = field(default_factory=dict)
    _saving: threading.Lock = field(default_factory=threading.Lock)

    def do(self, owners: Mapping[str, str]) -> Round:
        """Go on with what is under way, put away what is over, make messages of what is new, try what is due."""
        under_way = self._whole(Telling, "outbox")
        self._tellings = {name: each for name, each in under_way.items() if self._is_ours(each.message.kind)}
        for telling in self._tellings.values():
            self._settle(telling.message)
        self._tidy()
        self._make(owners)
        self._try_what_is_due()
        self._put_away()
        return self.done

    def _is_ours(self, kind: Kind) -> bool:
        return self.kinds is None or kind in self.kinds

    def _whole(self, kind: type[Record], shelf: str) -> dict[str, Record]:
        """Every record of a shelf, by name. One that is damaged is set aside and keeps none of the others back."""
        found = self.shelves.all(kind, shelf)
        for name in self.shelves.names(shelf):
            if name not in found and (wrong := self.shelves.set_aside(kind, shelf, name)):
                self.done.unreadable.append(wrong)
        return found

    def _tidy(self) -> None:
        """Alerts that are over leave `open`. One that was over before it was told is told first."""
        opened = self._whole(Known, "open")
        for name, over in self._whole(Over, "resolved").items():
            known = opened.get(name)
            if known is not None and known.alert.raised <= over.at:
                self.shelves.put("past", name, known.model_copy(update={"resolved": over.at}))
                self.shelves.remove("open", name, known)
            new = self.shelves.get(Alert, "new", name)
            if new is None or new.raised > over.at:
                self.shelves.remove("resolved", name, over)

    def _make(self, owners: Mapping[str, str]) -> None:
        """Put what is new into messages, each written whole before anything else follows from it."""
        new = [alert for alert in self._whole(Alert, "new").values() if self._is_ours(alert.kind)]
        for message in grouped(new, self.clock()):
            to = [channel.name for channel in self.channels if concerns(message, channel.only, owners)]
            self._save(Telling(message=message, deliveries=tuple(Delivery(channel=name) for name in to)))
            self._settle(message)
            self.done.made.append(message)

    def _settle(self, message: Message) -> None:
        """What is in a message is known, and new no more."""
        for alert in message.alerts:
            new = self.shelves.get(Alert, "new", alert.name)
            if new is None or new.raised != alert.raised:
                continue
            before = self.shelves.get(Known, "open", alert.name)
            if before is None:
                self.shelves.put("open", alert.name, Known(alert=alert, since=alert.raised))
            elif before.alert.raised != alert.raised:
                again = {"alert": alert, "times": before.times + 1}
                self.shelves.put("open", alert.name, before.model_copy(update=again))
            self.shelves.remove("new", alert.name, new)

    def _try_what_is_due(self) -> None:
        """All channels at once, so that one that is slow keeps none of the others waiting."""
        if self.channels and not all(telling.over for telling in self._tellings.values()):
            until = time.monotonic() + BUDGET_SECONDS
            with ThreadPoolExecutor(len(self.channels)) as threads:
                for trying in [threads.submit(self._try_channel, channel, until) for channel in self.channels]:
                    trying.result()

    def _try_channel(self, channel: Channel, until: float) -> None:
        """Tell one channel what is due, oldest first, until it takes no more or time is up."""
        for name in sorted(self._tellings):
            delivery = self._tellings[name].to(channel.name)
            if delivery is None or not delivery.is_due(self.clock()):
                continue
            if time.monotonic() > until or not self._attempt(name, delivery, channel):
                return

    def _attempt(self, name: str, delivery: Delivery, channel: Channel) -> bool:
        message = self._tellings[name].message
        text = body(message, self.runbooks, again=delivery.interrupted)
        begun = delivery.begun(self.clock())
        self._update(name, begun)
        taken, said = self.tell(channel, Note(message.id, subject(message), text, message.urgent))
        self._update(name, begun.ended(self.clock(), taken, said))
        return taken

    def _put_away(self) -> None:
        """Messages with nothing left to try leave `outbox`."""
        there = {channel.name for channel in self.channels}
        for name, telling in self._tellings.items():
            left = telling.without_those_gone(there, self.clock())
            (self.done.over if left.over else self.done.waiting).append(left)
            if left.over:
                self.shelves.put("told", name, left)
                self.shelves.remove("outbox", name, telling)

    def _update(self, name: str, delivery: Delivery) -> None:
        with self._saving:
            self._save(self._tellings[name].with_delivery(delivery))

    def _save(self, telling: Telling) -> None:
        self.shelves.put("outbox", telling.message.id, telling)
        self._tellings[telling.message.id] = telling
