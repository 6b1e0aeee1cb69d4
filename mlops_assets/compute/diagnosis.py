"""Why a step's pod died or does not start, from what Kubernetes itself says of the Job, its pods and their events.

Pure: it takes the objects that the Kubernetes client returns, and asks nobody. What launches, looks again and decides
about retries is `handler.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Event, V1ContainerStatus, V1Job, V1Pod

Kind = Literal["oom", "preempted", "evicted", "deadline", "image", "configuration", "unschedulable", "error", "unknown"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# Where the kind is left: the run's tag, with the step's own below it, and the metadata of the step's failure.
FAILURE, RETRIED, POD = "mlops/step_failure", "mlops/step_retried", "step_pod"

TITLES: Mapping[Kind, str] = {
    "oom": "out of memory",
    "preempted": "preempted",
    "evicted": "evicted",
    "deadline": "over its time limit",
    "image": "its image cannot be had",
    "configuration": "wrongly configured",
    "unschedulable": "no place for it",
    "error": "its process broke off",
    "unknown": "of unknown cause",
}
WHAT_TO_DO: Mapping[Kind, str] = {
    "deadline": "Give its profile a longer max_runtime, or the step less to do.",
    "image": "Check the image's name, its tag or digest, and the pull secret.",
    "configuration": "Mend what is named, then re-execute from failure.",
    "unschedulable": "See whether any node pool has what its profile asks for, and room or quota for it.",
}

POD_REASONS: Mapping[str, tuple[Kind, str]] = {
    "DeadlineExceeded": ("deadline", "the pod was active for longer than its active_deadline_seconds"),
    "Preempting": ("preempted", "the kubelet removed it to make room for a critical pod"),
    "NodeShutdown": ("preempted", "its node was shut down"),
    "Shutdown": ("preempted", "its node was shut down"),
    "Terminated": ("preempted", "its node was shut down"),
    "Evicted": ("evicted", "the kubelet evicted it"),
    "NodeLost": ("evicted", "its node was lost"),
    "NodeAffinity": ("evicted", "its node does not match it any more"),
    "UnexpectedAdmissionError": ("evicted", "its node refused it after it had been placed there"),
}
REFUSED_BY_NODE: tuple[Kind, str] = ("evicted", "its node had no room left for it after it had been placed there")
DISRUPTIONS: Mapping[str, tuple[Kind, str]] = {
    "PreemptionByScheduler": ("preempted", "the scheduler gave its place to a pod of higher priority"),
    "TerminationByKubelet": ("preempted", "the kubelet ended it, as when a node is shut down"),
    "EvictionByEvictionAPI": ("evicted", "somebody drained its node"),
    "DeletionByTaintManager": ("evicted", "its node was tainted, as when it does not answer any more"),
    "DeletionByPodGC": ("evicted", "its node is gone"),
}
WAITING: Mapping[str, Kind] = {
    "ImagePullBackOff": "image",
    "ErrImagePull": "image",
    "InvalidImageName": "image",
    "ErrImageNeverPull": "image",
    "ImageInspectError": "image",
    "RegistryUnavailable": "image",
    "CreateContainerConfigError": "configuration",
    "CreateContainerError": "configuration",
    "RunContainerError": "configuration",
    "CrashLoopBackOff": "error",
}
HOPELESS = frozenset({"InvalidImageName", "ErrImageNeverPull"})
RUNTIME_REFUSED = frozenset({"ContainerCannotRun", "StartError"})
SIGNALS: Mapping[int, str] = {
    134: "it aborted (SIGABRT)",
    137: "it was killed from outside (SIGKILL), and not for its memory",
    139: "it broke with a segmentation fault (SIGSEGV)",
    143: "it was asked to end from outside (SIGTERM)",
}
CREATION: tuple[tuple[str, Kind, str], ...] = (
    ("exceeded quota", "unschedulable", "the namespace's quota is reached"),
    ("failed quota", "unschedulable", "the namespace's quota wants a resource to be stated"),
    ("service account", "configuration", "its service account does not exist"),
    ("serviceaccount", "configuration", "its service account does not exist"),
    ("violates PodSecurity", "configuration", "the namespace's Pod Security refuses it"),
    ("", "configuration", "Kubernetes refuses to create its pod"),
)
MISSING = re.compile(
    r"""(?P<what>secret|configmap|persistentvolumeclaim|runtimeclass)s? ["'](?P<name>[^"']+)["'] not found""", re.I
)
MOUNTS = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume"})
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST = 300


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong with a step's Job, in one sentence, and the facts that it rests on.

    `hopeless` is what waiting cannot mend. `missing` is the object of Kubernetes that is not there.
    """

    kind: Kind
    why: str
    pod: str | None = None
    node: str | None = None
    container: str | None = None
    exit_code: int | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    requests: Mapping[str, str] = field(default_factory=dict)
    scheduler: str | None = None
    missing: str | None = None
    hopeless: bool = False
    pending_seconds: float | None = None

    @property
    def sentence(self) -> str:
        """The kind in words, and why."""
        return f"{TITLES[self.kind]}: {self.why}"

    @property
    def facts(self) -> dict[str, str | int]:
        """What is known, for metadata; nothing of what is not."""
        known: dict[str, str | int | None] = {
            "kind": self.kind,
            "pod": self.pod,
            "node": self.node,
            "container": self.container,
            "exit_code": self.exit_code,
            "limits": _listed(self.limits),
            "requests": _listed(self.requests),
            "scheduler": self.scheduler,
            "missing": self.missing,
            "pending_seconds": None if self.pending_seconds is None else round(self.pending_seconds),
        }
        return {name: value for name, value in known.items() if value is not None}


