"""A code location whose assets meet what a step can meet on a cluster.

It stands alone: on a real cluster this file is mounted beside the image.
"""

from __future__ import annotations

import os
import threading

import dagster as dg
from dagster._core.executor.base import Executor
from dagster_k8s import k8s_job_executor

from mlops_assets.compute import profiles

PATIENCE = 120


@dg.executor(name="stock", config_schema=k8s_job_executor.config_schema, requirements=k8s_job_executor._requirements_fn)
def stock(context: dg.InitExecutorContext) -> Executor:
    """dagster-k8s's own executor, which looks after its steps every second here instead of every twenty."""
    made = k8s_job_executor.executor_creation_fn(context)
    made._check_step_health_interval_seconds = 1
    return made


def until_killed() -> None:
    """Hold still until somebody ends this process, who does so within minutes."""
    threading.Event().wait(PATIENCE)
    raise TimeoutError("nobody ended this process")


@dg.asset(op_tags=profiles.op_tags("cpu-small"))
def rows() -> None:
    """What the network learns from."""


@dg.asset(op_tags=profiles.op_tags("gpu"), deps=[rows])
def network() -> dg.MaterializeResult:
    """Trained on the accelerator that its pod was given."""
    return dg.MaterializeResult(metadata={"devices": os.environ["NVIDIA_VISIBLE_DEVICES"]})


@dg.asset(op_tags=profiles.op_tags("cpu-small"))
def hungry() -> None:
    """Holds as much as its profile gives, and then there is Python itself."""
    held = b"x" * 2**30
    until_killed()
    del held


ASSETS = (rows, network, hungry)
defs = dg.Definitions(
    assets=ASSETS,
    jobs=[
        dg.define_asset_job("learn", ["rows", "network"], executor_def=stock),
        dg.define_asset_job("eat", ["hungry"], executor_def=stock),
    ],
)
