"""Parts of a Job laid over one another as dagster-k8s lays them, without importing it; and which part each field is of.

The parts are written as in the tag `dagster-k8s/config`: sections, with fields in Python's spelling.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mlops_assets.compute.rules import POD, Path

Config = dict[str, Any]

_METADATA = (
    "annotations creation_timestamp deletion_grace_period_seconds deletion_timestamp finalizers "
    "generate_name generation labels managed_fields name namespace owner_references resource_version "
    "self_link uid"
)
_FIELDS = {
    "container_config": (
        "args command env env_from image image_pull_policy lifecycle liveness_probe name ports "
        "readiness_probe resize_policy resources restart_policy restart_policy_rules security_context "
        "startup_probe stdin stdin_once termination_message_path termination_message_policy tty "
        "volume_devices volume_mounts working_dir"
    ),
    "pod_spec_config": (
        "active_deadline_seconds affinity automount_service_account_token containers dns_config dns_policy "
        "enable_service_links ephemeral_containers host_aliases host_ipc host_network host_pid host_users "
        "hostname hostname_override image_pull_secrets init_containers node_name node_selector os overhead "
        "preemption_policy priority priority_class_name readiness_gates resource_claims resources "
        "restart_policy runtime_class_name scheduler_name scheduling_gates scheduling_group security_context "
        "service_account service_account_name set_hostname_as_fqdn share_process_namespace subdomain "
        "termination_grace_period_seconds tolerations topology_spread_constraints volumes"
    ),
    "job_spec_config": (
        "active_deadline_seconds backoff_limit backoff_limit_per_index completion_mode completions managed_by "
        "manual_selector max_failed_indexes parallelism pod_failure_policy pod_replacement_policy selector "
        "success_policy suspend template ttl_seconds_after_finished"
    ),
    "pod_template_spec_metadata": _METADATA,
    "job_metadata": _METADATA,
}
FIELDS: Mapping[str, frozenset[str]] = {section: frozenset(names.split()) for section, names in _FIELDS.items()}
"""The fields of each section, as the Kubernetes client that is installed knows them."""

PLACES: Mapping[str, Path] = {
    "container_config": (*POD, "containers", 0),
    "pod_spec_config": POD,
    "pod_template_spec_metadata": ("spec", "template", "metadata"),
    "job_spec_config": ("spec",),
    "job_metadata": ("metadata",),
}
REPLACED = ("command", "args")
FREE = frozenset(("labels", "annotations", "node_selector", "limits", "requests", "match_labels"))


class Layer(NamedTuple):
    """A part of a Job, and what it is called."""

    name: str
    config: Mapping[str, Any]


class Laid(NamedTuple):
    """Layers laid over one another: the result, and for each of its leaves the layer and where in it the leaf stood."""

    config: Config
    origins: dict[Path, tuple[str, Path]]


def lay(layers: Sequence[Layer]) -> Laid:
    """Each layer over those before it: fields merged, lists joined without repeating an entry, all else replaced."""
    config: Config = {}
    origins: dict[Path, tuple[str, Path]] = {}
    for layer in layers:
        _over(config, copy.deepcopy(dict(layer.config)), layer.name, (), origins)
    return Laid(config, origins)


def unknown(config: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """The sections and fields of a part that dagster-k8s would not know, each with what it does know."""
    for section, fields in config.items():
        if section not in FIELDS:
            yield (section,), _not_among(section, FIELDS)
        elif not isinstance(fields, Mapping):
            yield (section,), "must hold fields."
        else:
            for name in fields:
                if name not in FIELDS[section]:
                    yield (section, name), _not_among(name, FIELDS[section])
            yield from _misspelt(fields, (section,))


def as_job(config: Mapping[str, Any]) -> dict[str, Any]:
    """A Job of nothing but a part, as the API's JSON has it: enough to hold rules against it."""
    job: dict[str, Any] = {"metadata": {}, "spec": {"template": {"metadata": {}, "spec": {"restartPolicy": "Never"}}}}
    for section in ("job_metadata", "job_spec_config", "pod_template_spec_metadata", "pod_spec_config"):
        target: Any = job
        for step in PLACES[section]:
            target = target[step]
        target.update(_camel(config.get(section, {})))
    container = {"name": "dagster", **_camel(config.get("container_config", {}))}
    pod: Any = job["spec"]["template"]["spec"]
    pod["containers"] = [container, *pod.get("containers", ())]
    return job


def in_part(path: Path) -> Path:
    """Where in a part the field of a Job stands that this path names."""
    for section, place in PLACES.items():
        if path[: len(place)] == place:
            return (
                section,
                *(snake(step) if isinstance(step, str) and "/" not in step else step for step in path[len(place) :]),
            )
    return path


def snake(name: str) -> str:
    """A field's name in Python's spelling."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: f"_{found[1].lower()}", name)


def _over(under: Config, over: Mapping[str, Any], layer: str, at: Path, origins: dict[Path, tuple[str, Path]]) -> None:
    if over:
        origins.pop(at, None)
    for key, value in over.items():
        here, kept = (*at, key), under.get(key)
        if isinstance(kept, dict) and isinstance(value, dict):
            _over(kept, value, layer, here, origins)
        elif isinstance(kept, list) and isinstance(value, list) and key not in REPLACED:
            _join(kept, value, layer, here, origins)
        else:
            for gone in [path for path in origins if path[: len(here)] == here]:
                del origins[gone]
            under[key] = value
            _mark(under[key], layer, here, here, origins)


def _join(kept: list[Any], more: list[Any], layer: str, at: Path, origins: dict[Path, tuple[str, Path]]) -> None:
    for number, item in enumerate(more):
        if item not in kept:
            origins.pop(at, None)
            _mark(item, layer, (*at, len(kept)), (*at, number), origins)
            kept.append(item)


def _mark(value: Any, layer: str, at: Path, stood: Path, origins: dict[Path, tuple[str, Path]]) -> None:
    if value and isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            _mark(item, layer, (*at, key), (*stood, key), origins)
    else:
        origins[at] = (layer, stood)


def _camel(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            re.sub(r"_([a-z])", lambda found: found[1].upper(), name): item if name in FREE else _camel(item)
            for name, item in value.items()
        }
    return [_camel(item) for item in value] if isinstance(value, list | tuple) else value


def _misspelt(value: Any, at: Path) -> Iterator[tuple[Path, str]]:
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if isinstance(key, str) and len(at) > 1 and re.search(r"[a-z][A-Z]", key):
            yield (*at, key), f"write {snake(key)}: layers are laid over one another by their names."
        if key not in FREE:
            yield from _misspelt(item, (*at, key))


def _not_among(name: str, known: Sequence[str] | frozenset[str] | Mapping[str, Any]) -> str:
    meant = difflib.get_close_matches(snake(name), sorted(known), n=1)
    guess = f" Did you mean {meant[0]!r}?" if meant else ""
    return f"is no field of it.{guess} Allowed: {', '.join(sorted(known))}."
