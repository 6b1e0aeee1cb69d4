"""A code location that holds the toy model and nothing else, on the home named by MLOPS_HOME."""

import os
import signal
from typing import Any

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.launcher.base import LaunchRunContext
from dagster._core.launcher.sync_in_memory_run_launcher import SyncInMemoryRunLauncher

from mlops_assets.defs.resources import resources
from mlops_assets.lifecycle import lifecycle
from mlops_assets_tests import toy

DIES, DAILY = "MLOPS_TEST_DIES", "MLOPS_TEST_DAILY"
BEFORE, AFTER = "before the launch", "after the launch"
VALIDATED_ONLY: dict[str, Any] = {"training": {"min_partitions": 1000}}
DAYS: dict[str, Any] = {
    "partitions": {"every": "daily", "start": "2024-01-01", "end": "2025-01-01"},
    "source": {"uri": "landing", "files": ["shop-{partition:%Y-%m-%d}.csv"], "settle_seconds": 0},
}


class Launcher(SyncInMemoryRunLauncher):
    """Runs a run in the daemon's own process, which dies before or after it where the environment says so."""

    def launch_run(self, context: LaunchRunContext) -> None:
        """Run it, by definitions made for the home of this moment: Dagster would keep those of the first."""
        self._die_at(BEFORE)
        job = defs().resolve_job_def(context.dagster_run.job_name)
        execute_run(InMemoryJob(job), context.dagster_run, self._instance)
        self._die_at(AFTER)

    def _die_at(self, point: str) -> None:
        if os.environ.get(DIES) == point:
            os.kill(os.getpid(), signal.SIGKILL)


@dg.definitions
def defs() -> dg.Definitions:
    """The toy model, that validates what comes and never trains, with the sensor that looks for it."""
    home = os.environ["MLOPS_HOME"]
    wiring = resources(home, f"sqlite:///{home}/mlflow.db")
    days = {**DAYS, "source": {**DAYS["source"], "uri": f"{home}/landing"}} if os.environ.get(DAILY) else {}
    declared = lifecycle(toy.spec(f"{home}/landing", **VALIDATED_ONLY, **days))
    return dg.Definitions.merge(declared, dg.Definitions(resources=wiring, executor=dg.in_process_executor))
