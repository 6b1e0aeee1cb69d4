"""`mlops-assets ledger`, `restore`, `rollback`, `vouch`, `waive`: what was done with versions, what a person does."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from getpass import getuser

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from mlops_assets import settings
from mlops_assets.lifecycle import releasing, waiving
from mlops_assets.lifecycle.approving import UNDECIDED, Desk
from mlops_assets.lifecycle.dossier import Dossier
from mlops_assets.lifecycle.proving import proves
from mlops_assets.ml.approvals import SignedAnswer, Verdict
from mlops_assets.ml.evaluation import EvaluationReport
from mlops_assets.ml.ledger import CROWNING, Entry, Link, reigns
from mlops_assets.ml.signed import signed_by
from mlops_assets.ml.signing import SigningKey
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.waivers import WaiverError
from mlops_assets.resources.blobs import Blobs
from mlops_assets.resources.keys import KeyUnavailableError, keys_here
from mlops_assets.resources.ledger import Ledger
from mlops_assets.resources.records import Records
from mlops_assets.resources.registry import Registry
from mlops_assets.resources.tracking import Tracking

DIGEST = 12
REFUSALS = (*UNDECIDED, WaiverError, settings.SecretInUriError)


def table(links: Iterable[Link]) -> Table:
    """The entries, oldest first; evidence and chain by the first letters of their digests."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("entry", "when (UTC)", "model", "what", "who and why", "evidence", "hash"):
        shown.add_column(name, justify="right" if name == "entry" else "left", overflow="fold")
    for link in links:
        entry = link.entry
        of = f"v{entry.version}" if entry.version else str(entry.candidate)[:DIGEST]
        what = f"{of} {entry.kind.replace('_', ' ')}"
        how = "instead of" if entry.kind in CROWNING else "judged against"
        told = [f"{how} v{entry.previous}"] * (entry.previous is not None)
        told += [f"gate {entry.gate}"] * (entry.gate is not None)
        told += [f"until {entry.expires:%Y-%m-%d %H:%M}"] if entry.expires else []
        told += [f"as entry {entry.answers} says"] * (entry.kind == "confirmed")
        told += [f"answers entry {entry.answers}"] * (entry.kind != "confirmed" and entry.answers is not None)
        told += [f"by {entry.via}{'' if entry.signature else ', not signed'}"] * (entry.via is not None)
        shown.add_row(
            str(link.sequence),
            f"{entry.when:%Y-%m-%d %H:%M:%S}",
            escape(entry.model),
            escape("\n".join([what, *told])),
            escape(f"{entry.who}: {entry.why}"),
            escape("\n".join(f"{name} {digest[:DIGEST]}" for name, digest in entry.evidence.items())),
            link.hash[:DIGEST],
            style="bold" if entry.kind in CROWNING else None,
        )
    return shown


def restore(model: str, why: str) -> str:
    """Put MLflow's alias back where the ledger says, in the name of whoever types it; what was done."""
    return releasing.restore(model, getuser(), why, ledger_here(), _registry(), _now)


def roll_back(model: str, to: int | None, why: str) -> str:
    """Go back to an earlier champion, in the name of whoever types it; what was done."""
    home, uri = settings.home(), settings.tracking_uri()
    prove = proves(_registry(), Tracking(root=home, tracking_uri=uri), Blobs(root=home))
    reign = releasing.roll_back(model, to, getuser(), why, ledger_here(), _registry(), _now, prove)
    return f"v{reign.version} of {model} is champion again, instead of v{reign.previous} (entry {reign.sequence})."


def waive(
    spec: ModelSpec, gate: str, why: str, until: str, candidate: str | None = None, version: int | None = None
) -> str:
    """Let one gate of one candidate go until a day, in the name of whoever types it; what was done."""
    report = Records(root=settings.home()).get(EvaluationReport, spec.name, "evaluation_report")
    if report is None:
        raise WaiverError(f"{spec.name} has no evaluation_report yet: there is no candidate of which a gate could go.")
    who, signer = _whoever_acts()
    wish = waiving.Wish(gate=gate, why=why, until=until, who=who, candidate=candidate, version=version)
    desk, signed = _desk(spec), partial(_signed, signer=signer)
    link = waiving.waive(wish, desk, report, signed)
    Dossier.at(desk).refresh_candidate(report.candidate)
    return (
        f"Gate {gate} of {spec.name}, candidate {report.candidate[:DIGEST]}, is waived until "
        f"{link.entry.expires:%Y-%m-%d %H:%M} UTC (entry {link.sequence}). Materialize registered_version and champion."
    )


def answer(spec: ModelSpec, version: int, kind: Verdict, why: str) -> str:
    """Write down what whoever has this key says of a version that waits; without a key, whoever types it."""
    who, signer = _whoever_acts()
    desk = _desk(spec)
    now = desk.answer(kind, version, who, why, partial(_signed, signer=signer))
    Dossier.at(desk).refresh(version)
    weak = "" if signer else f" It is not signed: that it was {who} is only what the operating system says."
    return f"{who} {kind} v{version} of {spec.name}.{weak} {now.sentence}"


def sign(spec: ModelSpec, version: int, kind: Verdict, why: str) -> str:
    """The same, written nowhere: one line that the field `signed` of the job in the UI takes."""
    who, signer = _whoever_acts()
    if signer is None:
        raise KeyUnavailableError(f"There is no key to sign with: set {settings.SIGNING_KEY.name}.")
    entry = _desk(spec).draft(kind, version, who, why, partial(_signed, signer=signer))
    return SignedAnswer.of(entry).model_dump_json()


def _whoever_acts() -> tuple[str, SigningKey | None]:
    """Who acts here, and their key: the person whose key it is, else the user of the operating system."""
    keys = keys_here()
    signer, trust = keys.signer(), keys.trust()
    owner = trust.owner(signer.fingerprint) if signer and trust else None
    return owner or getuser(), signer


def _signed(entry: Entry, signer: SigningKey | None) -> Entry:
    if signer is None:
        return entry.model_copy(update={"via": "system"})
    return signed_by(signer, entry.model_copy(update={"via": "key"}))


def _desk(spec: ModelSpec) -> Desk:
    home = settings.home()
    return Desk(spec, ledger_here(), _registry(), Records(root=home), Blobs(root=home), keys_here(), _now)


def vouch(model: str, number: int) -> str:
    """Sign a version that was registered before keys were, once it is proved that it can serve; what was done."""
    home, uri, keys = settings.home(), settings.tracking_uri(), keys_here()
    if (signer := keys.signer()) is None:
        raise KeyUnavailableError(f"{settings.SIGNING_KEY.name} names no key to sign with.")
    unsigned = Registry(root=home, tracking_uri=uri)
    prove = proves(unsigned, Tracking(root=home, tracking_uri=uri), Blobs(root=home))
    prove(model, number, reigns(ledger_here().links(model), model))
    unsigned.vouch(unsigned.version(model, number), signer)
    return f"v{number} of {model} is signed with the key {signer.fingerprint}."


def ledger_here() -> Ledger:
    """The ledger that the environment names."""
    return Ledger(uri=settings.ledger(), anchors=settings.ledger_anchors())


def _registry() -> Registry:
    return Registry(
        root=settings.home(),
        tracking_uri=settings.tracking_uri(),
        signing=settings.signing_key(),
        trusted=settings.trusted_keys(),
    )


def _now() -> datetime:
    return datetime.now(UTC)
