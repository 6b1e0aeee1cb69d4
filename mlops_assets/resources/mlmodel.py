"""The folder of an MLflow model: the artifact with its manifest, and what MLflow's own tools need to serve it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.ml.artifacts import TRUSTED_VERSION, estimators_in, trusted_types
from mlops_assets.ml.golden import SERVING
from mlops_assets.ml.training import Fitted, Manifest

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature

ARTIFACT = "model.skops"
MANIFEST = "manifest.json"
WRITTEN = frozenset({ARTIFACT, MANIFEST, "MLmodel", "python_env.yaml", "requirements.txt"})
LEFT_BY_MLFLOW = frozenset({"registered_model_meta"})


def write_model(folder: Path, fitted: Fitted, manifest: Manifest, logged: LoggedModel, run_id: str) -> dict[str, str]:
    """Write all that the model consists of, and return the SHA-256 of each file. `MLmodel` comes last.

    MLflow would find the requirements by importing the model in a process of its own, which takes seconds.
    """
    from mlflow.models import Model
    from mlflow.utils.environment import _PythonEnv

    (folder / ARTIFACT).write_bytes(fitted.content)
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1))
    (folder / "requirements.txt").write_text(requirements(manifest))
    _PythonEnv(python=manifest.environment["python"], dependencies=["-r requirements.txt"]).to_yaml(
        str(folder / "python_env.yaml")
    )
    model = Model(
        artifact_path=logged.artifact_location,
        model_uuid=logged.model_id,
        model_id=logged.model_id,
        run_id=run_id,
        signature=signature(fitted.inputs),
        metadata={"sha256": fitted.sha256, "trusted_types_version": TRUSTED_VERSION},
    )
    model.add_flavor(
        "sklearn",
        pickled_model=ARTIFACT,
        sklearn_version=manifest.environment["scikit-learn"],
        serialization_format="skops",
        skops_trusted_types=[*trusted_types(manifest.spec), *estimators_in(fitted.content)],
        code=None,
    )
    model.add_flavor(
        "python_function",
        loader_module="mlflow.sklearn",
        model_path=ARTIFACT,
        predict_fn="predict",
        python_version=manifest.environment["python"],
        env={"virtualenv": "python_env.yaml"},
    )
    model.save(str(folder / "MLmodel"))
    return digests(folder)


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file in a folder, by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def strangers(stands: Iterable[str], expected: Collection[str]) -> list[str]:
    """What stands in a model's folder and is not of it, and what should stand there and does not, in words.

    Loading a model from a folder of this machine, MLflow leaves a note in it, which nothing here reads.
    """
    found = set(stands)
    more = [f"{name} does not belong there" for name in sorted(found - WRITTEN - LEFT_BY_MLFLOW - set(expected))]
    return more + [f"{name} is missing" for name in sorted(set(expected) - found)]


def changed(found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """The files that are not those that were written, with both digests, in words."""
    return [
        f"{name} has SHA-256 {found[name]}, expected {sha256}"
        for name, sha256 in sorted(expected.items())
        if found[name] != sha256
    ]


def requirements(manifest: Manifest) -> str:
    """What has to be installed to load the model: the versions that made it, and this package."""
    pinned = [f"{name}=={manifest.environment[name]}" for name in SERVING]
    return "\n".join([*pinned, "mlops-assets", ""])


def signature(inputs: Mapping[str, str]) -> ModelSignature:
    """MLflow's names for the types of the inputs."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    return ModelSignature(inputs=Schema([ColSpec(_type(dtype), name) for name, dtype in inputs.items()]))


def _type(dtype: str) -> str:
    known = {"bool": "boolean", "float": "double", "int": "long", "uint": "long", "datetime": "datetime"}
    return next((name for start, name in known.items() if dtype.lower().startswith(start)), "string")
