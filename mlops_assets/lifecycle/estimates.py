"""Where an estimate without labels comes from: what is kept of a version's errors, and the reports that it goes by.

It is kept when a candidate is evaluated: there the rows of its hold-out, their labels and its predictions are at hand,
so that it costs a sort. Later the hold-out would have to be read, joined and predicted again, and where a correction
came since it would no longer be the rows that judged the version. Only models that declare labels have it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mlops_assets.ml.estimation import RECORD, with_estimate
from mlops_assets.ml.holdout import HoldOut, Trial
from mlops_assets.ml.performance import PerformanceReport
from mlops_assets.ml.relations import Relations, learn
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.training import Candidate
from mlops_assets.resources.records import Records

RELATIONS = "error_relations"
LOOKED_AT = 2 * RECORD


def keep_relations(
    spec: ModelSpec, candidate: Candidate, holdout: HoldOut, predicted: np.ndarray, records: Records
) -> None:
    """Keep what a candidate's hold-out says of its errors, where its labels come late."""
    if spec.labels is not None:
        learned = learn(Trial.of(spec, holdout, candidate.classes), predicted)
        records.put(spec.name, RELATIONS, learned, candidate.model_sha256)


@dataclass
class Estimating:
    """One run's work on a model's estimates. Each record is read once."""

    spec: ModelSpec
    records: Records
    asset: str
    learned: dict[str, Relations | None] = field(default_factory=dict)
    known: dict[str, PerformanceReport] = field(default_factory=dict)

    def add(self, report: PerformanceReport, candidate: str, scores: np.ndarray) -> PerformanceReport:
        """The report with its estimate. Reports that were made in this run stand before the stored ones."""
        if self.spec.labels is None:
            return report
        if candidate not in self.learned:
            self.learned[candidate] = self.records.get(Relations, self.spec.name, RELATIONS, candidate)
        unread = [key for key in self._nearby(report.partition) if key not in self.known]
        self.known |= self.records.some(PerformanceReport, self.spec.name, self.asset, unread)
        found = with_estimate(self.spec, report, self.learned[candidate], scores, self.known.values())
        self.known[report.partition] = found
        return found

    def _nearby(self, partition: str) -> list[str]:
        """The partitions whose reports matter to one. Batches are in no order until they are read: all of them."""
        keys = self.records.partitions(self.spec.name, self.asset)
        if self.spec.partitions.every == "batch":
            return keys
        return [key for key in keys if key <= partition][-LOOKED_AT:]
