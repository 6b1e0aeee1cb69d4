"""Checkpoints under the storage root: the state of a training that goes on, until it has succeeded.

A model's are under `checkpoints/<model>/<digest of the manifest>/<digest of the rows>`: files named by their SHA-256,
and a pointer, written last, that names the newest two.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import dagster as dg

from mlops_assets.ml.checkpoints import CheckpointError, Identity, Snapshot, read, written
from mlops_assets.ml.spec import digest_of
from mlops_assets.resources.blobs import write_atomically
from mlops_assets.resources.places import filesystem
from mlops_assets.resources.signals import HeldBack, held_back

POINTER = "newest.json"
KEPT = 2
DIGITS = 16

Clock = Callable[[], float]


class Checkpoints(dg.ConfigurableResource):
    """The states of trainings under `root`; while one is fitted its state is kept every `seconds`."""

    root: str
    seconds: float = 60.0

    def keeper(self, model: str, manifest: str, clock: Clock = time.monotonic) -> StateKeeper:
        """Whoever keeps the states of what is fitted in one training."""
        return StateKeeper(self.root, model, manifest, self.seconds, clock)

    def forget(self, model: str) -> None:
        """Remove every state of a model's trainings: one has succeeded, and the others are of rows that were."""
        system, base = filesystem(self.root)
        with suppress(FileNotFoundError):
            system.delete_dir(f"{base}/checkpoints/{model}")


@dataclass
class StateKeeper:
    """Keeps the states of what is fitted in one training; `said` is what a person should know of it.

    A signal that ends the process waits for the step that is under way, and for the state to be kept.
    """

    root: str
    model: str
    manifest: str
    seconds: float
    clock: Clock = time.monotonic
    said: list[str] = field(default_factory=list)
    count: int = 0
    largest: int = 0
    spent: float = 0.0
    _identity: Identity = field(default_factory=dict)
    _kept: list[str] = field(default_factory=list)
    _last: float = 0.0
    _signals: HeldBack = field(default_factory=HeldBack)

    def newest(self, identity: Identity) -> Snapshot | None:
        """The newest sound state of this very fit. One that is not is passed over, and named in `said`."""
        self._identity = {"model": self.model, "manifest": self.manifest, **identity}
        self._last, self._kept = self.clock(), []
        found = self._pointed()
        for place, sha256 in enumerate(found):
            try:
                snapshot = read(self._content(sha256), self._identity)
            except (CheckpointError, OSError) as error:
                self._say(f"{self._path(sha256)} was not used: {error}.")
                continue
            self._kept = found[place:]
            self._say(f"It goes on from {self._path(sha256)}.")
            return snapshot
        if found:
            self._say("No checkpoint is sound, so it begins at the start.")
        return None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While inside, what would end the process waits for `offer`."""
        with held_back() as self._signals:
            yield

    def offer(self, take: Callable[[], Snapshot]) -> None:
        """Keep the state where the time has come, or the process is to end; then let it end."""
        ends = self._signals.came is not None
        if ends or self.clock() - self._last >= self.seconds:
            self.keep(take())
        if ends:
            self._say("The process was asked to end, and the state was kept first.")
            self._signals.pass_on()

    def keep(self, snapshot: Snapshot) -> None:
        """Keep a state: its bytes, then the pointer, then away with what is not pointed to. It fails no training."""
        began = self.clock()
        content = written(self._identity, snapshot)
        sha256 = hashlib.sha256(content).hexdigest()
        kept = [sha256, *(each for each in self._kept if each != sha256)]
        try:
            write_atomically(self.root, self._path(sha256), [content])
            pointed = {"sha256": digest_of(kept[:KEPT]), "newest": kept[:KEPT]}
            write_atomically(self.root, self._path(POINTER), [json.dumps(pointed).encode()])
            for each in kept[KEPT:]:
                self._delete(each)
        except OSError as error:
            self._say(f"A checkpoint could not be written, and the training went on without: {error}.")
        else:
            self._kept, self.count, self.largest = kept[:KEPT], self.count + 1, max(self.largest, len(content))
        self._last = self.clock()
        self.spent += self._last - began

    def _pointed(self) -> list[str]:
        """The digests of the newest states, newest first."""
        try:
            pointer = json.loads(self._read(POINTER))
            if digest_of(pointer["newest"]) != pointer["sha256"]:
                raise ValueError(f"its SHA-256 is not {pointer['sha256']}")
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._say(f"{self._path(POINTER)} was changed after it was written: {error}. It begins at the start.")
            return []
        return list(pointer["newest"])

    def _content(self, sha256: str) -> bytes:
        content = self._read(sha256)
        if (found := hashlib.sha256(content).hexdigest()) != sha256:
            raise CheckpointError(f"it holds other bytes than were stored: SHA-256 {found}, expected {sha256}")
        return content

    def _read(self, name: str) -> bytes:
        system, base = filesystem(self.root)
        with system.open_input_stream(f"{base}/{self._path(name)}") as stream:
            return stream.read()

    def _delete(self, sha256: str) -> None:
        system, base = filesystem(self.root)
        with suppress(FileNotFoundError):
            system.delete_file(f"{base}/{self._path(sha256)}")

    def _path(self, name: str) -> str:
        """Where a state, or the pointer to them, is kept below the storage root."""
        rows = self._identity["rows"]
        return f"checkpoints/{self.model}/{self.manifest[:DIGITS]}/{rows[:DIGITS]}/{name}"

    def _say(self, sentence: str) -> None:
        self.said.append(sentence)
        logging.getLogger(__name__).warning("%s: %s", self.model, sentence)
