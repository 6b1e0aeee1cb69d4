"""Waivers: what a person took upon themselves, of one gate of one candidate, until a day that is named.

A waiver stands in the ledger and nowhere else. It does not make a gate pass: what failed stays failed, and says who
lets it go all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta

from mlops_assets.ml.gates import GateResult
from mlops_assets.ml.ledger import Entry, Link
from mlops_assets.ml.signed import forged
from mlops_assets.ml.signing import Trust
from mlops_assets.ml.spec import Gate, ModelSpec, Value

GATE, REPORT = "gate", "report"


class WaiverError(ValueError):
    """A waiver that cannot be, with the reason."""


class Waiver(Value):
    """One gate of one candidate, let go by a person until a moment, by an entry of the ledger."""

    gate: str
    candidate: str
    version: int | None
    who: str
    why: str
    expires: datetime
    sequence: int
    declared: str

    def __str__(self) -> str:
        return f"waived until {self.expires:%Y-%m-%d %H:%M} UTC by {self.who} because {self.why.rstrip('.')}"

    def covers(self, gate: Gate, candidate: str, now: datetime) -> bool:
        """Whether it is of this gate as it is declared now, of this candidate, and has not expired."""
        return (self.gate, self.declared, self.candidate) == (
            gate.called,
            gate.digest(),
            candidate,
        ) and now < self.expires


def waivers(links: Iterable[Link], model: str, trust: Trust | None = None) -> tuple[Waiver, ...]:
    """Every waiver of a model, oldest first. Where it is known whose signatures count, only what is signed is one."""
    entries = [(link.sequence, link.entry) for link in links if link.model == model]
    return tuple(
        Waiver(
            gate=entry.gate,
            candidate=entry.candidate,
            version=entry.version,
            who=entry.who,
            why=entry.why,
            expires=entry.expires,
            sequence=sequence,
            declared=entry.evidence.get(GATE, ""),
        )
        for sequence, entry in entries
        if entry.kind == "waived" and entry.gate and entry.candidate and entry.expires
        if trust is None or forged(entry, trust) is None
    )


def in_force(
    links: Iterable[Link], spec: ModelSpec, candidate: str, now: datetime, trust: Trust | None = None
) -> dict[str, Waiver]:
    """The waivers that let gates of a candidate go now, by the gate's name. Of several the newest counts."""
    newest = {(waiver.gate, waiver.candidate): waiver for waiver in waivers(links, spec.name, trust)}
    found = {gate.called: (gate, newest.get((gate.called, candidate))) for gate in spec.gates}
    return {name: waiver for name, (gate, waiver) in found.items() if waiver and waiver.covers(gate, candidate, now)}


def unwaived(results: Iterable[GateResult], waived: Mapping[str, Waiver]) -> list[GateResult]:
    """The gates that failed and that nobody let go."""
    return [result for result in results if not result.passed and result.gate.called not in waived]


def until(text: str) -> datetime:
    """The moment from which a waiver is over: the end of a day (in UTC), or a moment that is given with its offset."""
    try:
        if len(text) <= len("2026-12-31"):
            return datetime.combine(date.fromisoformat(text) + timedelta(days=1), time(), UTC)
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise WaiverError(f"--until: {text!r} is no day. Give one such as 2026-12-31.") from error
    if moment.tzinfo is None:
        raise WaiverError(f"--until: {text!r} has no offset. Give a day, or a moment such as 2026-12-31T12:00+00:00.")
    return moment.astimezone(UTC)


def waived(
    result: GateResult,
    model: str,
    candidate: str,
    version: int | None,
    who: str,
    why: str,
    expires: datetime,
    now: datetime,
) -> Entry:
    """The entry that lets a failed gate go. Raises WaiverError where there is nothing to let go, or no reason to."""
    name = result.gate.called
    if result.passed:
        raise WaiverError(f"{candidate[:12]} of {model} clears {name}: there is nothing to waive. {result}.")
    if not why.strip():
        raise WaiverError(f"A waiver of {name} needs a reason, for the ledger.")
    if expires <= now:
        raise WaiverError(
            f"A waiver until {expires:%Y-%m-%d %H:%M} UTC has expired already: it is {now:%Y-%m-%d %H:%M} UTC."
        )
    return Entry(
        kind="waived",
        model=model,
        version=version,
        who=who,
        why=why,
        when=now,
        candidate=candidate,
        gate=name,
        expires=expires,
        evidence={GATE: result.gate.digest()},
    )
