"""The executor for Kubernetes: dagster-k8s's own, with a handler that explains, and small steps in the run's pod."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.executor_definition import multiple_process_executor_requirements
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.executor.base import Executor
from dagster_k8s import K8sRunLauncher

from mlops_assets.compute import borrowed
from mlops_assets.compute.handler import ExplainingStepHandler, Patience
from mlops_assets.compute.run_pod import is_cancelled
from mlops_assets.compute.where import AroundExecutor

if TYPE_CHECKING:
    from dagster._core.events import DagsterEvent
    from dagster._core.execution.context.system import PlanOrchestrationContext
    from dagster._core.execution.plan.plan import ExecutionPlan
    from dagster._core.executor.step_delegating import StepDelegatingExecutor

CONFIG = {
    "pending_timeout_seconds": dg.Field(
        dg.IntSource, default_value=900, description="How long a step's pod may wait to run; not while Kueue holds it."
    ),
    "broken_timeout_seconds": dg.Field(
        dg.IntSource,
        default_value=120,
        description="How long a missing image, secret or service account may keep a step's pod from running.",
    ),
    "check_interval_seconds": dg.Field(
        dg.IntSource, default_value=20, description="How often the Jobs of running steps are looked at."
    ),
    "api_patience_seconds": dg.Field(
        dg.IntSource, default_value=900, description="How long Kubernetes' API may fail to answer before a step fails."
    ),
    "small_steps_in_run_pod": dg.Field(
        bool, default_value=True, description="Whether steps that ask for no pod of their own run in the run's."
    ),
}


class NoLauncherError(dg.DagsterError):
    """Steps are to run on Kubernetes, but runs are not."""


class KubernetesExecutor(AroundExecutor):
    """Dagster's executor of steps elsewhere, some of which run here."""

    def __init__(self, inner: StepDelegatingExecutor, handler: ExplainingStepHandler) -> None:
        """Around an executor that was given this handler."""
        super().__init__(inner)
        self._handler = handler

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        """The run's steps, each where it belongs.

        A run that was stopped ends its Jobs, also where it could be resumed, for which Dagster would keep them.
        """
        self._handler.begin(plan_context)
        try:
            for event in self._inner.execute(plan_context, execution_plan):
                yield event
                self._handler.explain(event)
        except DagsterExecutionInterruptedError:
            if is_cancelled(plan_context.instance, plan_context.run_id):
                self._handler.end_all()
            raise


@dg.executor(
    name="kubernetes",
    config_schema={**borrowed.CONFIG, **CONFIG},
    requirements=multiple_process_executor_requirements(),
)
def kubernetes_executor(init_context: dg.InitExecutorContext) -> Executor:
    """A Job for each step that asks for one, the others in the run's pod. Why a pod died, the step's failure says."""
    launcher = init_context.instance.run_launcher
    if not isinstance(launcher, K8sRunLauncher):
        raise NoLauncherError(
            f"MLOPS_COMPUTE is kubernetes, but this instance starts runs with {type(launcher).__name__}. Name "
            "K8sRunLauncher as run_launcher in dagster.yaml, or set MLOPS_COMPUTE=local."
        )
    config: dict[str, Any] = dict(init_context.executor_config)
    inner = borrowed.upstream_executor(init_context)
    handler = ExplainingStepHandler(
        borrowed.upstream_handler(inner),
        Patience(
            pending=timedelta(seconds=config["pending_timeout_seconds"]),
            broken=timedelta(seconds=config["broken_timeout_seconds"]),
            api=timedelta(seconds=config["api_patience_seconds"]),
        ),
        small_steps_here=config["small_steps_in_run_pod"],
        own_jobs=frozenset(config.get("per_step_k8s_config") or {}),
    )
    return KubernetesExecutor(borrowed.with_handler(inner, handler, config["check_interval_seconds"]), handler)
