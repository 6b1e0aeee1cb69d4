"""Whoever starts a run, a step gets the same pod, pool and retries: they come from the asset, and from nowhere else."""

import json
from types import SimpleNamespace

import dagster as dg
import pytest
from dagster._core.execution.api import create_execution_plan
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.executor import K8sStepHandler
from dagster_k8s.job import DagsterK8sJobConfig, construct_dagster_k8s_job
from kubernetes.client import ApiClient

from mlops_assets.compute.profiles import op_tags
from mlops_assets.compute.rendering import rendered
from mlops_assets.defs.resources import resources
from mlops_assets.lifecycle import lifecycle
from mlops_assets_tests import toy

STEP = "toy__trained_model"
ANOTHER = json.dumps({"container_config": {"resources": {"limits": {"memory": "1Gi"}}}})
RANGE = {"dagster/asset_partition_range_start": "2024-01-01", "dagster/asset_partition_range_end": "2024-03-01"}
WHO = {
    "a person in the UI": (None, {"dagster/from_ui": "true"}),
    "a person in the UI who adds a tag": (None, {"dagster-k8s/config": ANOTHER}),
    "a sensor": ("toy_lifecycle", {"dagster/sensor_name": "toy_new_data", "mlops/model": "toy", **RANGE}),
    "a backfill": (None, {"dagster/backfill": "abcdefgh", "dagster/partition": "2024-01-01"}),
    "the command line, a job": ("toy_lifecycle", {}),
    "the command line, an asset": (None, {}),
}


@pytest.fixture(scope="module")
def definitions(tmp_path_factory):
    """The toy model, which trains on a spot GPU."""
    home = tmp_path_factory.mktemp("home")
    model = lifecycle(toy.spec("/nowhere", compute={"training": "gpu-spot"}))
    return dg.Definitions.merge(model, dg.Definitions(resources=resources(str(home), f"sqlite:///{home}/mlflow.db")))


def planned(definitions, job_name):
    """The job and the step as the executor of a run of it has them."""
    if job_name is None:
        whole = definitions.resolve_implicit_global_asset_job_def()
        job = whole.get_subset(asset_selection={dg.AssetKey(["toy", "trained_model"])})
    else:
        job = definitions.resolve_job_def(job_name)
    return job, create_execution_plan(job).get_step_by_key(STEP)


def given(job, step, tags):
    """What dagster-k8s's own handler makes of the step of a run with these tags, as JSON."""
    handler = K8sStepHandler.__new__(K8sStepHandler)
    handler._executor_container_context, handler._per_step_k8s_config = K8sContainerContext(), {}
    run = dg.DagsterRun(job_name=job.name, tags=tags)
    context = SimpleNamespace(
        dagster_run=run,
        instance=SimpleNamespace(run_launcher=None),
        step_tags={STEP: step.tags},
        execute_step_args=SimpleNamespace(step_keys_to_execute=[STEP]),
        get_step_context=lambda _: SimpleNamespace(step=step),
    )
    config = handler._get_container_context(context).run_k8s_config
    made = construct_dagster_k8s_job(
        DagsterK8sJobConfig(job_image="image", dagster_home="/home"), ["step"], "step", user_defined_k8s_config=config
    )
    return ApiClient().sanitize_for_serialization(made)


@pytest.mark.parametrize("who", WHO)
def test_whoever_starts_it_a_step_gets_the_pod_of_its_profile(definitions, who):
    job_name, tags = WHO[who]
    job, step = planned(definitions, job_name)
    expected, made = rendered("gpu-spot", "generic").job["spec"], given(job, step, tags)["spec"]
    pod, asked = made["template"]["spec"], expected["template"]["spec"]
    assert pod["containers"][0]["resources"] == asked["containers"][0]["resources"]
    fields = ("nodeSelector", "tolerations", "volumes", "runtimeClassName", "terminationGracePeriodSeconds")
    assert {field: pod[field] for field in fields} == {field: asked[field] for field in fields}
    assert made["activeDeadlineSeconds"] == expected["activeDeadlineSeconds"]
    assert (step.pool, job.get_retry_policy_for_handle(step.node_handle).max_retries) == ("gpu-spot", 4)


def test_the_configuration_of_a_run_cannot_change_the_pod_of_a_step(definitions):
    _, step = planned(definitions, None)
    assert json.loads(step.tags["dagster-k8s/config"]) == op_tags("gpu-spot")["dagster-k8s/config"]
    assert definitions.resolve_job_def("toy_lifecycle").run_tags.get("dagster-k8s/config") is None
