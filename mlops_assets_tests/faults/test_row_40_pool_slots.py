"""Row 40: a run is killed while it holds the only slot of a pool."""

import os
import signal
from datetime import timedelta

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.test_utils import freeze_time
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.monitoring import execute_concurrency_slots_iteration
from dagster._time import get_current_datetime

from mlops_assets import settings
from mlops_assets_tests.faults.dying import QUIET
from mlops_assets_tests.faults.forking import forked
from mlops_assets_tests.homes import prepare

pytestmark = pytest.mark.fault(40)
POOL = "the_only_accelerator"
BOUND_SECONDS = 120
DAY = 86_400


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An instance as it is shipped."""
    monkeypatch.setenv(settings.TRACKING_URI.name, "http://127.0.0.1:9")
    monkeypatch.setenv(settings.HOME.name, str(tmp_path))
    monkeypatch.delenv(settings.DAGSTER_HOME.name, raising=False)
    return prepare(tmp_path)


@dg.op(pool=POOL)
def dies_in_the_middle():
    """Its process is killed while it holds the slot."""
    os.kill(os.getpid(), signal.SIGKILL)


@dg.job(executor_def=dg.in_process_executor)
def doomed():
    """One step in the pool."""
    dies_in_the_middle()


def killed(folder):
    """A run that was killed in the pool, and noticed by its code server."""

    def run():
        with dg.DagsterInstance.from_config(str(folder)) as made:
            made.event_log_storage.set_concurrency_slots(POOL, 1)
            execute_run(InMemoryJob(doomed), made.create_run_for_job(doomed), made)

    assert forked(run) is None
    with dg.DagsterInstance.from_config(str(folder)) as made:
        [run] = made.get_runs()
        assert run.status == dg.DagsterRunStatus.STARTED
        made.report_run_failed(run, "the worker vanished")


def seconds_until_free(folder, limit):
    """How long after the end of the run the slot can be had again, by the monitoring that runs every minute."""
    with (
        dg.DagsterInstance.from_config(str(folder)) as made,
        WorkspaceProcessContext(made, InProcessWorkspaceLoadTarget([])) as process,
    ):
        every, ended = made.run_monitoring_poll_interval_seconds, get_current_datetime()
        assert made.event_log_storage.get_concurrency_info(POOL).active_slot_count == 1
        for waited in range(every, limit + 1, every):
            with freeze_time(ended + timedelta(seconds=waited)):
                for _ in execute_concurrency_slots_iteration(process, QUIET):
                    pass
            if made.event_log_storage.get_concurrency_info(POOL).active_slot_count == 0:
                return waited
    return None


def test_the_slot_of_a_killed_run_is_free_again_within_two_minutes(folder, record_figure):
    killed(folder)
    seconds = seconds_until_free(folder, 10 * BOUND_SECONDS)
    record_figure(seconds_until_free=seconds, bound=BOUND_SECONDS)
    assert seconds is not None
    assert seconds <= BOUND_SECONDS


def test_without_the_setting_the_slot_is_never_freed(folder, record_figure):
    config = folder / "dagster.yaml"
    config.write_text(config.read_text().replace("  free_slots_after_run_end_seconds: 60\n", ""))
    killed(folder)
    seconds = seconds_until_free(folder, DAY)
    record_figure(control=True, seconds_until_free=seconds, watched_seconds=DAY)
    assert seconds is None