def diagnose(job: V1Job, pods: Sequence[V1Pod], events: Sequence[CoreV1Event] = ()) -> Diagnosis:
    """What is wrong, by the newest pod that did not succeed; without one, by the Job and what its controller said."""
    deadline = _condition(job.status.conditions, "Failed")
    if deadline is not None and deadline.reason == "DeadlineExceeded":
        return _over_its_deadline(job, pods, events)
    pod = newest(pod for pod in pods if pod.status.phase != "Succeeded")
    if pod is not None:
        found = next((each for look in LOOKS if (each := look(pod)) is not None), None)
        found = found or _not_mounted(pod, events) or _not_placed(pod, events) or _unknown(job, pods)
        return _placed(found, pod)
    return _without_pod(job, pods, events)


def interruption(pods: Sequence[V1Pod]) -> Diagnosis | None:
    """Why Kubernetes ends, or ended, the newest pod before its time; None where it says nothing of that."""
    pod = newest(pods)
    found = _lost(pod) or _disrupted(pod) if pod is not None else None
    return _placed(found, pod) if found is not None else None


def newest(pods: Iterable[V1Pod]) -> V1Pod | None:
    """The pod that was made last: Kubernetes may have replaced an earlier one."""
    return max(pods, key=lambda pod: pod.metadata.creation_timestamp or EPOCH, default=None)


def ended(job: V1Job) -> Literal["Complete", "Failed"] | None:
    """How the Job ended, by its conditions: they alone are final, a count of failed pods is not."""
    for kind in ("Failed", "Complete"):
        if _condition(job.status.conditions, kind) is not None:
            return kind
    return None


def is_suspended(job: V1Job) -> bool:
    """Whether somebody, such as Kueue, holds the Job back: it waits in a queue, and has no pod to wait for."""
    return bool(job.spec.suspend) or _condition(job.status.conditions, "Suspended") is not None


def pending_since(job: V1Job, pods: Sequence[V1Pod]) -> datetime | None:
    """Since when the step waits for its container to run; None where it runs, has ended or is held back."""
    if is_suspended(job) or ended(job):
        return None
    pod = newest(pods)
    if pod is None:
        return job.status.start_time or job.metadata.creation_timestamp
    return pod.metadata.creation_timestamp if pod.status.phase in (None, "Pending") else None


def stuck(found: Diagnosis, seconds: float) -> Diagnosis:
    """The same, as what kept a pod from starting for so long. What nothing is said of waits for a place."""
    kind: Kind = "unschedulable" if found.kind == "unknown" else found.kind
    return replace(found, kind=kind, why=f"pending for {seconds:.0f} s: {found.why}", pending_seconds=seconds)


