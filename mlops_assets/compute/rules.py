"""What a Job must be: pure functions from a Job, as the API's JSON has it, to its faults. No client, no cluster.

`kubernetes` is what an API server refuses beyond its schema, `restricted` what Pod Security's strictest level refuses,
`ours` what it would accept and a step of Dagster must not have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Path = tuple[str | int, ...]
Job = Mapping[str, Any]

KUBERNETES = ("1.31", "1.37")
"""The oldest minor release that a provider still runs, and the newest: Jobs are checked against both."""

POD: Path = ("spec", "template", "spec")
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
WORD = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
ENV = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*")
QUANTITY = re.compile(r"(?P<number>\d+(\.\d*)?|\.\d+)(?P<unit>m|k|[MGTPE]|[KMGTPE]i|[eE][+-]?\d+)?")
UNITS = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18} | {
    f"{letter}i": 2.0 ** (10 * power) for power, letter in enumerate("KMGTPE", 1)
}
NATIVE = ("cpu", "memory", "ephemeral-storage")
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
COUNTS = ("activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished")
VOLUMES = frozenset(
    ("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret")
)
SHORTEST_TTL = 3600


class Fault(NamedTuple):
    """What is wrong with a Job, and where."""

    path: Path
    reason: str

    def __str__(self) -> str:
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path).lstrip(".")
        return f"{place}: {self.reason}"


def kubernetes(job: Job) -> list[Fault]:
    """What an API server refuses though its schema accepts it."""
    looks = (_metadata, _counts, _restarts, _volumes, _containers, _tolerations, _affinity)
    return [fault for look in looks for fault in look(job)]


def restricted(job: Job) -> list[Fault]:
    """What Pod Security's level `restricted` refuses."""
    return [
        *_of_the_pod(job),
        *(fault for at, each in _each_container(job) for fault in _of_a_container(job, at, each)),
    ]


def ours(job: Job) -> list[Fault]:
    """What dagster-k8s cannot live with, or what leaves a step without an end."""
    return [*_told_the_end(job), *_memory_that_is_twice_used(job)]


def amount(quantity: str | float) -> float | None:
    """How much a quantity such as 500m, 24Gi or 1e3 is; None where it is no quantity."""
    found = QUANTITY.fullmatch(str(quantity))
    if found is None:
        return None
    unit = found["unit"]
    if unit is None:
        return float(found["number"])
    return float(found["number"]) * UNITS[unit] if unit in UNITS else float(found["number"] + unit)


def is_extended(resource: str) -> bool:
    """Whether a resource is a device that a plugin offers, and not the node's own CPU, memory or disk."""
    return resource not in NATIVE and not resource.startswith("hugepages-")


def _pod(job: Job) -> Mapping[str, Any]:
    return job.get("spec", {}).get("template", {}).get("spec", {})


def _each_container(job: Job) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for kind in ("initContainers", "containers"):
        for number, each in enumerate(_pod(job).get(kind) or ()):
            yield (*POD, kind, number), each


def _metadata(job: Job) -> Iterator[Fault]:
    spec = job.get("spec", {})
    for at, about in (
        (("metadata",), job.get("metadata")),
        (("spec", "template", "metadata"), spec["template"].get("metadata")),
    ):
        yield from _labels((*at, "labels"), (about or {}).get("labels") or {})
        for key in (about or {}).get("annotations") or {}:
            yield from _key((*at, "annotations"), key)
    yield from _labels((*POD, "nodeSelector"), _pod(job).get("nodeSelector") or {})
    for field in ("runtimeClassName", "priorityClassName", "serviceAccountName"):
        name = _pod(job).get(field)
        if name and not SUBDOMAIN.fullmatch(name):
            yield Fault((*POD, field), f"{name!r} is no name of an object: small letters, digits, - and .")


def _labels(at: Path, labels: Mapping[str, Any]) -> Iterator[Fault]:
    for key, value in labels.items():
        yield from _key(at, key)
        if not isinstance(value, str):
            yield Fault((*at, key), f"{value!r} is no text: write it in quotes.")
        elif value and not WORD.fullmatch(value):
            yield Fault(
                (*at, key), f"{value!r} is no label: at most 63 letters, digits, -, _ and ., with no sign at an end."
            )


def _key(at: Path, key: str) -> Iterator[Fault]:
    prefix, slash, word = key.rpartition("/")
    if not WORD.fullmatch(word) or (slash and not SUBDOMAIN.fullmatch(prefix)):
        yield Fault((*at, key), f"{key!r} is no key of a label or an annotation: [domain/]name.")


def _counts(job: Job) -> Iterator[Fault]:
    for field in COUNTS:
        if (value := job.get("spec", {}).get(field)) is not None and value < 0:
            yield Fault(("spec", field), f"{value} is below 0.")
    grace = _pod(job).get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0:
        yield Fault((*POD, "terminationGracePeriodSeconds"), f"{grace} is below 0.")


