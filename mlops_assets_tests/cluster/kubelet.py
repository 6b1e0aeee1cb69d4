"""The kubelets of all nodes in one: makes a pod's container a process, and says of it what a kubelet says."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from mlops_assets_tests.cluster.objects import (
    Object,
    is_deleted,
    is_over,
    quantity,
    set_condition,
    stamp,
)
from mlops_assets_tests.cluster.processes import Process, Warm
from mlops_assets_tests.cluster.store import RefusedError, Store

COMPONENT = "kubelet"
GRACE_SECONDS = 30
CONTAINER_READY = ("Initialized", "ContainersReady", "Ready")


class WaitingError(Exception):
    """A container that cannot start yet: the reason that its status gives, and the sentence."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


@dataclass
class Ending:
    """That a container was told to end, and by when."""

    by: datetime
    reason: str = ""
    message: str = ""


class Kubelet:
    """Pods that have a node become processes. `images` are those that can be pulled."""

    def __init__(self, store: Store, warm: Warm, folder: Path, images: set[str]) -> None:
        self._store, self._warm, self._folder, self.images = store, warm, folder, images
        self.processes: dict[str, Process] = {}
        self._endings: dict[str, Ending] = {}

    def log(self, pod: Object) -> Path:
        """Where a pod's output is."""
        return self._folder / f"{pod['metadata']['name']}.log"

    def turn(self) -> None:
        """Start what waits, watch what runs, forget what was deleted and is over."""
        for pod in self._store.list("Pod"):
            if is_over(pod):
                if is_deleted(pod):
                    self._store.remove(pod)
            elif pod["metadata"]["uid"] in self.processes:
                self._watch(pod)
            elif is_deleted(pod):
                pod["status"]["phase"] = "Failed"
            elif pod["spec"].get("nodeName"):
                self._start(pod)

    def end(self, pod: Object, grace: float, reason: str = "", message: str = "") -> None:
        """Tell a pod to end: politely, and after `grace` seconds not. What is said stands in its status at the end."""
        uid = pod["metadata"]["uid"]
        if uid in self._endings or is_over(pod):
            return
        self._endings[uid] = Ending(self._store.clock() + timedelta(seconds=grace), reason, message)
        if uid in self.processes:
            self.processes[uid].signal(signal.SIGTERM)
        else:
            self._over(pod, "Failed")

    def _start(self, pod: Object) -> None:
        container = pod["spec"]["containers"][0]
        try:
            self._pull(container["image"])
            env = dict(environment(self._store, pod, container))
        except WaitingError as why:
            self._wait(pod, why)
            return
        argv = [*(container.get("command") or ()), *(container.get("args") or ())]
        uid, now = pod["metadata"]["uid"], self._store.clock()
        self.processes[uid] = self._warm.start(argv, env, self._folder, self.log(pod))
        pod["status"] |= {"phase": "Running", "startTime": stamp(now), "hostIP": "127.0.0.1", "podIP": "127.0.0.1"}
        for kind in CONTAINER_READY:
            set_condition(pod, kind, True, now)
        self._say(pod, {"running": {"startedAt": stamp(now)}}, ready=True)
        self._store.tell(pod, "Started", f"Started container {container['name']}", COMPONENT, warning=False)

    def _pull(self, image: str) -> None:
        if image not in self.images:
            raise WaitingError("ImagePullBackOff", f'Back-off pulling image "{image}"')

    def _wait(self, pod: Object, why: WaitingError) -> None:
        """A container that waits says so; what can be mended by somebody starts when it is."""
        state = {"waiting": {"reason": why.reason, "message": why.message}}
        if (pod["status"].get("containerStatuses") or [{}])[0].get("state") == state:
            return
        self._say(pod, state, ready=False)
        if why.reason == "ImagePullBackOff":
            image = pod["spec"]["containers"][0]["image"]
            self._store.tell(pod, "Failed", f'Failed to pull image "{image}": {image}: not found', COMPONENT)
            self._store.tell(pod, "Failed", "Error: ErrImagePull", COMPONENT)
            self._store.tell(pod, "BackOff", why.message, COMPONENT, warning=False)
        else:
            self._store.tell(pod, "Failed", f"Error: {why.message}", COMPONENT)

    def _watch(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        process, ending = self.processes[uid], self._endings.get(uid)
        if process.ended.is_set():
            self._finish(pod, process, ending)
        elif ending is not None:
            if self._store.clock() >= ending.by:
                process.signal(signal.SIGKILL, everybody=True)
        elif is_deleted(pod):
            grace = pod["metadata"].get("deletionGracePeriodSeconds", grace_of(pod))
            self.end(pod, grace)
        elif process.memory() > memory_limit(pod):
            process.killed_for_memory = True
            process.signal(signal.SIGKILL, everybody=True)

    def _finish(self, pod: Object, process: Process, ending: Ending | None) -> None:
        code = process.code if process.code >= 0 else 128 - process.code
        reason = "OOMKilled" if process.killed_for_memory else "Completed" if code == 0 else "Error"
        now, started = stamp(self._store.clock()), pod["status"]["startTime"]
        ended = {"exitCode": code, "reason": reason, "startedAt": started, "finishedAt": now}
        self._say(pod, {"terminated": ended}, ready=False)
        if ending is not None:
            pod["status"] |= {name: said for name in ("reason", "message") if (said := getattr(ending, name))}
        self._over(pod, "Succeeded" if code == 0 and not (ending and ending.reason) else "Failed")

    def _over(self, pod: Object, how: str) -> None:
        pod["status"]["phase"] = how
        for kind in CONTAINER_READY[1:]:
            set_condition(pod, kind, False, self._store.clock(), "PodCompleted" if how == "Succeeded" else "PodFailed")

    def _say(self, pod: Object, state: Object, ready: bool) -> None:
        container = pod["spec"]["containers"][0]
        said = {"name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0}
        pod["status"]["containerStatuses"] = [{**said, "ready": ready, "started": ready, "state": state}]


def grace_of(pod: Object) -> int:
    """How long a pod may take to end when it is told to."""
    return pod["spec"].get("terminationGracePeriodSeconds", GRACE_SECONDS)


def memory_limit(pod: Object) -> float:
    """How many bytes a pod may hold."""
    limits = (pod["spec"]["containers"][0].get("resources") or {}).get("limits") or {}
    return float(quantity(limits["memory"])) if "memory" in limits else float("inf")


def environment(store: Store, pod: Object, container: Object) -> Iterator[tuple[str, str]]:
    """A container's variables. WaitingError where a secret or a configuration that it needs is not there."""
    meta = pod["metadata"]
    yield from {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "HOSTNAME": meta["name"]}.items()
    for source in container.get("envFrom") or ():
        for field, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
            if field in source:
                yield from _data(store, kind, meta["namespace"], source[field]).items()
    for variable in container.get("env") or ():
        if "valueFrom" in variable:
            yield from _referred(store, pod, variable["name"], variable["valueFrom"])
        else:
            yield variable["name"], variable.get("value", "")
    devices = ((container.get("resources") or {}).get("limits") or {}).items()
    count = sum(int(amount) for name, amount in devices if name.startswith("nvidia.com/"))
    yield "NVIDIA_VISIBLE_DEVICES", ",".join(map(str, range(count))) or "void"


def _data(store: Store, kind: str, namespace: str, reference: Object) -> Mapping[str, str]:
    try:
        return store.get(kind, reference["name"], namespace).get("data") or {}
    except RefusedError:
        if reference.get("optional"):
            return {}
        said = f'{kind.lower()} "{reference["name"]}" not found'
        raise WaitingError("CreateContainerConfigError", said) from None


def _referred(store: Store, pod: Object, name: str, source: Object) -> Iterator[tuple[str, str]]:
    meta = pod["metadata"]
    for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
        if field in source:
            data, key = _data(store, kind, meta["namespace"], source[field]), source[field]["key"]
            if key in data:
                yield name, data[key]
            elif not source[field].get("optional"):
                said = f"couldn't find key {key} in {kind} {meta['namespace']}/{source[field]['name']}"
                raise WaitingError("CreateContainerConfigError", said)
    known = {"metadata.name": meta["name"], "metadata.namespace": meta["namespace"], "metadata.uid": meta["uid"]}
    known |= {"spec.nodeName": pod["spec"].get("nodeName", ""), "status.podIP": "127.0.0.1"}
    if "fieldRef" in source:
        yield name, known[source["fieldRef"]["fieldPath"]]
