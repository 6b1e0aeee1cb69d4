"""What a step can meet on a cluster, each on the simulated cluster with the unmodified K8sRunLauncher.

Each asserts how the run ended, and that the reason stands where a person looks: in the step's failure and in the run's
tags.
"""

import dagster as dg
import pytest
from dagster_k8s.client import DagsterK8sUnrecoverableAPIError

from mlops_assets.compute.diagnosis import FAILURE, RETRIED
from mlops_assets_tests.cluster.harness import add_gpu_node, site, step_of
from mlops_assets_tests.cluster.location import EPOCHS, INTERRUPTED_AT
from mlops_assets_tests.cluster.waiting import until

GPU = "nvidia.com/gpu"
SUCCESS, FAILED = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    with site(tmp_path_factory.mktemp("cluster")) as opened:
        yield opened


def placed(pods):
    """Which step ran on which node, and how many devices it was given."""
    return {
        step_of(pod): (pod["spec"]["nodeName"], pod["spec"]["containers"][0]["resources"]["limits"].get(GPU))
        for pod in pods
    }


def test_only_the_step_that_trains_gets_a_pod_with_the_accelerator_and_small_steps_stay_in_the_runs(here):
    run = here.ended(here.launch("learn"))
    assert run.status == SUCCESS, here.told(run.run_id)
    assert placed(here.cluster.pods(run.run_id)) == {None: ("cpu-1", None), "network": ("gpu-1", "1")}
    assert here.metadata("network")["devices"].value == "0"


def test_a_step_that_outgrows_its_memory_says_so_with_its_limit(here):
    run = here.ended(here.launch("eat"))
    assert run.status == FAILED
    assert "out of memory: container dagster was OOMKilled (exit 137); its memory limit is 512Mi" in here.why(
        run.run_id, "hungry"
    )
    assert here.tags(run.run_id)[FAILURE] == "oom"


def test_a_step_that_outgrows_its_memory_is_tried_again_with_the_next_bigger_profile(here):
    run = here.ended(here.launch("grow"))
    assert run.status == SUCCESS, here.told(run.run_id)
    pods = [pod for pod in here.cluster.pods(run.run_id) if step_of(pod) == "growing"]
    assert [pod["spec"]["containers"][0]["resources"]["limits"]["memory"] for pod in pods] == ["512Mi", "24Gi"]
    assert "its memory limit is 512Mi" in here.why(run.run_id, "growing")
    assert here.tags(run.run_id)[f"{RETRIED}/growing"] == "oom"


def test_the_stock_executor_does_not_say_why_a_step_died(here):
    run = here.ended(here.launch("eat_stock"))
    assert run.status == FAILED
    said = here.why(run.run_id, "hungry")
    assert "Discovered failed Kubernetes job" in said
    assert "memory" not in said


def test_a_preempted_step_goes_on_from_its_checkpoint_on_another_node(here):
    add_gpu_node(here.cluster, "spot-1", spot=True)
    run_id = here.launch("study")
    kept = here.mailbox / f"{run_id}.json"
    until(lambda: kept.exists() and kept.read_text() == str(INTERRUPTED_AT), "a checkpoint")
    here.cluster.nodes.preempt("spot-1")
    add_gpu_node(here.cluster, "spot-2", spot=True)
    run = here.ended(run_id)
    assert run.status == SUCCESS, here.told(run_id)
    nodes = [pod["spec"]["nodeName"] for pod in here.cluster.pods(run_id) if step_of(pod) == "student"]
    assert nodes == ["spot-1", "spot-2"]
    learned = here.metadata("student")
    assert (learned["went_on_from"].value, learned["learned"].value) == (INTERRUPTED_AT, EPOCHS)


def test_a_step_that_no_node_can_take_fails_with_the_schedulers_words(here):
    run = here.ended(here.launch("want"))
    assert run.status == FAILED
    said = here.why(run.run_id, "greedy")
    assert "no place for it: pending for" in said
    assert "0/" in said
    assert f"Insufficient {GPU}" in said
    assert here.tags(run.run_id)[FAILURE] == "unschedulable"


@pytest.mark.parametrize(
    ("job", "step", "kind", "words"),
    [
        ("pull", "unpulled", "image", 'Back-off pulling image "registry.example/absent:1"'),
        ("arm", "unarmed", "configuration", 'secret "absent" not found'),
    ],
)
def test_a_step_that_cannot_start_names_what_is_not_there(here, job, step, kind, words):
    run = here.ended(here.launch(job))
    assert run.status == FAILED
    assert words in here.why(run.run_id, step)
    assert here.tags(run.run_id)[FAILURE] == kind


def test_a_step_for_which_the_namespace_has_no_quota_left_says_which(here):
    quota = here.cluster.store.put(
        "ResourceQuota", "devices", here.cluster.namespace, spec={"hard": {f"requests.{GPU}": "0"}}
    )
    try:
        run = here.ended(here.launch("ration"))
    finally:
        here.cluster.store.remove(quota)
    assert run.status == FAILED
    said = here.why(run.run_id, "network")
    assert "exceeded quota: devices, requested" in said
    assert here.tags(run.run_id)[FAILURE] == "unschedulable"


def test_an_evicted_run_is_resumed_by_the_daemon_and_its_step_never_notices(here):
    run_id = here.launch("wait")
    until((here.mailbox / "patient").exists, "the step at work")
    (own,) = (pod for pod in here.cluster.pods(run_id) if step_of(pod) is None)
    with here.daemon():
        here.cluster.nodes.evict(here.cluster.store.get("Pod", own["metadata"]["name"], here.cluster.namespace))
        until(lambda: len(here.cluster.made("Job", run_id)) == 3, "a second Job for the run")
        (here.mailbox / "enough").touch()
        run = here.ended(run_id)
    assert run.status == SUCCESS, here.told(run_id)
    assert [step_of(job) for job in here.cluster.made("Job", run_id)] == [None, "patient", None]


def test_a_run_that_the_api_does_not_take_fails_with_its_answer(here):
    here.cluster.trouble(429, 1, lambda method, path: method == "POST" and path.endswith("/jobs"))
    with pytest.raises(DagsterK8sUnrecoverableAPIError):
        here.launch("learn")
    (run,) = here.instance.get_runs(limit=1)
    assert run.status == FAILED
    assert any("429" in line for line in here.told(run.run_id))


def test_an_api_that_fails_while_a_step_is_looked_after_costs_nothing(here):
    for word in ("patient", "enough"):
        (here.mailbox / word).unlink(missing_ok=True)
    run_id = here.launch("wait")
    until((here.mailbox / "patient").exists, "the step at work")
    trouble = here.cluster.trouble(500, 2, lambda method, path: method == "GET" and "/jobs/dagster-step" in path)
    until(lambda: trouble.times == 0, "two looks that failed")
    (here.mailbox / "enough").touch()
    run = here.ended(run_id)
    assert run.status == SUCCESS, here.told(run_id)
    assert any("Kubernetes' API does not say how its Job is (500" in line for line in here.told(run_id))
