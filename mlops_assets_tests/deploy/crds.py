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
SCHEMAS = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): record(
        {"selector": record({"matchLabels": LABELS}), "endpoints": listed(ENDPOINT)}
    ),
}


def refused_custom(body: dict[str, Any]) -> list[str]:
    """Why the server would refuse a custom resource, as far as its fields go; empty where it would not."""
    spec = SCHEMAS[body["apiVersion"], body["kind"]]
    whole = record(
        {"apiVersion": TEXT, "kind": TEXT, "metadata": {"type": "object", "required": ["name"]}, "spec": spec}
    )
    found = Draft202012Validator(whole).iter_errors(body)
    return [f"{body['kind']} {'.'.join(map(str, error.path))}: {error.message}" for error in found]
