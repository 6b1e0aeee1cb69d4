"""What the API server refuses: what is not in Kubernetes's schema, breaks its rules, or asks for what is not there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import cache
from typing import Any

import jsonschema
import kubernetes_validate.utils as schemas
from referencing import Registry, Resource

from mlops_assets_tests.cluster.objects import Object, is_over, quantity, requested
from mlops_assets_tests.cluster.store import RefusedError, Store, plural

NATIVE = ("cpu", "memory", "ephemeral-storage")
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
QUALIFIED = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
LABEL = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?")
VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


class Admission:
    """Checks what is created, against one version of Kubernetes's schema and what the store holds."""

    def __init__(self, store: Store, version: str) -> None:
        self._store, self.version = store, version

    def job(self, job: Object) -> Object:
        """Create a Job, with the defaults that the API server fills in."""
        self._validate(job, [*metadata_faults(job, longest=63), *job_faults(job)])
        spec = job["spec"]
        for name, default in (("backoffLimit", 6), ("completions", 1), ("parallelism", 1)):
            spec.setdefault(name, default)
        job["status"] = {}
        return self._store.create(job)

    def pod(self, pod: Object) -> Object:
        """Create a pod, if its service account and runtime class are there and the namespace's quotas have room."""
        self._validate(pod, [*metadata_faults(pod), *pod_faults(pod["spec"], "spec")])
        self._refuse_what_is_missing(pod)
        for quota in self._store.list("ResourceQuota", pod["metadata"]["namespace"]):
            self._refuse_above(quota, pod)
        pod["status"] = {"phase": "Pending", "conditions": []}
        return self._store.create(pod)

    def _validate(self, thing: Object, faults: list[str]) -> None:
        if not self._store.has("Namespace", thing["metadata"]["namespace"]):
            raise RefusedError(404, "NotFound", f'namespaces "{thing["metadata"]["namespace"]}" not found')
        causes = [*_schema_faults(thing, self.version), *faults]
        if causes:
            said = causes[0] if len(causes) == 1 else f"[{', '.join(causes)}]"
            name = f'{thing["kind"]}{".batch" if thing["kind"] == "Job" else ""} "{thing["metadata"]["name"]}"'
            raise RefusedError(422, "Invalid", f"{name} is invalid: {said}")

    def _refuse_what_is_missing(self, pod: Object) -> None:
        meta, spec = pod["metadata"], pod["spec"]
        account, runtime = spec.get("serviceAccountName") or "default", spec.get("runtimeClassName")
        where = f"{meta['namespace']}/{account}"
        if account != "default" and not self._store.has("ServiceAccount", account, meta["namespace"]):
            said = f'error looking up service account {where}: serviceaccount "{account}" not found'
            raise self._forbidden(pod, said)
        if runtime is not None and not self._store.has("RuntimeClass", runtime):
            raise self._forbidden(pod, f'pod rejected: RuntimeClass "{runtime}" not found')

    def _refuse_above(self, quota: Object, pod: Object) -> None:
        hard = quota["spec"]["hard"]
        others = [each for each in self._store.list("Pod", pod["metadata"]["namespace"]) if not is_over(each)]
        asked, used = _counted(pod), [_counted(each) for each in others]
        totals = {name: sum((each.get(name, Decimal(0)) for each in used), Decimal(0)) for name in hard}
        over = [
            name for name, limit in hard.items() if asked.get(name) and asked[name] + totals[name] > quantity(limit)
        ]
        if over:
            parts = (("requested", asked), ("used", totals), ("limited", hard))
            said = ", ".join(f"{word}: {','.join(f'{name}={part[name]}' for name in over)}" for word, part in parts)
            raise self._forbidden(pod, f"exceeded quota: {quota['metadata']['name']}, {said}")

    @staticmethod
    def _forbidden(pod: Object, why: str) -> RefusedError:
        return RefusedError(403, "Forbidden", f'{plural("Pod")} "{pod["metadata"]["name"]}" is forbidden: {why}')


@cache
def _validator(kind: str, version: str) -> Any:
    """The strict schema of a kind: one that refuses fields that it does not know."""
    folder, file = f"kubernetes-json-schema/v{version}.0-local-strict", {"Job": "job-batch-v1", "Pod": "pod-v1"}[kind]
    schema = schemas.schema_contents(f"{folder}/{file}.json", version)
    definitions = schemas.schema_contents(f"{folder}/_definitions.json", version)
    registry: Any = Resource.from_contents(definitions) @ (Resource.from_contents(schema) @ Registry())
    return jsonschema.Draft202012Validator(schema, registry=registry)


def _schema_faults(thing: Object, version: str) -> Iterator[str]:
    for error in _validator(thing["kind"], version).iter_errors(thing):
        yield f"{'.'.join(str(part) for part in error.absolute_path)}: Invalid value: {error.message}"


def metadata_faults(thing: Object, longest: int = 253) -> Iterator[str]:
    """What is wrong with a name or a label."""
    meta = thing["metadata"]
    if not SUBDOMAIN.fullmatch(meta["name"]) or len(meta["name"]) > longest:
        rule = f"must be a lowercase RFC 1123 subdomain of at most {longest} characters"
        yield f'metadata.name: Invalid value: "{meta["name"]}": {rule}'
    yield from _label_faults(meta.get("labels"), "metadata.labels")


def _label_faults(labels: Mapping[str, str] | None, path: str) -> Iterator[str]:
    for name, value in (labels or {}).items():
        if not QUALIFIED.fullmatch(name):
            yield f'{path}: Invalid value: "{name}": name part must consist of alphanumeric characters, -, _ or .'
        if not LABEL.fullmatch(value):
            yield f'{path}: Invalid value: "{value}": must be no more than 63 alphanumeric characters, -, _ or .'


