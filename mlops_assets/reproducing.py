"""`mlops-assets reproduce`: a version is built anew from what is stored, and what comes out is held against it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from getpass import getuser
from typing import Literal

from mlops_assets import settings
from mlops_assets.lifecycle.approving import Desk
from mlops_assets.lifecycle.common import Clock, utc_now
from mlops_assets.lifecycle.dossier import Dossier
from mlops_assets.lifecycle.reproduction import Attempt, Builder, NoVersionError, Stores, in_clean_process, stamp
from mlops_assets.ml.reproduction import TOLERANCE, Reproduction
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.resources.blobs import CorruptBytesError
from mlops_assets.resources.cleanroom import NoEnvironmentError
from mlops_assets.resources.keys import KeyUnavailableError, keys_here
from mlops_assets.resources.ledger import BrokenLedgerError, Ledger, LedgerUnavailableError
from mlops_assets.resources.registry import RegistryConflictError
from mlops_assets.resources.tracking import TrackingUnavailableError

Environment = Literal["this", "fresh"]
REFUSALS = (
    BrokenLedgerError,
    CorruptBytesError,
    KeyUnavailableError,
    LedgerUnavailableError,
    NoEnvironmentError,
    NoVersionError,
    RegistryConflictError,
    TrackingUnavailableError,
    settings.SecretInUriError,
)


def reproduce(
    model: str,
    version: int,
    *,
    environment: Environment = "this",
    tolerance: float = TOLERANCE,
    say: Callable[[str], None] = lambda _: None,
    spec: ModelSpec | None = None,
    build: Builder = in_clean_process,
    clock: Clock = utc_now,
) -> Reproduction:
    """Build a version anew from its manifest, in a clean process, and say whether the same came out, or why not.

    A success is stamped; with `spec`, the declaration of today, its pages are written anew as well. `say` is told
    before it is tried what is not as it was. Raises one of REFUSALS where there is no such version.
    """
    stores, began = stores_here(), time.monotonic()
    found_version = stores.version(model, version)
    attempt = Attempt(stores, found_version, build, environment == "fresh", tolerance, say)
    found = attempt.outcome()
    found = found.model_copy(update={"seconds": time.monotonic() - began})
    if not found.is_equal:
        return found
    found = stamp(found, stores, attempt.manifest, getuser(), clock)
    if spec is not None:
        desk = Desk(spec, stores.ledger, stores.registry, stores.records, stores.blobs, keys_here(), clock)
        Dossier.at(desk).refresh(version)
    return found


def stores_here() -> Stores:
    """What the environment names."""
    ledger = Ledger(uri=settings.ledger(), anchors=settings.ledger_anchors())
    return Stores(settings.home(), settings.tracking_uri(), ledger)


def lines(found: Reproduction) -> Iterator[str]:
    """What was found as a person reads it, with rich's markup."""
    from rich.markup import escape

    colour = "green" if found.is_equal else "red"
    yield f"[bold {colour}]{found.verdict}[/bold {colour}]  {escape(f'{found.model} v{found.version}')}"
    for name, (then, now) in found.metrics.items():
        yield f"  {escape(name)}: {then:.9g} in its report, {'undefined' if now is None else f'{now:.9g}'} now"
    for cause in found.causes:
        yield f"  [red]✗ {cause.suspect}[/red]: {escape(cause.says)}"
    yield from (f"  [dim]· {escape(note)}[/dim]" for note in found.notes)
    yield f"[{colour}]{escape(found.sentence)}[/{colour}]"
    given = f"Entry {found.stamp} of the ledger says so." if found.stamp else "No stamp was given."
    yield f"[dim]{found.seconds:.1f} seconds. {given}[/dim]"
