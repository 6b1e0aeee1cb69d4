"""One prediction among a million explained: the whole command, and the work inside the process.

Usage: python -m benchmarks.explain [--rows 1000000] [--history 100000] [--times 10]
The toy model learns from two months and is judged on a third, of `history` rows each; `rows` of a fourth month are
predicted. Rows are drawn with a seed. `work` is what `explain` takes once all is imported, `command` the process from
its start to its end; what they read and hash is the same.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlops_assets_tests import toy
from mlops_assets_tests.homes import instance_at
from mlops_assets_tests.toy import Workshop

TRAINED = ("trained_model", "evaluation_report", "registered_version", "champion")
PREPARED = ("raw_data", "quarantined_rows", "validated_features")
MONTHS, PREDICTED = toy.MONTHS[:3], toy.MONTHS[3]
WORK = """
import sys, time
from mlops_assets.explaining import explain

def work():
    found = explain(sys.argv[1], with_data=sys.argv[2] == "yes")
    assert found.broken is None, found.sentence

work()
begun, spent = time.perf_counter(), time.process_time()
work()
print(time.perf_counter() - begun, time.process_time() - spent)
"""


def live(home: Path, instance: Any, rows: int, history: int) -> None:
    """A version that learned from a history, and predicted a month of many rows."""
    shop = Workshop(home, instance, {"gates": []})
    for month in MONTHS:
        toy.deliver(shop.landing, month, toy.rows(month, history))
    toy.deliver(shop.landing, PREDICTED, toy.rows(PREDICTED, rows))
    assert shop.run(MONTHS, (*PREPARED, *TRAINED)).success
    assert shop.run([PREDICTED], (*PREPARED, "predictions")).success


def command(environment: dict[str, str], *words: str) -> tuple[float, float]:
    """Wall and CPU seconds of one process that succeeds."""
    before, begun = os.times(), time.perf_counter()
    subprocess.run([sys.executable, *words], env=environment, check=True, capture_output=True)
    took, after = time.perf_counter() - begun, os.times()
    return took, after.children_user + after.children_system - before.children_user - before.children_system


def measured(home: Path, rows: int, times: int) -> Iterator[dict[str, Any]]:
    """The seconds of commands and of work inside, with and without the raw bytes: the middle of several, the most."""
    environment = os.environ | {"MLOPS_HOME": str(home)}
    places = random.Random(7).sample(range(1, rows + 1), times)
    for data in ("yes", "no"):
        commands, works = [], []
        for place in places:
            name = f"toy:{PREDICTED}-01:{place}@v1"
            extra = [] if data == "yes" else ["--without-data"]
            commands.append(command(environment, "-m", "mlops_assets.cli", "explain", name, *extra))
            inside = subprocess.run(
                [sys.executable, "-c", WORK, name, data], env=environment, check=True, capture_output=True, text=True
            )
            works.append(tuple(map(float, inside.stdout.split())))
        for what, found in (("command", commands), ("work", works)):
            for kind, values in zip(("wall_s", "cpu_s"), zip(*found, strict=True), strict=True):
                middle, most = statistics.median(values), max(values)
                yield {"what": what, "raw_bytes": data, kind: round(middle, 3), "most": round(most, 3)}


def sizes(home: Path) -> dict[str, float]:
    """Megabytes of what is read."""
    folders = {"raw": "raw", "predictions": "tables/toy/predictions", "rows": "tables/toy/validated_features"}
    files = {name: [each for each in (home / path).rglob("*") if each.is_file()] for name, path in folders.items()}
    return {f"{name}_mb": round(sum(each.stat().st_size for each in found) / 1e6, 1) for name, found in files.items()}


def main() -> None:
    """Print one line of JSON for each figure."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--history", type=int, default=100_000)
    arguments.add_argument("--times", type=int, default=10)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder, instance_at(Path(folder)) as instance:
        home = Path(folder) / "home"
        live(home, instance, options.rows, options.history)
        print(json.dumps({"rows": options.rows, "history": options.history, **sizes(home)}), flush=True)
        for line in measured(home, options.rows, options.times):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
