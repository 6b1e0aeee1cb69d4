"""What a step can meet on a cluster, each on the simulated cluster with the unmodified K8sRunLauncher."""

import dagster as dg
import pytest

from mlops_assets_tests.cluster.harness import site

GPU = "nvidia.com/gpu"
DEVICES = dg.AssetKey("network")


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    with site(tmp_path_factory.mktemp("cluster")) as opened:
        yield opened


def placed(pods):
    """Which step ran on which node, and how many devices it was given; the run's own pod is the step None."""
    return {
        pod["metadata"]["labels"].get("dagster/op"): (
            pod["spec"]["nodeName"],
            pod["spec"]["containers"][0]["resources"]["limits"].get(GPU),
        )
        for pod in pods
    }


def test_only_the_step_that_trains_gets_the_accelerator_and_lands_on_its_node(here):
    run = here.ended(here.launch("learn"))
    assert run.status == dg.DagsterRunStatus.SUCCESS, here.told(run.run_id)
    assert placed(here.cluster.pods(run.run_id)) == {
        None: ("cpu-1", None),
        "rows": ("cpu-1", None),
        "network": ("gpu-1", "1"),
    }
    assert here.metadata(DEVICES)["devices"].value == "0"


def test_a_step_that_outgrows_its_memory_is_killed_and_the_stock_executor_does_not_say_why(here):
    run = here.ended(here.launch("eat"))
    assert run.status == dg.DagsterRunStatus.FAILURE
    (pod,) = (pod for pod in here.cluster.pods(run.run_id) if "dagster/op" in pod["metadata"]["labels"])
    (container,) = pod["status"]["containerStatuses"]
    assert (container["state"]["terminated"]["reason"], container["state"]["terminated"]["exitCode"]) == (
        "OOMKilled", 137,
    )  # fmt: skip
    assert "Discovered failed Kubernetes job" in here.why(run.run_id, "hungry")
    assert "OOM" not in here.why(run.run_id, "hungry")
