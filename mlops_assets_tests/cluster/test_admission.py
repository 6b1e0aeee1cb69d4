"""What the simulated cluster refuses, in Kubernetes's words; each bad manifest differs from a good one in one thing."""

import copy

import pytest

from mlops_assets.compute import rules
from mlops_assets_tests.cluster.admission import Admission
from mlops_assets_tests.cluster.store import RefusedError, Store

GPU = "nvidia.com/gpu"
GOOD = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "step", "namespace": "dagster", "labels": {"dagster/op": "rows"}},
    "spec": {
        "backoffLimit": 0,
        "template": {
            "spec": {
                "restartPolicy": "Never",
                "tolerations": [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}],
                "volumes": [{"name": "dshm", "emptyDir": {"medium": "Memory"}}],
                "containers": [
                    {
                        "name": "dagster",
                        "image": "mlops",
                        "volumeMounts": [{"name": "dshm", "mountPath": "/cache"}],
                        "resources": {
                            "requests": {"memory": "1Gi", GPU: "1"},
                            "limits": {"memory": "1Gi", GPU: "1"},
                        },
                    }
                ],
            }
        },
    },
}
POD = ("spec", "template", "spec")
CONTAINER = (*POD, "containers", 0)
LIMITS, REQUESTS = (*CONTAINER, "resources", "limits"), (*CONTAINER, "resources", "requests")


@pytest.fixture
def admission():
    store = Store()
    store.put("Namespace", "dagster")
    return Admission(store, "1.33")


def changed(path, value):
    """The good manifest with one thing replaced."""
    job = copy.deepcopy(GOOD)
    place = job
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return job


def test_a_good_job_is_admitted_with_the_server_s_defaults(admission):
    job = admission.job(copy.deepcopy(GOOD))
    assert (job["spec"]["backoffLimit"], job["spec"]["completions"], job["status"]) == (0, 1, {})
    assert job["metadata"]["uid"]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("metadata", "name"), "Step_1", "metadata.name: Invalid value"),
        (("metadata", "name"), 64 * "a", "at most 63 characters"),
        (("metadata", "labels"), {"dagster/op": "rows[2024]"}, "metadata.labels: Invalid value"),
        (("spec", "backoffLimit"), -1, "must be greater than or equal to 0"),
        (("spec", "backOffLimit"), 1, "'backOffLimit' was unexpected"),
        ((*POD, "restartPolicy"), "Always", 'valid values: "OnFailure", "Never"'),
        ((*POD, "volumes"), 2 * [{"name": "dshm", "emptyDir": {}}], 'Duplicate value: "dshm"'),
        ((*POD, "volumes"), [], 'volumeMounts[0].name: Not found: "dshm"'),
        ((*POD, "tolerations"), [{"key": GPU, "effect": "NoRun"}], 'Unsupported value: "NoRun"'),
        ((*POD, "tolerations"), [{"key": GPU, "operator": "Exists", "value": "x"}], "value must be empty"),
        ((*CONTAINER, "image"), "", "image: Required value"),
        ((*CONTAINER, "env"), [{"name": "1 2", "value": "x"}], 'env[0].name: Invalid value: "1 2"'),
        ((*LIMITS, GPU), "0.5", "must be an integer"),
        ((*LIMITS, "gpu"), "1", "must be a standard resource for containers"),
        ((*LIMITS, "memory"), "1 GB", "quantities must match the regular expression"),
        ((*LIMITS, "memory"), "512Mi", "must be less than or equal to memory limit of 512Mi"),
        (LIMITS, {"memory": "1Gi"}, "Limit must be set for non overcommitable resources"),
        ((*REQUESTS, GPU), "2", f"must be equal to {GPU} limit of 1"),
    ],
)
def test_what_kubernetes_refuses_is_refused_for_that_reason(admission, path, value, words):
    with pytest.raises(RefusedError) as refused:
        admission.job(changed(path, value))
    assert refused.value.status == 422
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "backoffLimit"), -1),
        ((*POD, "restartPolicy"), "Always"),
        ((*POD, "volumes"), []),
        ((*POD, "tolerations"), [{"key": GPU, "effect": "NoRun"}]),
        ((*CONTAINER, "env"), [{"name": "1 2", "value": "x"}]),
        ((*LIMITS, GPU), "0.5"),
        ((*LIMITS, "gpu"), "1"),
        ((*LIMITS, "memory"), "512Mi"),
        (LIMITS, {"memory": "1Gi"}),
    ],
)
def test_the_cluster_and_the_rules_for_profiles_refuse_the_same_though_neither_knows_the_other(admission, path, value):
    assert rules.kubernetes(GOOD) == []
    assert rules.kubernetes(changed(path, value))
    with pytest.raises(RefusedError):
        admission.job(changed(path, value))


def test_a_job_in_a_namespace_that_is_not_there_is_refused(admission):
    with pytest.raises(RefusedError, match='namespaces "elsewhere" not found'):
        admission.job(changed(("metadata", "namespace"), "elsewhere"))


def pod(name, gpus):
    """A pod of one container that asks for so many devices."""
    limits = {"limits": {GPU: str(gpus)}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "dagster"},
        "spec": {"containers": [{"name": "dagster", "image": "mlops", "resources": limits}]},
    }


def test_a_quota_admits_pods_up_to_its_limit_and_counts_those_that_are_not_over(admission):
    admission._store.put("ResourceQuota", "devices", "dagster", spec={"hard": {f"requests.{GPU}": "2"}})
    first = admission.pod(pod("first", 1))
    admission.pod(pod("second", 1))
    with pytest.raises(RefusedError) as refused:
        admission.pod(pod("third", 1))
    assert refused.value.status == 403
    assert refused.value.message == (
        f'pods "third" is forbidden: exceeded quota: devices, requested: requests.{GPU}=1, '
        f"used: requests.{GPU}=2, limited: requests.{GPU}=2"
    )
    first["status"]["phase"] = "Succeeded"
    assert admission.pod(pod("third", 1))


def test_a_pod_whose_service_account_or_runtime_class_is_not_there_is_forbidden(admission):
    wanting = pod("first", 1)
    wanting["spec"] |= {"serviceAccountName": "dagster-run", "runtimeClassName": "nvidia"}
    with pytest.raises(RefusedError, match='serviceaccount "dagster-run" not found'):
        admission.pod(copy.deepcopy(wanting))
    admission._store.put("ServiceAccount", "dagster-run", "dagster")
    with pytest.raises(RefusedError, match='RuntimeClass "nvidia" not found'):
        admission.pod(copy.deepcopy(wanting))
    admission._store.put("RuntimeClass", "nvidia")
    assert admission.pod(wanting)
