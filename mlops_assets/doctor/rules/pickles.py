"""Models, or anything else, kept as pickles."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from mlops_assets.doctor.findings import Found
from mlops_assets.doctor.project import Module, Project, keywords

_PICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib"}
_CALLS = {"dump", "dumps", "load", "loads", "Unpickler", "Pickler"}
_LOGS = {"mlflow.sklearn.log_model", "mlflow.sklearn.save_model"}
_FORMATS = {"pickle", "cloudpickle"}
_CONSTANTS = ("SERIALIZATION_FORMAT_PICKLE", "SERIALIZATION_FORMAT_CLOUDPICKLE")
_MEASURES = {"len", "sys.getsizeof"}
_MEND = (
    "Store with skops.io and a list of trusted types of your own, as ONNX, or in the library's own format, and check a "
    "SHA-256 before loading."
)


def find(project: Project) -> Iterator[Found]:
    """Every pickle that is written to be kept, and every one that is read."""
    for module in project.modules:
        for call, name in module.calls:
            package, _, last = name.rpartition(".")
            if package in _PICKLERS and last in _CALLS and not _in_passing(module, call):
                yield Found(module.path, call.lineno, f"`{ast.unparse(call.func)}(...)` {_said(last)}", _MEND)
            elif name in _LOGS and _pickled(module, call):
                yield Found(
                    module.path,
                    call.lineno,
                    f"`{ast.unparse(call.func)}` with a pickle as its format",
                    'Pass serialization_format="skops".',
                )
            elif name == "torch.load" and module.constant(keywords(call).get("weights_only")) is False:
                yield Found(
                    module.path,
                    call.lineno,
                    "`torch.load(weights_only=False)` unpickles whatever it is given",
                    "Save a state_dict and load it with weights_only=True, or use safetensors.",
                )


def _said(last: str) -> str:
    return (
        "runs whatever the file tells it to"
        if last in {"load", "loads", "Unpickler"}
        else "keeps an object as code that runs when it is loaded"
    )


def _pickled(module: Module, call: ast.Call) -> bool:
    given = keywords(call).get("serialization_format")
    return module.constant(given) in _FORMATS or module.name_of(given).endswith(_CONSTANTS)


def _in_passing(module: Module, call: ast.Call) -> bool:
    """Whether the pickle never leaves this line: a copy, a size, a digest."""
    if any(
        isinstance(each, ast.Call) and module.name_of(each.func).rpartition(".")[0] in _PICKLERS for each in call.args
    ):
        return True
    above = module.parents.get(call)
    if not isinstance(above, ast.Call):
        return False
    name = module.name_of(above.func)
    return (
        name in _MEASURES
        or name.startswith("hashlib.")
        or name.rpartition(".")[0] in _PICKLERS
        or name.endswith("().update")
    )
