"""`except Exception` in what Dagster runs, after which the step ends as if nothing had happened."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from mlops_assets.doctor.findings import Found
from mlops_assets.doctor.names import own
from mlops_assets.doctor.project import TICKS, Function, Project

_BLIND = {"Exception", "BaseException", "builtins.Exception", "builtins.BaseException"}
_EXITS = {"sys.exit", "os._exit", "exit", "quit"}
_CLEANS = {
    "close", "quit", "stop", "shutdown", "rollback", "remove", "unlink", "rmtree", "terminate", "kill",
    "disconnect", "dispose", "cleanup", "delete", "drop", "release", "end_run", "cancel",
}  # fmt: skip
_MEND = "Catch only the error that you expect; let every other end the step, or raise dg.Failure with what went wrong."


def find(project: Project) -> Iterator[Found]:
    """Blind handlers of a step that neither raise nor fail a check, and those of a helper that make a value up."""
    for function in project.reached.values():
        for node in function.nodes:
            if isinstance(node, (ast.Try, ast.TryStar)):
                yield from _handlers(function, node)
            elif isinstance(node, ast.With) and function.kind and _suppresses(function, node):
                what = f"`suppress(Exception)` in {_who(function)}: whatever goes wrong, the step goes on"
                yield Found(function.module.path, node.lineno, what, _MEND)


def _handlers(function: Function, node: ast.Try | ast.TryStar) -> Iterator[Found]:
    for handler in node.handlers:
        if not _blind(function, handler.type) or _speaks(function, handler) or _only_cleans(function, node):
            continue
        if _reports(node, handler):
            continue
        made_up = _made_up(handler)
        if function.kind in TICKS and not _ends_tick(function, node, handler):
            continue
        if function.kind and not _told_later(function, node, handler):
            what = f"`{_spelled(handler)}` in {_who(function)} {_ending(function, handler, made_up)}"
            yield Found(function.module.path, handler.lineno, what, _MEND)
        elif not function.kind and made_up:
            what = (
                f"`{_spelled(handler)}` in {function.node.name}(), which a step calls, returns {made_up} for any error"
            )
            yield Found(function.module.path, handler.lineno, what, _MEND)


def _blind(function: Function, caught: ast.expr | None) -> bool:
    if caught is None:
        return True
    each = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(function.module.name_of(one) in _BLIND for one in each)


def _speaks(function: Function, handler: ast.ExceptHandler) -> bool:
    """Whether the handler raises, ends the process, or reports a check that does not pass."""
    for node in own(handler.body):
        if isinstance(node, ast.Raise):
            return True
        if isinstance(node, ast.Call):
            name = function.module.name_of(node.func)
            if name in _EXITS or (name.endswith("AssetCheckResult") and not _passes(node)):
                return True
    return False


def _passes(check: ast.Call) -> bool:
    passed = next((each.value for each in check.keywords if each.arg in {"passed", "success"}), None)
    return isinstance(passed, ast.Constant) and passed.value is True


def _reports(node: ast.Try | ast.TryStar, handler: ast.ExceptHandler) -> bool:
    """Whether how it went is the value itself: `health["db"] = "fine"`, or else `health["db"] = str(error)`."""
    for each in handler.body:
        match each:
            case ast.Assign(targets=[ast.Subscript(slice=ast.Constant()) as place], value=value):
                named = handler.name is not None and _mentions(value, {handler.name})
                if named and any(
                    isinstance(tried, ast.Assign) and ast.unparse(tried.targets[0]) == ast.unparse(place)
                    for tried in node.body
                ):
                    return True
    return False


def _only_cleans(function: Function, node: ast.Try | ast.TryStar) -> bool:
    """Whether the tried lines only tidy up or import, or stand in a handler that is already on its way out."""
    parents = function.module.parents
    above = parents.get(node)
    while above is not None and above is not function.node:
        if isinstance(above, ast.ExceptHandler):
            return True
        if isinstance(above, ast.Try) and any(node is each or node in list(ast.walk(each)) for each in above.finalbody):
            return True
        above = parents.get(above)
    return all(_cleans(each) for each in node.body)


def _cleans(statement: ast.stmt) -> bool:
    match statement:
        case ast.Import() | ast.ImportFrom() | ast.Pass():
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name))):
            return name in _CLEANS
        case ast.If(body=body, orelse=orelse):
            return all(map(_cleans, [*body, *orelse]))
    return False


def _ends_tick(function: Function, node: ast.Try | ast.TryStar, handler: ast.ExceptHandler) -> bool:
    """Whether a sensor's tick is over with this handler, or with what it was about."""
    leaves = (ast.Return, ast.Yield, ast.Continue)
    return node is function.node.body[-1] or any(isinstance(each, leaves) for each in own(handler.body))


