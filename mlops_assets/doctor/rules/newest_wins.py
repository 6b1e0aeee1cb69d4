"""The champion chosen as whatever was written last, or as the run with the highest metric."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from mlops_assets.doctor.findings import Found
from mlops_assets.doctor.project import Function, Project, keywords

_LISTS = {
    "glob.glob", "glob.iglob", "os.listdir", "os.scandir", "glob", "rglob", "iterdir", "listdir", "list_objects",
    "list_objects_v2", "list_blobs", "ls", "scandir", "iglob",
}  # fmt: skip
_MODEL = re.compile(
    r"(?<![a-z])(models?|champions?|checkpoints?|ckpt|weights|estimators?|classifiers?|regressors?)(?![a-z])|"
    r"\.(pkl|pickle|joblib|pt|pth|onnx|skops|h5|keras|cbm|safetensors)\b",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(r"\.(sql|ya?ml|csv|parquet|json)\b|dbt", re.IGNORECASE)
_LATEST_URI = re.compile(r"^models:/[^/@]+/latest$|^[\w./-]*model[\w./-]*:latest$")
_IMAGE = re.compile(r"image|ollama|llm|embed", re.IGNORECASE)
_NEWEST_FIRST = re.compile(
    r"\b(attributes?\.)?(start_time|end_time|created|creation_time\w*)\b.*desc|^metrics?\.", re.IGNORECASE
)
_VERSIONS = {"search_model_versions", "get_latest_versions"}
_LATEST = re.compile(r"latest|newest|most_recent", re.IGNORECASE)
_LOADS = re.compile(
    r"(load|serve|get|find|pick|select|latest|newest|best|champion)\w*_?(model|champion)", re.IGNORECASE
)
_MEND = "Load by an alias or a version that a decision has set, such as models:/<name>@champion, and check its digest."


def find(project: Project) -> Iterator[Found]:
    """Every model that is chosen by its date, its name's order, or a bare metric, in what Dagster runs."""
    for function in project.reached.values():
        for node in function.nodes:
            if not isinstance(node, ast.expr):
                continue
            what = (
                _last_of_listing(function, node)
                or _called_latest(function, node)
                or _search(function, node)
                or _best_run(function, node)
                or _latest(function, node)
            )
            if what:
                yield Found(function.module.path, node.lineno, f"{what}, in {function.node.name}()", _MEND)


def _last_of_listing(function: Function, node: ast.AST) -> str:
    """`sorted(glob(...))[-1]`, `max(glob(...), key=getmtime)`, on paths that speak of a model."""
    match node:
        case ast.Subscript(
            value=value, slice=ast.Constant(value=0) | ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=1))
        ):
            listing = _listing(function, value, ordered=False)
        case ast.Call(func=ast.Name(id="max" | "min"), args=[value]):
            listing = _listing(function, value, ordered=True)
        case _:
            return ""
    if listing is None or not _of_models(function, node, listing):
        return ""
    return f"`{_short(node)}` takes the newest file as the model"


def _called_latest(function: Function, node: ast.expr) -> str:
    """`latest_model = models[0]`: what the author calls the latest model, taken from the end of a list."""
    target = function.module.parents.get(node)
    if not (isinstance(target, ast.Assign) and isinstance(target.targets[0], ast.Name)):
        return ""
    name = target.targets[0].id
    ends = isinstance(node, ast.Subscript) and ast.unparse(node.slice) in {"0", "-1"}
    chosen = isinstance(node, ast.Call) and function.module.name_of(node.func) in {"max", "next"}
    if (ends or chosen) and _LATEST.search(name) and _MODEL.search(name.replace("_", " ")):
        return f"`{_short(target)}` takes the newest as the model"
    return ""


def _listing(function: Function, value: ast.expr | None, *, ordered: bool, depth: int = 0) -> ast.Call | None:
    """The call that lists files, if `value` is an ordered list of them."""
    if value is None or depth > 4:
        return None
    match value:
        case ast.Name():
            known = ordered or _sorted_in_place(function, value.id)
            return _listing(
                function, function.module.project.value(function.module, value), ordered=known, depth=depth + 1
            )
        case ast.Call(func=ast.Name(id="sorted" | "list" | "reversed" as name), args=[inner, *_]):
            return _listing(function, inner, ordered=ordered or name == "sorted", depth=depth + 1)
        case (
            ast.ListComp(generators=[ast.comprehension(iter=source)])
            | ast.GeneratorExp(generators=[ast.comprehension(iter=source)])
        ):
            return _listing(function, source, ordered=ordered, depth=depth + 1)
        case ast.Call(func=func) if ordered and (
            function.module.name_of(func) in _LISTS or getattr(func, "attr", "") in _LISTS
        ):
            return value
    return None


