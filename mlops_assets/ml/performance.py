"""Performance: what was predicted for a partition, and how good it was on the rows whose labels have come."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from mlops_assets.ml.evaluation import Estimate
from mlops_assets.ml.spec import Value


class PredictedPartition(Value):
    """What `predictions` says of one partition: which version scored which rows, and where the scores are.

    `files` maps each data file of the table to its SHA-256; its rows are in the order of `validated_features`.
    """

    model: str
    partition: str
    first: datetime
    delivery: str
    rows_of: str
    version: int
    candidate: str
    rows: int
    table_version: int
    files: dict[str, str]


class PerformanceReport(Value):
    """What `performance_report` says of one partition: the champion of that moment on the rows that have labels.

    `mature` when the share of labelled rows reaches the declared one; before, the figures say of themselves that they
    are not. `measured` is missing while no row has a label. `estimated` is what was expected of the rows before their
    labels, with its interval, and `inside` whether the mature figure fell into it. `baseline` is the naive guess on the
    same rows, `at_registration` what the version had on its hold-out. `arrival` is the share of rows whose label was
    known so many hours after the row's time. `conflicting` labels of one row differ; `unknown` ones have no row.
    """

    model: str
    partition: str
    first: datetime
    version: int
    delivery: str
    labels: str | None
    metric: str
    rows: int
    labelled: int
    mature: bool
    metrics: dict[str, Estimate] = Field(default_factory=dict)
    baseline: float | None = None
    at_registration: Estimate | None = None
    estimated: Estimate | None = None
    inside: bool | None = None
    arrival: tuple[tuple[float, float], ...] = ()
    conflicting: int = 0
    unknown: int = 0
    sentence: str

    @property
    def measured(self) -> Estimate | None:
        """The deciding metric on the labelled rows."""
        return self.metrics.get(self.metric)