def _over_its_deadline(job: V1Job, pods: Sequence[V1Pod], events: Sequence[CoreV1Event]) -> Diagnosis:
    limit = job.spec.active_deadline_seconds
    pod, words = newest(pods), _scheduler(newest(pods), events)
    why = f"the Job was active for longer than {limit} s" + (f" while unschedulable: {words}" if words else "")
    return _placed(Diagnosis("deadline", why, scheduler=words), pod)


def _lost(pod: V1Pod) -> Diagnosis | None:
    """What the pod's own status gives as the reason: it was removed, or refused by its node."""
    reason, said = pod.status.reason or "", pod.status.message
    if "EmptyDir volume" in (said or "") and reason == "Evicted":
        return Diagnosis("oom", f"a volume in memory is full: {_short(said)}")
    known = POD_REASONS.get(reason) or (REFUSED_BY_NODE if reason.startswith("OutOf") else None)
    if known is None:
        return None
    kind, why = known
    return Diagnosis(kind, _with(why, f"{reason}: {said}" if said else reason))


def _disrupted(pod: V1Pod) -> Diagnosis | None:
    """What Kubernetes notes on a pod that it removes for a reason of its own."""
    condition = _condition(pod.status.conditions, "DisruptionTarget")
    if condition is None:
        return None
    kind, why = DISRUPTIONS.get(condition.reason or "", ("evicted", "Kubernetes removed it"))
    return Diagnosis(kind, _with(why, f"{condition.reason}: {condition.message}"))


def _killed_for_memory(pod: V1Pod) -> Diagnosis | None:
    for status in _containers(pod):
        for state in (status.state, status.last_state):
            ending = state.terminated if state else None
            if ending is not None and ending.reason == "OOMKilled":
                limit = _resources(pod, status.name, "limits").get("memory", "none, so the node's")
                return Diagnosis(
                    "oom",
                    f"container {status.name} was OOMKilled (exit {ending.exit_code}); its memory limit is {limit}",
                    container=status.name,
                    exit_code=ending.exit_code,
                )
    return None


def _exited(pod: V1Pod) -> Diagnosis | None:
    for status in _containers(pod):
        ending = status.state.terminated if status.state else None
        if ending is None or not ending.exit_code:
            continue
        kind: Kind = "configuration" if ending.reason in RUNTIME_REFUSED else "error"
        said = _short(ending.message) if ending.reason in RUNTIME_REFUSED else SIGNALS.get(ending.exit_code)
        why = f"container {status.name} exited with {ending.exit_code}" + (f": {said}" if said else "")
        return Diagnosis(kind, why, container=status.name, exit_code=ending.exit_code)
    return None


def _not_started(pod: V1Pod) -> Diagnosis | None:
    for status in _containers(pod):
        waiting = status.state.waiting if status.state else None
        kind = WAITING.get(waiting.reason or "") if waiting else None
        if waiting is None or kind is None:
            continue
        missing, image = _missing(waiting.message), f" of image {status.image}" if kind == "image" else ""
        why = f"container {status.name}{image}: {waiting.reason}" + (
            f", {_short(waiting.message)}" if waiting.message else ""
        )
        hopeless = waiting.reason in HOPELESS
        return Diagnosis(kind, why, container=status.name, missing=missing, hopeless=hopeless)
    return None


def _not_placed(pod: V1Pod, events: Sequence[CoreV1Event]) -> Diagnosis | None:
    words = _scheduler(pod, events)
    return Diagnosis("unschedulable", words, scheduler=words) if words and not pod.spec.node_name else None


def _not_mounted(pod: V1Pod, events: Sequence[CoreV1Event]) -> Diagnosis | None:
    """A volume that its node cannot mount: the pod stays pending without a word in its status."""
    said = _last(events, pod.metadata.name, MOUNTS)
    if said is None or pod.status.phase not in (None, "Pending"):
        return None
    return Diagnosis("configuration", f"{said.reason}: {_short(said.message)}", missing=_missing(said.message))


LOOKS: tuple[Callable[[V1Pod], Diagnosis | None], ...] = (_lost, _disrupted, _killed_for_memory, _exited, _not_started)


