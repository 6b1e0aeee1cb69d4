"""A project as the rules see it: modules with their names resolved, Dagster's functions, and what they reach."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from mlops_assets.doctor import reading
from mlops_assets.doctor.names import FUNCTIONS, Names, walk
from mlops_assets.doctor.reading import Text, Unread

ASSETS = {
    "asset",
    "multi_asset",
    "graph_asset",
    "graph_multi_asset",
    "observable_source_asset",
    "multi_observable_source_asset",
}
CHECKS = {"asset_check", "multi_asset_check"}
OPS = {"op"}
TICKS = {"sensor", "asset_sensor", "multi_asset_sensor", "run_status_sensor", "run_failure_sensor", "schedule"}
_DECORATORS = ASSETS | CHECKS | OPS | TICKS
_INSTALLED = {
    *sys.stdlib_module_names, "dagster", "numpy", "pandas", "polars", "pyspark", "sklearn", "imblearn", "mlflow",
    "joblib", "cloudpickle", "dill", "torch", "optuna", "xgboost", "lightgbm", "catboost", "keras", "tensorflow",
    "pytest",
}  # fmt: skip
_TEMPLATE = re.compile(r"\{\{|\{%")


@dataclass(eq=False)
class Module:
    """A Python file, parsed."""

    text: Text
    tree: ast.Module
    name: str
    project: Project

    @cached_property
    def names(self) -> Names:
        """What each name in it means."""
        is_package = self.path.endswith("__init__.py")
        return Names(self.tree, self.name, self.name if is_package else self.name.rpartition(".")[0])

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node of it, in the order of the source."""
        return list(walk(self.tree.body))

    @cached_property
    def calls(self) -> list[tuple[ast.Call, str]]:
        """Every call in it, with the name of what is called."""
        return [(node, self.name_of(node.func)) for node in self.nodes if isinstance(node, ast.Call)]

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        """The node around each node."""
        return {child: node for node in self.nodes for child in ast.iter_child_nodes(node)}

    @property
    def path(self) -> str:
        """Its path below the project's root."""
        return self.text.path

    def name_of(self, node: ast.AST | None) -> str:
        """What an expression means, through imports, aliases and the project's own re-exports; empty when unknown."""
        return self.project.canonical(self.names.meaning(node))

    def constant(self, node: ast.AST | None) -> Any:
        """The value of a literal, or of a name that is bound to one literal."""
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name() | ast.Attribute():
                found = self.project.value(self, node)
                return found.value if isinstance(found, ast.Constant) else None
        return None


