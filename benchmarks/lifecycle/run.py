"""Measure the whole lifecycle, from raw files to the drift report: CPU seconds and peak memory of whole processes.

Usage: python benchmarks/lifecycle/run.py [--rows 20000 200000 2000000] [--rounds 3]
Contestants take turns within a round. Given are the least CPU seconds of all rounds, because a busy machine only adds,
and the ratio of the least ones beside the range of the ratios by round. The databases of Dagster and MLflow exist
beforehand, for everyone: they are made once an installation.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from world import write

from mlops_assets import instance

HERE = Path(__file__).parent
CONTESTANTS = ("naive", "lean", "ours")


def measure(script: str, source: Path, home: Path) -> tuple[float, float]:
    """CPU seconds (user and system, children included) and peak memory in MB of one script on one core's threads."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "",
    }  # fmt: skip
    instance.prepare(str(home))
    process = subprocess.Popen(
        [sys.executable, str(HERE / f"{script}.py"), str(source), str(home)],
        env=environment, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    errors = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{script} failed:\n{errors[-4000:]}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Print one line a size and contestant, and the ratios."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, nargs="+", default=[20_000, 200_000, 2_000_000])
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder) / "source", rows)
            figures: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTESTANTS}
            for number in range(options.rounds + 1):
                for name in CONTESTANTS:
                    home = Path(folder) / f"{name}-{number}"
                    figure = measure(name, Path(folder) / "source", home)
                    if number:
                        figures[name].append(figure)
        least = {name: min(cpu for cpu, _ in figures[name]) for name in CONTESTANTS}
        for name in CONTESTANTS:
            rounds = [f[0] / g[0] for f, g in zip(figures[name], figures["lean"], strict=True)]
            line = {
                "rows": rows, "who": name, "cpu_s": round(least[name], 1),
                "against_lean": round(least[name] / least["lean"], 2),
                "by_round": [round(min(rounds), 2), round(max(rounds), 2)],
                "peak_mb": round(statistics.median(peak for _, peak in figures[name])),
            }  # fmt: skip
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
