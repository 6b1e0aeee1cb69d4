"""What is borrowed of Dagster's private parts, held against the versions that are installed."""

from __future__ import annotations

import ast
import inspect
import re
from importlib.metadata import version
from pathlib import Path

from dagster._core.executor.step_delegating import StepDelegatingExecutor, StepHandlerContext
from dagster_k8s.executor import K8sStepHandler

import mlops_assets.compute

TRIED = {"dagster": "1.13.27", "dagster-k8s": "0.29.27"}


def test_the_versions_are_those_whose_private_parts_were_read():
    assert {name: version(name) for name in TRIED} == TRIED


def test_the_executor_has_the_parts_that_are_exchanged():
    source = inspect.getsource(StepDelegatingExecutor)
    assert set(re.findall(r"self\._step_handler\.(\w+)", source)) == {
        "name",
        "launch_step",
        "check_step_health",
        "terminate_step",
    }
    assert "self._check_step_health_interval_seconds" in source


def test_the_handler_has_the_parts_that_are_used():
    assert list(inspect.signature(K8sStepHandler._get_container_context).parameters) == ["self", "step_handler_context"]
    assert list(inspect.signature(K8sStepHandler._get_k8s_step_job_name).parameters) == ["self", "step_handler_context"]
    assert "self._api_client = DagsterKubernetesClient.production_client(" in inspect.getsource(K8sStepHandler)


def test_a_context_has_no_more_to_it_than_is_passed_on():
    from mlops_assets.compute.handler import _WithTags

    public = {name for name in vars(StepHandlerContext) if not name.startswith("_")}
    assert public == {name for name in vars(_WithTags) if not name.startswith("_")}


def test_nothing_private_of_dagster_is_used_elsewhere():
    """An attribute with an underscore belongs to whoever calls it self."""
    used = {}
    for path in Path(mlops_assets.compute.__file__).parent.glob("*.py"):
        attributes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
        private = [node for node in attributes if node.attr.startswith("_") and not node.attr.startswith("__")]
        foreign = {node.attr for node in private if getattr(node.value, "id", None) not in {"self", "cls"}}
        used |= {path.name: foreign} if foreign else {}
    assert set(used) == {"borrowed.py"}
