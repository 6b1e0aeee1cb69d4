"""Imported by the process that programs are forked from: what most of them need."""

from importlib import import_module

from mlops_assets.ml.importing import for_good

LIBRARIES = (
    "mlops_assets_tests.faults.doubled",
    "mlops_assets_tests.faults.filling",
    "mlops_assets_tests.faults.killing",
    "mlops_assets_tests.faults.measured",
    "mlops_assets_tests.faults.outage",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "sklearn.ensemble",
)

with for_good():
    for name in LIBRARIES:
        import_module(name)