def _without_pod(job: V1Job, pods: Sequence[V1Pod], events: Sequence[CoreV1Event]) -> Diagnosis:
    """By what the Job's controller said: it may not create pods, or has created more than one."""
    name = job.metadata.name
    refused = _last(events, name, {"FailedCreate"})
    if refused is not None and not pods:
        said = refused.message or ""
        kind, why = next((kind, why) for part, kind, why in CREATION if part.lower() in said.lower())
        return Diagnosis(kind, f"{why}: {_short(said)}", missing=_missing(said))
    created = {each.message for each in events if each.reason == "SuccessfulCreate" and _is_about(each, name)}
    if len(created) > 1:
        return Diagnosis("evicted", "Kubernetes replaced its pod, and a step that began is not begun twice in one Job")
    return _unknown(job, pods)


def _unknown(job: V1Job, pods: Sequence[V1Pod]) -> Diagnosis:
    """What Kubernetes says, where it says nothing of why."""
    how = ended(job)
    condition = _condition(job.status.conditions, how) if how else None
    said = " ".join(part for part in (condition and condition.reason, condition and condition.message) if part)
    if how == "Complete":
        return Diagnosis("unknown", "its Job is complete, but the step never said how it ended")
    if how == "Failed":
        gone = "" if pods else ", and no pod of it is left that could say why"
        return Diagnosis("unknown", f"its Job failed{gone}" + (f" ({_short(said)})" if said else ""))
    return Diagnosis("unknown", "Kubernetes gives no reason" if pods else "its Job has no pod, and gives no reason")


def _placed(found: Diagnosis, pod: V1Pod | None) -> Diagnosis:
    """With where it was and what it had asked for."""
    if pod is None:
        return found
    node, container = pod.spec.node_name, found.container or next((each.name for each in pod.spec.containers), None)
    return replace(
        found,
        why=f"{found.why} (pod {pod.metadata.name} on node {node})" if node else found.why,
        pod=pod.metadata.name,
        node=node,
        limits=_resources(pod, container, "limits"),
        requests=_resources(pod, container, "requests"),
    )


def _scheduler(pod: V1Pod | None, events: Sequence[CoreV1Event]) -> str | None:
    """The scheduler's own words on why a pod has no node."""
    condition = next(
        (each for each in (pod.status.conditions or [] if pod else []) if each.type == "PodScheduled"), None
    )
    if condition is not None and condition.status == "False":
        return _short(condition.message or condition.reason)
    if pod is not None and pod.spec.node_name:
        return None
    said = _last(events, pod.metadata.name if pod else None, {"FailedScheduling"})
    return _short(said.message) if said is not None else None


def _containers(pod: V1Pod) -> Iterator[V1ContainerStatus]:
    yield from pod.status.init_container_statuses or ()
    yield from pod.status.container_statuses or ()


def _condition(conditions: Sequence | None, kind: str):  # noqa: ANN202 - Jobs and pods have classes of their own for it
    return next((each for each in conditions or () if each.type == kind and each.status == "True"), None)


def _last(events: Sequence[CoreV1Event], name: str | None, reasons: Iterable[str]) -> CoreV1Event | None:
    """The newest event with one of these reasons, about an object or, without a name, about any."""
    told = [each for each in events if each.reason in reasons and (name is None or _is_about(each, name))]
    return max(told, key=lambda each: each.last_timestamp or each.event_time or EPOCH, default=None)


def _is_about(event: CoreV1Event, name: str) -> bool:
    return event.involved_object.name == name


def _resources(pod: V1Pod, container: str | None, kind: Literal["limits", "requests"]) -> dict[str, str]:
    every = [*(pod.spec.init_containers or ()), *pod.spec.containers]
    found = next((each.resources for each in every if each.name == container), None)
    return dict(getattr(found, kind) or {}) if found else {}


def _missing(said: str | None) -> str | None:
    found = MISSING.search(said or "")
    return f"{found['what'].lower()} {found['name']}" if found else None


def _listed(quantities: Mapping[str, str]) -> str | None:
    return ", ".join(f"{name} {quantity}" for name, quantity in sorted(quantities.items())) or None


def _with(why: str, said: str) -> str:
    return f"{why} ({_short(said)})"


def _short(said: str | None) -> str:
    text = " ".join((said or "").split())
    return text if len(text) <= LONGEST else text[: LONGEST - 4] + " ..."
