"""A simulated cluster as a whole: its store, its controllers turning, its API on loopback, its pods."""

from __future__ import annotations

import copy
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlops_assets_tests.cluster.admission import Admission
from mlops_assets_tests.cluster.api import Trouble, served, write_kubeconfig
from mlops_assets_tests.cluster.jobs import Jobs
from mlops_assets_tests.cluster.kubelet import Kubelet
from mlops_assets_tests.cluster.nodes import Nodes
from mlops_assets_tests.cluster.objects import Object, owned, stamp
from mlops_assets_tests.cluster.processes import Warm
from mlops_assets_tests.cluster.scheduler import Scheduler
from mlops_assets_tests.cluster.store import Store

TURN_SECONDS = 0.05
VERSION = "1.33"


class Cluster:
    """Everything that a test can ask of a simulated cluster, or do to it."""

    def __init__(self, folder: Path, warm: Warm, namespace: str = "dagster", images: set[str] | None = None) -> None:
        self.namespace, self.kubeconfig = namespace, folder / "kubeconfig"
        self.store = Store()
        self.admission = Admission(self.store, VERSION)
        self.kubelet = Kubelet(self.store, warm, folder, images or set())
        self.nodes = Nodes(self.store, self.kubelet)
        self._controllers = (Jobs(self.store, self.admission.pod), Scheduler(self.store), self.kubelet, self.nodes)
        self._troubles: list[Trouble] = []
        self._stopped = threading.Event()
        self._turning = threading.Thread(target=self._turn_on)
        self.store.put("Namespace", namespace)

    def turn(self) -> None:
        """Every controller looks once."""
        with self.store.lock:
            for controller in self._controllers:
                controller.turn()

    @property
    def is_turning(self) -> bool:
        """Whether its controllers are alive."""
        return self._turning.is_alive()

    def start(self) -> None:
        """Turn until stopped."""
        self._turning.start()

    def _turn_on(self) -> None:
        while not self._stopped.wait(TURN_SECONDS):
            self.turn()

    def stop(self) -> None:
        """Turn no more, and kill every pod."""
        self._stopped.set()
        self._turning.join()
        for process in self.kubelet.processes.values():
            process.signal(signal.SIGKILL, everybody=True)

    def made(self, kind: str, run_id: str) -> list[Object]:
        """Every Job, or pod, that was ever made for a run, oldest first, as it was created."""
        with self.store.lock:
            made = [each for each in self.store.created if each["kind"] == kind]
        return [each for each in made if each["metadata"].get("labels", {}).get("dagster/run-id") == run_id]

    def pods(self, run_id: str) -> list[Object]:
        """The pods of a run as they are, oldest first."""
        with self.store.lock:
            found = self.store.list("Pod", self.namespace)
            return [copy.deepcopy(pod) for pod in found if pod["metadata"]["labels"].get("dagster/run-id") == run_id]

    def events(self, kind: str = "Pod") -> list[str]:
        """What the warnings about pods, or Jobs, say."""
        with self.store.lock:
            found = [event for event in self.store.list("Event") if event["type"] == "Warning"]
        return [f"{event['reason']}: {event['message']}" for event in found if event["involvedObject"]["kind"] == kind]

    def trouble(self, status: int | str, times: int, concerns: Callable[[str, str], bool]) -> Trouble:
        """Let the next requests fail whose method and path it concerns."""
        trouble = Trouble(concerns, status, times)
        with self.store.lock:
            self._troubles.append(trouble)
        return trouble

    def troubled(self, method: str, path: str) -> int | str | None:
        """How this request is to fail, if it is."""
        with self.store.lock:
            for trouble in self._troubles:
                if trouble.times > 0 and trouble.concerns(method, path):
                    trouble.times -= 1
                    return trouble.status
        return None

    def orphan_or_delete(self, job: Object, policy: str) -> None:
        """What becomes of the pods of a Job that was deleted: by default, in batch/v1, nothing."""
        for pod in owned(self.store.list("Pod"), job):
            if policy == "Orphan":
                pod["metadata"]["ownerReferences"] = []
            else:
                pod["metadata"].setdefault("deletionTimestamp", stamp(self.store.clock()))


@contextmanager
def simulated_cluster(folder: Path, warm: Warm, images: set[str], namespace: str = "dagster") -> Iterator[Cluster]:
    """A cluster without nodes whose controllers turn until the end of the block, when its pods are killed."""
    folder.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(folder, warm, namespace, images)
    with served(cluster) as address:
        write_kubeconfig(cluster.kubeconfig, address, namespace)
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()
