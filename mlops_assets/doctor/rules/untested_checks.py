"""Asset checks that no test names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from mlops_assets.doctor.findings import Found
from mlops_assets.doctor.project import CHECKS, Function, Project, is_stub, keywords

_WORD = re.compile(r"\w+")
_MEND = "Call it, or materialize with it, in a test on data that must pass and on data that must not."


def find(project: Project) -> Iterator[Found]:
    """Every check whose name, or whose factory's name, stands in no test."""
    tested = _named(project)
    for function in project.of_kind(CHECKS):
        if is_stub(function.node.body):
            continue
        name = function.module.constant(function.given.get("name"))
        if not tested & {
            function.node.name,
            *([name] if isinstance(name, str) else []),
            *_factories(project, function),
        }:
            yield Found(
                function.module.path,
                function.node.lineno,
                f"No test names the check {name or function.node.name}",
                _MEND,
            )
    for module in project.modules:
        for call, called in module.calls:
            if called.startswith("dagster.") and called.endswith(".AssetCheckSpec"):
                name = module.constant(keywords(call).get("name") or (call.args[0] if call.args else None))
                if isinstance(name, str) and name not in tested:
                    yield Found(module.path, call.lineno, f"No test names the check {name}", _MEND)


def _factories(project: Project, function: Function) -> set[str]:
    """The functions around a check: a test that calls one makes the check."""
    outer = function.label.rpartition(".")[0]
    found = set()
    while outer in project.functions:
        found.add(project.functions[outer].node.name)
        outer = outer.rpartition(".")[0]
    return found


def _named(project: Project) -> set[str]:
    """Every word in the tests' code: names, attributes, imports, and what stands in strings."""
    found: set[str] = set()
    for module in project.tests:
        for node in ast.walk(module.tree):
            match node:
                case ast.Name(id=name) | ast.Attribute(attr=name):
                    found.add(name)
                case ast.alias(name=name):
                    found.add(name.rpartition(".")[2])
                case ast.Constant(value=str(text)):
                    found.update(_WORD.findall(text))
    return found
