"""A code location whose assets meet what a step can meet on a cluster.

It stands alone: on a real cluster this file is mounted beside the image.
"""

import json
import os
import threading
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.executor.base import Executor
from dagster_k8s import k8s_job_executor

from mlops_assets.compute import profiles
from mlops_assets.compute.executor import kubernetes_executor

PATIENCE, LOOK_SECONDS, EPOCHS, INTERRUPTED_AT = 200, 0.05, 10, 6
HELD_BYTES = 400 * 2**20
SMALL = {"requests": {"memory": "512Mi"}, "limits": {"memory": "512Mi"}}
AGAIN = dg.RetryPolicy(max_retries=2)
QUICK = {"check_interval_seconds": 1}
IMPATIENT = {**QUICK, "pending_timeout_seconds": 3, "broken_timeout_seconds": 3}


@dg.executor(name="stock", config_schema=k8s_job_executor.config_schema, requirements=k8s_job_executor._requirements_fn)
def stock(context: dg.InitExecutorContext) -> Executor:
    """dagster-k8s's own executor, which looks after its steps every second here instead of every twenty."""
    made = k8s_job_executor.executor_creation_fn(context)
    made._check_step_health_interval_seconds = 1
    return made


def mailbox() -> Path:
    """Where a test and the pods leave each other word."""
    return Path(os.environ["MLOPS_HOME"])


def until(there: Path | None) -> None:
    """Hold still until a file is there; without one, until somebody ends this process."""
    for _ in range(int(PATIENCE / LOOK_SECONDS)):
        if there is not None and there.exists():
            return
        threading.Event().wait(LOOK_SECONDS)
    raise TimeoutError("nobody came")


def container(**config: Any) -> dict[str, Any]:
    """The op tags of a step whose container has something that no profile gives."""
    return {"dagster-k8s/config": {"container_config": config}}


@dg.asset(op_tags=profiles.op_tags("cpu-small"))
def rows() -> None:
    """What the network learns from."""


@dg.asset(op_tags=profiles.op_tags("gpu"), deps=[rows])
def network() -> dg.MaterializeResult:
    """Trained on the accelerator that its pod was given."""
    return dg.MaterializeResult(metadata={"devices": os.environ["NVIDIA_VISIBLE_DEVICES"]})


@dg.asset(op_tags=profiles.op_tags("gpu"))
def patient() -> None:
    """Works until somebody says that it is enough."""
    (mailbox() / "patient").touch()
    until(mailbox() / "enough")


def hold(context: dg.AssetExecutionContext) -> None:
    """Hold more than 512 MiB, at the first try for as long as that goes well."""
    held = b"x" * HELD_BYTES
    if not context.retry_number:
        until(None)
    del held


@dg.asset(op_tags=container(resources=SMALL))
def hungry(context: dg.AssetExecutionContext) -> None:
    """Holds more than it asked for."""
    hold(context)


@dg.asset(op_tags={**profiles.op_tags("gpu-shared"), **container(resources=SMALL)}, retry_policy=AGAIN)
def growing(context: dg.AssetExecutionContext) -> None:
    """Holds more than it asked for, and has a profile with a bigger one above it."""
    hold(context)


@dg.asset(op_tags=profiles.op_tags("gpu-spot"), retry_policy=AGAIN)
def student(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Learns epoch by epoch, keeps each, and goes on from the last one kept."""
    kept = mailbox() / f"{context.run.run_id}.json"
    learned = first = json.loads(kept.read_text()) if kept.exists() else 0
    while learned < EPOCHS:
        learned += 1
        aside = kept.with_suffix(".new")
        aside.write_text(json.dumps(learned))
        aside.replace(kept)
        if learned == INTERRUPTED_AT and not context.retry_number:
            until(None)
    return dg.MaterializeResult(metadata={"went_on_from": first, "learned": learned})


@dg.asset(op_tags=profiles.op_tags("gpu-4x"))
def greedy() -> None:
    """Asks for more devices than any node has."""


@dg.asset(op_tags=container(image="registry.example/absent:1"))
def unpulled() -> None:
    """Asks for an image that nobody built."""


@dg.asset(op_tags=container(env_from=[{"secret_ref": {"name": "absent"}}]))
def unarmed() -> None:
    """Asks for a secret that nobody made."""


def job(name: str, *assets: str, executor: dg.ExecutorDefinition | None = None) -> Any:
    """A job of these assets, by default with the project's executor."""
    return dg.define_asset_job(name, [*assets], executor_def=executor or kubernetes_executor.configured(QUICK))


impatient = kubernetes_executor.configured(IMPATIENT)
defs = dg.Definitions(
    assets=[rows, network, patient, hungry, growing, student, greedy, unpulled, unarmed],
    jobs=[
        job("learn", "rows", "network"),
        job("wait", "patient"),
        job("eat", "hungry"),
        job("grow", "growing"),
        job("study", "student"),
        job("want", "greedy", executor=impatient),
        job("ration", "network", executor=impatient),
        job("pull", "unpulled", executor=impatient),
        job("arm", "unarmed", executor=impatient),
        job("eat_stock", "hungry", executor=stock),
    ],
)
