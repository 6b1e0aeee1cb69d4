"""Resources for Kubernetes on steps that no executor for Kubernetes starts."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from mlops_assets.doctor.findings import Found
from mlops_assets.doctor.project import ASSETS, CHECKS, OPS, Function, Project

_EXECUTORS = ("k8s_job_executor", "celery_k8s_job_executor", "k8s_job_op_executor")
_CONFIG = "dagster-k8s/config"
_GPUS = ("nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com")
_MEND = (
    "Give the definitions dagster_k8s.k8s_job_executor, or put the tag on the job, whose pod K8sRunLauncher starts, "
    "or ask for the GPU where the process really runs."
)


def find(project: Project) -> Iterator[Found]:
    """Every op or asset with such tags, in a project that nowhere names an executor which reads them."""
    if any(each in text for text in _everything(project) for each in _EXECUTORS):
        return
    for function in project.of_kind(ASSETS | CHECKS | OPS):
        for word in ("op_tags", "tags"):
            tags = _resolved(function, function.given.get(word))
            keys = set(_keys(function, tags)) if tags is not None else set()
            gpu = next((each for each in _GPUS if any(each in key for key in keys)), "")
            if gpu or _CONFIG in keys:
                asked = f"`{gpu}`" if gpu else f"`{_CONFIG}`"
                what = (
                    f"{function.node.name} asks for {asked} in {word}, and the project names no executor for Kubernetes"
                )
                yield Found(function.module.path, function.given[word].lineno, what, _MEND)


def _everything(project: Project) -> Iterator[str]:
    yield from (module.text.text for module in project.modules)
    yield from (text.text for text in project.texts if not text.is_requirements)


def _resolved(function: Function, tags: ast.expr | None) -> ast.expr | None:
    return function.module.project.value(function.module, tags) if isinstance(tags, (ast.Name, ast.Attribute)) else tags


def _keys(function: Function, tags: ast.expr, depth: int = 0) -> Iterator[str]:
    """Every string that is a key, at any depth, names of other dictionaries followed."""
    module = function.module.project.owner(tags, function.module)
    for node in ast.walk(tags):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                constant = module.constant(key)
                if isinstance(constant, str):
                    yield constant
                if isinstance(value, (ast.Name, ast.Attribute)) and depth < 4:
                    inner = module.project.value(module, value)
                    yield from _keys(function, inner, depth + 1) if inner is not None else ()
