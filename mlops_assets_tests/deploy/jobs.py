"""The Jobs of runs and steps as dagster-k8s would make them under our values, and what a server would say of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import dagster as dg
from dagster._config import process_config
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import construct_dagster_k8s_job, get_user_defined_k8s_config
from kubernetes.client import ApiClient

from mlops_assets.compute import rules
from mlops_assets_tests.deploy.dagster_chart import Values, container_context, instance
from mlops_assets_tests.deploy.schemas import refused


def launcher(given: Values) -> SimpleNamespace:
    """What K8sRunLauncher holds, its configuration accepted by its own schema. It would ask for a cluster itself."""
    config = instance(given)["run_launcher"]["config"]
    processed = process_config(K8sRunLauncher.config_type(), config)
    assert processed.success, processed.errors
    optional = {"image_pull_secrets": [], "env_vars": [], "scheduler_name": None}
    allowed = {"only_allow_user_defined_k8s_config_fields": None, "only_allow_user_defined_env_vars": None}
    return SimpleNamespace(**{**optional, **allowed, "job_image": None, **processed.value})


def job(given: Values, tags: dict[str, Any] | None = None, *, step: bool = True) -> dict[str, Any]:
    """The Job of a step with these op tags, or of a run, merged by dagster-k8s itself."""
    launched_by = launcher(given)
    server = given.code_servers.deployments[0]
    origin = SimpleNamespace(container_context=container_context(server, given.code_servers.service_account.name))
    run = SimpleNamespace(tags={}, job_code_origin=SimpleNamespace(repository_origin=origin))
    context = K8sContainerContext.create_for_run(run, launched_by, include_run_tags=not step)
    context = context.merge(K8sContainerContext(run_k8s_config=get_user_defined_k8s_config(dg_tags(tags or {}))))
    made = construct_dagster_k8s_job(
        job_config=context.get_k8s_job_config(server.image.name, launched_by),
        args=["dagster", "api", "execute_step" if step else "execute_run"],
        job_name="dagster-step-1" if step else "dagster-run-1",
        user_defined_k8s_config=context.run_k8s_config,
        component="step_worker" if step else "run_worker",
    )
    return ApiClient().sanitize_for_serialization(made)


def dg_tags(tags: dict[str, Any]) -> dict[str, str]:
    """Op tags as Dagster keeps them: what is no text, as JSON."""

    @dg.op(tags=tags)
    def step() -> None: ...

    return dict(step.tags)


def faults(body: dict[str, Any]) -> list[str]:
    """Everything that speaks against a Job: schemas, what a server refuses beyond them, Pod Security, and our rules."""
    looks = (rules.kubernetes, rules.restricted, rules.ours)
    return [*refused(body), *(str(fault) for look in looks for fault in look(body))]
