"""Releasing: an entry in the ledger makes a version champion, MLflow's alias follows, and a second entry confirms it.

The first entry is what counts. It is written in a turn of the ledger, so that of two releases that were judged against
the same champion one wins. Whatever dies afterwards, `follow` is all that is left to do, by whoever comes next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlops_assets.lifecycle.common import Clock
from mlops_assets.lifecycle.proving import Prove
from mlops_assets.ml.evaluation import EvaluationReport
from mlops_assets.ml.ledger import Entry, Kind, Link, Reign, champion, misplaced, reigns, unconfirmed
from mlops_assets.ml.spec import ModelSpec, Value, digest_of
from mlops_assets.ml.training import Candidate
from mlops_assets.resources.blobs import Blobs
from mlops_assets.resources.ledger import Ledger
from mlops_assets.resources.registry import Registry, RegistryConflictError

DECIDES = {"evaluation", "gates", "registration", "release"}
OURSELVES = "mlops_assets"


Objection = Callable[[Sequence[Link]], str | None]
"""Why a version may not be released, by all about its model in the ledger; None where it may."""


class Release(Value):
    """A version that is to serve: instead of whom it was judged better, who says so, why, and on what evidence.

    `answers` is the entry in which people were asked, where they had to be.
    """

    model: str
    version: int
    judged_against: int | None
    who: str
    why: str
    evidence: dict[str, str]
    answers: int | None = None


class NotApprovedError(RegistryConflictError):
    """People have to let a version serve, and have not."""


class LostError(RegistryConflictError):
    """Another version became champion after this one was judged."""


def release(
    wish: Release, ledger: Ledger, registry: Registry, clock: Clock, objection: Objection = lambda _: None
) -> Reign:
    """Make a version champion. Done again it changes nothing.

    Raises LostError where the champion is not the one that it was judged against; both ways it is on record. Raises
    NotApprovedError on an objection, which is asked for while nobody else may append to the ledger.
    """
    with ledger.turn() as turn:
        links = turn.links(wish.model)
        reign = champion(links, wish.model)
        holder = reign.version if reign else None
        if holder == wish.version:
            lost = None
        elif holder == wish.judged_against:
            lost = None
            if reason := objection(links):
                raise NotApprovedError(reason)
            turn.append(_entry(wish, "released", wish.why, clock))
        else:
            judged, now = _named(wish.judged_against), _named(holder)
            lost = f"v{wish.version} of {wish.model} was judged against {judged}, and the champion is {now} now"
            turn.append(_entry(wish, "lost", f"{lost}.", clock))
    if lost:
        raise LostError(f"{lost}. Materialize evaluation_report, registered_version and champion again.")
    follow(wish.model, ledger, registry, clock)
    return _reigning(wish.model, ledger)


def follow(model: str, ledger: Ledger, registry: Registry, clock: Clock) -> bool:
    """Put the registry's alias where the ledger says, unless that was confirmed before. Whether there was anything."""
    if unconfirmed(ledger.links(model), model) is None:
        return False
    with ledger.turn() as turn:
        links = turn.links(model)
        moved, reign = unconfirmed(links, model), champion(links, model)
        if moved is None or reign is None:
            return False
        registry.crown(model, reign.version, reign.previous)
        turn.append(_confirmation(reign, model, moved.sequence, clock))
    return True


def roll_back(
    model: str, to: int | None, who: str, why: str, ledger: Ledger, registry: Registry, clock: Clock, prove: Prove
) -> Reign:
    """Go back to an earlier champion, by default to the one before this, once it is proved that it can serve.

    Raises RegistryConflictError where there is none, and where what is there cannot serve: then nothing has changed.
    """
    past = reigns(ledger.links(model), model)
    target = _way_back(model, to, past)
    prove(model, target, past)
    with ledger.turn() as turn:
        since = reigns(turn.links(model), model)
        if len(since) != len(past):
            raise RegistryConflictError(
                f"{model} got another champion while v{target} was looked at: {_named(since[-1].version)} by "
                f"{since[-1].who}. Nothing was changed. Look at `mlops-assets ledger {model}`, then say it again."
            )
        previous = past[-1].version
        turn.append(
            Entry(kind="rolled_back", model=model, version=target, who=who, why=why, when=clock(), previous=previous)
        )
    follow(model, ledger, registry, clock)
    return _reigning(model, ledger)


