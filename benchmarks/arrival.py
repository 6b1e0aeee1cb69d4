"""From a dropped file to the registered version, through a real `mlops-assets dev`, in parts.

Usage: python -m benchmarks.arrival [--drops 8]
The first files make the first version in their own run. Each later file makes a run, and a second one that trains where
the decision says RETRAIN. Waiting ends when the run is asked for, starting when its process begins to work.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from mlops_assets_tests.end_to_end.server import DevServer, dev_server

HISTORY, MODEL = 5, "bike_demand"


def deliver(home: Path, count: int) -> float:
    """Drop the next simulated files; when that was."""
    subprocess.run(
        [sys.executable, "-m", "mlops_assets.cli", "deliver", MODEL, "--count", str(count)],
        env=os.environ | {"MLOPS_HOME": str(home)}, check=True, capture_output=True,
    )  # fmt: skip
    return time.time()


def parts(run: dict[str, Any], since: float) -> dict[str, float]:
    """Seconds that one run waited to be asked for, started, and worked."""
    moments = (since, run["creationTime"], run["startTime"], run["endTime"])
    names = ("waiting_s", "starting_s", "working_s")
    return {name: end - start for name, (start, end) in zip(names, pairwise(moments), strict=True)}


def registers(run: dict[str, Any]) -> bool:
    """Whether a run was to register a version."""
    return "registered_version" in {each["path"][-1] for each in run["assetSelection"] or ()}


def drop(server: DevServer, count: int) -> list[dict[str, Any]]:
    """Deliver, wait until nothing more follows, and print what each run took; oldest first."""
    before = {run["runId"] for run in server.runs()}
    since = deliver(server.home, count)
    server.wait_for_runs(len(before) + 1)
    server.wait_for_ticks("retrain_on_decision", 2)
    runs = [run for run in reversed(server.wait_for_runs(len(before) + 1)) if run["runId"] not in before]
    told, start = [], since
    for run in runs:
        told.append({"registers": registers(run), "status": run["status"], **parts(run, start)})
        start = run["endTime"]
    whole = [{**each, "from_file_s": run["endTime"] - since} for each, run in zip(told, runs, strict=True)]
    for each in whole:
        print(json.dumps({name: round(v, 1) if isinstance(v, float) else v for name, v in each.items()}), flush=True)
    return whole


def main() -> None:
    """Print one line a run of each drop."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--drops", type=int, default=8)
    options = arguments.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        dev_server(Path(folder) / "home", Path(folder) / "dev.log") as server,
    ):
        server.wait_for_ticks(f"{MODEL}_new_data", 1)
        drop(server, HISTORY)
        for _ in range(options.drops):
            drop(server, 1)


if __name__ == "__main__":
    main()
