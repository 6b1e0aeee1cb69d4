"""`mlops-assets explain`: the chain behind one prediction, link by link, from what is stored and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

from mlops_assets import settings
from mlops_assets.ml.prediction_id import NoPredictionError, PredictionId
from mlops_assets.ml.proof import Explanation, Step
from mlops_assets.ml.proving import Proof
from mlops_assets.resources.kept import Stored, UnreadableError

DIGEST, SHOWN = 12, 3
REFUSALS = (NoPredictionError, UnreadableError, settings.SecretInUriError)


def explain(prediction: str, *, with_data: bool = True) -> Explanation:
    """The chain behind a prediction, named as `<model>:<partition>:<row>@v<version>`, up to its first broken link.

    Without data the raw bytes are named and not read. Raises NoPredictionError where there is no such prediction.
    """
    return Proof(PredictionId.parse(prediction), stored_here(), with_data).explanation()


def stored_here() -> Stored:
    """What is kept where the environment says."""
    return Stored(
        settings.home(),
        settings.ledger(),
        settings.ledger_anchors(),
        settings.tracking_uri(),
        settings.trusted_keys(),
    )


def lines(found: Explanation) -> Iterator[str]:
    """The chain as a person reads it, with rich's markup."""
    from rich.markup import escape

    yield f"[bold]{escape(found.prediction)}[/bold]"
    for name, value in found.answer.items():
        yield f"  {escape(name)} = {value:.6g}"
    for step in found.steps:
        mark = "[red]✗[/red]" if step.broken else "[green]✓[/green]"
        yield f"{mark} [bold]{step.link:<10}[/bold] {escape(step.says)}"
        yield from (f"             [dim]{escape(text)}[/dim]" for text in _files(step))
    colour = "red" if found.broken else "green"
    yield f"[{colour}]{escape(found.sentence)}[/{colour}]"


def _files(step: Step) -> Iterator[str]:
    for file, sha256 in list(step.files.items())[:SHOWN]:
        yield f"{sha256[:DIGEST]} {file}"
    if len(step.files) > SHOWN:
        yield f"and {len(step.files) - SHOWN} more: --json names all of them."
