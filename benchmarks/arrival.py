"""From a dropped file to the finished run under `mlops-assets dev`, in parts. Run: python -m benchmarks.arrival."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mlops_assets_tests.end_to_end.server import dev_server

HISTORY, DROPS = 5, 3


def deliver(home: Path, count: int) -> None:
    """Drop the next simulated files of `bike_demand`."""
    subprocess.run(
        [sys.executable, "-m", "mlops_assets.cli", "deliver", "bike_demand", "--count", str(count)],
        env=os.environ | {"MLOPS_HOME": str(home)}, check=True, capture_output=True,
    )  # fmt: skip


def main() -> None:
    """Print one line a drop, and the medians: waiting (for the sensor), starting (the run's process), working."""
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        deliver(home, HISTORY)
        with dev_server(home, Path(folder) / "dev.log") as server:
            server.wait_for_runs(1)
            for drop in range(DROPS):
                deliver(home, 1)
                dropped = time.time()
                run = server.wait_for_runs(2 + drop)[0]
                waiting, starting = run["creationTime"] - dropped, run["startTime"] - run["creationTime"]
                working = run["endTime"] - run["startTime"]
                parts.append({"waiting_s": waiting, "starting_s": starting, "working_s": working})
                print(json.dumps({"status": run["status"], **{name: round(s, 1) for name, s in parts[-1].items()}}))
    print(json.dumps({name: round(statistics.median(part[name] for part in parts), 1) for name in parts[0]}))


if __name__ == "__main__":
    main()
