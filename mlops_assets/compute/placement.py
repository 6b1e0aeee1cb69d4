"""Where a Job's pod could run: a cluster as its node pools, and those that take the pod. Pure: no cluster is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import field_validator

from mlops_assets.compute.profile import Provider
from mlops_assets.compute.rules import amount
from mlops_assets.ml.spec import Value

KEEPS_AWAY = ("NoSchedule", "NoExecute")


class Taint(Value):
    """What keeps pods away from the nodes of a pool, unless they tolerate it."""

    key: str
    value: str = ""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


class NodePool(Value):
    """Nodes that are all alike: what each offers to pods, and whom it keeps away."""

    name: str
    labels: dict[str, str]
    taints: tuple[Taint, ...] = ()
    allocatable: dict[str, str]

    @field_validator("allocatable")
    @classmethod
    def _quantities(cls, allocatable: dict[str, str]) -> dict[str, str]:
        if bad := [quantity for quantity in allocatable.values() if amount(quantity) is None]:
            raise ValueError(f"{', '.join(bad)}: no quantities, such as 4 or 24Gi.")
        return allocatable


class ClusterModel(Value):
    """The node pools of a cluster, as its provider labels and taints them."""

    provider: Provider
    pools: tuple[NodePool, ...]


def pools_for(job: Mapping[str, Any], cluster: ClusterModel) -> list[str]:
    """The pools on whose nodes the Job's pod could run, were they empty."""
    return [pool.name for pool in cluster.pools if not list(why_not(job, pool))]


def why_not(job: Mapping[str, Any], pool: NodePool) -> Iterator[str]:
    """Everything that keeps the Job's pod from the nodes of a pool."""
    pod = job["spec"]["template"]["spec"]
    for key, value in (pod.get("nodeSelector") or {}).items():
        if pool.labels.get(key) != value:
            yield f"it selects {key}={value}, and the nodes have {pool.labels.get(key, 'no such label')}"
    for taint in pool.taints:
        if taint.effect in KEEPS_AWAY and not any(_tolerates(each, taint) for each in pod.get("tolerations") or ()):
            yield f"it does not tolerate {taint.key}={taint.value}:{taint.effect}"
    for resource, wanted in asked(pod).items():
        there = amount(pool.allocatable.get(resource, "0")) or 0.0
        if wanted > there:
            yield f"it asks for {wanted:g} of {resource}, and a node has {there:g}"


def asked(pod: Mapping[str, Any]) -> dict[str, float]:
    """What a pod's containers request together; a limit without a request is one."""
    total: dict[str, float] = {}
    for container in pod.get("containers") or ():
        resources = container.get("resources") or {}
        for resource, quantity in {**(resources.get("limits") or {}), **(resources.get("requests") or {})}.items():
            total[resource] = total.get(resource, 0.0) + (amount(quantity) or 0.0)
    return total


def _tolerates(toleration: Mapping[str, Any], taint: Taint) -> bool:
    if toleration.get("effect") not in (None, "", taint.effect) or toleration.get("key") not in (None, "", taint.key):
        return False
    return toleration.get("operator") == "Exists" or (
        bool(toleration.get("key")) and (toleration.get("value") or "") == taint.value
    )
