"""The Job of a step as dagster-k8s itself makes it, and the layer that each of its fields comes from.

Importing dagster-k8s imports the Kubernetes client: everything here is for commands, tests and benchmarks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mlops_assets.compute.layering import PLACES, Laid, Layer, in_part, lay
from mlops_assets.compute.profile import Provider
from mlops_assets.compute.profiles import catalog

IMAGE = "image-of-the-code-location"
HOME = "/opt/dagster/home"
LAUNCHER, LOCATION = "run launcher", "code location"
KINDS = {
    "container_config": "V1Container",
    "pod_spec_config": "V1PodSpec",
    "job_spec_config": "V1JobSpec",
    "pod_template_spec_metadata": "V1ObjectMeta",
    "job_metadata": "V1ObjectMeta",
}
ARGS = ("dagster", "api", "execute_step")


class NoLauncherError(ValueError):
    """What is said to configure Dagster's run launcher on Kubernetes cannot be used."""


class Rendered(NamedTuple):
    """A Job as it would be sent to the API, and the parts that it was made of."""

    job: dict[str, Any]
    laid: Laid

    def layer_of(self, path: Sequence[str | int]) -> str:
        """Which layer a field of the Job comes from; empty where dagster-k8s writes it itself."""
        inside = in_part(self._without_dagsters_own(tuple(path)))
        found = {layer for leaf, (layer, _) in self.laid.origins.items() if leaf[: len(inside)] == inside}
        return " and ".join(sorted(found))

    def _without_dagsters_own(self, path: tuple[str | int, ...]) -> tuple[str | int, ...]:
        """The path with its place among the variables of the layers: dagster-k8s puts its own before them."""
        env = (*PLACES["container_config"], "env")
        if path[: len(env)] != env or len(path) == len(env):
            return path
        given = len(self.laid.config.get("container_config", {}).get("env", ()))
        own = len(self.job["spec"]["template"]["spec"]["containers"][0]["env"]) - given
        return (*env, int(path[len(env)]) - own, *path[len(env) + 1 :])


def rendered(
    profile: str | None,
    provider: Provider,
    launcher: Mapping[str, Any] | None = None,
    location: Mapping[str, Any] | None = None,
    step: str = "step",
) -> Rendered:
    """The Job of a step with this profile or none, under a launcher's and a code location's configuration."""
    outer = [Layer(LAUNCHER, launcher or {}), Layer(LOCATION, location or {})]
    own = catalog().layers(profile, provider) if profile else []
    config = catalog().render(profile, provider) if profile else {}
    return Rendered(job_of(config, outer, step), lay([*outer, *own]))


def job_of(config: Mapping[str, Any], outer: Sequence[Layer] = (), step: str = "step") -> dict[str, Any]:
    """What dagster-k8s sends to the API for a step whose tag holds `config`, as JSON."""
    from dagster_k8s.container_context import K8sContainerContext
    from dagster_k8s.job import (
        DagsterK8sJobConfig,
        UserDefinedDagsterK8sConfig,
        construct_dagster_k8s_job,
        get_k8s_job_name,
        get_user_defined_k8s_config,
    )
    from kubernetes.client import ApiClient

    context = K8sContainerContext()
    for layer in outer:
        context = context.merge(K8sContainerContext(run_k8s_config=UserDefinedDagsterK8sConfig.from_dict(layer.config)))
    tagged = get_user_defined_k8s_config({"dagster-k8s/config": json.dumps(config)})
    context = context.merge(K8sContainerContext(run_k8s_config=tagged))
    job = construct_dagster_k8s_job(
        DagsterK8sJobConfig(job_image=IMAGE, dagster_home=HOME),
        ARGS,
        f"dagster-step-{get_k8s_job_name('run', step)}",
        component="step_worker",
        user_defined_k8s_config=context.run_k8s_config,
        labels={"dagster/op": step},
    )
    return ApiClient().sanitize_for_serialization(job)


