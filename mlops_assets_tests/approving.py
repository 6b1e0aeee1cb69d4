"""An office where releases of the toy model wait for people: a real registry and ledger, and a key for each person."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mlops_assets.lifecycle.approving import Desk
from mlops_assets.lifecycle.releasing import Release, evidence_of, release
from mlops_assets.ml.approvals import Standing
from mlops_assets.ml.ledger import Entry
from mlops_assets.ml.signed import signed_by
from mlops_assets.ml.signing import SigningKey, read_signing_key
from mlops_assets.ml.spec import WEBSERVER, ModelSpec
from mlops_assets.ml.training import Candidate
from mlops_assets.resources.blobs import Blobs
from mlops_assets.resources.keys import Keys
from mlops_assets.resources.ledger import Ledger
from mlops_assets.resources.records import Records
from mlops_assets.resources.registry import Registry
from mlops_assets_tests import toy
from mlops_assets_tests.evidence import candidate, comparison, report
from mlops_assets_tests.homes import empty_database

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TRAINER = "pipeline"
PEOPLE = ("ana", "ben", "eve", TRAINER, WEBSERVER)
RULE = {"mode": "approval", "approvers": ["ana", "ben"], "approvals_needed": 1, "expires": "7d"}


def signing_key(person: str) -> SigningKey:
    """The key of a person; of nobody known, too."""
    return read_signing_key(private_key(person), person)


def private_key(person: str) -> bytes:
    """The same as the text of a file."""
    key = Ed25519PrivateKey.from_private_bytes(person.encode().ljust(32, b"."))
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_key(person: str) -> str:
    """The public key of a person as a line."""
    key = Ed25519PrivateKey.from_private_bytes(person.encode().ljust(32, b".")).public_key()
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def trusting(folder: Path, *people: str) -> Keys:
    """Keys whose trusted ones are those of these people."""
    folder.mkdir(parents=True, exist_ok=True)
    for person in people:
        (folder / f"{person}.pub").write_text(public_key(person))
    return Keys(trusted=str(folder))


@dataclass
class Office:
    """Version 1 of the toy model serves, and version 2 is better. The clock stands still unless it is set."""

    home: Path
    keys: Keys
    rule: dict[str, Any] = field(default_factory=lambda: dict(RULE))
    now: datetime = NOON

    @classmethod
    def open(cls, home: Path, *people: str, **rule: Any) -> Office:
        """An office on a fresh home, where the keys of some people are trusted; of none: nothing needs to be signed."""
        shutil.copytree(_prepared(), home, dirs_exist_ok=True)
        return cls(home, trusting(home / "people", *people) if people else Keys(), {**RULE, **rule})

    @cached_property
    def registry(self) -> Registry:
        """Real MLflow."""
        return Registry(root=str(self.home), tracking_uri=f"sqlite:///{self.home}/mlflow.db")

    @cached_property
    def ledger(self) -> Ledger:
        """A real ledger."""
        return Ledger(uri=f"sqlite:///{self.home}/ledger.db", anchors=f"{self.home}/ledger")

    @property
    def spec(self) -> ModelSpec:
        """The toy's declaration with the rule of the office."""
        return toy.spec(self.home / "landing", release=self.rule)

    def clock(self) -> datetime:
        """The time of the office."""
        return self.now

    def wait(self, **time: float) -> None:
        """Let time pass."""
        self.now += timedelta(**time)

    @property
    def records(self) -> Records:
        """The records of this home."""
        return Records(root=str(self.home))

    @property
    def blobs(self) -> Blobs:
        """The blobs of this home."""
        return Blobs(root=str(self.home))

    def desk(self, **changes: Any) -> Desk:
        """The desk of the toy model, with any part replaced."""
        parts = {name: getattr(self, name) for name in ("spec", "ledger", "registry", "records", "blobs", "keys")}
        return Desk(**{**parts, "clock": self.clock, **changes})

    def ask(self, version: int = 2, trained_by: tuple[str, ...] = (), judged_against: int | None = 1) -> Standing:
        """Ask whether a version may take the place of version 1."""
        of, blobs = made(version), Blobs(root=str(self.home))
        judged = report(of, champion=comparison(1.0), champion_absent=None)
        self.records.put("toy", "evaluation_report", judged)
        wish = Release(
            model="toy",
            version=version,
            judged_against=judged_against,
            who="run 2",
            why="It is better.",
            evidence=evidence_of(self.spec, of, judged, blobs),
        )
        return self.desk().ask(wish, of, trained_by)

    def says(
        self,
        person: str,
        kind: str = "approved",
        version: int = 2,
        key: str | None = None,
        why: str = "I read the page.",
        **changes: Any,
    ) -> Standing:
        """Write down what a person says, signed with their key or another's where keys are trusted."""
        return self.desk(**changes).answer(kind, version, person, why, lambda entry: self.signed(entry, key or person))

    def signed(self, entry: Entry, person: str) -> Entry:
        """An answer as the command makes it."""
        if not self.keys.trusted:
            return entry.model_copy(update={"via": "system"})
        return signed_by(signing_key(person), entry.model_copy(update={"via": "key"}))

    def kinds(self) -> list[tuple[str, int | None]]:
        """What the ledger holds, from the question on."""
        return [(link.entry.kind, link.entry.version) for link in self.ledger.links("toy")][2:]


@cache
def _folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory()


@cache
def _prepared() -> Path:
    """A home where version 1 serves, to copy."""
    office = Office(Path(_folder().name), Keys())
    (office.home / "mlflow.db").write_bytes(empty_database())
    for number in (1, 2, 3):
        office.registry.vouch(office.registry.register(made(number)), signing_key(TRAINER))
    first = {"who": "run 1", "why": "It is the first.", "evidence": {}, "judged_against": None}
    release(Release(model="toy", version=1, **first), office.ledger, office.registry, office.clock)
    return office.home


def made(version: int) -> Candidate:
    """What a version holds."""
    return candidate(sha256=f"{version:064d}", run=f"run-{version}")
