"""Measure the whole lifecycle, from raw files to the drift report: CPU seconds and peak memory of whole processes.

Usage: python benchmarks/lifecycle/run.py [--rows 20000 200000 2000000] [--rounds 3]
Contestants take turns within a round; the ratio is taken round by round, and the median is printed.
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

HERE = Path(__file__).parent
CONTESTANTS = ("naive", "lean", "ours")


def measure(script: str, source: Path, home: Path) -> tuple[float, float]:
    """CPU seconds (user and system, children included) and peak memory in MB of one script on one core's threads."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "",
    }  # fmt: skip
    home.mkdir()
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
        for name in CONTESTANTS:
            cpu = statistics.median(f[0] for f in figures[name])
            peak = statistics.median(f[1] for f in figures[name])
            ratio = statistics.median(f[0] / g[0] for f, g in zip(figures[name], figures["lean"], strict=True))
            print(
                json.dumps(
                    {
                        "rows": rows,
                        "who": name,
                        "cpu_s": round(cpu, 1),
                        "against_lean": round(ratio, 2),
                        "peak_mb": round(peak),
                    }
                )
            )


if __name__ == "__main__":
    main()