def _way_back(model: str, to: int | None, past: Sequence[Reign]) -> int:
    """The version to go back to. Raises RegistryConflictError where it never was champion, or is it now."""
    now = past[-1].version if past else None
    target = to if to is not None or not past else past[-1].previous
    if target is None or target == now or target not in {each.version for each in past}:
        known = ", ".join(dict.fromkeys(f"v{each.version}" for each in past)) or "none"
        raise RegistryConflictError(
            f"{model} cannot go back to {_named(target)}: its champion is {_named(now)}, and it can go back to "
            f"another version that has been champion. Those are: {known}."
        )
    return target


def restore(model: str, who: str, why: str, ledger: Ledger, registry: Registry, clock: Clock) -> str:
    """Put an alias back that somebody moved by hand, and say what was done."""
    with ledger.turn() as turn:
        reign, holder = champion(turn.links(model), model), registry.holder(model)
        wrong = misplaced(reign, holder, model)
        if reign is None:
            return wrong or f"{model} has no champion, and nothing to restore."
        if wrong and reign.confirmed:
            turn.append(
                Entry(
                    kind="restored",
                    model=model,
                    version=reign.version,
                    who=who,
                    why=f"{why} (the alias was {'on v' + str(holder) if holder else 'gone'})",
                    when=clock(),
                )
            )
    moved = follow(model, ledger, registry, clock)
    return f"The alias champion of {model} is on v{reign.version}{' again' if moved else ', where it should be'}."


def adopt(model: str, ledger: Ledger, registry: Registry, clock: Clock) -> Reign | None:
    """Who reigns; where the ledger knows nobody yet, the champion from before there was one, which is written down."""
    reign = champion(ledger.links(model), model)
    held = registry.champion(model) if reign is None else None
    if held is None or held.reign is None:
        return reign
    with ledger.turn() as turn:
        if champion(turn.links(model), model) is None:
            turn.append(_adoption(model, held.number, clock))
    return _reigning(model, ledger)


def evidence_of(spec: ModelSpec, candidate: Candidate, report: EvaluationReport, blobs: Blobs) -> dict[str, str]:
    """What the release rests on, by SHA-256. Candidate (with its manifest), report and policy are kept as blobs."""
    return {
        "model": candidate.model_sha256,
        "manifest": candidate.manifest.digest(),
        "data": digest_of(candidate.manifest.contents),
        "candidate": blobs.put_bytes(candidate.model_dump_json().encode()),
        "report": blobs.put_bytes(report.model_dump_json().encode()),
        "policy": blobs.put_bytes(spec.model_dump_json(include=DECIDES).encode()),
    }


def _reigning(model: str, ledger: Ledger) -> Reign:
    reign = champion(ledger.links(model), model)
    if reign is None:
        raise RegistryConflictError(f"{model} has no champion, though one was just written into the ledger.")
    return reign


def _entry(wish: Release, kind: Kind, why: str, clock: Clock) -> Entry:
    said = wish.model_dump(exclude={"judged_against", "why"})
    return Entry(kind=kind, why=why, when=clock(), previous=wish.judged_against, **said)


def _confirmation(reign: Reign, model: str, answers: int, clock: Clock) -> Entry:
    return Entry(
        kind="confirmed",
        model=model,
        version=reign.version,
        who=OURSELVES,
        why=f"The registry has followed entry {answers}.",
        when=clock(),
        answers=answers,
    )


def _adoption(model: str, version: int, clock: Clock) -> Entry:
    why = "It was champion in the registry before there was a ledger."
    return Entry(kind="adopted", model=model, version=version, who=OURSELVES, why=why, when=clock())


def _named(version: int | None) -> str:
    return "no champion" if version is None else f"v{version}"
