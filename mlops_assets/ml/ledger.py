"""The ledger: what was done with a model's versions, by whom, why and on what evidence, in a chain that proves itself.

Each link carries the SHA-256 of the one before it, so that a change, a gap or a swap is found at the link where it is.
A chain alone cannot tell that its end was cut off, or that all of it was written anew: anchors can, which are kept
elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints, model_validator

from mlops_assets.ml.spec import Name, Value, canonical

Kind = Literal[
    "adopted",
    "released",
    "rolled_back",
    "confirmed",
    "lost",
    "restored",
    "asked",
    "approved",
    "refused",
    "waived",
    "reproduced",
]
CROWNING = frozenset({"adopted", "released", "rolled_back"})
MOVING = CROWNING | {"restored"}
GENESIS = "0" * 64
Said = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Moment = Annotated[AwareDatetime, AfterValidator(lambda when: when.astimezone(UTC))]


class Entry(Value):
    """One thing that was done with a version of a model.

    `adopted`, `released` and `rolled_back` make it champion, in the place of `previous`; `restored` puts the registry's
    alias back on the champion. `confirmed` says that the registry has followed the entry `answers`. A `lost` release
    came after another one. `evidence` names what was known, by its SHA-256.

    `asked`: it is to take the place of `previous`, and waits for people until `expires`; `trained_by` are those who are
    known to have started its training. What is `approved` or `refused` answers that entry. `via` is how the person is
    known: by a `key` of their own, by the `proxy` before the web server that started `run`, or as the user of the
    operating `system`, which proves little.

    `approved`, `refused` and `waived` are what a person said of the model `candidate`, by its SHA-256, until `expires`;
    a waiver is of one `gate`, and may come before there is a version. `reproduced`: the version was built anew from its
    manifest. `signature` is by the key with the fingerprint `key`.
    """

    kind: Kind
    model: Name
    version: int | None = Field(default=None, ge=1)
    who: Said
    why: Said
    when: Moment
    evidence: dict[str, str] = Field(default_factory=dict)
    previous: int | None = None
    answers: int | None = None
    candidate: str | None = None
    gate: str | None = None
    expires: Moment | None = None
    trained_by: tuple[str, ...] = ()
    via: Literal["key", "proxy", "system"] | None = None
    run: str | None = None
    key: str | None = None
    signature: str | None = None

    @model_validator(mode="after")
    def _is_of_a_version(self) -> Self:
        if self.version is None and (self.kind != "waived" or self.candidate is None):
            raise ValueError(f"an entry {self.kind!r} needs a version; a waiver may name a candidate instead.")
        return self

    def payload(self) -> str:
        """The entry as it is kept: canonical JSON, in ASCII."""
        return canonical(self.model_dump(mode="json"))


class Link(Value):
    """An entry in its place: its number from 1 on, its text, and the digest of both and of all that came before."""

    sequence: int
    model: str
    payload: str
    hash: str

    @classmethod
    def after(cls, last: Link | None, entry: Entry) -> Link:
        """The entry as the link that follows `last`. Time does not run backwards, whatever a machine's clock says."""
        if last is not None and entry.when < last.entry.when:
            entry = entry.model_copy(update={"when": last.entry.when})
        sequence, before = (last.sequence + 1, last.hash) if last else (1, GENESIS)
        payload = entry.payload()
        return cls(
            sequence=sequence,
            model=entry.model,
            payload=payload,
            hash=chained(before, sequence, entry.model, payload),
        )

    @cached_property
    def entry(self) -> Entry:
        """What the link says."""
        return Entry.model_validate_json(self.payload)


class Anchor(Value):
    """The head of the chain as it once was, kept where whoever changes the ledger does not reach."""

    sequence: int
    hash: str


class Reign(Value):
    """The time of a champion, from the entry that made it one; `confirmed` is when the registry had followed."""

    version: int
    previous: int | None
    since: datetime
    confirmed: datetime | None
    sequence: int
    hash: str
    kind: Kind
    who: str
    why: str
    evidence: dict[str, str]


