"""Imported by the process that `code_server` forks runs from: the libraries that a run of a shipped model needs."""

from importlib import import_module

from mlops_assets.ml.importing import for_good, import_what_stores_models

LIBRARIES = (
    "dagster._core.execution.api",
    "dagster._grpc.impl",
    "deltalake",
    "evidently.core.report",
    "evidently.metrics.column_statistics",
    "matplotlib.figure",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "pandera.pandas",
    "sklearn.ensemble",
)

with for_good():
    for name in LIBRARIES:
        import_module(name)
import_what_stores_models()
