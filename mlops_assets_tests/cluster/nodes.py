"""Nodes, and what happens to them: spot capacity is taken back, machines vanish, memory runs out, people drain."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from typing import Any

from mlops_assets_tests.cluster.kubelet import Kubelet, grace_of
from mlops_assets_tests.cluster.objects import Object, is_over, set_condition, stamp
from mlops_assets_tests.cluster.store import Store

SHUTDOWN = ("Terminated", "Pod was terminated in response to imminent node shutdown.")


class Nodes:
    """The machines of the simulated cluster."""

    def __init__(self, store: Store, kubelet: Kubelet) -> None:
        self._store, self._kubelet = store, kubelet
        self._leaving: set[str] = set()

    def add(
        self,
        name: str,
        allocatable: Mapping[str, str],
        labels: Mapping[str, str] | None = None,
        taints: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """A machine joins."""
        status = {"allocatable": {"pods": "110", **allocatable}, "conditions": [{"type": "Ready", "status": "True"}]}
        with self._store.lock:
            node = self._store.put("Node", name, spec={"taints": [*taints]}, status=status)
            node["metadata"]["labels"] = {**(labels or {})}

    def remove(self, name: str) -> None:
        """A machine without pods leaves."""
        self._store.remove(self._store.get("Node", name))

    def preempt(self, name: str, grace: float = 25) -> None:
        """Spot capacity is taken back: the kubelet ends every pod within `grace` seconds, then the node is gone."""
        with self._store.lock:
            self._store.get("Node", name)["spec"]["unschedulable"] = True
            for pod in self._pods(name):
                self._disrupt(pod, "TerminationByKubelet", SHUTDOWN[1])
                self._kubelet.end(pod, min(grace, grace_of(pod)), *SHUTDOWN)
            self._leaving.add(name)

    def lose(self, name: str) -> None:
        """A machine vanishes with everything on it; the garbage collector finds pods of a node that is not there."""
        said = "PodGC: node no longer exists"
        with self._store.lock:
            for pod in self._pods(name):
                self._disrupt(pod, "DeletionByPodGC", said)
                self._kubelet.end(pod, 0, "NodeLost", said)
                if process := self._kubelet.processes.get(pod["metadata"]["uid"]):
                    process.signal(signal.SIGKILL, everybody=True)
            self.remove(name)

    def evict(self, pod: Object, message: str = "The node was low on resource: ephemeral-storage. ") -> None:
        """The kubelet evicts a pod because its node runs out of something; the pod stays to be looked at."""
        with self._store.lock:
            self._disrupt(pod, "TerminationByKubelet", message)
            self._store.tell(pod, "Evicted", message, "kubelet")
            self._kubelet.end(pod, 0, "Evicted", message)

    def drain(self, pod: Object) -> None:
        """Somebody drains the node: the pod is deleted through the eviction API, and goes."""
        with self._store.lock:
            self._disrupt(pod, "EvictionByEvictionAPI", "Eviction API: evicting")
            pod["metadata"].setdefault("deletionTimestamp", stamp(self._store.clock()))

    def turn(self) -> None:
        """Nodes that are leaving are gone when nothing runs on them."""
        for name in [*self._leaving]:
            if not self._pods(name):
                self._leaving.discard(name)
                self.remove(name)

    def _pods(self, name: str) -> list[Object]:
        pods = self._store.list("Pod")
        return [pod for pod in pods if pod["spec"].get("nodeName") == name and not is_over(pod)]

    def _disrupt(self, pod: Object, reason: str, message: str) -> None:
        set_condition(pod, "DisruptionTarget", True, self._store.clock(), reason, message)