@dataclass(eq=False)
class Function:
    """A function of the project, wherever it is defined."""

    module: Module
    node: ast.FunctionDef | ast.AsyncFunctionDef
    label: str
    kind: str = ""
    decorator: ast.expr | None = None

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node of its body, in the order of the source, what is defined inside it included."""
        return list(walk(self.node.body))

    @cached_property
    def calls(self) -> list[tuple[ast.Call, str]]:
        """Every call in its body, with the name of what is called."""
        return [(node, self.module.name_of(node.func)) for node in self.nodes if isinstance(node, ast.Call)]

    @property
    def given(self) -> dict[str, ast.expr]:
        """The keywords of its Dagster decorator."""
        return keywords(self.decorator) if isinstance(self.decorator, ast.Call) else {}

    @property
    def parameters(self) -> list[ast.arg]:
        """Its parameters."""
        given = self.node.args
        return [*given.posonlyargs, *given.args, *given.kwonlyargs]


@dataclass(eq=False)
class Document:
    """A YAML file, composed but not constructed: every value keeps its line."""

    text: Text
    nodes: Sequence[yaml.Node]


@dataclass(eq=False)
class Project:
    """All that can be read of a project."""

    root: Path
    paths: frozenset[str] = frozenset()
    modules: list[Module] = field(default_factory=list)
    tests: list[Module] = field(default_factory=list)
    documents: list[Document] = field(default_factory=list)
    tables: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    texts: list[Text] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    _called: dict[str, list[Function]] = field(default_factory=dict, repr=False)

    @cached_property
    def functions(self) -> dict[str, Function]:
        """Every function outside the tests, by its full label."""
        found: dict[str, Function] = {}
        for module in self.modules:
            for label, node in module.names.defined:
                if isinstance(node, FUNCTIONS):
                    found.setdefault(label, Function(module, node, label, *self._dagster(module, node)))
        return found

    @cached_property
    def dagster_functions(self) -> list[Function]:
        """The functions that Dagster runs: assets, checks, ops, sensors, schedules."""
        return [each for each in self.functions.values() if each.kind]

    def of_kind(self, kinds: set[str]) -> list[Function]:
        """The functions under one of these decorators."""
        return [each for each in self.dagster_functions if each.kind in kinds]

    @cached_property
    def reached(self) -> dict[str, Function]:
        """The functions that Dagster runs, and every function of the project that they call, however far away."""
        found = {each.label: each for root in self.dagster_functions for each in self.closure(root)}
        return dict(sorted(found.items()))

    def closure(self, root: Function) -> list[Function]:
        """A function, and every function of the project that it calls, however far away."""
        found: dict[str, Function] = {}
        waiting = [root]
        while waiting:
            function = waiting.pop()
            if function.label not in found:
                found[function.label] = function
                waiting.extend(self._callees(function))
        return list(found.values())

    def _callees(self, function: Function) -> list[Function]:
        """The project's functions that a function names: calls them, or hands them on."""
        if function.label in self._called:
            return self._called[function.label]
        found = {}
        for node in function.nodes:
            if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
                named = self.functions.get(function.module.name_of(node).replace("()", ""))
                if named is not None and named is not function:
                    found[named.label] = named
        return self._called.setdefault(function.label, list(found.values()))

    def canonical(self, name: str) -> str:
        """A dotted name as the project's own modules define it, re-exports followed."""
        for _ in range(8):
            head = name.partition(".")[0].replace("()", "")
            if not name or head in _INSTALLED:
                return name
            followed = self._follow(name)
            if followed == name:
                return name
            name = followed
        return name

    def value(self, module: Module, node: ast.AST) -> ast.expr | None:
        """The one expression that a name is bound to, here or in another module of the project."""
        if isinstance(node, ast.Name):
            scope = module.names.scope_of.get(node, module.names.top).home(node.id)
            bound = scope.bound[node.id] if scope else []
            if len(bound) == 1 and isinstance(bound[0], ast.expr):
                return bound[0]
        place, rest = self._module_of(module.name_of(node) or module.names.meaning(node))
        bound = place.names.top.bound.get(rest[0], []) if place and len(rest) == 1 else []
        return bound[0] if len(bound) == 1 and isinstance(bound[0], ast.expr) else None

    def owner(self, node: ast.AST, likely: Module) -> Module:
        """The module in which an expression stands."""
        if node in likely.names.scope_of:
            return likely
        return next((each for each in self.modules if node in each.names.scope_of), likely)

    @cached_property
    def _by_suffix(self) -> dict[str, list[Module]]:
        found: dict[str, list[Module]] = {}
        for module in self.modules:
            parts = module.name.split(".")
            for start in range(len(parts)):
                found.setdefault(".".join(parts[start:]), []).append(module)
        return found

    def _module_of(self, name: str) -> tuple[Module | None, list[str]]:
        """The module that the front of a dotted name names, and the rest of the name."""
        parts = name.split(".")
        for cut in range(len(parts), 0, -1):
            prefix = ".".join(parts[:cut])
            found = self._by_suffix.get(prefix, [])
            exact = [each for each in found if each.name == prefix] or found
            if len(exact) == 1:
                return exact[0], parts[cut:]
        return None, parts

    def _follow(self, name: str) -> str:
        module, rest = self._module_of(name)
        if module is None or not rest:
            return name
        bare = rest[0].replace("()", "")
        full = ".".join([module.name, *rest])
        bound = module.names.top.bound.get(bare, [])
        if len(bound) != 1 or bound[0] == f"{module.name}.{bare}":
            return full
        meaning = module.names.of_bound(bound[0])
        return ".".join([meaning + rest[0][len(bare) :], *rest[1:]]) if meaning else full

    def _dagster(self, module: Module, node: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[str, ast.expr | None]:
        for decorator in node.decorator_list:
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            package, _, name = module.name_of(called).rpartition(".")
            if name in _DECORATORS and package.partition(".")[0] == "dagster":
                return name, decorator
        return "", None


def keywords(call: ast.Call) -> dict[str, ast.expr]:
    """A call's arguments by keyword."""
    return {each.arg: each.value for each in call.keywords if each.arg}


def spreads(call: ast.Call) -> bool:
    """Whether a call passes `*args` or `**kwargs`, so that what it is given cannot be read here."""
    return any(each.arg is None for each in call.keywords) or any(isinstance(each, ast.Starred) for each in call.args)


def is_stub(body: Sequence[ast.stmt]) -> bool:
    """Whether a function only says that it exists: a docstring, `...`, `pass`."""
    return all(
        isinstance(each, ast.Pass) or (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
        for each in body
    )


def is_test(path: str) -> bool:
    """Whether a file belongs to the tests, by pytest's habits."""
    *folders, name = path.split("/")
    tested = any(each in {"tests", "test", "testing"} or each.endswith("_tests") for each in folders)
    return tested or name.startswith("test_") or name.endswith("_test.py") or name == "conftest.py"


def load(root: Path) -> Project:
    """Read and parse everything below `root` that a rule may look at."""
    paths = list(reading.files(root))
    project = Project(root, frozenset(paths))
    for path in filter(reading.wanted, paths):
        match reading.read(root, path):
            case Unread() as unread:
                project.unread.append(unread)
            case text:
                _parse(text, project)
    return project


def _parse(text: Text, project: Project) -> None:
    try:
        if text.path.endswith(".py"):
            _parse_python(text, project)
            return
        if text.path.endswith((".yaml", ".yml")):
            _parse_yaml(text, project)
        elif text.path.endswith(".toml"):
            project.tables[text.path] = tomllib.loads(text.text)
    except SyntaxError as error:
        project.unread.append(Unread(text.path, f"line {error.lineno}: {error.msg}"))
        return
    except (ValueError, RecursionError, MemoryError, yaml.YAMLError) as error:
        project.unread.append(Unread(text.path, " ".join(str(error).split()) or type(error).__name__))
        return
    project.texts.append(text)


def _parse_python(text: Text, project: Project) -> None:
    tree = ast.parse(text.text)
    *folders, file = text.path.removesuffix(".py").split("/")
    parts = folders if file == "__init__" else [*folders, file]
    module = Module(text, tree, ".".join(parts), project)
    (project.tests if is_test(text.path) else project.modules).append(module)


def _parse_yaml(text: Text, project: Project) -> None:
    try:
        nodes = [node for node in yaml.compose_all(text.text, Loader=yaml.SafeLoader) if node is not None]
    except yaml.YAMLError:
        if _TEMPLATE.search(text.text):
            return  # a template of Helm, Jinja or cookiecutter becomes YAML only when it is filled in
        raise
    project.documents.append(Document(text, nodes))
