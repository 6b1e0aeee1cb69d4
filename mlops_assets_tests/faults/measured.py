"""A delivery inspected in a process of its own, so that its memory can be measured: prints one line of JSON."""

import json
import sys
import tempfile
import time
from pathlib import Path

from mlops_assets_tests import toy
from mlops_assets_tests.faults.deliveries import inspected


def peak_mb():
    """The most memory that this process has ever had. (`ru_maxrss` starts from what the parent had.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main(path, max_rows):
    """Inspect the file at `path`, after a small one that loads every library."""
    source = {"uri": "landing", "files": ["shop-{partition:%Y-%m}.parquet"], "max_rows": int(max_rows)}
    spec = toy.spec("landing", source=source)
    with tempfile.TemporaryDirectory() as home:
        inspected(home, spec, {"warm.csv": toy.rows("2024-01", 100)})
        content = Path(path).read_bytes()
        before, wall, cpu = peak_mb(), time.perf_counter(), time.process_time()
        found = inspected(home, spec, {Path(path).name: content})
        figures = {
            "seconds": round(time.perf_counter() - wall, 3),
            "cpu_seconds": round(time.process_time() - cpu, 3),
            "more_mb": round(peak_mb() - before, 1),
            "message": "".join(found.refused.values()),
            "rows_quarantined": sum(each.rows_quarantined for each in found.quarantined.values()),
            "rows_out": sum(each.rows_out for each in found.validated.values()),
        }
    print(json.dumps(figures))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