def _restarts(job: Job) -> Iterator[Fault]:
    policy = _pod(job).get("restartPolicy")
    if policy not in ("Never", "OnFailure"):
        yield Fault((*POD, "restartPolicy"), f"{policy!r}: a Job's pod restarts Never or OnFailure.")
    if job.get("spec", {}).get("podFailurePolicy") and policy != "Never":
        yield Fault(("spec", "podFailurePolicy"), "only a pod that restarts Never may have one.")


def _volumes(job: Job) -> Iterator[Fault]:
    volumes = _pod(job).get("volumes") or ()
    yield from _twice((*POD, "volumes"), [each.get("name") for each in volumes], "name")
    for number, each in enumerate(volumes):
        at = (*POD, "volumes", number)
        if not NAME.fullmatch(str(each.get("name"))):
            yield Fault((*at, "name"), f"{each.get('name')!r} is no name: small letters, digits and -.")
        kinds = [kind for kind in each if kind != "name"]
        if len(kinds) > 1:
            yield Fault(at, f"a volume is one of {', '.join(kinds)}, not several.")
        size = (each.get("emptyDir") or {}).get("sizeLimit")
        if size is not None and amount(size) is None:
            yield Fault((*at, "emptyDir", "sizeLimit"), f"{size!r} is no quantity, such as 8Gi.")


def _containers(job: Job) -> Iterator[Fault]:
    volumes = {each.get("name") for each in _pod(job).get("volumes") or ()}
    names = [each.get("name") for _, each in _each_container(job)]
    yield from _twice((*POD, "containers"), names, "name")
    for at, each in _each_container(job):
        if not NAME.fullmatch(str(each.get("name"))):
            yield Fault((*at, "name"), f"{each.get('name')!r} is no name: small letters, digits and -.")
        mounts = each.get("volumeMounts") or ()
        yield from _twice((*at, "volumeMounts"), [mount.get("mountPath") for mount in mounts], "mountPath")
        for number, mount in enumerate(mounts):
            if mount.get("name") not in volumes:
                yield Fault((*at, "volumeMounts", number, "name"), f"there is no volume {mount.get('name')!r}.")
        yield from _environment((*at, "env"), each.get("env") or ())
        yield from _resources((*at, "resources"), each.get("resources") or {})


def _twice(at: Path, values: Sequence[Any], field: str) -> Iterator[Fault]:
    for number, value in enumerate(values):
        if value in values[:number]:
            yield Fault((*at, number, field), f"{value!r} stands there twice.")


def _environment(at: Path, variables: Iterable[Mapping[str, Any]]) -> Iterator[Fault]:
    for number, each in enumerate(variables):
        if not ENV.fullmatch(str(each.get("name"))):
            yield Fault((*at, number, "name"), f"{each.get('name')!r} is no name of a variable.")
        if each.get("value") and each.get("valueFrom"):
            yield Fault((*at, number), "a variable has a value or valueFrom, not both.")


def _resources(at: Path, resources: Mapping[str, Any]) -> Iterator[Fault]:
    asked, limits = resources.get("requests") or {}, resources.get("limits") or {}
    for kind, given in (("requests", asked), ("limits", limits)):
        for name, quantity in given.items():
            yield from _resource((*at, kind, name), name, quantity)
    for name, quantity in asked.items():
        most, wanted = amount(limits[name]) if name in limits else None, amount(quantity)
        if is_extended(name) and "/" in name and (name not in limits or most != wanted):
            said = f"limits says {limits[name]}" if name in limits else "limits does not"
            yield Fault((*at, "requests", name), f"requests says {quantity} and {said}: of devices both are the same.")
        elif most is not None and wanted is not None and wanted > most:
            yield Fault((*at, "requests", name), f"{quantity} is more than the limit {limits[name]}.")


def _resource(at: Path, name: str, quantity: Any) -> Iterator[Fault]:
    size = amount(quantity)
    if size is None:
        yield Fault(at, f"{quantity!r} is no quantity, such as 500m or 24Gi.")
    if is_extended(name) and "/" not in name:
        yield Fault(at, f"{name!r} has no prefix: devices are called domain/name, such as nvidia.com/gpu.")
    elif is_extended(name) and size is not None and size != int(size):
        yield Fault(at, f"{quantity} of {name}: devices are whole.")


def _tolerations(job: Job) -> Iterator[Fault]:
    for number, each in enumerate(_pod(job).get("tolerations") or ()):
        at = (*POD, "tolerations", number)
        key, operator, effect = each.get("key"), each.get("operator") or "Equal", each.get("effect")
        if operator not in ("Equal", "Exists"):
            yield Fault((*at, "operator"), f"{operator!r}: Equal or Exists.")
        if operator == "Exists" and each.get("value"):
            yield Fault((*at, "value"), "operator Exists takes no value.")
        if key:
            yield from _key((*at, "key"), key)
        elif operator != "Exists":
            yield Fault((*at, "key"), "without a key the operator is Exists.")
        if effect and effect not in EFFECTS:
            yield Fault((*at, "effect"), f"{effect!r}: {', '.join(EFFECTS)}.")
        if each.get("tolerationSeconds") is not None and effect != "NoExecute":
            yield Fault((*at, "tolerationSeconds"), "only effect NoExecute takes it.")
        if operator == "Equal" and not isinstance(each.get("value") or "", str):
            yield Fault((*at, "value"), f"{each['value']!r} is no text: write it in quotes.")


