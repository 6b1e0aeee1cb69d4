"""A model that is really fitted and really logged to an MLflow of its own: what tests of tracking start from."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.training import Candidate, Fitted, Manifest, fit, manifest, splits
from mlops_assets.resources.tracking import Tracking
from mlops_assets_tests import toy
from mlops_assets_tests.homes import empty_database
from mlops_assets_tests.ml.test_features import rows
from mlops_assets_tests.ml.test_training import INPUTS, validated


class Trained(NamedTuple):
    """A declaration, the model fitted to it, and its manifest."""

    spec: ModelSpec
    fitted: Fitted
    manifest: Manifest


@cache
def trained(seed: int = 0) -> Trained:
    """The toy's model on 300 rows, by the quickest of estimators."""
    spec = toy.spec("/nowhere", estimator={"path": "sklearn.linear_model.Ridge"})
    return Trained(spec, fit(rows(300, seed), spec, INPUTS), manifest(spec, splits(validated(1, 2, 3), spec)[0]))


def tracking_in(folder: Path) -> Tracking:
    """An MLflow with nothing in it."""
    (folder / "mlflow.db").write_bytes(empty_database())
    return Tracking(root=str(folder), tracking_uri=f"sqlite:///{folder}/mlflow.db")


def logged(tracking: Tracking, what: Trained | None = None, dagster_run_id: str = "dagster-1") -> Candidate:
    """The candidate that a training leaves behind."""
    spec, fitted, made_of = what or trained()
    with tracking.run("toy", dagster_run_id) as run:
        kept = tracking.log_model(run, spec, fitted, made_of, {"fitted_rows": fitted.rows})
    return Candidate(
        model="toy",
        mlflow_run_id=run.id,
        model_uri=kept.uri,
        model_sha256=fitted.sha256,
        manifest=made_of,
        inputs=tuple(fitted.inputs),
        fitted_rows=fitted.rows,
        importance={},
        reference="",
        reference_sample="",
        files=kept.files,
        cpu_seconds=0,
    )
