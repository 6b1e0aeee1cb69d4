"""What our diagnosis says of what a cluster answers: on the simulated cluster, and on a real one with a kubeconfig.

Each scenario makes a Job as a compute profile gives it to a step, and lets one thing happen. `make smoke-cluster` names
a real cluster by MLOPS_SMOKE_KUBECONFIG; nothing of Dagster has to be installed there.
"""

import os
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from kubernetes.client import BatchV1Api, CoreV1Api
from kubernetes.config import new_client_from_config

from mlops_assets.compute import diagnosis, rendering
from mlops_assets.compute.profiles import catalog
from mlops_assets.compute.watching import Cluster, Job
from mlops_assets_tests.cluster.harness import furnish
from mlops_assets_tests.cluster.processes import warmed
from mlops_assets_tests.cluster.simulated import simulated_cluster
from mlops_assets_tests.cluster.waiting import until

KUBECONFIG = os.environ.get("MLOPS_SMOKE_KUBECONFIG", "")
NAMESPACE = os.environ.get("MLOPS_SMOKE_NAMESPACE", "mlops-smoke")
IMAGE = os.environ.get("MLOPS_SMOKE_IMAGE", "python:3.11-slim")
PROVIDER = os.environ.get("COMPUTE_PROVIDER", "generic")
GPU = "nvidia.com/gpu"
ENDS = "print('done')"
HOLDS_200_MB = "held = b'x' * 200_000_000; import signal; signal.pause()"
STAYS = "import signal; signal.pause()"
NOBODY = 65532


@dataclass
class Place:
    """A cluster, by what a client has of it: its kubeconfig, a namespace, an image with Python."""

    kubeconfig: Path
    namespace: str
    image: str
    made: list[Job] = field(default_factory=list)

    def __post_init__(self):
        client = new_client_from_config(str(self.kubeconfig))
        self.batch, self.core = BatchV1Api(client), CoreV1Api(client)
        self.watched = Cluster(self.batch, self.core)

    def run(self, program, profile="cpu-small", **container):
        """Make the Job of a step with this profile, whose container runs `program`, with these fields instead."""
        body = rendering.job_of(catalog().render(profile, PROVIDER))
        job = Job(f"smoke-{uuid.uuid4().hex[:12]}", self.namespace)
        body["metadata"]["name"] = job.name
        pod = body["spec"]["template"]["spec"]
        pod.setdefault("securityContext", {})["runAsUser"] = NOBODY
        command = {"image": self.image, "command": ["python3", "-c", program], "args": []}
        pod["containers"][0] |= {**command, **container}
        self.batch.create_namespaced_job(self.namespace, body)
        self.made.append(job)
        return job

    def over(self, job):
        """The Job as it is when Kubernetes says that it is over."""
        return until(lambda: (seen := self.watched.look(job)).job and diagnosis.ended(seen.job) and seen, "its end")

    def stuck(self, job, kind):
        """What is said of a Job that waits, once that is of this kind."""
        return until(lambda: (found := self.watched.look(job).diagnosis()).kind == kind and found, kind)

    def clear(self):
        """Delete every Job that was made."""
        for job in self.made:
            self.batch.delete_namespaced_job(job.name, job.namespace, propagation_policy="Background")


@pytest.fixture(scope="module", params=["simulated", "real"])
def place(request, tmp_path_factory):
    if request.param == "real":
        if not KUBECONFIG:
            pytest.skip("no real cluster: MLOPS_SMOKE_KUBECONFIG names no kubeconfig")
        real = Place(Path(KUBECONFIG), NAMESPACE, IMAGE)
        yield real
        real.clear()
        return
    folder = tmp_path_factory.mktemp("smoke")
    with (
        warmed(folder / "warm.log", ["json"]) as warm,
        simulated_cluster(folder / "cluster", warm, {IMAGE}) as cluster,
    ):
        furnish(cluster)
        yield Place(cluster.kubeconfig, cluster.namespace, IMAGE)


def test_a_step_that_trains_gets_a_node_with_the_accelerator_and_ends_well(place):
    seen = place.over(place.run(ENDS, "gpu"))
    assert diagnosis.ended(seen.job) == "Complete"
    (pod,) = seen.pods
    assert int(place.core.read_node(pod.spec.node_name).status.allocatable[GPU]) >= 1


def test_a_step_that_holds_more_than_its_limit_is_out_of_memory(place):
    amounts = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}}
    found = place.over(place.run(HOLDS_200_MB, resources=amounts)).diagnosis()
    assert (found.kind, found.exit_code, found.limits["memory"]) == ("oom", 137, "64Mi")


def test_a_step_that_no_node_can_take_says_what_is_lacking(place):
    resources = {"requests": {"memory": "64Mi", GPU: "999"}, "limits": {"memory": "64Mi", GPU: "999"}}
    found = place.stuck(place.run(ENDS, "gpu", resources=resources), "unschedulable")
    assert f"Insufficient {GPU}" in found.why


def test_an_image_that_nobody_built_is_named(place):
    found = place.stuck(place.run(ENDS, image="registry.example/absent:1"), "image")
    assert "registry.example/absent:1" in found.why


def test_a_secret_that_nobody_made_is_named(place):
    found = place.stuck(place.run(ENDS, envFrom=[{"secretRef": {"name": "absent"}}]), "configuration")
    assert found.missing == "secret absent"


def test_a_quota_that_is_reached_is_named(place):
    quota = {"metadata": {"name": "smoke-devices"}, "spec": {"hard": {f"requests.{GPU}": "0"}}}
    place.core.create_namespaced_resource_quota(place.namespace, quota)
    try:
        found = place.stuck(place.run(ENDS, "gpu"), "unschedulable")
    finally:
        place.core.delete_namespaced_resource_quota("smoke-devices", place.namespace)
    assert "exceeded quota: smoke-devices" in found.why


def test_a_step_whose_pod_is_evicted_says_so(place):
    job = place.run(STAYS)
    (pod,) = until(lambda: [pod for pod in place.watched.look(job).pods if pod.status.phase == "Running"], "its pod")
    place.core.create_namespaced_pod_eviction(
        pod.metadata.name, place.namespace, {"metadata": {"name": pod.metadata.name}}
    )
    found = until(lambda: diagnosis.interruption(place.watched.look(job).pods), "its eviction")
    assert found.kind == "evicted"
