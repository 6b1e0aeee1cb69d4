"""What may happen to a Job, as scripts that the API on loopback plays."""

from __future__ import annotations

from typing import Any

import dagster as dg
from dagster._core.execution.plan.objects import StepFailureData, StepRetryData
from dagster._utils.error import SerializableErrorInfo

from mlops_assets_tests.compute.apiserver import COMPLETE, Api, Manifest, Script, pod, tell

FAILED = {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}], "failed": 1}


def container(state: Manifest, **more: Any) -> list[Manifest]:
    """The statuses of a pod's one container."""
    return [{"name": "dagster", "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state, **more}]


def dies(job_status: Manifest, pod_status: Manifest, **spec: Any) -> Script:
    """The Job ends at once, without a word of the step."""

    def play(api: Api, job: Manifest) -> None:
        job["status"] = {**job["status"], **job_status}
        api.pods[job["metadata"]["name"]] = [pod(job, pod_status, nodeName="gpu-1", **spec)]

    return play


def waits(pod_status: Manifest, age: float = 0, **spec: Any) -> Script:
    """A pod that is pending, since some seconds ago."""

    def play(api: Api, job: Manifest) -> None:
        api.pods[job["metadata"]["name"]] = [pod(job, {"phase": "Pending", **pod_status}, age=age, **spec)]

    return play


def terminated(reason: str, code: int) -> list[Manifest]:
    """A container that ended."""
    return container({"terminated": {"exitCode": code, "reason": reason}})


def refused(reason: str, message: str) -> Manifest:
    """A pod whose container is kept from starting."""
    return {"containerStatuses": container({"waiting": {"reason": reason, "message": message}})}


OOM = dies(FAILED, {"phase": "Failed", "containerStatuses": terminated("OOMKilled", 137)})
KILLED = dies(FAILED, {"phase": "Failed", "containerStatuses": terminated("Error", 137)})
PREEMPTED = dies(
    FAILED,
    {
        "phase": "Failed",
        "conditions": [
            {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "by ml/big"}
        ],
    },
)
REPLACED = dies(COMPLETE, {"phase": "Succeeded"})


def interrupted(again: bool) -> Script:
    """The step's process is asked to end, and has the time to say so."""
    error = SerializableErrorInfo("Execution was interrupted", [], "DagsterExecutionInterruptedError")
    failure = (dg.DagsterEventType.STEP_FAILURE, StepFailureData(error, None))
    retry = (dg.DagsterEventType.STEP_UP_FOR_RETRY, StepRetryData(error))

    def play(api: Api, job: Manifest) -> None:
        PREEMPTED(api, job)
        tell(job, retry if again else failure)

    return play


NO_ROOM = {
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/2 nodes are available: 2 Insufficient nvidia.com/gpu.",
        }
    ]
}
