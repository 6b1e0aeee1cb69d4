"""Rules for Jobs: what a server, Pod Security and dagster-k8s would not take, each from both sides of its border."""

import copy

import pytest

from mlops_assets.compute import rules
from mlops_assets.compute.layering import as_job
from mlops_assets.compute.profiles import catalog

GPU = "nvidia.com/gpu"


@pytest.fixture
def job():
    """The Job of the profile gpu: without a fault."""
    return as_job(catalog().render("gpu", "generic"))


def put(job, path, value):
    """A copy of the job with one field replaced, whatever was on the way to it."""
    changed = copy.deepcopy(job)
    at = changed
    *way, last = path
    for step in way:
        at = at[step] if isinstance(step, int) else at.setdefault(step, {})
    at[last] = value
    return changed


POD = ("spec", "template", "spec")
BOX = (*POD, "containers", 0)
MADE = (*BOX, "resources")


def test_the_job_of_a_shipped_profile_is_without_a_fault(job):
    assert (rules.kubernetes(job), rules.restricted(job), rules.ours(job)) == ([], [], [])


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ((*MADE, "limits", GPU), "0.5", "devices are whole"),
        ((*MADE, "limits"), {"gpu": "1"}, "'gpu' has no prefix"),
        ((*MADE, "limits"), {"memory": "24Gi"}, "limits does not: of devices both are the same"),
        ((*MADE, "requests", GPU), "2", "requests says 2 and limits says 1"),
        ((*MADE, "requests", "memory"), "25Gi", "25Gi is more than the limit 24Gi"),
        ((*MADE, "limits", "memory"), "24 GB", "is no quantity"),
        ((*POD, "volumes"), [{"name": "dshm", "emptyDir": {}}] * 2, "'dshm' stands there twice"),
        ((*POD, "volumes"), [{"name": "dshm", "emptyDir": {}, "secret": {}}], "not several"),
        ((*POD, "volumes"), [], "there is no volume 'dshm'"),
        ((*POD, "volumes"), [{"name": "D_shm", "emptyDir": {}}], "is no name"),
        ((*POD, "volumes", 0, "emptyDir", "sizeLimit"), "big", "is no quantity"),
        ((*BOX, "volumeMounts"), [{"name": "dshm", "mountPath": "/x"}] * 2, "'/x' stands there twice"),
        ((*BOX, "env"), [{"name": "A B", "value": "1"}], "is no name of a variable"),
        ((*BOX, "env"), [{"name": "A", "value": "1", "valueFrom": {"fieldRef": {}}}], "not both"),
        ((*BOX, "name"), "Dagster", "is no name"),
        ((*POD, "tolerations"), [{"key": "a", "operator": "Exist"}], "Equal or Exists"),
        ((*POD, "tolerations"), [{"key": "a", "operator": "Exists", "value": "1"}], "takes no value"),
        ((*POD, "tolerations"), [{"operator": "Equal"}], "without a key"),
        ((*POD, "tolerations"), [{"key": "a b", "operator": "Exists"}], "is no key"),
        ((*POD, "tolerations"), [{"key": "a", "value": True}], "write it in quotes"),
        ((*POD, "tolerations"), [{"key": "a", "operator": "Exists", "effect": "NoRun"}], "NoSchedule, Prefer"),
        ((*POD, "tolerations"), [{"key": "a", "operator": "Exists", "tolerationSeconds": 3}], "only effect NoExecute"),
        ((*POD, "nodeSelector"), {"a": True}, "write it in quotes"),
        ((*POD, "nodeSelector"), {"a": "-b"}, "is no label"),
        ((*POD, "nodeSelector"), {"a": "b" * 64}, "is no label"),
        ((*POD, "nodeSelector"), {"A.com/b/c": "d"}, "is no key"),
        ((*POD, "runtimeClassName"), "NVIDIA", "is no name of an object"),
        ((*POD, "restartPolicy"), "Always", "Never or OnFailure"),
        ((*POD, "terminationGracePeriodSeconds"), -1, "below 0"),
        (("spec", "backoffLimit"), -1, "below 0"),
        (("spec", "template", "metadata", "annotations"), {"a b": "c"}, "is no key"),
        (("metadata", "labels"), {"mlops/compute-profile": "gpu spot"}, "is no label"),
    ],
)
def test_what_a_server_would_refuse_is_named_with_its_place(job, path, value, said):
    found = rules.kubernetes(put(job, path, value))
    assert any(said in fault.reason for fault in found), found
    assert all(str(fault).startswith(("spec.", "metadata.")) for fault in found)


