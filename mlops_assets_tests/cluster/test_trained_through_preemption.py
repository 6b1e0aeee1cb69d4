"""A model is trained on the simulated cluster as in production: a delivery comes, the daemon's sensor starts a run,
the training's spot node is taken back in the middle, and the training goes on from its checkpoint on another."""

import dagster as dg
import pytest

from mlops_assets_tests import toy
from mlops_assets_tests.cluster.harness import add_gpu_node, site, step_of
from mlops_assets_tests.cluster.production import TAKEN_BACK, UNDER_WAY
from mlops_assets_tests.cluster.waiting import until
from mlops_assets_tests.ml.networks import needs_torch

pytestmark = needs_torch

LEARNED_BY = ("torch._dynamo", "mlops_assets.code_server_imports")


@pytest.fixture
def here(tmp_path):
    with site(tmp_path, "mlops_assets_tests.cluster.production", LEARNED_BY) as opened:
        yield opened


@pytest.mark.timeout(900)
def test_a_delivery_becomes_a_model_although_its_training_is_preempted(here):
    add_gpu_node(here.cluster, "spot-1", spot=True)
    for month in toy.MONTHS[:4]:
        toy.deliver(here.mailbox / "landing", month)
    with here.daemon():
        until((here.mailbox / UNDER_WAY).exists, "a training under way")
        here.cluster.nodes.preempt("spot-1")
        (here.mailbox / TAKEN_BACK).touch()
        add_gpu_node(here.cluster, "spot-2", spot=True)
        (run,) = until(lambda: [run for run in here.instance.get_runs() if run.is_finished], "the end of the run")
    assert run.status == dg.DagsterRunStatus.SUCCESS, here.told(run.run_id)
    assert run.tags["dagster/sensor_name"] == "toy_new_data"
    asked = [(step_of(pod), pod["spec"]["nodeName"]) for pod in here.cluster.pods(run.run_id)]
    assert asked == [(None, "cpu-1"), ("toy__trained_model", "spot-1"), ("toy__trained_model", "spot-2")]
    assert here.cluster.pods(run.run_id)[1]["status"]["reason"] == "Terminated"
    learned = here.metadata("toy/trained_model")
    assert learned["checkpoint_notes"].value[0].startswith("It goes on from checkpoints/toy/")
    assert here.metadata("toy/registered_version")["version"].value == 1
