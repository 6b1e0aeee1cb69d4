"""The simulated cluster as a client sees it: what is asked over HTTP, and what becomes of pods."""

import json
import urllib.error
import urllib.request

import pytest
import yaml

from mlops_assets_tests.cluster.objects import condition
from mlops_assets_tests.cluster.processes import warmed
from mlops_assets_tests.cluster.simulated import simulated_cluster
from mlops_assets_tests.cluster.waiting import until

IMAGE = "registry.example/mlops:1"
JOBS, PODS = "/apis/batch/v1/namespaces/dagster/jobs", "/api/v1/namespaces/dagster/pods"
IGNORES_SIGTERM = "trap '' TERM; touch ready; while :; do sleep 0.1; done"
HOLDS_100_MB = ["python3", "-c", "held = b'x' * 10**8; import signal; signal.pause()"]


class Client:
    """Asks the API as any client does: by the address in the kubeconfig."""

    def __init__(self, cluster):
        self.cluster = cluster
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        self.address = config["clusters"][0]["cluster"]["server"]

    def ask(self, method, path, body=None):
        """The answer, as JSON where it is that."""
        content = json.dumps(body).encode() if body else None
        request = urllib.request.Request(f"{self.address}{path}", content, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            said = answer.read()
            return json.loads(said) if answer.headers["Content-Type"] == "application/json" else said.decode()

    def run(self, name, command, limits=None, **spec):
        """Create a Job of one container."""
        container = {"name": "main", "image": spec.pop("image", IMAGE), "command": command, **spec.pop("container", {})}
        container["resources"] = {"limits": limits or {}}
        template = {"spec": {"restartPolicy": "Never", "containers": [container], **spec}}
        job = {"metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": template}}
        return self.ask("POST", JOBS, job)

    def pod(self, name):
        """The Job's pod, where it has one."""
        found = self.ask("GET", f"{PODS}?labelSelector=job-name%3D{name}")["items"]
        return found[0] if found else None

    def until(self, name, **wanted):
        """The Job's pod, once its status says so."""
        return until(lambda: (pod := self.pod(name)) and wanted.items() <= pod["status"].items() and pod, f"{wanted}")

    def state(self, name):
        """The state of the pod's container, where it has one."""
        pod = self.pod(name)
        return pod["status"].get("containerStatuses", [{"state": {}}])[0]["state"] if pod else {}

    def waiting(self, name):
        """Why the pod's container waits, once it says so."""
        return until(lambda: self.state(name).get("waiting"), "why it waits")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    with warmed(folder / "warm.log", []) as warm, simulated_cluster(folder / "cluster", warm, {IMAGE}) as cluster:
        cluster.nodes.add("cpu-1", {"cpu": "4", "memory": "8Gi"})
        yield Client(cluster)


def test_a_job_runs_to_its_end_and_can_be_asked_about(client):
    client.run("greets", ["sh", "-c", "echo hello; echo $HOSTNAME"])
    pod = client.until("greets", phase="Succeeded")
    name = pod["metadata"]["name"]
    assert pod["spec"]["nodeName"] == "cpu-1"
    assert client.ask("GET", f"{PODS}/{name}/log") == f"hello\n{name}\n"
    assert client.ask("GET", f"{PODS}/{name}/log?tailLines=1") == f"{name}\n"
    until(lambda: condition(client.ask("GET", f"{JOBS}/greets"), "Complete"), "the Job's end")
    events = client.ask("GET", f"/api/v1/namespaces/dagster/events?fieldSelector=involvedObject.name%3D{name}")["items"]
    assert [event["reason"] for event in events] == ["Scheduled", "Started"]
    others = client.ask("GET", f"{PODS}?fieldSelector=metadata.name%21%3D{name}")["items"]
    assert name not in [each["metadata"]["name"] for each in others]
    assert client.ask("GET", "/version")["gitVersion"].endswith("+simulated")


def test_a_container_that_waits_for_a_secret_starts_when_it_is_there(client):
    source = [{"secretRef": {"name": "token"}}]
    client.run("needs", ["sh", "-c", "echo $TOKEN"], container={"envFrom": source})
    assert client.waiting("needs") == {"reason": "CreateContainerConfigError", "message": 'secret "token" not found'}
    client.cluster.store.put("Secret", "token", "dagster", data={"TOKEN": "given"})
    pod = client.until("needs", phase="Succeeded")
    assert client.ask("GET", f"{PODS}/{pod['metadata']['name']}/log") == "given\n"


def test_an_image_that_cannot_be_pulled_is_backed_off_from(client):
    client.run("absent", ["true"], image="registry.example/absent:1")
    assert client.waiting("absent")["reason"] == "ImagePullBackOff"
    assert any("absent:1: not found" in event for event in client.cluster.events())