@pytest.mark.parametrize(("values", "faults"), [(["true"], 0), ([], 1)])
def test_an_expression_that_compares_needs_values(job, values, faults):
    expression = {"key": "nvidia.com/mig.capable", "operator": "In", "values": values}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    needed = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    assert len(rules.kubernetes(put(job, (*POD, "affinity"), needed))) == faults


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((*MADE, "requests"), {"cpu": "4"}),
        ((*MADE, "limits", GPU), 1),
        ((*POD, "tolerations"), [{"operator": "Exists"}]),
        ((*POD, "nodeSelector"), {"a": ""}),
        ((*POD, "nodeSelector"), {"a": "b" * 63}),
        ((*POD, "restartPolicy"), "OnFailure"),
        (("spec", "template", "metadata", "annotations"), {"example.com/A_b": "any: text, at all"}),
    ],
)
def test_what_a_server_takes_is_no_fault(job, path, value):
    assert rules.kubernetes(put(job, path, value)) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((*POD, "hostNetwork"), True),
        ((*POD, "volumes"), [{"name": "dshm", "hostPath": {"path": "/"}}]),
        ((*POD, "securityContext"), {"runAsNonRoot": True}),
        ((*POD, "securityContext", "runAsNonRoot"), False),
        ((*POD, "securityContext", "sysctls"), [{"name": "kernel.shmmax"}]),
        ((*BOX, "securityContext", "runAsUser"), 0),
        ((*BOX, "securityContext", "privileged"), True),
        ((*BOX, "securityContext", "allowPrivilegeEscalation"), None),
        ((*BOX, "securityContext", "capabilities"), {"drop": ["NET_RAW"]}),
        ((*BOX, "securityContext", "capabilities"), {"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
        ((*BOX, "securityContext", "procMount"), "Unmasked"),
        ((*BOX, "ports"), [{"containerPort": 80, "hostPort": 80}]),
    ],
)
def test_pod_security_restricted_refuses_what_reaches_out_of_the_pod(job, path, value):
    assert len(rules.restricted(put(job, path, value))) == 1


@pytest.mark.parametrize(
    ("path", "value", "faults"),
    [
        (("spec", "backoffLimit"), 1, 1),
        (("spec", "activeDeadlineSeconds"), 0, 1),
        (("spec", "activeDeadlineSeconds"), 1, 0),
        (("spec", "ttlSecondsAfterFinished"), 3599, 1),
        (("spec", "ttlSecondsAfterFinished"), 3600, 0),
        (("spec", "podFailurePolicy"), {"rules": [{"action": "Ignore"}]}, 1),
        (("spec", "podFailurePolicy"), {"rules": [{"action": "FailJob"}]}, 0),
        ((*POD, "volumes", 0, "emptyDir", "sizeLimit"), "12Gi", 0),
        ((*POD, "volumes", 0, "emptyDir", "sizeLimit"), "12289Mi", 1),
        ((*POD, "volumes", 0, "emptyDir"), {"medium": "Memory"}, 1),
        ((*POD, "volumes", 0, "emptyDir"), {"sizeLimit": "1Ti"}, 0),
    ],
)
def test_what_would_hang_or_starve_a_step_is_refused_though_kubernetes_takes_it(job, path, value, faults):
    assert len(rules.ours(put(job, path, value))) == faults


@pytest.mark.parametrize(
    ("quantity", "size"),
    [
        ("500m", 0.5),
        ("4", 4),
        (1, 1),
        ("1.5", 1.5),
        ("512Ki", 2**19),
        ("1Mi", 2**20),
        ("24Gi", 24 * 2**30),
        ("1Ti", 2**40),
        ("1k", 1000),
        ("1e3", 1000),
        ("2E", 2e18),
        ("Gi", None),
        ("24 Gi", None),
        ("", None),
        ("-1", None),
    ],
)
def test_quantities_are_read_as_kubernetes_reads_them(quantity, size):
    assert rules.amount(quantity) == size
