"""`mlops-assets ledger`, `restore` and `rollback`: what was done with a model's versions, and what a person does."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from getpass import getuser

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from mlops_assets import settings
from mlops_assets.lifecycle import releasing
from mlops_assets.ml.ledger import CROWNING, Link
from mlops_assets.resources.blobs import CorruptBytesError
from mlops_assets.resources.ledger import BrokenLedgerError, Ledger, LedgerUnavailableError
from mlops_assets.resources.registry import Registry, RegistryConflictError
from mlops_assets.resources.tracking import TrackingUnavailableError

DIGEST = 12
REFUSALS = (
    BrokenLedgerError,
    CorruptBytesError,
    LedgerUnavailableError,
    RegistryConflictError,
    TrackingUnavailableError,
    settings.SecretInUriError,
)


def table(links: Iterable[Link]) -> Table:
    """The entries, oldest first; evidence and chain by the first letters of their digests."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("entry", "when (UTC)", "model", "what", "who and why", "evidence", "hash"):
        shown.add_column(name, justify="right" if name == "entry" else "left", overflow="fold")
    for link in links:
        entry = link.entry
        what = f"v{entry.version} {entry.kind.replace('_', ' ')}"
        how = "instead of" if entry.kind in CROWNING else "judged against"
        told = [f"{how} v{entry.previous}"] * (entry.previous is not None)
        told += [f"as entry {entry.answers} says"] * (entry.answers is not None)
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
    reign = releasing.roll_back(model, to, getuser(), why, ledger_here(), _registry(), _now)
    return f"v{reign.version} of {model} is champion again, instead of v{reign.previous} (entry {reign.sequence})."


def ledger_here() -> Ledger:
    """The ledger that the environment names."""
    return Ledger(uri=settings.ledger(), anchors=settings.ledger_anchors())


def _registry() -> Registry:
    return Registry(root=settings.home(), tracking_uri=settings.tracking_uri())


def _now() -> datetime:
    return datetime.now(UTC)
