"""The demo's last words: what became of each delivery, and where to look at it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from shutil import which

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mlops_assets.demo import Line

COLUMNS = ("delivery", "rows in", "out", "bad", "drift", "candidate", "champion", "registered")
NUMBERS = {"rows in", "out", "bad"}
UI = "http://127.0.0.1:3000"


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
    for model in dict.fromkeys(line.model for line in lines):
        console.print(f"  {UI}/assets/{model}/registered_version", soft_wrap=True)
        console.print(f"  {UI}/assets/{model}/drift_report", soft_wrap=True)
    if simulated:
        ours = "mlops-assets" if which("mlops-assets") else ".venv/bin/mlops-assets"
        console.print(f"Let the sensor see a new file: [bold]{ours} deliver bike_demand[/bold]", soft_wrap=True)
    console.print(f"What the runs printed is in {home / 'demo.log'}.", style="dim", soft_wrap=True)


def _table(model: str, lines: Sequence[Line]) -> Table:
    table = Table(title=model, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, justify="right" if column in NUMBERS else "left", no_wrap=True)
    for line in lines:
        counts = ("" if count is None else f"{count:,}" for count in (line.rows_in, line.rows_out, line.quarantined))
        style = "red" if line.wrong else "yellow" if line.drift.startswith("drifted") else ""
        table.add_row(line.delivery, *counts, line.drift, line.candidate, line.champion, line.version, style=style)
    return table
