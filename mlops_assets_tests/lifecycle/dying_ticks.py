"""Dagster's own sensor loop, killed by SIGKILL inside a tick of retrain_on_decision.

A program, because each trial dies: it says a line for each point of a tick. Processes are forked from one that has
loaded what they need and opened nothing.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import freeze_time
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.sensor import execute_sensor_iteration

from mlops_assets import settings
from mlops_assets.defs.resources import resources
from mlops_assets.lifecycle.champion import champion
from mlops_assets.lifecycle.endings import REQUEST
from mlops_assets.lifecycle.evaluation import evaluation
from mlops_assets.lifecycle.registration import registration
from mlops_assets.lifecycle.sensors.retrain_on_decision import retrain_on_decision
from mlops_assets.lifecycle.training import training
from mlops_assets.ml.evidence import Learned, Watched, gather
from mlops_assets.ml.policies import OnDrift
from mlops_assets.resources.records import Records
from mlops_assets_tests import evidence, toy
from mlops_assets_tests.faults.forking import forked, say
from mlops_assets_tests.homes import prepare, without_waiting_for_the_disk

SENSOR = "retrain_on_decision"
POINTS = ("TICK_CREATED", "TICK_HELD", "RUN_IDS_RESERVED", "RUN_CREATED", "RUN_LAUNCHED")
LOOKS, APART = 3, 60
SPEC = toy.spec("landing", drift={"k": 1, "n": 1}, retraining={"policy": "on_drift", "cooldown": 0})
TARGET = InProcessWorkspaceLoadTarget(
    InProcessCodeLocationOrigin(
        LoadableTargetOrigin(executable_path=sys.executable, module_name=__spec__.name, attribute="definitions"),
        location_name="toy",
    )
)


@dg.definitions
def definitions() -> dg.Definitions:
    """The toy model's trainings, and the sensor that asks for them."""
    stages = dg.Definitions.merge(training(SPEC), evaluation(SPEC), registration(SPEC), champion(SPEC))
    resources_here = resources(settings.home(), settings.tracking_uri())
    return dg.Definitions.merge(stages, dg.Definitions(sensors=[retrain_on_decision([SPEC])], resources=resources_here))


def decide(home: Path) -> None:
    """A decision to retrain, as the asset leaves it."""
    candidate = evidence.candidate(run="run-0")
    parts, reports = evidence.validated("2024-01"), evidence.drift("2024-01", "drifted")
    watched = Watched({parts.partition: parts}, {reports.partition: reports})
    found = gather(SPEC, watched, Learned(candidate), [evidence.FIRST], ())
    records = Records(root=str(home))
    records.put(SPEC.name, "trained_model", candidate)
    records.put(SPEC.name, "retraining_decision", OnDrift().decide(found, SPEC.retraining))


def ticks(count: int, dying: str | None = None) -> dict[str, int]:
    """Ticks of the sensor, a minute apart, of which the first dies at a point; the runs of each request."""
    logging.disable(logging.CRITICAL)
    with dg.DagsterInstance.get() as made, WorkspaceProcessContext(made, TARGET) as workspace:
        flags = {SENSOR: {dying: signal.SIGKILL}} if dying else None
        began = time.time()
        for number in range(count):
            with ThreadPoolExecutor(1) as pool, freeze_time(began + number * APART):
                futures: dict = {}
                list(execute_sensor_iteration(workspace, logging.getLogger(), pool, None, futures, flags))
                for future in futures.values():
                    future.result()
        return dict(Counter(run.tags[REQUEST] for run in made.get_runs() if REQUEST in run.tags))


def trial(folder: Path, point: str) -> dict[str, object]:
    """A tick that dies at `point`, and what a fresh daemon makes of it."""
    home = folder / point.lower()
    prepare(home)
    decide(home)
    died = forked(lambda: ticks(1, point)) is None
    return {"point": point, "died": died, "runs": forked(lambda: ticks(LOOKS))}


def main(folder: Path) -> None:
    """Every point of a tick, one after the other."""
    without_waiting_for_the_disk()
    for setting in (settings.DAGSTER_HOME, settings.TRACKING_URI):
        os.environ.pop(setting.name, None)
    for point in POINTS:
        say(**trial(folder, point))
