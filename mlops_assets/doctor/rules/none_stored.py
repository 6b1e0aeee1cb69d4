"""An asset that returns None: the IO manager stores it over the last good value."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from mlops_assets.doctor.findings import Found
from mlops_assets.doctor.names import own, walk
from mlops_assets.doctor.project import ASSETS, CHECKS, Function, Project, is_stub, keywords

_NO_VALUE = {"MaterializeResult", "ObserveResult", "AssetMaterialization"}
_MEND = (
    "Raise dg.Failure, or yield dg.Output with output_required=False so that nothing is stored; an asset that stores "
    "elsewhere returns dg.MaterializeResult and is named in deps=[...] instead of being loaded."
)


def find(project: Project) -> Iterator[Found]:
    """Assets that return a value on one path and None on another, and empty ones that another asset loads."""
    loaded = _loaded(project)
    for function in project.of_kind({"asset"}):
        if _stores_nothing(function):
            continue
        returns = [node for node in own(function.node.body) if isinstance(node, ast.Return)]
        empty = [node for node in returns if _is_none(node.value)]
        name = _name(function)
        if len(empty) < len(returns):
            yield from _now_and_then(function, returns, empty)
        elif name in loaded and not _ends(function.node.body):
            what = f"The asset {name} returns nothing, and {loaded[name]} loads it: what is stored and loaded is None"
            yield Found(function.module.path, function.node.lineno, what, _MEND)


def _now_and_then(function: Function, returns: list[ast.Return], empty: list[ast.Return]) -> Iterator[Found]:
    if all(_without_value(function, node.value) for node in returns if node not in empty):
        return
    for node in empty:
        what = f"The asset {function.node.name} returns None on this path and a value on another"
        yield Found(function.module.path, node.lineno, what, _MEND)
    if not empty and not _ends(function.node.body):
        what = f"The asset {function.node.name} returns a value on one path and falls off its end, as None, on another"
        yield Found(function.module.path, function.node.lineno, what, _MEND)


def _stores_nothing(function: Function) -> bool:
    """Whether Dagster hands nothing to an IO manager here: a stub, a generator, `-> None`, `-> MaterializeResult`."""
    node = function.node
    said = isinstance(node.returns, ast.Constant) and node.returns.value is None
    annotated = walk([node.returns] if node.returns else [])
    result = any(function.module.name_of(each).rpartition(".")[2] in _NO_VALUE for each in annotated)
    yields = any(isinstance(each, (ast.Yield, ast.YieldFrom)) for each in own(node.body))
    return said or result or yields or is_stub(node.body) or "dagster_type" in function.given


def _is_none(value: ast.expr | None) -> bool:
    return value is None or (isinstance(value, ast.Constant) and value.value is None)


def _without_value(function: Function, value: ast.expr | None) -> bool:
    if not isinstance(value, ast.Call):
        return False
    name = function.module.name_of(value.func).rpartition(".")[2] or getattr(value.func, "attr", "")
    return (name in _NO_VALUE and "value" not in keywords(value)) or name == "get_materialize_result"


def _name(function: Function) -> str:
    """The last part of the asset's key."""
    given = function.module.constant(function.given.get("name"))
    return given if isinstance(given, str) else _last(function, function.given.get("key")) or function.node.name


def _loaded(project: Project) -> dict[str, str]:
    """The assets that another function takes as a value, each with the name of one that does."""
    found: dict[str, str] = {}
    for function in project.of_kind(ASSETS | CHECKS):
        ins = function.given.get("ins")
        renamed = _ins(function, ins) if isinstance(ins, ast.Dict) else {}
        for each in function.parameters:
            if "Resource" not in function.module.name_of(each.annotation):
                found.setdefault(renamed.get(each.arg, each.arg), function.node.name)
    return found


def _ins(function: Function, ins: ast.Dict) -> dict[str, str]:
    found = {}
    for key, value in zip(ins.keys, ins.values, strict=True):
        if isinstance(key, ast.Constant) and isinstance(value, ast.Call):
            given = keywords(value)
            target = _last(function, given.get("key") or (value.args[0] if value.args else None))
            nothing = any(function.module.name_of(each).endswith("Nothing") for each in given.values())
            found[str(key.value)] = "" if nothing else target or str(key.value)
    return found


def _last(function: Function, key: ast.expr | None) -> str:
    """The last part of a key, in any of the ways to write one."""
    match key:
        case ast.Call(args=[first, *_]):
            return _last(function, first)
        case ast.List(elts=[*_, last]) | ast.Tuple(elts=[*_, last]):
            return _last(function, last)
    value = function.module.constant(key)
    return value.rpartition("/")[2] if isinstance(value, str) else ""


def _ends(body: Sequence[ast.stmt]) -> bool:
    """Whether the last of these statements never lets what follows be reached."""
    match body[-1] if body else None:
        case ast.Return() | ast.Raise():
            return True
        case ast.If(body=then, orelse=otherwise):
            return _ends(then) and _ends(otherwise)
        case ast.With(body=inner) | ast.AsyncWith(body=inner):
            return _ends(inner)
        case ast.Try(body=tried, handlers=handlers, orelse=otherwise, finalbody=final):
            through = _ends(otherwise or tried) or _ends(tried)
            return _ends(final) or (through and all(_ends(each.body) for each in handlers))
        case ast.While(test=ast.Constant(value=value)) as loop:
            return bool(value) and not any(isinstance(each, ast.Break) for each in own(loop.body))
        case ast.For(orelse=otherwise) as loop:
            return _ends(otherwise) and not any(isinstance(each, ast.Break) for each in own(loop.body))
        case ast.Match(cases=cases):
            return all(_ends(each.body) for each in cases)
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr="exit" | "_exit") | ast.Name(id="exit"))):
            return True
    return False
