"""Rebuilding: a model from the manifest of a version and stored raw bytes, by the very code that made it then.

Run as `python -m mlops_assets.lifecycle.rebuilding ORDER RESULT`, which is what a clean process is started with. A
source that was kept today is asked this way in years to come: what it is told and what it answers stay as they are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from mlops_assets.lifecycle.inspection import Inspection
from mlops_assets.lifecycle.labelled import rows_with_target
from mlops_assets.lifecycle.labels import RAW_LABELS, Joining
from mlops_assets.ml import metrics
from mlops_assets.ml.artifacts import UnsafeModelError, load_model, trusted_types
from mlops_assets.ml.contracts import ContractError, inputs, load_contract, pii_columns
from mlops_assets.ml.features import FeatureError, pipeline
from mlops_assets.ml.holdout import EvaluationError, HoldOut, Trial, aligned, answers
from mlops_assets.ml.labels import LabelledPartition, content_of
from mlops_assets.ml.leaks import LeakError
from mlops_assets.ml.metrics import UnusablePredictionsError
from mlops_assets.ml.reproduction import NotRebuiltError, Order, Rebuilt
from mlops_assets.ml.sources import several
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.training import Fitted, TrainingError, code_digest, environment, fit, needed_inputs
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.resources.blobs import Blobs, CorruptBytesError
from mlops_assets.resources.records import Records
from mlops_assets.resources.tables import Tables

MODEL = "model.skops"
SETTINGS = ("features__", "categories__", "estimator__")
REFUSALS = (
    ContractError,
    CorruptBytesError,
    EvaluationError,
    FeatureError,
    ImportError,
    LeakError,
    TrainingError,
    UnsafeModelError,
    UnusablePredictionsError,
    ValidationError,
)


def rebuild(order: Order) -> Rebuilt:
    """The model that an order asks for, and what it does on the hold-out. Raises NotRebuiltError, with the reason."""
    try:
        work = Work(order, ModelSpec.model_validate(order.manifest.spec))
        fitted = work.fitted
        return Rebuilt(
            model_sha256=fitted.sha256,
            code=code_digest(work.spec),
            environment=environment(work.spec),
            contents={key: content_of(part, work.labels.get(key)) for key, part in work.parts.items()},
            metrics=work.metrics,
            fitted_rows=fitted.rows,
            settings=work.settings,
        )
    except REFUSALS as error:
        raise NotRebuiltError(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class Work:
    """One model built anew. Raw bytes are read from the order's home; everything else is written into its room."""

    order: Order
    spec: ModelSpec

    @cached_property
    def parts(self) -> dict[str, ValidatedPartition]:
        """The partitions of the manifest, validated anew."""
        quality = self.spec.quality.model_copy(update={"row_count": "warn"})
        spec = self.spec.model_copy(update={"quality": quality})
        work = Inspection(spec, self._contract, self._blobs, self._tables, {})
        for partition, delivery in self.order.deliveries.items():
            work.inspect(partition, delivery)
        if work.refused:
            raise NotRebuiltError(f"validation refuses {several(work.refused)}")
        return work.validated

    @cached_property
    def labels(self) -> dict[str, LabelledPartition]:
        """Their labels, where those come later than the rows."""
        if self.spec.labels is None:
            return {}
        for partition, delivery in self.order.labels.items():
            self._records.put(self.spec.name, RAW_LABELS, delivery, partition)
        work = Joining(self.spec, self._contract, self._blobs, self._records, self._tables)
        for partition, part in self.parts.items():
            work.join(partition, part)
        if work.refused:
            raise NotRebuiltError(f"joining labels refuses {several(work.refused)}")
        return work.made

    @cached_property
    def fitted(self) -> Fitted:
        """The model, fitted on the partitions that the manifest says."""
        given = needed_inputs(self.spec, inputs(self._contract, self.spec))
        rows = self._rows(self.order.manifest.fitted_partitions, given)
        return fit(rows, self.spec, given, pii_columns(self._contract))

    @property
    def metrics(self) -> dict[str, float]:
        """Every metric of the model on the hold-out of the manifest."""
        spec, keys = self.spec, self.order.manifest.holdout_partitions
        sizes = {key: self.parts[key].rows_out for key in keys}
        holdout = HoldOut.of(spec, self._rows(keys, None), sizes)
        trial = Trial.of(spec, holdout, self.fitted.classes)
        predicted = answers(spec.task, self.fitted.pipeline, holdout.frame, list(self.fitted.inputs))
        return metrics.values(spec.task, trial.actual, aligned(predicted, self.fitted.classes, trial.classes))

    @property
    def settings(self) -> dict[str, tuple[str, str]]:
        """The settings in which the stored model differs from what its manifest asks for; none where it is gone."""
        path = Path(self.order.room, MODEL)
        if not path.exists():
            return {}
        trusted = trusted_types(self.order.manifest.spec)
        stored = _settings(load_model(path.read_bytes(), self.order.model_sha256, trusted))
        asked = _settings(pipeline(self.spec))
        return {name: (stored[name], asked[name]) for name in stored if stored[name] != asked.get(name, stored[name])}

    @cached_property
    def _contract(self) -> Any:
        return load_contract(self.spec.contract)

    def _rows(self, keys: tuple[str, ...], columns: Any) -> pd.DataFrame:
        return rows_with_target(self.spec, self._tables, [self.parts[key] for key in keys], self.labels, columns)

    @property
    def _blobs(self) -> Blobs:
        return Blobs(root=self.order.home)

    @property
    def _records(self) -> Records:
        return Records(root=self.order.room)

    @property
    def _tables(self) -> Tables:
        return Tables(root=self.order.room)


def _settings(model: Any) -> Mapping[str, str]:
    """Every setting of a pipeline as text. What holds settings itself is told by them."""
    found = {name: value for name, value in model.get_params().items() if name.startswith(SETTINGS)}
    return {name: repr(value) for name, value in found.items() if not hasattr(value, "get_params")}


def main(order: str, result: str) -> None:
    """Do what the order in a file says, and write what came out, or why nothing did, into another."""
    try:
        answer = rebuild(Order.model_validate_json(Path(order).read_text())).model_dump(mode="json")
    except NotRebuiltError as error:
        answer = {"failed": str(error)}
    Path(result).write_text(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
