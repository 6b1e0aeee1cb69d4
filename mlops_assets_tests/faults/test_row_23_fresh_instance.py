"""Row 23: a fresh instance opened by several processes at once. MLOPS_FRESH_INSTANCES says how many are tried."""

import json
import os
import subprocess
import sys

import pytest

FRESH = int(os.environ.get("MLOPS_FRESH_INSTANCES", "5"))

# One parent loads Dagster once; each process of a trial is forked from it and waits for the others at a barrier.
TRIALS = """
import json, multiprocessing, os, sys
from pathlib import Path
import dagster as dg
from mlops_assets import instance

processes, guarded, homes = int(sys.argv[1]), sys.argv[2] == "guarded", [Path(home) for home in sys.argv[3:]]
fork = multiprocessing.get_context("fork")

def opens(home):
    with dg.DagsterInstance.from_config(str(home)) as opened:
        opened.get_runs_count()
        opened.all_asset_keys()
        opened.all_instigator_state()

def at_once(home, barrier):
    barrier.wait()
    if guarded:
        instance.prepare()
    os.close(2)
    opens(home)

def broken(home):
    os.environ["DAGSTER_HOME"] = str(home)
    home.mkdir(parents=True)
    if not guarded:
        (home / "dagster.yaml").write_text("telemetry: {enabled: false}")
    barrier = fork.Barrier(processes)
    started = [fork.Process(target=at_once, args=(home, barrier)) for _ in range(processes)]
    for process in started:
        process.start()
    for process in started:
        process.join()
    raised = sum(process.exitcode != 0 for process in started)
    after = fork.Process(target=opens, args=(home,))
    after.start()
    after.join()
    return {"raised": raised, "broken": after.exitcode != 0}

os.environ["DAGSTER_HOME"] = str(homes[0].parent / "loads-every-module")
instance.prepare()
opens(os.environ["DAGSTER_HOME"])
outcomes = []
while homes and not any(outcome["raised"] for outcome in outcomes):
    outcomes.append(broken(homes.pop(0)))
print(json.dumps(outcomes))
"""


def trials(folder, *, processes: int, guarded: bool, count: int) -> list[dict]:
    """What came of `count` fresh homes, each opened by `processes` processes at once, up to the first that raised."""
    homes = [str(folder / f"{processes}-{number}") for number in range(count)]
    arguments = [str(processes), "guarded" if guarded else "bare", *homes]
    environment = {"PATH": "/usr/bin:/bin", "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    finished = subprocess.run(
        [sys.executable, "-c", TRIALS, *arguments], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(finished.stdout.splitlines()[-1])


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
