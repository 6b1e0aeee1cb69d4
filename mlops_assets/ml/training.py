"""Fitting: which partitions a candidate learns from, the fit itself, and the manifest that makes it reproducible."""

from __future__ import annotations

from typing import Any

from mlops_assets.ml.spec import Value


class Manifest(Value):
    """Everything that decides what a candidate is. Same manifest and same code: the same model."""

    model: str
    spec: dict[str, Any]
    deliveries: dict[str, str]
    contents: dict[str, str]
    table_version: int
    fitted_partitions: tuple[str, ...]
    holdout_partitions: tuple[str, ...]
    code: str
    lock: str
    environment: dict[str, str]


class Candidate(Value):
    """A freshly trained model: where it is, what it is made of and what it expects.

    `model_sha256` is the digest of the stored artifact, `content` of what it predicts and holds (equal for equal models).
    `reference` and `reference_sample` are blobs: the training Profile as JSON, and a bounded sample of rows as Parquet.
    """

    model: str
    mlflow_run_id: str
    model_uri: str
    model_sha256: str
    manifest: Manifest
    inputs: tuple[str, ...]
    classes: tuple[Any, ...] = ()
    fitted_rows: int
    importance: dict[str, float]
    reference: str
    reference_sample: str
    cpu_seconds: float