def _sorted_in_place(function: Function, name: str) -> bool:
    return any(
        isinstance(call.func, ast.Attribute)
        and call.func.attr == "sort"
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == name
        for call, _ in function.calls
    )


def _of_models(function: Function, node: ast.AST, listing: ast.Call) -> bool:
    """Whether the listing, what it is stored in, or the name of a function that loads speaks of a model."""
    above = function.module.parents.get(node)
    target = ast.unparse(above.targets[0]) if isinstance(above, ast.Assign) else ""
    folder = listing.func.value if isinstance(listing.func, ast.Attribute) else None
    made = function.module.project.value(function.module, folder) if isinstance(folder, ast.Name) else None
    spoken = [ast.unparse(each) for each in (node, listing, made) if each is not None]
    named = function.node.name if _LOADS.search(function.node.name) else ""
    words = " ".join([*spoken, target, named]).replace("_", " ")
    return bool(_MODEL.search(words)) and not _NO_MODEL.search(words)


def _search(function: Function, node: ast.AST) -> str:
    """The first of MLflow's runs by time or by metric; the last of a model's versions."""
    match node:
        case ast.Subscript(value=value, slice=ast.Constant(value=0) | ast.UnaryOp(operand=ast.Constant(value=1))):
            call = _call(function, value)
        case ast.Call(func=ast.Name(id="max"), args=[value]):
            call = _call(function, value)
        case _:
            return ""
    name = _last_name(function, call)
    if call is not None and name == "search_runs" and isinstance(node, ast.Subscript):
        order = [
            each
            for each in ast.walk(keywords(call).get("order_by") or ast.Constant(value=None))
            if isinstance(each, ast.Constant)
        ]
        key = next(
            (each.value for each in order if isinstance(each.value, str) and _NEWEST_FIRST.search(each.value)), ""
        )
        return f"The first run by `{key}` is taken as the model" if key else ""
    if call is not None and name in _VERSIONS and not _staged(call):
        return f"`{name}` and the newest of what it gives is taken as the model"
    return ""


def _best_run(function: Function, node: ast.expr) -> str:
    """`runs["metrics.mae"].idxmin()`: the best figure of any run, whatever rows each was judged on."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Subscript(value=runs), attr="idxmin" | "idxmax")):
            if _last_name(function, _call(function, runs)) == "search_runs":
                return f"`{_short(node)}` takes the run with the best figure as the model"
    return ""


def _last_name(function: Function, call: ast.Call | None) -> str:
    if call is None:
        return ""
    known = function.module.name_of(call.func).rpartition(".")[2]
    return known or (call.func.attr if isinstance(call.func, ast.Attribute) else "")


def _call(function: Function, value: ast.expr | None) -> ast.Call | None:
    for _ in range(4):
        match value:
            case ast.Name():
                value = function.module.project.value(function.module, value)
            case ast.Attribute(value=inner, attr="iloc" | "loc"):
                value = inner
            case ast.Call(func=ast.Name(id="sorted" | "list"), args=[inner, *_]):
                value = inner
            case ast.GeneratorExp(generators=[ast.comprehension(iter=inner)]):
                value = inner
            case ast.ListComp(generators=[ast.comprehension(iter=inner)]):
                value = inner
            case ast.Call():
                return value
    return None


def _staged(call: ast.Call) -> bool:
    """Whether versions are asked for by a stage, an alias or a number: somebody decided on those."""
    stages = keywords(call).get("stages") or (call.args[1] if len(call.args) > 1 else None)
    told = ast.unparse(stages).lower() if stages is not None else ""
    asked = ast.unparse(call).lower()
    return bool(told and "none" not in told) or "alias" in asked or "version=" in asked or "run_id" in asked


def _latest(function: Function, node: ast.AST) -> str:
    """`models:/<name>/latest`, and an artifact of a model as `:latest`."""
    text = ""
    match node:
        case ast.Constant(value=str(text)):
            pass
        case ast.JoinedStr(values=values):
            text = "".join(str(each.value) if isinstance(each, ast.Constant) else "x" for each in values)
    if not _LATEST_URI.search(text) or (not text.startswith("models:/") and not _artifact(function, node)):
        return ""
    return f"`{ast.unparse(node)}` is whatever was registered last"


def _artifact(function: Function, node: ast.AST) -> bool:
    above = function.module.parents.get(node)
    return isinstance(above, ast.Call) and getattr(above.func, "attr", "") in {"use_artifact", "use_model", "artifact"}


def _short(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 70 else text[:67] + "..."
