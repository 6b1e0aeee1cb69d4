"""Schemas of our own for what Kubernetes itself does not know: the fields of custom resources that we write."""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator

TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
LABELS: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}}


def record(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """An object with these fields and no others."""
    fields = {**required, **optional}
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


def listed(items: dict[str, Any], least: int = 1) -> dict[str, Any]:
    """A list of these."""
    return {"type": "array", "items": items, "minItems": least}


ENDPOINT = record({"port": TEXT}, interval={"pattern": "^[0-9]+[sm]$"}, scrapeTimeout={"pattern": "^[0-9]+[sm]$"})
NEVER: dict[str, Any] = {"const": "Never"}
QUOTA = record({"name": TEXT, "nominalQuota": {"type": "string", "pattern": "^[0-9]+(Gi|Ti)?$"}})
TAINT = record({"key": TEXT, "effect": {"enum": ["NoSchedule", "NoExecute"]}}, value=TEXT)
NEXT: dict[str, Any] = {"enum": ["MayStopSearch", "TryNextFlavor"]}
FLAVOR = record({"name": TEXT, "resources": listed(QUOTA)})
KUEUE = "kueue.x-k8s.io/v1beta2"
SCHEMAS = {
    (KUEUE, "ResourceFlavor"): record({}, nodeLabels=LABELS, nodeTaints=listed(TAINT)),
    (KUEUE, "LocalQueue"): record({"clusterQueue": TEXT}),
    (KUEUE, "ClusterQueue"): record(
        {
            "namespaceSelector": record({"matchLabels": LABELS}),
            "preemption": record(
                {
                    "withinClusterQueue": NEVER,  # what else is allowed there would leave steps waiting for ever
                    "reclaimWithinCohort": NEVER,
                    "borrowWithinCohort": record({"policy": NEVER}),
                }
            ),
            "resourceGroups": listed(record({"coveredResources": listed(TEXT), "flavors": listed(FLAVOR)})),
        },
        queueingStrategy={"enum": ["StrictFIFO", "BestEffortFIFO"]},
        flavorFungibility=record({}, whenCanBorrow=NEXT, whenCanPreempt=NEXT),
    ),
    ("monitoring.coreos.com/v1", "ServiceMonitor"): record(
        {"selector": record({"matchLabels": LABELS}), "endpoints": listed(ENDPOINT)}
    ),
}


def refused_custom(body: dict[str, Any]) -> list[str]:
    """Why the server would refuse a custom resource, as far as its fields go; empty where it would not."""
    known = {"apiVersion": TEXT, "kind": TEXT, "metadata": {"type": "object", "required": ["name"]}}
    if body["kind"] == "WorkloadPriorityClass":
        whole = record({**known, "value": {"type": "integer"}}, description=TEXT)
    else:
        whole = record({**known, "spec": SCHEMAS[body["apiVersion"], body["kind"]]})
    found = Draft202012Validator(whole).iter_errors(body)
    return [f"{body['kind']} {'.'.join(map(str, error.path))}: {error.message}" for error in found]