def job_faults(job: Object) -> Iterator[str]:
    """What is wrong with a Job beyond its schema."""
    spec, template = job["spec"], job["spec"]["template"]
    path = "spec.template.spec"
    yield from _label_faults((template.get("metadata") or {}).get("labels"), "spec.template.labels")
    policy = template["spec"].get("restartPolicy", "Always")
    if policy not in ("Never", "OnFailure"):
        yield f'{path}.restartPolicy: Required value: valid values: "OnFailure", "Never"'
    if spec.get("podFailurePolicy") and policy != "Never":
        yield f'{path}.restartPolicy: Invalid value: "{policy}": only "Never" is supported with podFailurePolicy'
    for name in ("backoffLimit", "ttlSecondsAfterFinished", "activeDeadlineSeconds"):
        if (spec.get(name) or 0) < 0:
            yield f"spec.{name}: Invalid value: {spec[name]}: must be greater than or equal to 0"
    yield from pod_faults(template["spec"], path)


def pod_faults(spec: Object, path: str) -> Iterator[str]:
    """What is wrong with a pod's specification beyond its schema."""
    volumes = [volume["name"] for volume in spec.get("volumes") or ()]
    yield from _duplicates(volumes, f"{path}.volumes")
    containers = [*(spec.get("initContainers") or ()), *spec["containers"]]
    yield from _duplicates([container["name"] for container in containers], f"{path}.containers")
    for number, container in enumerate(containers):
        yield from _container_faults(container, volumes, f"{path}.containers[{number}]")
    for number, toleration in enumerate(spec.get("tolerations") or ()):
        yield from _toleration_faults(toleration, f"{path}.tolerations[{number}]")
    yield from _label_faults(spec.get("nodeSelector"), f"{path}.nodeSelector")


def _duplicates(names: list[str], path: str) -> Iterator[str]:
    for number, name in enumerate(names):
        if name in names[:number]:
            yield f'{path}[{number}].name: Duplicate value: "{name}"'
        if not NAME.fullmatch(name):
            yield f'{path}[{number}].name: Invalid value: "{name}"'


def _container_faults(container: Object, volumes: list[str], path: str) -> Iterator[str]:
    if not container.get("image"):
        yield f"{path}.image: Required value"
    mounts = container.get("volumeMounts") or []
    for number, mount in enumerate(mounts):
        if mount["name"] not in volumes:
            yield f'{path}.volumeMounts[{number}].name: Not found: "{mount["name"]}"'
        if mount["mountPath"] in [each["mountPath"] for each in mounts[:number]]:
            yield f'{path}.volumeMounts[{number}].mountPath: Invalid value: "{mount["mountPath"]}": must be unique'
    for number, variable in enumerate(container.get("env") or ()):
        if not VARIABLE.fullmatch(variable["name"]):
            yield f'{path}.env[{number}].name: Invalid value: "{variable["name"]}"'
        if variable.get("value") and variable.get("valueFrom"):
            yield f'{path}.env[{number}].valueFrom: Invalid value: "": may not be specified when `value` is not empty'
    yield from _resource_faults(container.get("resources") or {}, f"{path}.resources")


def _resource_faults(resources: Object, path: str) -> Iterator[str]:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    kinds = (("limits", limits), ("requests", requests))
    faults = [
        fault for kind, amounts in kinds for name, amount in amounts.items()
        for fault in _amount_faults(name, amount, f"{path}.{kind}[{name}]")
    ]  # fmt: skip
    yield from faults
    if faults:
        return
    for name, amount in requests.items():
        if name not in limits:
            if name not in NATIVE:
                yield f"{path}.limits: Required value: Limit must be set for non overcommitable resources"
        elif name not in NATIVE and str(amount) != str(limits[name]):
            yield f'{path}.requests: Invalid value: "{amount}": must be equal to {name} limit of {limits[name]}'
        elif quantity(amount) > quantity(limits[name]):
            rule = f"must be less than or equal to {name} limit of {limits[name]}"
            yield f'{path}.requests: Invalid value: "{amount}": {rule}'


def _amount_faults(name: str, amount: str, path: str) -> Iterator[str]:
    if name not in NATIVE and not ("/" in name and QUALIFIED.fullmatch(name)):
        yield f'{path}: Invalid value: "{name}": must be a standard resource for containers'
        return
    try:
        value = quantity(amount)
    except ValueError as error:
        yield f"{path}: Invalid value: {error}"
        return
    if value < 0 or (name not in NATIVE and value != int(value)):
        yield f'{path}: Invalid value: "{amount}": must be an integer'


def _toleration_faults(toleration: Object, path: str) -> Iterator[str]:
    if toleration.get("operator") == "Exists" and toleration.get("value"):
        yield f"{path}.operator: Invalid value: value must be empty when `operator` is 'Exists'"
    if toleration.get("effect") not in (None, "", "NoSchedule", "NoExecute", "PreferNoSchedule"):
        yield f'{path}.effect: Unsupported value: "{toleration["effect"]}"'
    if toleration.get("tolerationSeconds") is not None and toleration.get("effect") != "NoExecute":
        yield f"{path}.effect: Invalid value: must be 'NoExecute' when `tolerationSeconds` is set"


def _counted(pod: Object) -> dict[str, Decimal]:
    """What a quota counts of a pod."""
    asked = requested(pod["spec"])
    return {"pods": Decimal(1), **asked, **{f"requests.{name}": amount for name, amount in asked.items()}}
