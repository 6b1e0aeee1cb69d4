"""What each state of a Job, its pods and their events is called, on objects as the Kubernetes client makes them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client import ApiClient

from mlops_assets.compute.diagnosis import (
    DISRUPTIONS,
    KINDS,
    POD_REASONS,
    TITLES,
    WAITING,
    diagnose,
    ended,
    is_suspended,
    newest,
    pending_since,
    stuck,
)

CLIENT = ApiClient()
SCHEDULER = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
UNPLACED = {
    "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": SCHEDULER}]
}


def model(kind: str, manifest: dict[str, Any]) -> Any:
    """A manifest as the client gives it."""
    return CLIENT.deserialize(SimpleNamespace(data=json.dumps(manifest)), kind)


def a_job(*conditions: dict[str, Any], **spec: Any):
    status = {"conditions": list(conditions), "startTime": "2026-11-22T03:00:00Z"}
    template = {"spec": {"containers": []}}
    metadata = {"name": "step-1", "creationTimestamp": "2026-11-22T02:59:00Z"}
    return model("V1Job", {"metadata": metadata, "spec": {"template": template, **spec}, "status": status})


def a_pod(status: dict[str, Any], name: str = "step-1-x", node: str | None = "gpu-1", made: str = "03:00:01"):
    resources = {"limits": {"memory": "24Gi", "nvidia.com/gpu": "1"}, "requests": {"cpu": "4", "memory": "24Gi"}}
    spec: dict[str, Any] = {
        "initContainers": [{"name": "fetch", "resources": {"limits": {"memory": "1Gi"}}}],
        "containers": [{"name": "dagster", "resources": resources}],
    }
    if node:
        spec["nodeName"] = node
    metadata = {"name": name, "creationTimestamp": f"2026-11-22T{made}Z"}
    return model("V1Pod", {"metadata": metadata, "spec": spec, "status": {"phase": "Failed", **status}})


def an_event(reason: str, message: str, about: str = "step-1-x", at: str = "03:00:05"):
    event = {"metadata": {}, "reason": reason, "message": message, "involvedObject": {"name": about}}
    return model("CoreV1Event", {**event, "lastTimestamp": f"2026-11-22T{at}Z"})


def containers(state: dict[str, Any], name: str = "dagster", **more: Any) -> list[dict[str, Any]]:
    return [
        {"name": name, "image": "reg/a:1", "imageID": "", "ready": False, "restartCount": 0, "state": state, **more}
    ]


def terminated(reason: str, code: int, message: str | None = None) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def waiting(reason: str, message: str) -> dict[str, Any]:
    return {"phase": "Pending", "containerStatuses": containers({"waiting": {"reason": reason, "message": message}})}


FAILED = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "Job has reached the limit"}
COMPLETE = {"type": "Complete", "status": "True"}


def test_every_kind_has_its_words():
    assert set(TITLES) == set(KINDS)


def test_a_container_killed_for_its_memory_names_node_limit_and_exit_code():
    found = diagnose(a_job(FAILED), [a_pod({"containerStatuses": containers(terminated("OOMKilled", 137))})])
    assert found.sentence == (
        "out of memory: container dagster was OOMKilled (exit 137); its memory limit is 24Gi "
        "(pod step-1-x on node gpu-1)"
    )
    assert found.facts == {
        "kind": "oom",
        "pod": "step-1-x",
        "node": "gpu-1",
        "container": "dagster",
        "exit_code": 137,
        "limits": "memory 24Gi, nvidia.com/gpu 1",
        "requests": "cpu 4, memory 24Gi",
    }


def test_an_init_container_killed_for_its_memory_is_named_with_its_own_limit():
    found = diagnose(
        a_job(FAILED), [a_pod({"initContainerStatuses": containers(terminated("OOMKilled", 137), "fetch")})]
    )
    assert (found.kind, found.container, found.limits["memory"]) == ("oom", "fetch", "1Gi")


def test_a_container_that_is_restarted_after_its_memory_ran_out_is_out_of_memory():
    state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    status = containers(state, lastState=terminated("OOMKilled", 137))
    assert diagnose(a_job(), [a_pod({"phase": "Running", "containerStatuses": status})]).kind == "oom"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (137, "killed from outside (SIGKILL), and not for its memory"),
        (139, "segmentation fault"),
        (143, "asked to end from outside"),
        (1, "exited with 1"),
    ],
)
def test_a_process_that_broke_off_is_an_error_that_says_how(code, words):
    found = diagnose(a_job(FAILED), [a_pod({"containerStatuses": containers(terminated("Error", code))})])
    assert (found.kind, found.exit_code) == ("error", code)
    assert words in found.sentence


def test_what_a_process_printed_last_is_never_repeated():
    state = terminated("Error", 1, "ValueError: customer 4711 has no address")
    found = diagnose(a_job(FAILED), [a_pod({"containerStatuses": containers(state)})])
    assert "4711" not in found.sentence + str(found.facts)


def test_a_command_that_the_runtime_cannot_start_is_configuration_with_its_words():
    state = terminated("StartError", 128, 'exec: "dagster": executable file not found in $PATH')
    found = diagnose(a_job(FAILED), [a_pod({"containerStatuses": containers(state)})])
    assert found.kind == "configuration"
    assert "executable file not found" in found.sentence


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("PreemptionByScheduler", "preempted"),
        ("TerminationByKubelet", "preempted"),
        ("EvictionByEvictionAPI", "evicted"),
        ("DeletionByTaintManager", "evicted"),
        ("DeletionByPodGC", "evicted"),
        ("SomethingNew", "evicted"),
    ],
)
def test_a_disruption_counts_before_the_exit_code_that_it_caused(reason, kind):
    condition = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "preempted by ml/big"}
    status = {"conditions": [condition], "containerStatuses": containers(terminated("Error", 137))}
    found = diagnose(a_job(FAILED), [a_pod(status)])
    assert found.kind == kind
    assert f"{reason}: preempted by ml/big" in found.sentence


def test_every_disruption_that_kubernetes_documents_is_known():
    assert set(DISRUPTIONS) == {
        "PreemptionByScheduler",
        "DeletionByTaintManager",
        "EvictionByEvictionAPI",
        "DeletionByPodGC",
        "TerminationByKubelet",
    }


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("Evicted", "evicted"),
        ("Preempting", "preempted"),
        ("NodeShutdown", "preempted"),
        ("Terminated", "preempted"),
        ("NodeLost", "evicted"),
        ("NodeAffinity", "evicted"),
        ("UnexpectedAdmissionError", "evicted"),
        ("OutOfcpu", "evicted"),
        ("OutOfmemory", "evicted"),
        ("OutOfnvidia.com/gpu", "evicted"),
        ("DeadlineExceeded", "deadline"),
    ],
)
def test_a_reason_in_the_pods_status_is_told_with_kubernetes_words(reason, kind):
    found = diagnose(a_job(FAILED), [a_pod({"reason": reason, "message": "The node was low on resource: memory."})])
    assert found.kind == kind
    assert f"{reason}: The node was low on resource: memory." in found.sentence


def test_every_reason_of_a_pod_is_a_kind():
    assert {kind for kind, _ in POD_REASONS.values()} <= set(KINDS)
    assert set(WAITING.values()) <= set(KINDS)


def test_a_full_volume_in_memory_is_out_of_memory_and_a_full_disk_is_not():
    said = 'Usage of EmptyDir volume "dshm" exceeds the limit "8Gi". '
    assert diagnose(a_job(FAILED), [a_pod({"reason": "Evicted", "message": said})]).kind == "oom"
    said = "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. "
    assert diagnose(a_job(FAILED), [a_pod({"reason": "Evicted", "message": said})]).kind == "evicted"


OVER = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "Job was active longer"}


def test_a_job_over_its_deadline_says_whether_it_ever_had_a_place():
    job = a_job(OVER, activeDeadlineSeconds=600)
    assert diagnose(job, []).sentence == "over its time limit: the Job was active for longer than 600 s"
    unplaced = diagnose(job, [a_pod({"phase": "Pending", **UNPLACED}, node=None)])
    assert (unplaced.kind, unplaced.scheduler) == ("deadline", SCHEDULER)
    assert f"while unschedulable: {SCHEDULER}" in unplaced.sentence
    gone = diagnose(job, [], [an_event("FailedScheduling", SCHEDULER)])
    assert f"while unschedulable: {SCHEDULER}" in gone.sentence
    ran = diagnose(job, [a_pod({})], [an_event("FailedScheduling", SCHEDULER)])
    assert "unschedulable" not in ran.sentence


@pytest.mark.parametrize(
    ("reason", "kind", "hopeless"),
    [
        ("ImagePullBackOff", "image", False),
        ("ErrImagePull", "image", False),
        ("InvalidImageName", "image", True),
        ("ErrImageNeverPull", "image", True),
        ("CreateContainerConfigError", "configuration", False),
        ("CreateContainerError", "configuration", False),
        ("RunContainerError", "configuration", False),
        ("CrashLoopBackOff", "error", False),
    ],
)
def test_a_container_that_is_kept_from_starting_says_by_what(reason, kind, hopeless):
    found = diagnose(a_job(), [a_pod(waiting(reason, "Back-off pulling"))])
    assert (found.kind, found.hopeless) == (kind, hopeless)
    assert f"{reason}, Back-off pulling" in found.sentence


@pytest.mark.parametrize(
    ("message", "missing"),
    [
        ('secret "mlflow-creds" not found', "secret mlflow-creds"),
        ('configmap "dagster-env" not found', "configmap dagster-env"),
        ("container has runAsNonRoot and image will run as root", None),
    ],
)
def test_a_missing_object_is_named(message, missing):
    found = diagnose(a_job(), [a_pod(waiting("CreateContainerConfigError", message))])
    assert (found.kind, found.missing) == ("configuration", missing)
    assert message in found.sentence


def test_a_volume_that_cannot_be_mounted_is_told_from_its_event_while_the_pod_waits():
    said = 'MountVolume.SetUp failed for volume "certs" : secret "tls" not found'
    events = [an_event("FailedMount", "older", at="03:00:02"), an_event("FailedMount", said)]
    creating = waiting("ContainerCreating", "")
    found = diagnose(a_job(), [a_pod(creating)], events)
    assert (found.kind, found.missing) == ("configuration", "secret tls")
    assert "older" not in found.sentence
    assert diagnose(a_job(), [a_pod({"phase": "Running"})], events).kind == "unknown"


def test_the_schedulers_words_are_told_from_the_pod_and_else_from_its_event():
    by_pod = diagnose(a_job(), [a_pod({"phase": "Pending", **UNPLACED}, node=None)])
    by_event = diagnose(a_job(), [a_pod({"phase": "Pending"}, node=None)], [an_event("FailedScheduling", SCHEDULER)])
    assert by_pod.sentence == by_event.sentence == f"no place for it: {SCHEDULER}"


@pytest.mark.parametrize(
    ("message", "kind", "words"),
    [
        (
            'pods "x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1, used: 8, limited: 8',
            "unschedulable",
            "the namespace's quota is reached",
        ),
        (
            'pods "x" is forbidden: error looking up service account ml/runs: serviceaccount "runs" not found',
            "configuration",
            "its service account does not exist",
        ),
        ('pods "x" is forbidden: violates PodSecurity "restricted:latest"', "configuration", "Pod Security refuses it"),
        ("Internal error occurred: webhook", "configuration", "Kubernetes refuses to create its pod"),
    ],
)
def test_a_job_that_may_not_create_its_pod_says_who_refuses(message, kind, words):
    found = diagnose(a_job(), [], [an_event("FailedCreate", message, about="step-1")])
    assert found.kind == kind
    assert words in found.sentence
    assert message in found.sentence


def test_a_job_that_created_two_pods_had_one_replaced():
    events = [an_event("SuccessfulCreate", f"Created pod: step-1-{each}", about="step-1") for each in "ab"]
    assert diagnose(a_job(COMPLETE), [], events).kind == "evicted"
    assert diagnose(a_job(COMPLETE), [], events[:1]).kind == "unknown"


def test_the_newest_pod_that_did_not_succeed_is_the_one_that_counts():
    condition = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "drain"}
    first = a_pod({"containerStatuses": containers(terminated("OOMKilled", 137))}, "a", made="03:00:01")
    second = a_pod({"conditions": [condition]}, "b", made="03:01:00")
    third = a_pod({"phase": "Succeeded"}, "c", made="03:02:00")
    assert diagnose(a_job(COMPLETE), [third, first, second]).kind == "evicted"
    assert newest([third, first, second]).metadata.name == "c"


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ([COMPLETE], "its Job is complete, but the step never said how it ended"),
        ([FAILED], "its Job failed, and no pod of it is left that could say why (BackoffLimitExceeded"),
        ([], "its Job has no pod, and gives no reason"),
    ],
)
def test_what_nobody_explains_is_said_to_be_unknown(conditions, words):
    found = diagnose(a_job(*conditions), [])
    assert found.kind == "unknown"
    assert words in found.sentence


@pytest.mark.parametrize(
    ("condition", "how"),
    [
        (COMPLETE, "Complete"),
        (FAILED, "Failed"),
        ({**FAILED, "status": "False"}, None),
        ({"type": "FailureTarget", "status": "True"}, None),
        ({"type": "SuccessCriteriaMet", "status": "True"}, None),
    ],
)
def test_only_a_final_condition_ends_a_job(condition, how):
    assert ended(a_job(condition)) == how


def test_a_job_that_is_held_back_is_not_pending():
    assert is_suspended(a_job(suspend=True))
    assert is_suspended(a_job({"type": "Suspended", "status": "True"}))
    assert not is_suspended(a_job(suspend=False))
    assert pending_since(a_job(suspend=True), []) is None


def test_a_step_is_pending_from_when_its_newest_pod_was_made_until_it_runs():
    waits = a_pod({"phase": "Pending"}, made="03:05:00")
    assert str(pending_since(a_job(), [waits])) == "2026-11-22 03:05:00+00:00"
    assert str(pending_since(a_job(), [])) == "2026-11-22 03:00:00+00:00"
    assert pending_since(a_job(), [a_pod({"phase": "Running"})]) is None
    assert pending_since(a_job(FAILED), [waits]) is None


def test_what_is_stuck_says_for_how_long_and_without_a_reason_has_no_place():
    found = stuck(diagnose(a_job(), [a_pod({"phase": "Pending", **UNPLACED}, node=None)]), 900.4)
    assert found.sentence == f"no place for it: pending for 900 s: {SCHEDULER}"
    assert found.facts["pending_seconds"] == 900
    assert stuck(diagnose(a_job(), []), 900).kind == "unschedulable"


def test_long_words_are_cut():
    found = diagnose(a_job(), [a_pod(waiting("ImagePullBackOff", "x" * 5000))])
    assert len(found.sentence) < 500
