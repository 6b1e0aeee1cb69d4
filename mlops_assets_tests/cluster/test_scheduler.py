"""Which node a pod gets, and the scheduler's words where it gets none."""

from decimal import Decimal

import pytest

from mlops_assets_tests.cluster.scheduler import objections, unschedulable

GPU = "nvidia.com/gpu"
TAINT = {"key": GPU, "value": "present", "effect": "NoSchedule"}
TOLERATION = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}


def node(taints=(), labels=None, **allocatable):
    """A machine of 4 CPUs and 8 GiB, and what is said."""
    room = {"cpu": "4", "memory": "8Gi", **allocatable}
    meta = {"name": "here", "labels": labels or {}}
    return {"metadata": meta, "spec": {"taints": [*taints]}, "status": {"allocatable": room}}


def pod(tolerations=(), selector=None, affinity=None, **limits):
    """A pod that asks for what is said."""
    container = {"name": "dagster", "image": "mlops", "resources": {"limits": limits}}
    spec = {"containers": [container], "tolerations": [*tolerations], "nodeSelector": selector or {}}
    if affinity:
        terms = {"nodeSelectorTerms": [{"matchExpressions": [affinity]}]}
        spec["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    return {"spec": spec}


SELECTS = "node(s) didn't match Pod's node affinity/selector"


@pytest.mark.parametrize(
    ("pod", "node", "found"),
    [
        (pod(cpu="4"), node(), []),
        (pod(cpu="4001m"), node(), ["Insufficient cpu"]),
        (pod(memory="8Gi"), node(), []),
        (pod(memory="9Gi", cpu="5"), node(), ["Insufficient memory", "Insufficient cpu"]),
        (pod(**{GPU: "1"}), node(), [f"Insufficient {GPU}"]),
        (pod(), node([TAINT]), [f"node(s) had untolerated taint {{{GPU}: present}}"]),
        (pod([TOLERATION]), node([TAINT]), []),
        (pod([{"key": GPU, "value": "present"}]), node([TAINT]), []),
        (pod([{"key": GPU, "value": "absent"}]), node([TAINT]), [f"node(s) had untolerated taint {{{GPU}: present}}"]),
        (pod(), node([{**TAINT, "effect": "PreferNoSchedule"}]), []),
        (pod(selector={"pool": "gpu"}), node(labels={"pool": "gpu"}), []),
        (pod(selector={"pool": "gpu"}), node(labels={"pool": "cpu"}), [SELECTS]),
        (pod(selector={"kubernetes.io/hostname": "here"}), node(), []),
        (pod(affinity={"key": "a", "operator": "In", "values": ["1"]}), node(labels={"a": "1"}), []),
        (pod(affinity={"key": "a", "operator": "NotIn", "values": ["1"]}), node(labels={"a": "1"}), [SELECTS]),
        (pod(affinity={"key": "a", "operator": "Exists"}), node(labels={"a": "1"}), []),
        (pod(affinity={"key": "a", "operator": "DoesNotExist"}), node(labels={"a": "1"}), [SELECTS]),
    ],
)
def test_a_node_takes_a_pod_that_it_has_room_for_and_that_tolerates_and_selects_it(pod, node, found):
    assert list(objections(pod, node, {})) == found


def test_what_other_pods_hold_is_not_given_twice():
    assert list(objections(pod(cpu="2"), node(), {"cpu": Decimal(2)})) == []
    assert list(objections(pod(cpu="2"), node(), {"cpu": Decimal("2.001")})) == ["Insufficient cpu"]
    assert list(objections(pod(), node(pods="1"), {"pods": Decimal(1)})) == ["Too many pods"]


def test_the_sentence_counts_the_nodes_of_each_reason_and_says_whether_preemption_would_help():
    against = {
        "cpu-1": [f"Insufficient {GPU}"],
        "cpu-2": [f"Insufficient {GPU}", "Insufficient cpu"],
        "gpu-1": [f"node(s) had untolerated taint {{{GPU}: present}}"],
    }
    assert unschedulable(against) == (
        f"0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {{{GPU}: present}}, "
        f"2 Insufficient {GPU}. preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, "
        "2 No preemption victims found for incoming pod."
    )
    assert unschedulable({}) == "no nodes available to schedule pods"
