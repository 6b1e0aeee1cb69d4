"""What stands beside the charts: Kueue's queues, how GPUs are offered, and what a pod of a run may not be."""

import re
from typing import Any

import pytest
import yaml

from mlops_assets import settings
from mlops_assets.compute import names, op_tags
from mlops_assets_tests.deploy.crds import refused_custom
from mlops_assets_tests.deploy.dagster_chart import Values, values
from mlops_assets_tests.deploy.folder import PROVIDERS, over, read, read_all
from mlops_assets_tests.deploy.jobs import faults, job
from mlops_assets_tests.deploy.platform_chart import named, rendered
from mlops_assets_tests.deploy.platform_chart import values as values_of_platform
from mlops_assets_tests.deploy.schemas import refused

QUEUES = read_all("kueue/queues.yaml")
FLAVOR_OF = {"cpu-small": "mlops-cpu", "cpu-large": "mlops-cpu", "gpu-spot": "mlops-gpu-spot"}


def flavors(provider: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each["spec"] for each in read_all(f"kueue/flavors-{provider}.yaml")}


def tolerated(taint: dict[str, str], tolerations: list[dict[str, str]]) -> bool:
    return any(
        each["key"] == taint["key"]
        and each.get("effect", taint["effect"]) == taint["effect"]
        and (each.get("operator") == "Exists" or each.get("value") == taint.get("value"))
        for each in tolerations
    )


def admitted(pod: dict[str, Any], provider: str) -> list[str]:
    """The flavors that a pod could be counted under: it selects and tolerates their nodes, and there is such quota."""
    [queue] = [each for each in QUEUES if each["kind"] == "ClusterQueue"]
    [group] = queue["spec"]["resourceGroups"]
    there = flavors(provider)
    keys = {key for spec in there.values() for key in spec.get("nodeLabels", {})}
    wanted = {key: value for key, value in pod.get("nodeSelector", {}).items() if key in keys}
    asked = {**pod["containers"][0]["resources"]["requests"], **pod["containers"][0]["resources"]["limits"]}
    assert asked.keys() <= set(group["coveredResources"])
    return [
        flavor["name"]
        for flavor in group["flavors"]
        if wanted.items() <= there[flavor["name"]].get("nodeLabels", {}).items()
        and all(tolerated(t, pod.get("tolerations", [])) for t in there[flavor["name"]].get("nodeTaints", ()))
        and not [each for each in flavor["resources"] if each["nominalQuota"] == "0" and each["name"] in asked]
    ]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_queues_are_what_kueue_understands_and_preempt_nobody(provider):
    for body in [*QUEUES, *read_all(f"kueue/flavors-{provider}.yaml")]:
        assert refused_custom(body) == []
    [queue] = [each for each in QUEUES if each["kind"] == "ClusterQueue"]
    named = {flavor["name"] for group in queue["spec"]["resourceGroups"] for flavor in group["flavors"]}
    assert named == set(flavors(provider))


def test_a_queue_that_preempts_is_refused():
    [queue] = [each for each in QUEUES if each["kind"] == "ClusterQueue"]
    preempting = {**queue["spec"]["preemption"], "withinClusterQueue": "LowerPriority"}
    assert refused_custom({**queue, "spec": {**queue["spec"], "preemption": preempting}})


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("profile", names())
def test_a_step_of_each_profile_is_counted_under_one_kind_of_node(profile, provider, monkeypatch):
    monkeypatch.setenv(settings.COMPUTE_PROVIDER.name, provider)
    pod = job(Values.model_validate(values("prod", provider)), op_tags(profile))["spec"]["template"]["spec"]
    assert admitted(pod, provider)[:1] == [FLAVOR_OF.get(profile, "mlops-gpu")]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_quota_is_counted_for_nodes_that_the_cluster_has(provider):
    pools = read(f"cluster-model/{provider}.yaml")["pools"]
    for name, spec in flavors(provider).items():
        counted = [
            pool["name"]
            for pool in pools
            if spec.get("nodeLabels", {}).items() <= pool["labels"].items()
            and all(taint in pool.get("taints", []) for taint in spec.get("nodeTaints", []))
        ]
        assert name.removeprefix("mlops-") in counted


