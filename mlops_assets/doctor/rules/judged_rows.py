"""Scaling, tuning or stopping by the rows that are meant to judge the result."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from mlops_assets.doctor.findings import Found
from mlops_assets.doctor.names import own, walk
from mlops_assets.doctor.project import Function, Project, keywords
from mlops_assets.doctor.rules.leaking import leaks

_TEST = re.compile(r"(^|_)(test|holdout|hold_out|heldout)(_|$)")
_OTHER = re.compile(r"(^|_)(train|val|valid|validation|dev|calib|calibration|tune|temp|rest|size)(_|$)")
_LEARNS = {"sklearn", "imblearn", "xgboost", "lightgbm", "catboost"}
_LOOKS_ONLY = {"manifold", "cluster", "metrics", "dummy", "inspection", "calibration", "neighbors"}
_CALLED = {
    "model", "clf", "classifier", "regressor", "estimator", "scaler", "imputer", "encoder", "pipeline", "pipe",
    "search", "grid", "grid_search", "random_search",
}  # fmt: skip
_FITS = {"fit", "fit_transform", "fit_resample", "partial_fit"}
_EVALS = {"eval_set", "evals", "valid_sets", "validation_data"}
_STOPS = {"early_stopping", "EarlyStopping", "log_evaluation_early_stopping"}
_CROSS = "Tune by cross-validation or a validation part of the training rows; score the hold-out once, at the end."


def find(project: Project) -> Iterator[Found]:
    """Every way in which the rows that judge have a say in what is judged."""
    yield from leaks(project)
    for function in project.reached.values():
        yield from _fits(function)
        yield from _stops(function)
        yield from _tunes(function)
    yield from _objectives(project)


def _fits(function: Function) -> Iterator[Found]:
    """`model.fit(X_test, ...)`, `scaler.fit_transform(X_test)`, also of a search."""
    for call, _ in function.calls:
        if not (isinstance(call.func, ast.Attribute) and call.func.attr in _FITS and call.args):
            continue
        if _judging(call.args[0]) and _learner(function, call.func.value):
            told = f"{ast.unparse(call.func)}({ast.unparse(call.args[0])}, ...)"
            shown = f"`{told}` in {function.node.name}() learns from the rows that judge"
            yield Found(
                function.module.path,
                call.lineno,
                shown,
                "Fit on the training rows only; on these only transform and score.",
            )


def _learner(function: Function, receiver: ast.expr) -> bool:
    parts = function.module.name_of(receiver).replace("()", "").split(".")
    if parts[0] in _LEARNS:
        return not _LOOKS_ONLY & set(parts)
    return isinstance(receiver, ast.Name) and receiver.id.lower() in _CALLED


def _judging(node: ast.AST) -> bool:
    """Whether an expression is rows that are named as those that judge, and nothing else."""
    match node:
        case ast.Name(id=name):
            return bool(_TEST.search(name.lower())) and not _OTHER.search(name.lower())
        case ast.Attribute(value=value, attr="values" | "T" | "iloc" | "loc"):
            return _judging(value)
        case ast.Attribute(attr=name):
            return _judging(ast.Name(id=name))
        case ast.Subscript(value=value, slice=ast.Constant(value=str(name))):
            return _judging(value) or _judging(ast.Name(id=name))
        case ast.Subscript(value=value):
            return _judging(value)
        case ast.Call(func=ast.Attribute(value=value, attr="copy" | "to_numpy" | "drop" | "reset_index")):
            return _judging(value)
    return False


def _stops(function: Function) -> Iterator[Found]:
    """Early stopping that watches the hold-out."""
    calls = function.calls
    if not any(_early(call, name) for call, name in calls):
        return
    made = _datasets(function)
    for call, _ in calls:
        for word, value in keywords(call).items():
            if word in _EVALS and any(_judging(each) or made.get(getattr(each, "id", "")) for each in ast.walk(value)):
                what = f"Early stopping in {function.node.name}() watches the hold-out: `{word}={ast.unparse(value)}`"
                yield Found(
                    function.module.path,
                    value.lineno,
                    what,
                    "Stop by a validation part of the training rows, and keep the hold-out for judging.",
                )


def _early(call: ast.Call, name: str) -> bool:
    rounds = keywords(call).get("early_stopping_rounds")
    given = rounds is not None and not (isinstance(rounds, ast.Constant) and not rounds.value)
    return given or name.rpartition(".")[2] in _STOPS


def _datasets(function: Function) -> dict[str, bool]:
    """The names that wrap rows for a library, such as `dtest = xgb.DMatrix(X_test)`, and whether those rows judge."""
    found = {}
    for node in own(function.node.body):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(args=[rows, *_]) as made):
                if function.module.name_of(made.func).rpartition(".")[2] in {
                    "DMatrix",
                    "Dataset",
                    "Pool",
                    "QuantileDMatrix",
                }:
                    found[name] = _judging(rows)
    return found


def _tunes(function: Function) -> Iterator[Found]:
    """A loop that fits, scores on the hold-out, and keeps the best."""
    for loop in own(function.node.body):
        if isinstance(loop, (ast.For, ast.While)) and _fits_inside(loop) and _keeps_best(loop):
            for call in _scores(function, list(loop.body)):
                what = f"A loop in {function.node.name}() chooses by a score on the hold-out: `{ast.unparse(call)}`"
                yield Found(function.module.path, call.lineno, what, _CROSS)
                break


def _objectives(project: Project) -> Iterator[Found]:
    """An objective of Optuna that scores on the hold-out; it is handed over by name, so any function may be one."""
    for function in project.functions.values():
        trial = next((each.arg for each in function.parameters if each.arg == "trial"), None)
        suggests = trial and any(
            isinstance(node, ast.Attribute) and node.attr.startswith("suggest_") for node in function.nodes
        )
        if suggests and _fits_inside(function.node):
            for call in _scores(function, function.node.body):
                what = f"The objective {function.node.name}() tunes by a score on the hold-out: `{ast.unparse(call)}`"
                yield Found(function.module.path, call.lineno, what, _CROSS)
                break


def _fits_inside(node: ast.AST) -> bool:
    return any(
        isinstance(each, ast.Call)
        and isinstance(each.func, ast.Attribute)
        and each.func.attr in {"fit", "fit_transform"} | {"train"}
        for each in ast.walk(node)
    )


def _scores(function: Function, body: list[ast.stmt]) -> Iterator[ast.Call]:
    """The calls that score on rows which judge: `model.score(X_test, ...)`, `accuracy_score(y_test, ...)`."""
    for node in walk(body):
        if isinstance(node, ast.Call) and node.args and _judging(node.args[0]):
            known = function.module.name_of(node.func).rpartition(".")[2]
            name = known or (node.func.attr if isinstance(node.func, ast.Attribute) else "")
            if name == "score" or name.endswith(("_score", "_error", "_loss", "accuracy")):
                yield node


def _keeps_best(loop: ast.For | ast.While) -> bool:
    """Whether the loop compares a score with the best so far, and keeps what beat it."""
    for node in ast.walk(loop):
        if isinstance(node, ast.If) and any(isinstance(each, ast.Compare) for each in ast.walk(node.test)):
            stored = {
                each.id
                for line in node.body
                for each in ast.walk(line)
                if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
            }
            compared = {each.id for each in ast.walk(node.test) if isinstance(each, ast.Name)}
            if any("best" in each.lower() for each in stored & compared):
                return True
    return False
