"""Two daemons that look at the same moment, with the lease and without: a program."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any

import dagster as dg
from dagster._core.test_utils import freeze_time
from dagster._daemon.sensor import execute_sensor_iteration
from dagster._time import get_current_datetime

from mlops_assets import settings
from mlops_assets.lease import HeldError, lease
from mlops_assets_tests import toy
from mlops_assets_tests.faults.dying import BETWEEN, LIBRARIES, QUIET, daemon, rounds
from mlops_assets_tests.faults.forking import forked, load, say
from mlops_assets_tests.homes import prepare, without_waiting_for_the_disk

ROUNDS, SECONDS = 4, 120
PROCESSES = multiprocessing.get_context("fork")


@contextmanager
def unguarded(_: dg.DagsterInstance) -> Iterator[None]:
    """No lease at all, as Dagster's own daemon has none."""
    yield


def look(home: Path, guard: Any, together: Barrier, first: bool) -> None:
    """A daemon of which two are started. Both look at the same moment, unless one of them is refused."""
    with daemon(home) as process:
        together.wait()
        try:
            with guard(process.instance):
                together.wait()
                for turn in range(1, ROUNDS + 1):
                    if first or guard is lease:
                        deliver_again(home, process.instance, turn)
                    if guard is unguarded:
                        together.wait()
                    with freeze_time(get_current_datetime() + BETWEEN * turn):
                        for _ in execute_sensor_iteration(process, QUIET, None, None):
                            pass
                    if guard is unguarded:
                        together.wait()
        except HeldError as error:
            (home / "refused").write_text(str(error))
            together.wait()


def deliver_again(home: Path, made: dg.DagsterInstance, turn: int) -> None:
    """Three months that are no neighbours, a run each; what was asked for before is out of the way."""
    for run in made.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED])):
        made.report_run_canceled(run)
    for month in (turn, turn + 4, turn + 8):
        toy.deliver(home / "landing", f"2024-{month:02}")


def trial(home: Path, guard: Any) -> dict[str, Any]:
    """How many runs each delivery got from two daemons."""
    os.environ[settings.HOME.name] = str(home)
    os.environ.pop(settings.DAGSTER_HOME.name, None)
    forked(lambda: str(prepare(home)))
    (home / "landing").mkdir()
    forked(lambda: rounds(home, 1))
    together = PROCESSES.Barrier(2, timeout=SECONDS)
    daemons = [PROCESSES.Process(target=look, args=(home, guard, together, first)) for first in (True, False)]
    for each in daemons:
        each.start()
    for each in daemons:
        each.join()
        if each.exitcode:
            raise ChildProcessError(f"a daemon ended with status {each.exitcode}")
    return forked(lambda: counted(home))


def counted(home: Path) -> dict[str, Any]:
    """The runs of each delivery."""
    with dg.DagsterInstance.from_config(str(home / "dagster")) as made:
        runs = Counter(run.tags["dagster/partition"] for run in made.get_runs())
    refused = home / "refused"
    return {
        "deliveries": len(runs),
        "runs": runs.total(),
        "duplicates": sum(count > 1 for count in runs.values()),
        "refused": refused.read_text() if refused.exists() else None,
    }


def main(folder: Path) -> None:
    """With the lease, and without it."""
    warnings.simplefilter("ignore")
    without_waiting_for_the_disk()
    os.environ[settings.HOME.name] = str(folder)
    os.environ.pop(settings.DAGSTER_HOME.name, None)
    load(LIBRARIES)
    for name, guard in (("lease", lease), ("control", unguarded)):
        os.environ[settings.HOME.name] = str(folder / name)
        os.environ.pop(settings.DAGSTER_HOME.name, None)
        say(kind=name, **trial(folder / name, guard))
