"""`mlops-assets ledger`: what was done with a model's versions, as a person reads it in a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from mlops_assets.ml.ledger import CROWNING, Link

DIGEST = 12


def table(links: Iterable[Link]) -> Table:
    """The entries, oldest first; evidence and chain by the first letters of their digests."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("entry", "when (UTC)", "model", "what", "who and why", "evidence", "hash"):
        shown.add_column(name, justify="right" if name == "entry" else "left", overflow="fold")
    for link in links:
        entry = link.entry
        what = f"v{entry.version} {entry.kind.replace('_', ' ')}"
        told = [f"instead of v{entry.previous}"] * (entry.previous is not None)
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
