"""Reproduction: one version is built anew from what is stored, held against what was registered, and stamped if equal.

Nothing is written but the stamp: an entry of the ledger, and a tag of the registry.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from mlops_assets.lifecycle.common import DELIVERIES, RAW, Clock
from mlops_assets.lifecycle.dossier import CARD
from mlops_assets.lifecycle.labels import RAW_LABELS
from mlops_assets.lifecycle.rebuilding import MODEL
from mlops_assets.ml.artifacts import UnsafeModelError
from mlops_assets.ml.card import Card
from mlops_assets.ml.code import BadArchiveError, archive, as_files, code_path, digest_of_archive, own_modules, roots
from mlops_assets.ml.ledger import Entry
from mlops_assets.ml.registration import identity
from mlops_assets.ml.reproduction import (
    DIGEST,
    SHOWN,
    TOLERANCE,
    Cause,
    NotRebuiltError,
    Order,
    Rebuilt,
    Reproduction,
    causes_of,
    environment_causes,
    environment_now,
    same_metrics,
    unpinned,
)
from mlops_assets.ml.sources import Delivery
from mlops_assets.ml.spec import ModelSpec, digest_of
from mlops_assets.ml.training import Candidate, Manifest, code_files, lock_digest
from mlops_assets.resources.blobs import Blobs, CorruptBytesError
from mlops_assets.resources.cleanroom import ENTRY, Room, Source
from mlops_assets.resources.ledger import Ledger
from mlops_assets.resources.places import filesystem
from mlops_assets.resources.records import OutdatedRecordError, Records
from mlops_assets.resources.registry import Registry, Version
from mlops_assets.resources.tracking import Tracking, TrackingUnavailableError

Builder = Callable[[Room, Order, Source, int | None, str | None], Rebuilt]
"""Does what an order says in a room, by a source, with so many threads, by an interpreter: this one where None."""


class NoVersionError(Exception):
    """There is nothing to reproduce."""


class CannotStartError(Exception):
    """Something that building needs is not as it was stored."""

    def __init__(self, *causes: Cause) -> None:
        super().__init__(" ".join(map(str, causes)))
        self.causes = causes


def in_clean_process(room: Room, order: Order, source: Source, threads: int | None, python: str | None) -> Rebuilt:
    """What came out of an order in a fresh process with a clean environment."""
    return room.build(order, source, threads, python)


@dataclass(frozen=True)
class Stores:
    """Where versions are kept, and all that they rest on."""

    home: str
    tracking_uri: str
    ledger: Ledger

    @property
    def blobs(self) -> Blobs:
        """Bytes by their digest."""
        return Blobs(root=self.home)

    @property
    def records(self) -> Records:
        """What assets hand to each other."""
        return Records(root=self.home)

    @property
    def registry(self) -> Registry:
        """The versions."""
        return Registry(root=self.home, tracking_uri=self.tracking_uri)

    @property
    def tracking(self) -> Tracking:
        """Their artifacts."""
        return Tracking(root=self.home, tracking_uri=self.tracking_uri)

    def version(self, model: str, number: int) -> Version:
        """One version. Raises NoVersionError, naming those that there are."""
        known = {version.number: version for version in self.registry.versions(model)}
        if number not in known:
            there = ", ".join(f"v{each}" for each in known)
            has = f"it has {there}" if known else "no version of it is registered"
            raise NoVersionError(f"There is no v{number} of {model}: {has}.")
        return known[number]


@dataclass
class Attempt:
    """One version, built anew once. `say` is told before it is tried what is not as it was."""

    stores: Stores
    version: Version
    build: Builder = in_clean_process
    fresh: bool = False
    tolerance: float = TOLERANCE
    say: Callable[[str], None] = lambda _: None
    notes: list[str] = field(default_factory=list)

    def outcome(self) -> Reproduction:
        """What was found. Raises NoEnvironmentError where a fresh environment is wanted and cannot be had."""
        try:
            with tempfile.TemporaryDirectory(prefix="mlops-reproduce-") as folder:
                return self._built(Room(Path(folder)))
        except CannotStartError as error:
            return self._finding(verdict="different", causes=error.causes)

    @cached_property
    def candidate(self) -> Candidate:
        """What was registered. Raises CannotStartError where it is not what the registry and the ledger say."""
        version = self.version
        try:
            found = self.stores.registry.candidate(version)
            for record in self._evidence("candidate"):
                said = Candidate.model_validate_json(self.stores.blobs.read(record))
                if identity(said) != version.candidate:
                    why = f"the ledger names another one, in {record}, than the registry, in {version.record}."
                    raise CannotStartError(Cause(suspect="manifest", says=why))
        except (CorruptBytesError, ValidationError) as error:
            raise CannotStartError(Cause(suspect="manifest", says=str(error))) from error
        return found

    @property
    def manifest(self) -> Manifest:
        """What the version was made from."""
        return self.candidate.manifest

    def _built(self, room: Room) -> Reproduction:
        order = Order(
            home=self.stores.home,
            room=str(room.path),
            manifest=self.manifest,
            model_sha256=self.candidate.model_sha256,
            deliveries=self._deliveries(RAW, self.manifest.deliveries),
            labels=self._deliveries(RAW_LABELS, {key: said for key, said in self.manifest.labels.items() if said}),
        )
        source, code = self._source()
        before = [*self._surroundings(environment_now(self.manifest.environment)), *code]
        for cause in before:
            self.say(cause.says)
        self._lay_model(room.path / MODEL)
        python = self._install(room) if self.fresh else None
        try:
            rebuilt = self.build(room, order, source, self.candidate.threads, python)
        except NotRebuiltError as error:
            return self._finding(
                verdict="different", causes=(*before, Cause(suspect="building", says=f"it could not be built: {error}"))
            )
        return self._judged(rebuilt, [*self._surroundings(rebuilt.environment), *code])

    def _judged(self, rebuilt: Rebuilt, surroundings: list[Cause]) -> Reproduction:
        expected = self.candidate.model_sha256
        beside, same = same_metrics(self._reported(), rebuilt.metrics, self.tolerance)
        about = {
            "found": rebuilt.model_sha256,
            "metrics": beside,
            "environment": rebuilt.environment,
            "code": rebuilt.code,
        }
        if rebuilt.model_sha256 == expected or same:
            self.notes += [f"{cause.says} It did not matter." for cause in surroundings]
            verdict = "equal digest" if rebuilt.model_sha256 == expected else "equal metrics"
            return self._finding(verdict=verdict, **about)
        if not beside:
            self.notes.append("No report of it is on record, so its metrics cannot be compared.")
        causes = causes_of(self.manifest, rebuilt, surroundings)
        return self._finding(verdict="different", causes=causes, **about)

    def _finding(self, **found: object) -> Reproduction:
        version = self.version
        expected = self.candidate.model_sha256 if "candidate" in vars(self) else version.candidate
        return Reproduction.model_validate(
            {
                "model": version.model,
                "version": version.number,
                "expected": expected,
                "tolerance": self.tolerance,
                "notes": tuple(self.notes),
                **found,
            }
        )

    def _deliveries(self, asset: str, versions: Mapping[str, str]) -> dict[str, Delivery]:
        """The deliveries that a manifest names, all their bytes being as they came."""
        found, causes = {}, []
        for partition, version in versions.items():
            delivery = self._delivery(asset, partition, version)
            where = f"{asset}[{partition}]"
            if delivery is None:
                causes.append(f"{where}: delivery {version[:DIGEST]} was replaced, and its files are not on record.")
                continue
            found[partition] = delivery
            faults = ((file.name, self.stores.blobs.fault(file.sha256)) for file in delivery.files)
            causes += [f"{where}, {name}: {fault}" for name, fault in faults if fault]
        if causes:
            raise CannotStartError(*(Cause(suspect="raw bytes", says=says) for says in causes[:SHOWN]))
        return found

    def _delivery(self, asset: str, partition: str, version: str) -> Delivery | None:
        """A delivery by its version; from before they were kept so, the newest one where it has that version."""
        records, model = self.stores.records, self.version.model
        try:
            kept = records.get(Delivery, model, DELIVERIES, version)
            newest = kept or records.get(Delivery, model, asset, partition)
        except CorruptBytesError as error:
            raise CannotStartError(Cause(suspect="raw bytes", says=str(error))) from error
        return newest if newest and newest.version == version else None

    def _source(self) -> tuple[Source, list[Cause]]:
        """The source that the version was trained with, where it is kept; else the running one, and how it differs."""
        said, (running, folders) = self.manifest.code, self._running()
        now = digest_of_archive(running) if running else None
        recorded, why = self._recorded()
        if recorded:
            if now != said:
                self.notes.append(f"The source that it was trained with was run, code {said[:DIGEST]}, not today's.")
            return Source(recorded, folders), []
        if running is None:
            says = f"the source that it was trained with, {said[:DIGEST]}, {why}; today's cannot take its place."
            raise CannotStartError(Cause(suspect="code", says=says))
        source = Source(running, folders)
        if now == said:
            self.notes.append(f"The archive of the source {why}; today's is the same.")
            return source, []
        says = f"the source that it was trained with, {said[:DIGEST]}, {why}; today's was run, {str(now)[:DIGEST]}."
        return source, [Cause(suspect="code", says=says)]

    def _recorded(self) -> tuple[bytes | None, str]:
        """The archive of the source that the manifest names, or why it cannot be run."""
        path = f"{self.stores.home}/{code_path(self.manifest.code)}"
        system, base = filesystem(path)
        try:
            with system.open_input_file(base) as stored:
                content = stored.read()
            if digest_of_archive(content) != self.manifest.code:
                return None, f"was changed ({path})"
        except FileNotFoundError:
            return None, f"is gone ({path})"
        except BadArchiveError:
            return None, f"was changed ({path})"
        if f"{ENTRY.replace('.', '/')}.py" not in as_files(content):
            return None, "is from before versions could be reproduced"
        return content, ""

    def _running(self) -> tuple[bytes | None, tuple[str, ...]]:
        """The source that runs here, and the folders of the model's own modules; None where those are no more."""
        try:
            spec = ModelSpec.model_validate(self.manifest.spec)
            return archive(code_files(spec)), tuple(roots(own_modules(spec)))
        except (ValueError, ImportError):
            return None, ()

    def _surroundings(self, now: Mapping[str, str]) -> list[Cause]:
        """How an environment differs from the one that the version was trained in."""
        return environment_causes(self.manifest.environment, now, {} if self.fresh else self._unlocked())

    def _unlocked(self) -> dict[str, str]:
        """The packages that are installed at another version than the recorded lock says."""
        if self.manifest.lock == lock_digest():
            return {}
        try:
            moved = unpinned(self.stores.blobs.read(self.manifest.lock).decode("utf-8", "replace"))
        except CorruptBytesError as error:
            self._note(f"Which packages it was trained with is known of the most important only: {error}")
            return {}
        if not moved:
            self._note(f"The lock is another than {self.manifest.lock[:DIGEST]}; no installed package is.")
        return moved

    def _install(self, room: Room) -> str:
        """An interpreter with the packages of the recorded lock."""
        try:
            lock = self.stores.blobs.read(self.manifest.lock)
        except CorruptBytesError as error:
            raise CannotStartError(Cause(suspect="lock", says=str(error))) from error
        return room.install(lock, self.manifest.environment["python"])

    def _lay_model(self, path: Path) -> None:
        """Put the stored model where its settings can be looked at."""
        try:
            content = self.stores.tracking.artifact(self.candidate)
        except (UnsafeModelError, TrackingUnavailableError) as error:
            self._note(f"The stored model cannot be looked at: {error}")
            return
        if (found := hashlib.sha256(content).hexdigest()) != self.candidate.model_sha256:
            self._note(f"The stored model is not the one that was registered: it has SHA-256 {found}.")
            return
        path.write_bytes(content)

    def _reported(self) -> dict[str, float]:
        """Every metric of the report on the version, as released or as registered; none where no report is left."""
        try:
            reports = [json.loads(self.stores.blobs.read(sha256)) for sha256 in self._evidence("report")]
            card = self.stores.records.get(Card, self.version.model, CARD, f"v{self.version.number}")
        except (OutdatedRecordError, CorruptBytesError) as error:
            self._note(f"Its report cannot be read: {error}")
            return {}
        reports += [card.report.model_dump(mode="json")] if card else []
        judged = [each for each in reports if each["candidate"] == self.candidate.model_sha256]
        return {name: each["value"] for name, each in judged[0]["metrics"].items()} if judged else {}

    def _evidence(self, name: str) -> Iterator[str]:
        """The digests that the ledger names as evidence of the version, each once."""
        entries = [link.entry for link in self.stores.ledger.links(self.version.model)]
        said = [entry.evidence.get(name) for entry in entries if entry.version == self.version.number]
        yield from dict.fromkeys(digest for digest in said if digest)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def stamp(found: Reproduction, stores: Stores, manifest: Manifest, who: str, clock: Clock) -> Reproduction:
    """Write down that a version was built anew: once for the same model, source and environment."""
    evidence = {
        "model": found.expected,
        "rebuilt": str(found.found),
        "manifest": manifest.digest(),
        "code": str(found.code),
        "environment": digest_of(found.environment),
    }
    by = f"Python {found.environment.get('python')} on {found.environment.get('machine')}"
    entry = Entry(
        kind="reproduced",
        model=found.model,
        version=found.version,
        who=who,
        why=f"{found.sentence} {by}.",
        when=clock(),
        evidence=evidence,
        candidate=found.expected,
        via="system",
    )
    with stores.ledger.turn() as turn:
        same = (link for link in turn.links(found.model) if _says(link.entry, entry))
        link = next(same, None) or turn.append(entry)
    when = f"{link.entry.when:%Y-%m-%d %H:%M} UTC"
    stores.registry.stamp(found.model, found.version, f"{found.verdict}, {when}, entry {link.sequence}")
    return found.model_copy(update={"stamp": link.sequence})


def _says(entry: Entry, other: Entry) -> bool:
    about = ("kind", "model", "version", "evidence")
    return all(getattr(entry, name) == getattr(other, name) for name in about)
