"""Row 23: a fresh instance opened by several processes at once. MLOPS_FRESH_INSTANCES says how many are tried."""

import os

import pytest

from mlops_assets_tests.faults import forking, opening

FRESH = int(os.environ.get("MLOPS_FRESH_INSTANCES", "5"))


def trials(folder, *, processes: int, guarded: bool, count: int) -> list[dict]:
    """What came of `count` fresh homes, each opened by `processes` processes at once, up to the first that raised."""
    away = "http://127.0.0.1:9"
    return forking.told(opening.main, folder, processes, guarded, count, MLFLOW_TRACKING_URI=away)


@pytest.mark.fault(23)
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_that_prepare_a_fresh_instance_at_once_never_break_it(tmp_path, record_figure, processes):
    outcomes = trials(tmp_path, processes=processes, guarded=True, count=FRESH)
    broken, raised = sum(o["broken"] for o in outcomes), sum(o["raised"] for o in outcomes)
    record_figure(processes=processes, trials=len(outcomes), broken=broken, opens_that_raised=raised)
    assert (broken, raised) == (0, 0)


@pytest.mark.fault(23)
def test_processes_that_only_open_a_fresh_instance_at_once_do_break_it(tmp_path, record_figure):
    outcomes = trials(tmp_path, processes=4, guarded=False, count=40)
    broken, raised = sum(o["broken"] for o in outcomes), sum(o["raised"] for o in outcomes)
    record_figure(control=True, processes=4, trials=len(outcomes), broken=broken, opens_that_raised=raised)
    assert raised > 0
