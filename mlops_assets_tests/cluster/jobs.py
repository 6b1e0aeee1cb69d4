"""The Job controller: makes a Job's pod, counts how pods ended, and says when the Job is over."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from mlops_assets_tests.cluster.objects import (
    Object,
    holds,
    is_deleted,
    is_over,
    owned,
    phase,
    set_condition,
    stamp,
)
from mlops_assets_tests.cluster.store import RefusedError, Store

COMPONENT = "job-controller"
LIMIT = ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
DEADLINE = ("DeadlineExceeded", "Job was active longer than specified deadline")


class Jobs:
    """Jobs of one pod at a time, as dagster-k8s makes them. `admit` creates a pod, or refuses it."""

    def __init__(self, store: Store, admit: Callable[[Object], Object]) -> None:
        self._store, self._admit = store, admit
        self._counted: set[str] = set()

    def turn(self) -> None:
        """Bring every Job one step further."""
        for job in self._store.list("Job"):
            pods = owned(self._store.list("Pod"), job)
            if holds(job, "Complete") or holds(job, "Failed"):
                self._forget_when_due(job, pods)
            elif not job["spec"].get("suspend"):
                self._bring_on(job, pods)

    def _bring_on(self, job: Object, pods: list[Object]) -> None:
        status, now = job["status"], self._store.clock()
        status.setdefault("startTime", stamp(now))
        verdict = self._count(job, pods)
        active = [pod for pod in pods if not is_over(pod) and not is_deleted(pod)]
        for name, count in (
            ("active", len(active)),
            ("ready", sum(holds(pod, "Ready") for pod in active)),
            ("terminating", sum(is_deleted(pod) and not is_over(pod) for pod in pods)),
        ):
            status[name] = count
        if failing := verdict or self._failing(job):
            self._fail(job, pods, *failing)
        elif status.get("succeeded"):
            status["completionTime"] = stamp(now)
            set_condition(job, "Complete", True, now, "CompletionsReached")
            self._store.tell(job, "Completed", "Job completed", COMPONENT, warning=False)
        elif not active:
            self._create_pod(job)

    def _count(self, job: Object, pods: list[Object]) -> tuple[str, str] | None:
        """Count each pod that ended, once. The words of a rule that ends the Job, where one applies."""
        status, verdict = job["status"], None
        for pod in pods:
            uid, succeeded = pod["metadata"]["uid"], phase(pod) == "Succeeded"
            if uid in self._counted or not (is_over(pod) or is_deleted(pod)):
                continue
            self._counted.add(uid)
            action = None if succeeded else _action(job, pod)
            if action == "FailJob":
                verdict = ("PodFailurePolicy", f"Pod {pod['metadata']['name']} failed by a rule with action FailJob")
            if succeeded:
                status["succeeded"] = status.get("succeeded", 0) + 1
            elif action != "Ignore":
                status["failed"] = status.get("failed", 0) + 1
        return verdict

    def _failing(self, job: Object) -> tuple[str, str] | None:
        target = next((each for each in job["status"].get("conditions", ()) if each["type"] == "FailureTarget"), None)
        if target is not None:
            return target["reason"], target["message"]
        deadline = job["spec"].get("activeDeadlineSeconds")
        if deadline is not None and self._age(job["status"]["startTime"]) >= deadline:
            return DEADLINE
        return LIMIT if job["status"].get("failed", 0) > job["spec"]["backoffLimit"] else None

    def _fail(self, job: Object, pods: list[Object], reason: str, message: str) -> None:
        """The Job is failing at once, and failed when no pod of it is left running."""
        now = self._store.clock()
        if not holds(job, "FailureTarget"):
            set_condition(job, "FailureTarget", True, now, reason, message)
            self._store.tell(job, reason, message, COMPONENT)
        living = [pod for pod in pods if not is_over(pod)]
        for pod in living:
            pod["metadata"].setdefault("deletionTimestamp", stamp(now))
        if not living:
            job["status"]["active"] = 0
            set_condition(job, "Failed", True, now, reason, message)

    def _create_pod(self, job: Object) -> None:
        meta, template = job["metadata"], copy.deepcopy(job["spec"]["template"])
        given = template.get("metadata") or {}
        labels = {"job-name": meta["name"], "batch.kubernetes.io/job-name": meta["name"]}
        labels |= {"controller-uid": meta["uid"], "batch.kubernetes.io/controller-uid": meta["uid"]}
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"], "controller": True}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{meta['name'][:57]}-{uuid.uuid4().hex[:5]}",
                "namespace": meta["namespace"],
                "labels": {**(given.get("labels") or {}), **labels},
                "annotations": given.get("annotations") or {},
                "ownerReferences": [{**owner, "blockOwnerDeletion": True}],
            },
            "spec": template["spec"],
        }
        try:
            self._admit(pod)
        except RefusedError as refused:
            self._store.tell(job, "FailedCreate", f"Error creating: {refused.message}", COMPONENT)
        else:
            self._store.tell(
                job, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}", COMPONENT, warning=False
            )

    def _forget_when_due(self, job: Object, pods: list[Object]) -> None:
        ttl = job["spec"].get("ttlSecondsAfterFinished")
        ended = max(each["lastTransitionTime"] for each in job["status"]["conditions"])
        if ttl is not None and self._age(ended) >= ttl:
            for thing in (*pods, job):
                self._store.remove(thing)

    def _age(self, since: str) -> float:
        return (
            self._store.clock() - datetime.strptime(since, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        ).total_seconds()


def _action(job: Object, pod: Object) -> str | None:
    """What the Job's podFailurePolicy says of a pod that failed."""
    rules = (job["spec"].get("podFailurePolicy") or {}).get("rules", ())
    return next((rule["action"] for rule in rules if _applies(rule, pod)), None)


def _applies(rule: Object, pod: Object) -> bool:
    said = {(each["type"], each["status"]) for each in pod["status"].get("conditions", ())}
    if any((each["type"], each.get("status", "True")) in said for each in rule.get("onPodConditions") or ()):
        return True
    exits = rule.get("onExitCodes")
    states = [each["state"].get("terminated") or {} for each in pod["status"].get("containerStatuses", ())]
    codes = [state["exitCode"] for state in states if state.get("exitCode")]
    return bool(exits) and any((code in exits["values"]) == (exits["operator"] == "In") for code in codes)
