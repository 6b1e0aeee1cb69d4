"""What is borrowed of Dagster's private parts, in one place.

`mlops_assets_tests/compute/test_borrowed.py` holds every name here against the installed versions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dagster._core.executor.step_delegating import StepDelegatingExecutor
from dagster_k8s import k8s_job_executor
from dagster_k8s.executor import _K8S_EXECUTOR_CONFIG_SCHEMA, K8sStepHandler

from mlops_assets.compute.watching import Job

if TYPE_CHECKING:
    from dagster import InitExecutorContext
    from dagster._core.executor.step_delegating import StepHandler, StepHandlerContext
    from kubernetes.client import BatchV1Api, CoreV1Api

CONFIG: dict[str, Any] = _K8S_EXECUTOR_CONFIG_SCHEMA


def upstream_executor(init_context: InitExecutorContext) -> StepDelegatingExecutor:
    """The executor that dagster-k8s makes of its part of the configuration."""
    create = k8s_job_executor.executor_creation_fn
    made = create(init_context) if create else None
    if not isinstance(made, StepDelegatingExecutor):
        raise TypeError(f"dagster-k8s makes a {type(made).__name__}, and no StepDelegatingExecutor.")
    return made


def upstream_handler(executor: StepDelegatingExecutor) -> K8sStepHandler:
    """What launches, looks after and ends the Jobs of its steps."""
    handler = executor._step_handler
    if not isinstance(handler, K8sStepHandler):
        raise TypeError(f"dagster-k8s makes a {type(handler).__name__}, and no K8sStepHandler.")
    return handler


def with_handler(executor: StepDelegatingExecutor, handler: StepHandler, interval: int) -> StepDelegatingExecutor:
    """The same executor with another handler, which looks after its steps every so many seconds."""
    executor._step_handler = handler
    executor._check_step_health_interval_seconds = interval
    return executor


def job_of(handler: K8sStepHandler, context: StepHandlerContext) -> Job:
    """The Job of a step's attempt."""
    namespace = handler._get_container_context(context).namespace
    return Job(handler._get_k8s_step_job_name(context), str(namespace))


def apis(handler: K8sStepHandler) -> tuple[BatchV1Api, CoreV1Api]:
    """The clients of Kubernetes that it was set up with."""
    return handler._api_client.batch_api, handler._api_client.core_api