def launcher_config(instance_yaml: Path) -> dict[str, Any]:
    """What a dagster.yaml gives every pod through its K8sRunLauncher; nothing where it names another launcher."""
    import yaml

    if not instance_yaml.is_file():
        return {}
    try:
        declared = (yaml.safe_load(instance_yaml.read_text()) or {}).get("run_launcher") or {}
    except (yaml.YAMLError, AttributeError) as error:
        raise NoLauncherError(f"{instance_yaml} is not a dagster.yaml: {error}") from error
    if declared.get("class") != "K8sRunLauncher":
        return {}
    return _sections({"k8s": {key: value for key, value in (declared.get("config") or {}).items() if key in _SHARED}})


def location_config(container_context: str) -> dict[str, Any]:
    """What a code location gives every pod, as DAGSTER_CLI_API_GRPC_CONTAINER_CONTEXT has it; nothing where unset."""
    if not container_context:
        return {}
    try:
        return _sections(json.loads(container_context))
    except json.JSONDecodeError as error:
        raise NoLauncherError(f"The code location's container context is not JSON: {error}") from error


_SHARED = (
    "image_pull_policy",
    "image_pull_secrets",
    "service_account_name",
    "env_config_maps",
    "env_secrets",
    "volume_mounts",
    "volumes",
    "labels",
    "resources",
    "scheduler_name",
    "security_context",
    "run_k8s_config",
)


def _sections(container_context: Mapping[str, Any]) -> dict[str, Any]:
    """The sections that dagster-k8s makes of a container context, those that say nothing left out."""
    from dagster import DagsterInvalidConfigError
    from dagster_k8s.container_context import K8sContainerContext

    try:
        made = K8sContainerContext.create_from_config(container_context).run_k8s_config.to_dict()
    except DagsterInvalidConfigError as error:
        raise NoLauncherError(str(error)) from error
    return {section: dict(fields) for section, fields in made.items() if fields and section != "merge_behavior"}


def misspelt(config: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """The fields of a part, however deep, that the installed Kubernetes client does not know, with those it does."""
    for section, fields in config.items():
        yield from _misspelt(KINDS[section], fields, (section,))


def _misspelt(kind: str, value: Any, at: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    import kubernetes.client

    inner = re.fullmatch(r"(?:list\[|dict\(str, )(.+?)[\])]", kind)
    model = getattr(kubernetes.client, kind, None)
    if inner and isinstance(value, Mapping | list):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            yield from _misspelt(inner[1], item, (*at, key))
    elif model is not None and isinstance(value, Mapping):
        spelt = {camel: name for name, camel in model.attribute_map.items()}
        for key, item in value.items():
            name = spelt.get(key, key)
            if name in model.openapi_types:
                yield from _misspelt(model.openapi_types[name], item, (*at, key))
            else:
                yield (*at, key), f"is no field of it. Allowed: {', '.join(sorted(model.openapi_types))}."


def commented(found: Rendered) -> Iterator[str]:
    """The Job as YAML, with the layer that a field comes from behind it; a field with none is dagster-k8s's own."""
    yield from _lines(found, found.job, ())


def _lines(found: Rendered, value: Any, at: tuple[str | int, ...]) -> Iterator[str]:
    if isinstance(value, list):
        for number, item in enumerate(value):
            first, *more = _entry(found, item, (*at, number))
            yield f"- {first}"
            yield from (f"  {line}" for line in more)
        return
    for key, item in value.items():
        head = f"{_scalar(key)}:"
        if item and isinstance(item, dict | list):
            yield head
            yield from (f"  {line}" for line in _lines(found, item, (*at, key)))
        else:
            yield f"{head} {_leaf(found, item, (*at, key))}"


def _entry(found: Rendered, item: Any, at: tuple[str | int, ...]) -> list[str]:
    return list(_lines(found, item, at)) if item and isinstance(item, dict | list) else [_leaf(found, item, at)]


def _leaf(found: Rendered, value: Any, at: tuple[str | int, ...]) -> str:
    layer = found.layer_of(at)
    return _scalar(value) + (f"  # {layer}" if layer else "")


def _scalar(value: Any) -> str:
    import yaml

    return yaml.safe_dump(value, width=1000, default_flow_style=True).splitlines()[0]
