"""A delivery inspected in a process of its own, so that its memory can be measured: a program."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from mlops_assets_tests import toy
from mlops_assets_tests.faults.deliveries import inspected
from mlops_assets_tests.faults.forking import say


def peak_mb() -> float:
    """The most memory that this process has ever had. (`ru_maxrss` starts from what the parent had.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main(path: Path, max_rows: int) -> None:
    """Inspect the file at `path`, after a small one that loads every library."""
    source = {"uri": "landing", "files": ["shop-{partition:%Y-%m}.parquet"], "max_rows": max_rows}
    spec = toy.spec("landing", source=source)
    with tempfile.TemporaryDirectory() as home:
        inspected(home, spec, {"warm.csv": toy.rows("2024-01", 100)})
        content = path.read_bytes()
        before, wall, cpu = peak_mb(), time.perf_counter(), time.process_time()
        found = inspected(home, spec, {path.name: content})
        say(
            seconds=round(time.perf_counter() - wall, 3),
            cpu_seconds=round(time.process_time() - cpu, 3),
            more_mb=round(peak_mb() - before, 1),
            message="".join(found.refused.values()),
            rows_quarantined=sum(each.rows_quarantined for each in found.quarantined.values()),
            rows_out=sum(each.rows_out for each in found.validated.values()),
        )
