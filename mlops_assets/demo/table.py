"""What the demo prints: its console, and its last words on each delivery and where to look at it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from shutil import which

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mlops_assets import settings
from mlops_assets.demo.play import ESTIMATED, Line

COLUMNS = ("delivery", "rows", "bad", "drift", "measured", "decision", "candidate", "champion", "registered")
NUMBERS = {"rows", "bad", "measured"}
WIDTH = 120
LOOKED_AT = ("registered_version", "drift_report", "performance_report", "retraining_decision")


def open_console() -> Console:
    """A console on a copy of the standard output, which stays a terminal while a run's output goes to a file."""
    stream = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    return Console(file=stream, width=None if stream.isatty() else WIDTH)


def print_lines(console: Console, lines: Sequence[Line], home: Path, simulated: bool) -> None:
    """A table a model, then the commands and addresses."""
    for model in dict.fromkeys(line.model for line in lines):
        ours = [line for line in lines if line.model == model]
        console.print(_table(model, ours))
        for line in ours:
            for note in line.notes:
                console.print(
                    f"  {line.delivery}: {escape(note)}", style="red" if line.wrong else "dim", soft_wrap=True
                )
        console.print()
    if not lines:
        console.print(f"[red]Every delivery has been played on {home}; remove it to begin again.[/red]", soft_wrap=True)
    command = "make dev" if home == Path(".mlops").absolute() else f"MLOPS_HOME={os.path.relpath(home)} make dev"
    console.print(f"\nLook at it: [bold]{command}[/bold], then", soft_wrap=True)
    dagster = settings.DAGSTER_UI.value().rstrip("/")
    for model in dict.fromkeys(line.model for line in lines):
        for asset in LOOKED_AT:
            console.print(f"  {dagster}/assets/{model}/{asset}", soft_wrap=True)
    tool = "mlops-assets" if which("mlops-assets") else ".venv/bin/mlops-assets"
    console.print(f"See what a person would be told: [bold]{tool} alerts[/bold]", soft_wrap=True)
    if simulated:
        console.print(f"Let the sensor see a new file: [bold]{tool} deliver bike_demand[/bold]", soft_wrap=True)
    console.print(f"What the runs printed is in {home / 'demo.log'}.", style="dim", soft_wrap=True)


def _table(model: str, lines: Sequence[Line]) -> Table:
    metric = next((line.metric for line in lines if line.metric), "nothing measured")
    estimated = any(line.measured.startswith(ESTIMATED) for line in lines)
    table = Table(
        title=f"{model}, {metric}" + (f" ({ESTIMATED} estimated, before labels came)" if estimated else ""),
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in COLUMNS:
        table.add_column(column, justify="right" if column in NUMBERS else "left", no_wrap=True)
    for line in lines:
        counts = ("" if count is None else f"{count:,}" for count in (line.rows_in, line.quarantined))
        style = "red" if line.wrong else "yellow" if line.decision not in ("", "WAIT") else ""
        watched = (line.drift, line.measured, line.decision)
        table.add_row(line.delivery, *counts, *watched, line.candidate, line.champion, line.version, style=style)
    return table
