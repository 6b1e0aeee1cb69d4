"""The metrics of each task, and which way is better. Cheap to import: declarations are validated against this table."""

from __future__ import annotations

from typing import Literal

Task = Literal["regression", "binary", "multiclass"]

METRICS: dict[Task, dict[str, Literal["higher", "lower"]]] = {
    "regression": {"mae": "lower", "rmse": "lower", "r2": "higher", "bias": "lower"},
    "binary": {
        "roc_auc": "higher",
        "accuracy": "higher",
        "balanced_accuracy": "higher",
        "f1": "higher",
        "log_loss": "lower",
        "brier": "lower",
    },
    "multiclass": {
        "accuracy": "higher",
        "balanced_accuracy": "higher",
        "f1_macro": "higher",
        "log_loss": "lower",
    },
}