@pytest.fixture
def overlaid(tmp_path, monkeypatch):
    """A function that lays the profiles of the chart's values over the shipped ones, as the mounted file does."""

    def lay(*names: str) -> None:
        given = values_of_platform("prod", "eks")
        for name in names:
            given = over(given, read(f"helm/mlops-platform/{name}.yaml"))
        text = named(rendered(given), "ConfigMap", "mlops-compute-profiles")["data"]["profiles.yaml"]
        (tmp_path / "profiles.yaml").write_text(text)
        monkeypatch.setenv(settings.COMPUTE_PROFILES.name, str(tmp_path / "profiles.yaml"))
        monkeypatch.setenv(settings.COMPUTE_PROVIDER.name, "eks")

    return lay


@pytest.mark.parametrize("profile", names())
def test_a_step_has_an_account_without_rights_and_no_token(profile, overlaid):
    overlaid()
    body = job(Values.model_validate(values("prod", "eks")), op_tags(profile))
    pod = body["spec"]["template"]["spec"]
    assert faults(body) == []
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("mlops-step", False)
    assert pod["priorityClassName"] == "mlops-step"
    assert "kueue.x-k8s.io/queue-name" not in body["metadata"]["labels"]


def test_with_kueue_every_step_waits_in_the_queue_and_no_run_does(overlaid):
    overlaid("values-kueue")
    given = Values.model_validate(values("prod", "eks"))
    [queue] = [each for each in QUEUES if each["kind"] == "LocalQueue"]
    labels = job(given, op_tags("gpu-spot"))["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == queue["metadata"]["name"]
    classes = {each["metadata"]["name"] for each in QUEUES if each["kind"] == "WorkloadPriorityClass"}
    assert labels["kueue.x-k8s.io/priority-class"] in classes
    run = job(given, step=False)
    assert "kueue.x-k8s.io/queue-name" not in run["metadata"]["labels"]
    assert run["spec"]["template"]["spec"]["serviceAccountName"] == "mlops-run"


def test_gpus_are_offered_as_the_profiles_ask_for_them():
    config = read("gpu/device-plugin.yaml")
    assert refused(config) == []
    entries = {name: yaml.safe_load(text) for name, text in config["data"].items()}
    assert {entry["version"] for entry in entries.values()} == {"v1"}
    for name, kind in (("shared-by-time", "timeSlicing"), ("shared-by-mps", "mps")):
        sharing = entries[name]["sharing"]
        assert set(sharing) == {kind}
        assert sharing[kind]["renameByDefault"] is True  # so that it is nvidia.com/gpu.shared
        assert entries[name]["flags"]["migStrategy"] == "none"
    assert entries["shared-by-time"]["sharing"]["timeSlicing"]["failRequestsGreaterThanOne"] is True
    assert entries["sliced"] == {"version": "v1", "flags": {"migStrategy": "mixed"}}


def test_the_runtime_class_is_the_one_that_profiles_name_where_there_is_one(monkeypatch):
    runtime = read("gpu/runtime-class.yaml")
    assert refused(runtime) == []
    named = {}
    for provider in ("generic", *PROVIDERS):
        monkeypatch.setenv(settings.COMPUTE_PROVIDER.name, provider)
        named[provider] = op_tags("gpu")["dagster-k8s/config"]["pod_spec_config"].get("runtime_class_name")
    assert named == {"generic": runtime["metadata"]["name"], "eks": None, "gke": None, "aks": None}


def test_the_policy_refuses_what_op_tags_could_ask_for():
    policy, binding = read_all("policy/pods-of-runs.yaml")
    assert [fault for body in (policy, binding) for fault in refused(body)] == []
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
    assert binding["spec"]["validationActions"] == ["Deny"]
    assert policy["spec"]["failurePolicy"] == "Fail"
    expressions = " ".join(each["expression"] for each in policy["spec"]["validations"])
    for field in ("hostPath", "privileged", "hostNetwork", "hostPID", "hostIPC", "serviceAccountName", "@sha256:"):
        assert field in expressions
    known = {f"variables.{each['name']}" for each in policy["spec"]["variables"]}
    assert set(re.findall(r"variables\.\w+", expressions)) == known
