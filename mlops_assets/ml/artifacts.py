"""Artifacts: a fitted pipeline as bytes and back. skops with types that we trust; never a pickle, never other bytes."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Collection, Mapping
from copy import deepcopy
from functools import lru_cache
from importlib import import_module
from inspect import isabstract
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np

from mlops_assets.ml.importing import import_what_stores_models

TRUSTED_VERSION = 1
TRUSTED = (
    "functools.partial",
    "mlops_assets.ml.features.CappedCategories",
    "mlops_assets.ml.features.RowFeatures",
    "numpy.dtype",
    "sklearn.compose._column_transformer.make_column_selector",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils.validation.check_array",
)
TRUSTED_OF = {
    "lightgbm": ("collections.OrderedDict", "lightgbm.basic.Booster"),
    "xgboost": ("xgboost.core.Booster",),
}
NO_ESTIMATORS = frozenset({"conftest", "estimator_checks", "externals", "setup", "tests"})
IMMUTABLE = {"FunctionNode", "JsonNode", "SliceNode", "TupleNode", "TypeNode"}
KEPT_BYTES = 1 << 24
FIELDS, HEAD = b"'descr': [", 64
EPOCH = (1980, 1, 1, 0, 0, 0)


class UnsafeModelError(Exception):
    """Bytes that are not the model they are said to be, or that hold something that we do not trust."""


def trusted_types(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """What an artifact of a model may hold beyond numbers and scikit-learn's estimators, from its spec as JSON.

    Our list, the functions of the declared feature steps, the declared estimator's own class, and what its package
    needs where we know it.
    """
    from mlops_assets.ml.features import estimator_class, function

    functions = [function(step["path"]) for step in spec["features"] if step["path"]]
    declared = (*functions, estimator_class(spec["estimator"]["path"]))
    package = spec["estimator"]["path"].partition(".")[0]
    return (*TRUSTED, *TRUSTED_OF.get(package, ()), *(f"{found.__module__}.{found.__name__}" for found in declared))


def dump_model(pipeline: Any) -> bytes:
    """The pipeline as a skops file. Equal pipelines give equal bytes, in any process at any time.

    skops names objects by their address in memory, stamps its files with the time and keeps what happens to stand in
    the gaps between fields; here objects are counted, and times and gaps are empty.
    """
    import_what_stores_models()
    import skops.io
    from skops.io.exceptions import UnsupportedTypeException

    try:
        dumped = skops.io.dumps(pipeline)
    except UnsupportedTypeException as error:
        raise UnsafeModelError(f"The model cannot be stored without a pickle: {error}") from error
    with ZipFile(io.BytesIO(dumped)) as source:
        schema = json.loads(source.read("schema.json"))
        names = _rename(schema)
        contents = {new: _without_gaps(source.read(old)) for old, new in names.items()}
    contents["schema.json"] = json.dumps(schema, separators=(",", ":")).encode()
    target = io.BytesIO()
    with ZipFile(target, "w") as archive:
        for name, content in contents.items():
            archive.writestr(ZipInfo(name, EPOCH), content)
    return target.getvalue()


def load_model(content: bytes, sha256: str, trusted: Collection[str]) -> Any:
    """The pipeline in a skops file whose SHA-256 is known, when it holds nothing beyond `trusted`; the caller's own.

    Raises UnsafeModelError before anything in other bytes, of another format or with other types is built or run.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise UnsafeModelError(
            f"These are other bytes than the model that was stored: SHA-256 {found}, expected {sha256}. "
            "Restore the artifact from a backup, or train again."
        )
    if not content.startswith(b"PK\x03\x04"):
        raise UnsafeModelError("This is no skops file. Pickles and other formats that can run code are never loaded.")
    if len(content) > KEPT_BYTES:
        return _read(content, tuple(trusted))
    return deepcopy(_read_lately(content, tuple(trusted)))


def _read(content: bytes, trusted: tuple[str, ...]) -> Any:
    import_what_stores_models()
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return skops.io.loads(content, trusted=[*trusted, *estimators_in(content)])
    except UntrustedTypesFoundException as error:
        raise UnsafeModelError(
            f"The artifact holds types that are not trusted: {error}. If the model needs them, add them to TRUSTED in "
            "mlops_assets/ml/artifacts.py after reading what they do when they are loaded."
        ) from error


_read_lately = lru_cache(maxsize=2)(_read)
"""What was read is kept for the next who loads the same bytes: a run loads candidate and champion four times each."""


def estimators_in(content: bytes) -> list[str]:
    """The estimators of scikit-learn that a skops file names: what skops trusts by itself, once it has imported all."""
    with ZipFile(io.BytesIO(content)) as archive:
        nodes = list(_nodes(json.loads(archive.read("schema.json"))))
    named = {(str(node.get("__module__")), str(node.get("__class__"))) for node in nodes}
    return sorted(f"{module}.{name}" for module, name in named if is_estimator(module, name))


def is_estimator(module: str, name: str) -> bool:
    """Whether a class is a public estimator of scikit-learn that can be made, as `all_estimators` has it."""
    root, *parts = module.split(".")
    if root != "sklearn" or NO_ESTIMATORS.intersection(parts) or name.startswith("_"):
        return False
    from sklearn.base import BaseEstimator

    try:
        found = getattr(import_module(module), name, None)
    except ImportError:
        return False
    return (
        isinstance(found, type)
        and issubclass(found, BaseEstimator)
        and found is not BaseEstimator
        and not isabstract(found)
        and found.__module__ == module
    )


def _rename(schema: dict[str, Any]) -> dict[str, str]:
    """Number shared objects and files in the order of the tree; what nothing shares needs no number."""
    seen: dict[Any, int] = {}
    nodes = list(_nodes(schema))
    for node in nodes:
        identity = node.get("__id__")
        seen[identity] = seen.get(identity, 0) + 1
    shared: dict[Any, int] = {}
    files: dict[str, str] = {}
    for node in nodes:
        identity = node.pop("__id__", None)
        if identity is not None and seen[identity] > 1 and node["__loader__"] not in IMMUTABLE:
            node["__id__"] = shared.setdefault(identity, len(shared) + 1)
        if isinstance(name := node.get("file"), str):
            suffix = name.rpartition(".")[2]
            node["file"] = files.setdefault(name, f"{len(files)}.{suffix}")
    return files


def _without_gaps(content: bytes) -> bytes:
    """The array in a .npy file, with zeros in the gaps that its fields leave for alignment. Other files as they are."""
    if not content.startswith(b"\x93NUMPY") or FIELDS not in content[:HEAD]:
        return content
    cells = np.load(io.BytesIO(content), allow_pickle=False).ravel("K")
    clean = np.zeros(cells.shape, cells.dtype)
    for name in cells.dtype.names:
        clean[name] = cells[name]
    return content[: len(content) - cells.nbytes] + clean.tobytes()


def _nodes(part: Any) -> Any:
    """Every object in the schema, parents first."""
    if isinstance(part, dict):
        if "__loader__" in part:
            yield part
        for value in part.values():
            yield from _nodes(value)
    elif isinstance(part, list):
        for value in part:
            yield from _nodes(value)
