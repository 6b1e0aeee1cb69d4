"""Row 46: a backfill of daily partitions, killed at each point at which the daemon does something for it.

MLOPS_BACKFILL_DAYS says how many there are: 365 are a year.
"""

import os

import pytest

from mlops_assets_tests.faults import filling, forking
from mlops_assets_tests.faults.filling import POINTS

pytestmark = [pytest.mark.fault(46), pytest.mark.timeout(600)]
DAYS = int(os.environ.get("MLOPS_BACKFILL_DAYS", "30"))


def test_each_partition_is_filled_once_although_the_daemon_is_killed_at_every_point(tmp_path, record_figure):
    [told] = forking.told(filling.main, tmp_path, DAYS, OMP_NUM_THREADS="1")
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
