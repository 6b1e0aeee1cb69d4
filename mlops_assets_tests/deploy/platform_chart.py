"""The chart mlops-platform, rendered by Helm's own engine."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import helm_python as helm
import yaml

from mlops_assets_tests.deploy.folder import DEPLOY, over, read

CHART = DEPLOY / "helm" / "mlops-platform"
NAMESPACE, RELEASE = "mlops", "platform"
WORKLOADS = ("Deployment", "Job", "StatefulSet", "DaemonSet")


def values(environment: str, provider: str) -> dict[str, Any]:
    """The values that go over the chart's own, as one mapping."""
    names = (f"values-{environment}", f"values-{provider}")
    return over(*(read(f"helm/mlops-platform/{name}.yaml") for name in names))


@cache
def chart() -> helm.Chart:
    """The chart, loaded once."""
    return helm.Chart.load(CHART)


def rendered(given: dict[str, Any], *, upgrade: bool = False) -> list[dict[str, Any]]:
    """Every object that an installation would make."""
    files = chart().render(values=given, name=RELEASE, namespace=NAMESPACE, is_install=not upgrade, is_upgrade=upgrade)
    texts = (text for name, text in sorted(files.items()) if name.endswith(".yaml"))
    return [found for text in texts for found in yaml.load_all(text, Loader=yaml.CSafeLoader) if found]


@cache
def rendered_at(environment: str, provider: str) -> list[dict[str, Any]]:
    """Every object of an environment at a provider, rendered once and not to be changed."""
    return rendered(values(environment, provider))


def of_kind(objects: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    """Those of these kinds."""
    return [each for each in objects if each["kind"] in kinds]


def named(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """The one of this kind and name."""
    [found] = [each for each in of_kind(objects, kind) if each["metadata"]["name"] == name]
    return found


def pods(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The pod template of every workload, with the workload's name."""
    for each in of_kind(objects, *WORKLOADS):
        yield each["metadata"]["name"], each["spec"]["template"]


def containers(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every container, with its workload's name."""
    for name, template in pods(objects):
        for container in [*template["spec"].get("initContainers", ()), *template["spec"]["containers"]]:
            yield name, container