def chained(before: str, sequence: int, model: str, payload: str) -> str:
    """The digest (hex) of a link that follows one with the digest `before`."""
    return hashlib.sha256("\n".join([before, str(sequence), model, payload]).encode("utf-8", "replace")).hexdigest()


def verify(links: Iterable[Link], anchors: Iterable[Anchor] = ()) -> str | None:
    """The first broken link, and how it is broken; None where the ledger is whole, and as long as every anchor says."""
    heads: dict[int, set[str]] = {}
    for anchor in anchors:
        heads.setdefault(anchor.sequence, set()).add(anchor.hash)
    expected, before = 1, GENESIS
    for link in links:
        if link.sequence != expected:
            return f"entry {expected} is missing: entry {link.sequence} stands in its place."
        if link.hash != chained(before, link.sequence, link.model, link.payload):
            return f"entry {link.sequence} is not what was written, or what stands before it was exchanged."
        if heads.get(link.sequence, {link.hash}) != {link.hash}:
            return f"entry {link.sequence} is another than was anchored: the ledger was cut off, or written anew."
        expected, before = expected + 1, link.hash
    if cut := [sequence for sequence in heads if sequence >= expected]:
        return f"entry {expected} is missing: the ledger ends before it, and entry {max(cut)} was anchored."
    return None


def reigns(links: Iterable[Link], model: str) -> tuple[Reign, ...]:
    """The champions of a model, one after the other."""
    entries = [(link, link.entry) for link in links if link.model == model]
    confirmed = {entry.answers: entry.when for _, entry in entries if entry.kind == "confirmed"}
    return tuple(
        Reign(
            version=entry.version,
            previous=entry.previous,
            since=entry.when,
            confirmed=confirmed.get(link.sequence),
            sequence=link.sequence,
            hash=link.hash,
            kind=entry.kind,
            who=entry.who,
            why=entry.why,
            evidence=entry.evidence,
        )
        for link, entry in entries
        if entry.kind in CROWNING and entry.version is not None
    )


def champion(links: Iterable[Link], model: str) -> Reign | None:
    """Who reigns now; None while nobody does."""
    found = reigns(links, model)
    return found[-1] if found else None


def deposed(history: Iterable[Reign], version: int) -> Reign | None:
    """The newest rollback from a version to an earlier one: what a person took away, no run of training gives back."""
    found = [reign for reign in history if reign.kind == "rolled_back" and reign.previous == version]
    return found[-1] if found else None


def unconfirmed(links: Iterable[Link], model: str) -> Link | None:
    """The newest entry that moves the alias, while the registry is not known to have followed it."""
    own = [link for link in links if link.model == model]
    moved = [link for link in own if link.entry.kind in MOVING]
    confirmed = {link.entry.answers for link in own if link.entry.kind == "confirmed"}
    return moved[-1] if moved and moved[-1].sequence not in confirmed else None


def misplaced(reign: Reign | None, holder: int | None, model: str) -> str | None:
    """How the registry's alias, on version `holder`, is not where the ledger says, and what to do; None where it is."""
    if holder == (reign.version if reign else None):
        return None
    if reign is None:
        return (
            f"v{holder} of {model} holds the registry's alias champion, and was never released: somebody set it by "
            f"hand. Take the alias away in MLflow, then materialize {model}/champion."
        )
    has = f"is on v{holder}" if holder else "is gone"
    if reign.confirmed is None:
        return (
            f"v{reign.version} of {model} is champion by entry {reign.sequence} of the ledger, and the registry's "
            f"alias {has}: it has not followed yet. The next look of the sensor watch_champions tries again."
        )
    return (
        f"The registry's alias champion of {model} {has}, and the champion is v{reign.version}, by {reign.who} since "
        f"{reign.since:%Y-%m-%d %H:%M:%S} UTC (entry {reign.sequence} of the ledger): somebody moved it by hand. "
        f"`mlops-assets restore {model} --reason ...` puts it back."
    )


def champion_at(links: Sequence[Link], model: str, time: datetime) -> Reign | None:
    """Who reigned at a moment: the first one does from its own moment on, None before."""
    until = [reign for reign in reigns(links, model) if reign.since <= time]
    return until[-1] if until else None
