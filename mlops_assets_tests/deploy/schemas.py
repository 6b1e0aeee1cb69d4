"""Kubernetes's own schemas, strict, of the oldest and the newest version that is supported: each is read once."""

from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from kubernetes_validate.utils import schema_contents
from referencing import Registry, Resource

from mlops_assets.compute.rules import KUBERNETES


def refused(body: dict[str, Any]) -> list[str]:
    """Why either version would refuse an object; empty where neither would."""
    return [
        f"{version}: {body['kind']} {'.'.join(map(str, error.path))}: {error.message}"
        for version in KUBERNETES
        for error in _validator(version, body["kind"].lower(), body["apiVersion"]).iter_errors(body)
    ]


@cache
def _validator(version: str, kind: str, api: str) -> Draft202012Validator:
    group, _, number = api.rpartition("/")
    name = "-".join(filter(None, (kind, group.partition(".")[0], number)))
    schema = schema_contents(f"kubernetes-json-schema/v{version}.0-local-strict/{name}.json", version)
    return Draft202012Validator(schema, registry=Resource.from_contents(schema) @ _definitions(version))


@cache
def _definitions(version: str) -> Registry:
    found = schema_contents(f"kubernetes-json-schema/v{version}.0-local-strict/_definitions.json", version)
    return Resource.from_contents(found) @ Registry()
