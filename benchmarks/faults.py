"""Run the fault tests and write the figures that they measured into docs/faults.md."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "faults.md"
TESTS = ROOT / "mlops_assets_tests" / "faults"
FULL_SIZE = {
    "MLOPS_ALERT_KILLS_EVERY": "1",
    "MLOPS_BACKFILL_DAYS": "365",
    "MLOPS_FLIPS": "1000",
    "MLOPS_FRESH_INSTANCES": "20",
    "MLOPS_KILLS": "40",
    "MLOPS_MUTATIONS": "500",
    "MLOPS_OUTAGE_SECONDS": "40",
    "MLOPS_PUBLICATIONS": "25",
    "MLOPS_RACES": "50",
}
ROW = re.compile(r"^\| (?P<number>\d+) \| (?P<fault>[^|]+) \| (?P<promise>[^|]+) \|.*$", re.MULTILINE)


def measured() -> dict[int, list[dict]]:
    """Every figure, by row, from one run of the fault tests. A failed test stops here."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures.jsonl"
        environment = {**os.environ, "MLOPS_FIGURES": str(path), **FULL_SIZE}
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "-m", "fault", str(TESTS)]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        figures: dict[int, list[dict]] = {}
        for line in sorted(path.read_text().splitlines()):
            figure = json.loads(line)
            figures.setdefault(figure.pop("row"), []).append(figure)
    return figures


def said(figure: dict) -> str:
    """A figure as words: what was measured, then how the unguarded way did where that is what it says."""
    words = {name: value for name, value in figure.items() if name not in {"test", "control"}}
    text = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in words.items())
    return f"unguarded: {text}" if figure.get("control") else text


def row(match: re.Match, figures: dict[int, list[dict]]) -> str:
    """One line of the table, with its test's file and what that measured."""
    number = int(match["number"])
    files = [f"`{path.name}`" for path in sorted(TESTS.glob(f"test_row_{number:02d}_*.py"))]
    cells = [match["number"], match["fault"], match["promise"], "<br>".join(files)]
    guarded_first = sorted(figures.get(number, []), key=lambda figure: bool(figure.get("control")))
    return "| " + " | ".join([*cells, "<br>".join(map(said, guarded_first))]) + " |"


if __name__ == "__main__":
    found = measured()
    DOCUMENT.write_text(ROW.sub(lambda match: row(match, found), DOCUMENT.read_text()))