def _affinity(job: Job) -> Iterator[Fault]:
    needed = ((_pod(job).get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    for number, term in enumerate(needed.get("nodeSelectorTerms") or ()):
        for position, each in enumerate(term.get("matchExpressions") or ()):
            values, operator = each.get("values"), each.get("operator")
            if (operator in ("In", "NotIn")) != bool(values) and operator not in ("Gt", "Lt"):
                at = (*POD, "affinity", "nodeAffinity", "nodeSelectorTerms", number, "matchExpressions", position)
                yield Fault(at, f"{operator} with the values {values}: In and NotIn need some, Exists takes none.")


def _of_the_pod(job: Job) -> Iterator[Fault]:
    pod = _pod(job)
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield Fault((*POD, field), "a pod has no part in its node's own namespaces.")
    for number, each in enumerate(pod.get("volumes") or ()):
        if foreign := [kind for kind in each if kind != "name" and kind not in VOLUMES]:
            yield Fault((*POD, "volumes", number), f"{', '.join(foreign)} is no kind of volume that is allowed.")
    for number, each in enumerate((pod.get("securityContext") or {}).get("sysctls") or ()):
        yield Fault((*POD, "securityContext", "sysctls", number), f"{each.get('name')} is set.")


def _of_a_container(job: Job, at: Path, container: Mapping[str, Any]) -> Iterator[Fault]:
    own = container.get("securityContext") or {}
    context = {**(_pod(job).get("securityContext") or {}), **own}
    capabilities = own.get("capabilities") or {}
    extra = [each for each in capabilities.get("add") or () if each != "NET_BIND_SERVICE"]
    demands = {
        ("privileged",): (not own.get("privileged"), "no container is privileged."),
        ("allowPrivilegeEscalation",): (own.get("allowPrivilegeEscalation") is False, "must be false."),
        ("runAsNonRoot",): (context.get("runAsNonRoot") is True, "must be true, here or for the pod."),
        ("runAsUser",): (context.get("runAsUser") != 0, "must not be 0."),
        ("seccompProfile",): (
            (context.get("seccompProfile") or {}).get("type") in ("RuntimeDefault", "Localhost"),
            "must be RuntimeDefault or Localhost, here or for the pod.",
        ),
        ("capabilities", "drop"): ("ALL" in (capabilities.get("drop") or ()), "must hold ALL."),
        ("capabilities", "add"): (not extra, f"{', '.join(extra)} may not be added."),
        ("procMount",): (own.get("procMount") in (None, "Default"), "must be Default."),
    }
    for field, (met, reason) in demands.items():
        if not met:
            yield Fault((*at, "securityContext", *field), reason)
    for number, port in enumerate(container.get("ports") or ()):
        if port.get("hostPort"):
            yield Fault((*at, "ports", number, "hostPort"), "a container takes no port of its node.")


def _told_the_end(job: Job) -> Iterator[Fault]:
    spec = job.get("spec", {})
    if spec.get("backoffLimit") != 0:
        yield Fault(
            ("spec", "backoffLimit"), "must be 0: a pod that Kubernetes starts again hangs its step; Dagster retries."
        )
    if not spec.get("activeDeadlineSeconds"):
        yield Fault(("spec", "activeDeadlineSeconds"), "must be above 0, or a step that hangs never ends.")
    if (spec.get("ttlSecondsAfterFinished") or 0) < SHORTEST_TTL:
        said = f"must be {SHORTEST_TTL} or more: a Job that is gone when Dagster looks counts as failed."
        yield Fault(("spec", "ttlSecondsAfterFinished"), said)
    for number, rule in enumerate((spec.get("podFailurePolicy") or {}).get("rules") or ()):
        if rule.get("action") == "Ignore":
            yield Fault(
                ("spec", "podFailurePolicy", "rules", number), "Ignore starts a second pod, which hangs the step."
            )


def _memory_that_is_twice_used(job: Job) -> Iterator[Fault]:
    """Files in memory count as the memory of the container that writes them."""
    limits = [(each.get("resources") or {}).get("limits") or {} for _, each in _each_container(job)]
    room = sum(amount(each.get("memory", "0")) or 0 for each in limits)
    for number, each in enumerate(_pod(job).get("volumes") or ()):
        disk = each.get("emptyDir") or {}
        size = amount(disk["sizeLimit"]) if "sizeLimit" in disk else None
        if room and disk.get("medium") == "Memory" and (size is None or 2 * size > room):
            at = (*POD, "volumes", number, "emptyDir", "sizeLimit")
            yield Fault(at, f"{disk.get('sizeLimit', 'no limit')} must not exceed half of the container's memory.")
