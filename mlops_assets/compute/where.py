"""Where steps run here: in the run's own process, or as pods on Kubernetes, by the setting MLOPS_COMPUTE."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.executor_definition import IN_PROC_CONFIG
from dagster._core.events import DagsterEvent, EngineEventData
from dagster._core.executor.base import Executor

from mlops_assets import settings
from mlops_assets.compute.profiles import COMPUTE, devices

if TYPE_CHECKING:
    from dagster._core.execution.context.system import PlanOrchestrationContext
    from dagster._core.execution.plan.plan import ExecutionPlan
    from dagster._core.execution.retries import RetryMode
    from dagster._core.execution.step_dependency_config import StepDependencyConfig

LOCAL, KUBERNETES = "local", "kubernetes"
PLACES = (LOCAL, KUBERNETES)


class IgnoredAcceleratorError(ValueError):
    """A step that asks for an accelerator would run where nobody heeds that."""


def executor_here() -> dg.ExecutorDefinition:
    """The executor of every job that names none of its own, which is all that this project has."""
    place = settings.COMPUTE.value()
    if place not in PLACES:
        raise ValueError(f"{settings.COMPUTE.name} is {place!r}. Allowed: {', '.join(PLACES)}.")
    if place == LOCAL:
        return local_executor
    from mlops_assets.compute.executor import kubernetes_executor

    return kubernetes_executor


class AroundExecutor(Executor):
    """An executor that adds to another one, which runs the steps."""

    def __init__(self, inner: Executor) -> None:
        """Around this one."""
        self._inner = inner

    @property
    def retries(self) -> RetryMode:
        """Whether steps may be retried."""
        return self._inner.retries

    @property
    def step_dependency_config(self) -> StepDependencyConfig:
        """When a step may begin."""
        return self._inner.step_dependency_config


class LocalExecutor(AroundExecutor):
    """Dagster's executor of one process, which says once a run which profiles it does not heed."""

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        """The notice, where there is something to notice, then the run's steps one after the other."""
        asked: dict[str, list[str]] = defaultdict(list)
        for key in execution_plan.step_keys_to_execute:
            if profile := (execution_plan.get_step_by_key(key).tags or {}).get(COMPUTE):
                asked[profile].append(key)
        if asked:
            yield DagsterEvent.engine_event(plan_context, ignored(asked), EngineEventData())
        yield from self._inner.execute(plan_context, execution_plan)


def ignored(asked: dict[str, list[str]]) -> str:
    """The notice that profiles are not heeded, and by whom they were asked for."""
    which = "; ".join(f"{profile} by {', '.join(steps)}" for profile, steps in sorted(asked.items()))
    return (
        f"Compute profiles are not heeded, because {settings.COMPUTE.name} is {LOCAL}: every step runs in this "
        f"process, with what this machine has. Asked for: {which}."
    )


def guarded(defs: dg.Definitions) -> dg.Definitions:
    """The same definitions, refused where a step with an accelerator could run under an executor that ignores it.

    Only jobs that name an executor of their own are looked into, and all of them where the executor is not the one of
    here: what follows the setting costs nothing to check.
    """
    own = [job.name for job in defs.jobs or () if _has_own_executor(job)]
    if settings.COMPUTE.value() == KUBERNETES and defs.executor is not executor_here():
        own = [job.name for job in defs.get_repository_def().get_all_jobs()]
    for name in own:
        job = defs.resolve_job_def(name)
        if job.executor_def.name != KUBERNETES and (held := _accelerated(job)):
            raise IgnoredAcceleratorError(
                f"Job {name} runs its steps with the executor {job.executor_def.name!r}, which gives them no "
                f"accelerator, but {', '.join(held)} ask for one. Leave executor_def out of the job: where steps run "
                f"is what {settings.COMPUTE.name} says."
            )
    return defs


def _has_own_executor(job: Any) -> bool:
    """Whether a job, resolved or not, was given an executor."""
    if isinstance(job, dg.JobDefinition):
        return job.has_specified_executor
    return getattr(job, "executor_def", None) is not None


def _accelerated(job: dg.JobDefinition) -> list[str]:
    """The steps of a job whose profile has an accelerator."""
    return sorted(node.name for node in job.all_node_defs if devices(node.tags.get(COMPUTE)))


@dg.executor(name="in_process", config_schema=IN_PROC_CONFIG)
def local_executor(init_context: dg.InitExecutorContext) -> Executor:
    """All steps in the run's own process."""
    create = dg.in_process_executor.executor_creation_fn
    if create is None:
        raise TypeError("Dagster's executor of one process cannot be made.")
    return LocalExecutor(create(init_context))
