"""A fresh instance that several processes open at once: a program."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.synchronize import Barrier
from pathlib import Path

import dagster as dg

from mlops_assets import instance, settings
from mlops_assets_tests.faults.forking import say

FORK = multiprocessing.get_context("fork")


def opens(home: Path) -> None:
    """Open the instance and look at each of its databases."""
    with dg.DagsterInstance.from_config(str(home)) as opened:
        opened.get_runs_count()
        opened.all_asset_keys()
        opened.all_instigator_state()


def at_once(home: Path, guarded: bool, together: Barrier) -> None:
    """One of the processes."""
    together.wait()
    if guarded:
        instance.prepare()
    os.close(2)
    opens(home)


def trial(home: Path, guarded: bool, processes: int) -> dict[str, bool | int]:
    """How many of them raised, and whether the instance is broken for who comes later."""
    os.environ[settings.DAGSTER_HOME.name] = str(home)
    home.mkdir(parents=True)
    if not guarded:
        (home / "dagster.yaml").write_text("telemetry: {enabled: false}")
    together = FORK.Barrier(processes)
    started = [FORK.Process(target=at_once, args=(home, guarded, together)) for _ in range(processes)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    after = FORK.Process(target=opens, args=(home,))
    after.start()
    after.join()
    return {"raised": sum(process.exitcode != 0 for process in started), "broken": after.exitcode != 0}


def main(folder: Path, processes: int, guarded: bool, count: int) -> None:
    """So many fresh instances, up to the first that raised, after one that loads every module."""
    os.environ[settings.DAGSTER_HOME.name] = str(folder / "loads every module")
    opens(instance.prepare())
    for number in range(count):
        outcome = trial(folder / str(number), guarded, processes)
        say(**outcome)
        if outcome["raised"]:
            return
