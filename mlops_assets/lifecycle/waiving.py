"""Waivers as the stages meet them: which are in force, by the ledger and by nothing else; and writing one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mlops_assets.lifecycle.common import Clock
from mlops_assets.ml.evaluation import EvaluationReport
from mlops_assets.ml.ledger import Entry, Link
from mlops_assets.ml.signed import forged
from mlops_assets.ml.spec import ModelSpec, Value
from mlops_assets.ml.waivers import Waiver, WaiverError, in_force, until, unwaived, waived
from mlops_assets.resources.keys import Keys
from mlops_assets.resources.ledger import BrokenLedgerError, Ledger
from mlops_assets.resources.registry import Registry

if TYPE_CHECKING:
    from mlops_assets.lifecycle.approving import Desk

Signed = Callable[[Entry], Entry]


class Wish(Value):
    """A waiver that a person asks for: of which gate, of which candidate (the newest judged where null), and why."""

    gate: str
    why: str
    until: str
    who: str
    candidate: str | None = None
    version: int | None = None


def waivers_in_force(
    spec: ModelSpec, candidate: str, report: EvaluationReport, ledger: Ledger, keys: Keys, clock: Clock
) -> dict[str, Waiver]:
    """The waivers that let failed gates of a candidate go now, by the gate's name.

    The ledger is read only where a gate failed. Raises BrokenLedgerError where it is not as it was written, and
    KeyUnavailableError where it cannot be known whose signatures count.
    """
    if not unwaived(report.held(spec), {}):
        return {}
    links = ledger.links(spec.name)
    found = in_force(links, spec, candidate, clock(), keys.trust())
    if found and (broken := ledger.verify()):
        raise BrokenLedgerError(f"The ledger cannot be trusted, and no waiver in it: {broken}")
    return found


def waive(wish: Wish, desk: Desk, report: EvaluationReport, signed: Signed) -> Link:
    """Write a waiver into the ledger, as whoever gives it signs it.

    Raises WaiverError where there is no such gate or candidate, where it passes, and where the waiver would not count.
    """
    spec, now = desk.spec, desk.clock()
    gates = [gate.called for gate in spec.gates]
    if wish.gate not in gates:
        raise WaiverError(f"{spec.name} has no gate {wish.gate!r}. There are: {', '.join(gates) or 'none'}.")
    version = _named(wish, spec, report, desk.registry)
    [result] = [result for result in report.held(spec) if result.gate.called == wish.gate]
    entry = signed(waived(result, spec.name, report.candidate, version, wish.who, wish.why, until(wish.until), now))
    trust = desk.keys.trust()
    if trust and (reason := forged(entry, trust)):
        raise WaiverError(f"{wish.gate} of {spec.name} is not waived: {reason}")
    return desk.ledger.append(entry)


def _named(wish: Wish, spec: ModelSpec, report: EvaluationReport, registry: Registry) -> int | None:
    """The version that holds the candidate, where one is named. Raises WaiverError where it is not the judged one."""
    if wish.candidate is not None and wish.version is not None:
        raise WaiverError("Name a candidate or a version, not both.")
    if wish.candidate is not None and not (len(wish.candidate) >= 7 and report.candidate.startswith(wish.candidate)):
        raise WaiverError(_unjudged(f"Candidate {wish.candidate!r}", spec, report))
    if wish.version is None:
        return None
    known = {version.number: version for version in registry.versions(spec.name)}
    if wish.version not in known:
        there = ", ".join(f"v{number}" for number in known) or "none"
        raise WaiverError(f"{spec.name} has no v{wish.version}. There are: {there}.")
    holds = registry.candidate(known[wish.version]).model_sha256
    if holds != report.candidate:
        raise WaiverError(_unjudged(f"v{wish.version} ({holds[:12]})", spec, report))
    return wish.version


def _unjudged(what: str, spec: ModelSpec, report: EvaluationReport) -> str:
    return (
        f"{what} is not the candidate that the newest report of {spec.name} judged ({report.candidate[:12]}): which "
        "gates it fails is not known. Materialize evaluation_report of it first."
    )
