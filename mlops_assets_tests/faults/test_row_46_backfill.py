"""Row 46: a backfill of daily partitions, killed at each point at which the daemon does something for it.

MLOPS_BACKFILL_DAYS says how many there are: 365 are a year.
"""

import json
import os
import subprocess
import sys

import pytest

from mlops_assets_tests.faults.filling import POINTS

pytestmark = [pytest.mark.fault(46), pytest.mark.timeout(600)]
DAYS = int(os.environ.get("MLOPS_BACKFILL_DAYS", "30"))


def test_each_partition_is_filled_once_although_the_daemon_is_killed_at_every_point(tmp_path, record_figure):
    finished = subprocess.run(
        [sys.executable, "-m", "mlops_assets_tests.faults.filling", str(tmp_path), str(DAYS)],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-5000:]
    told = json.loads([line for line in finished.stdout.splitlines() if line.startswith("{")][-1])
    record_figure(
        partitions=told["partitions"],
        kills=len(told["killed"]),
        missing=told["missing"],
        duplicates=told["duplicates"],
        runs=sum(told["runs"].values()),
    )
    assert told["killed"] == list(POINTS)
    assert (told["partitions"], told["missing"], told["duplicates"]) == (DAYS, 0, 0)
    assert told["backfill"] == "COMPLETED_SUCCESS"