def test_a_container_that_outgrows_its_limit_is_killed_for_it(client):
    client.run("hungry", HOLDS_100_MB, {"memory": "60Mi"})
    client.until("hungry", phase="Failed")
    ended = client.state("hungry")["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)
    client.run("modest", [*HOLDS_100_MB[:2], "held = b'x' * 10**8"], {"memory": "600Mi"})
    client.until("modest", phase="Succeeded")


def test_a_deleted_pod_may_end_in_its_time_and_is_killed_after_it(client):
    client.run("stubborn", ["sh", "-c", IGNORES_SIGTERM], terminationGracePeriodSeconds=1)
    pod = client.until("stubborn", phase="Running")
    until((client.cluster.kubelet.log(pod).parent / "ready").exists, "its deaf ears")
    process = client.cluster.kubelet.processes[pod["metadata"]["uid"]]
    client.ask("DELETE", f"{PODS}/{pod['metadata']['name']}")
    until(lambda: client.pod("stubborn") is None, "the pod's end")
    assert process.code == -9
    until(lambda: condition(client.ask("GET", f"{JOBS}/stubborn"), "Failed"), "the Job's end")


@pytest.mark.parametrize(
    ("happens", "reason", "cause"),
    [
        (lambda cluster, pod: cluster.nodes.preempt("spot-1", 0), "Terminated", "TerminationByKubelet"),
        (lambda cluster, pod: cluster.nodes.lose("spot-1"), "NodeLost", "DeletionByPodGC"),
        (lambda cluster, pod: cluster.nodes.evict(pod), "Evicted", "TerminationByKubelet"),
    ],
    ids=["preempted", "lost", "evicted"],
)
def test_a_pod_that_is_disrupted_says_by_whom(client, request, happens, reason, cause):
    name = f"victim-{reason.lower()}"
    client.cluster.nodes.add("spot-1", {"cpu": "4", "memory": "8Gi"}, {"spot": "true"})
    client.run(name, ["sleep", "600"], nodeSelector={"spot": "true"})
    pod = client.until(name, phase="Running")
    happens(client.cluster, client.cluster.store.get("Pod", pod["metadata"]["name"], "dagster"))
    ended = client.until(name, phase="Failed", reason=reason)
    assert condition(ended, "DisruptionTarget")["reason"] == cause
    until(lambda: condition(client.ask("GET", f"{JOBS}/{name}"), "Failed"), "the Job's end")
    if client.cluster.store.has("Node", "spot-1"):
        client.cluster.nodes.preempt("spot-1")
    until(lambda: not client.cluster.store.has("Node", "spot-1"), "the node's end")


def test_a_drained_pod_is_gone_and_its_job_has_failed(client):
    client.run("drained", ["sleep", "600"])
    pod = client.until("drained", phase="Running")
    client.ask("POST", f"{PODS}/{pod['metadata']['name']}/eviction", {"metadata": {"name": pod["metadata"]["name"]}})
    until(lambda: client.pod("drained") is None, "the pod's end")
    until(lambda: condition(client.ask("GET", f"{JOBS}/drained"), "Failed"), "the Job's end")


@pytest.mark.parametrize(("policy", "is_left"), [("Orphan", True), ("Background", False)])
def test_a_deleted_job_takes_its_pods_along_only_if_asked(client, policy, is_left):
    name = f"deleted-{policy.lower()}"
    client.run(name, ["sleep", "600"])
    pod = client.until(name, phase="Running")
    client.ask("DELETE", f"{JOBS}/{name}", {"propagationPolicy": policy})
    if is_left:
        client.ask("DELETE", f"{PODS}/{pod['metadata']['name']}?gracePeriodSeconds=0")
    until(lambda: client.pod(name) is None, "the pod's end")


def test_requests_fail_as_often_as_a_test_asks_for(client):
    trouble = client.cluster.trouble(429, 1, lambda method, path: method == "GET" and path.endswith("/nodes"))
    with pytest.raises(urllib.error.HTTPError, match="429"):
        client.ask("GET", "/api/v1/nodes")
    assert client.ask("GET", "/api/v1/nodes")["items"]
    assert trouble.times == 0
    client.cluster.trouble("reset", 1, lambda method, path: path.endswith("/nodes"))
    with pytest.raises((ConnectionError, urllib.error.URLError)):
        client.ask("GET", "/api/v1/nodes")


@pytest.mark.parametrize("path", ["/api/v1/namespaces/dagster/pods/none", "/apis/apps/v1/deployments", f"{JOBS}/none"])
def test_what_is_not_there_is_not_found(client, path):
    with pytest.raises(urllib.error.HTTPError, match="404"):
        client.ask("GET", path)
