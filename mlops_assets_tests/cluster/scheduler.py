"""The scheduler: which node takes a pod, and in Kubernetes's words why none does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal

from mlops_assets_tests.cluster.objects import Object, is_deleted, is_over, quantity, requested, set_condition
from mlops_assets_tests.cluster.store import Store

COMPONENT = "default-scheduler"
SELECTOR = "node(s) didn't match Pod's node affinity/selector"
HELPLESS = "Preemption is not helpful for scheduling"
NO_VICTIMS = "No preemption victims found for incoming pod"


class Scheduler:
    """Gives each pending pod the first node that it tolerates, selects and fits on."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def turn(self) -> None:
        """Look for a node for every pod that has none."""
        for pod in self._store.list("Pod"):
            if not (is_over(pod) or is_deleted(pod) or pod["spec"].get("nodeName")):
                self._schedule(pod)

    def _schedule(self, pod: Object) -> None:
        nodes = self._store.list("Node")
        against = {node["metadata"]["name"]: list(objections(pod, node, self._taken(node))) for node in nodes}
        name = next((name for name, found in against.items() if not found), None)
        now, meta = self._store.clock(), pod["metadata"]
        if name is not None:
            pod["spec"]["nodeName"] = name
            set_condition(pod, "PodScheduled", True, now)
            told = f"Successfully assigned {meta['namespace']}/{meta['name']} to {name}"
            self._store.tell(pod, "Scheduled", told, COMPONENT, warning=False)
            return
        message = unschedulable(against)
        if not any(each.get("message") == message for each in pod["status"].get("conditions", ())):
            set_condition(pod, "PodScheduled", False, now, "Unschedulable", message)
            self._store.tell(pod, "FailedScheduling", message, COMPONENT)

    def _taken(self, node: Object) -> dict[str, Decimal]:
        """What the node's pods hold, until they are over."""
        total: dict[str, Decimal] = {"pods": Decimal(0)}
        for pod in self._store.list("Pod"):
            if pod["spec"].get("nodeName") == node["metadata"]["name"] and not is_over(pod):
                for name, amount in {"pods": Decimal(1), **requested(pod["spec"])}.items():
                    total[name] = total.get(name, Decimal(0)) + amount
        return total


def objections(pod: Object, node: Object, taken: Mapping[str, Decimal]) -> Iterator[str]:
    """Why a node cannot take a pod, by the first of the scheduler's filters that finds something. Nothing: it can."""
    found = _taint(pod["spec"], node)
    if found is None and not _selects(pod["spec"], node):
        found = SELECTOR
    if found is not None:
        yield found
        return
    room = node["status"]["allocatable"]
    for name, amount in requested(pod["spec"]).items():
        if amount > quantity(room.get(name, 0)) - taken.get(name, Decimal(0)):
            yield f"Insufficient {name}"
    if taken.get("pods", Decimal(0)) + 1 > quantity(room.get("pods", 110)):
        yield "Too many pods"


def unschedulable(against: Mapping[str, list[str]]) -> str:
    """The scheduler's sentence about every node's objections."""
    if not against:
        return "no nodes available to schedule pods"
    counts = Counter(reason for found in against.values() for reason in found)
    why = ", ".join(sorted(f"{count} {reason}" for reason, count in counts.items()))
    fits = Counter(NO_VICTIMS if _is_about_room(found) else HELPLESS for found in against.values())
    helped = ", ".join(sorted(f"{count} {reason}" for reason, count in fits.items()))
    none = f"0/{len(against)} nodes are available:"
    return f"{none} {why}. preemption: {none} {helped}."


def _is_about_room(found: list[str]) -> bool:
    return all(reason.startswith(("Insufficient", "Too many")) for reason in found)


def _taint(spec: Object, node: Object) -> str | None:
    if (node.get("spec") or {}).get("unschedulable"):
        return "node(s) were unschedulable"
    for taint in (node.get("spec") or {}).get("taints") or ():
        tolerated = any(_tolerates(toleration, taint) for toleration in spec.get("tolerations") or ())
        if taint["effect"] != "PreferNoSchedule" and not tolerated:
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    return None


def _tolerates(toleration: Object, taint: Object) -> bool:
    same_key = toleration.get("key") in (None, "", taint["key"])
    any_value = toleration.get("operator", "Equal") == "Exists"
    same_value = toleration.get("value", "") == taint.get("value", "")
    return same_key and (any_value or same_value) and toleration.get("effect") in (None, "", taint["effect"])


def _selects(spec: Object, node: Object) -> bool:
    labels = {"kubernetes.io/hostname": node["metadata"]["name"], **(node["metadata"].get("labels") or {})}
    if any(labels.get(name) != value for name, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms")
    return not required or any(
        all(_meets(each, labels) for each in term.get("matchExpressions") or ()) for term in required
    )


def _meets(expression: Object, labels: Mapping[str, str]) -> bool:
    value, operator = labels.get(expression["key"]), expression["operator"]
    if operator in ("Exists", "DoesNotExist"):
        return (value is not None) == (operator == "Exists")
    return (value in expression["values"]) == (operator == "In")