def _told_later(function: Function, node: ast.Try | ast.TryStar, handler: ast.ExceptHandler) -> bool:
    """Whether what the handler notes decides, further down, over a raise or over a check."""
    noted = _noted([*handler.body, *node.body])
    body = function.nodes
    for _ in range(2):
        for each in body:
            if isinstance(each, ast.Assign) and _mentions(each.value, noted):
                noted |= {name.id for target in each.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    after = [each for each in body if getattr(each, "lineno", 0) > (node.end_lineno or 0)]
    return any(_decides(function, each, noted) for each in after)


def _decides(function: Function, node: ast.AST, noted: set[str]) -> bool:
    if isinstance(node, ast.Call) and function.module.name_of(node.func).endswith("AssetCheckResult"):
        given = [*node.args[:1], *(each.value for each in node.keywords if each.arg in {"passed", "success"})]
        return any(_mentions(each, noted) for each in given)
    if not isinstance(node, ast.Raise):
        return False
    guards, above = [], function.module.parents.get(node)
    while above is not None and above is not function.node:
        if isinstance(above, ast.ExceptHandler):
            return False
        if isinstance(above, ast.If):
            guards.append(above.test)
        above = function.module.parents.get(above)
    return not guards or any(_mentions(each, noted) for each in guards)


def _noted(nodes: list[ast.stmt]) -> set[str]:
    """The names that these lines store to, or call a method of."""
    found = set()
    for node in own(nodes):
        match node:
            case ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
            case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store()):
                found.add(name)
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="append" | "add" | "extend" | "update")):
                found.add(name)
    return found


def _mentions(node: ast.AST, names: set[str]) -> bool:
    return any(isinstance(each, ast.Name) and each.id in names for each in ast.walk(node))


def _suppresses(function: Function, node: ast.With) -> bool:
    calls = [each.context_expr for each in node.items if isinstance(each.context_expr, ast.Call)]
    blind = any(
        function.module.name_of(call.func) == "contextlib.suppress" and any(_blind(function, arg) for arg in call.args)
        for call in calls
    )
    return blind and not all(map(_cleans, node.body))


def _made_up(handler: ast.ExceptHandler) -> str:
    """The stand-in that a handler returns: a number, or something empty."""
    for node in own(handler.body):
        if isinstance(node, ast.Return) and node.value is not None and _stand_in(node.value):
            text = ast.unparse(node.value)
            return f"`{text if len(text) <= 60 else text[:57] + '...'}`"
    return ""


def _stand_in(value: ast.expr) -> bool:
    match value:
        case ast.Constant(value=constant):
            return isinstance(constant, (int, float)) and not isinstance(constant, bool)
        case ast.List(elts=[]) | ast.Tuple(elts=[]) | ast.Dict(keys=[]):
            return True
        case ast.Dict(values=values):
            return all(map(_stand_in, values))
        case ast.Call(func=ast.Attribute(attr="DataFrame" | "Series") | ast.Name(id="DataFrame" | "dict" | "list")):
            return not value.args and not value.keywords
    return False


def _ending(function: Function, handler: ast.ExceptHandler, made_up: str) -> str:
    for node in own(handler.body):
        if isinstance(node, ast.Call) and function.module.name_of(node.func).endswith("AssetCheckResult"):
            return "reports the check as passed"
    if made_up:
        return f"returns {made_up} for any error"
    return "turns any error into a quiet tick" if function.kind in TICKS else "lets the step end green after any error"


def _spelled(handler: ast.ExceptHandler) -> str:
    return "except" if handler.type is None else f"except {ast.unparse(handler.type)}"


def _who(function: Function) -> str:
    return f"the {function.kind.replace('_', ' ')} {function.node.name}"
