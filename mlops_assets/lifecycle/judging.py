"""What a run of monitoring does to each partition: find the version to judge it by, predict, judge, draw."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from mlops_assets.lifecycle.upstream import Upstream
from mlops_assets.ml.artifacts import UnsafeModelError
from mlops_assets.ml.contracts import load_contract, pii_columns
from mlops_assets.ml.drift_page import draw
from mlops_assets.ml.monitoring import PREDICTION, DriftReport, Subject, judge, predictions
from mlops_assets.ml.profiles import Profile
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.training import Candidate
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.resources.blobs import Blobs, CorruptBytesError
from mlops_assets.resources.registry import Registry
from mlops_assets.resources.tables import Tables
from mlops_assets.resources.tracking import Tracking, TrackingUnavailableError

if TYPE_CHECKING:
    import pandera.pandas as pandera

NO_CHAMPION = (
    "no version that has been champion was fitted without these rows. Materialize trained_model, evaluation_report, "
    "registered_version and champion first."
)


class Reference(NamedTuple):
    """The version that a partition is judged against: its pipeline, and what it was fitted on."""

    version: int
    candidate: Candidate
    pipeline: Any
    profile: Profile
    sample: pd.DataFrame

    def about(self, part: ValidatedPartition) -> Subject:
        """The partition as what is judged, with the number of rows that was usual in fitting."""
        return Subject(
            partition=part.partition,
            first=part.first,
            delivery=part.delivery,
            version=self.version,
            usual_rows=self.profile.rows / len(self.candidate.manifest.fitted_partitions),
        )

    def predicted(self, rows: pd.DataFrame, spec: ModelSpec) -> pd.Series | None:
        """What the version says of the rows, None where there are none or they lack what it needs."""
        inputs = list(self.candidate.inputs)
        complete = len(rows) > 0 and set(inputs) <= set(rows.columns)
        return predictions(self.pipeline, rows[inputs], spec.task) if complete else None


@dataclass
class Judging:
    """One run's work on a model's partitions. Every one ends in `judged`, or in one of the others with the reason.

    `unjudged` are those for which there is no version to judge them against; what is `refused` should have been judged.
    """

    spec: ModelSpec
    contract: pandera.DataFrameSchema
    tables: Tables
    blobs: Blobs
    registry: Registry
    tracking: Tracking
    upstream: Upstream
    judged: dict[str, DriftReport] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)
    unjudged: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    references: dict[int, Reference] = field(default_factory=dict)
    outage: bool = False

    @classmethod
    def of(
        cls,
        spec: ModelSpec,
        tables: Tables,
        blobs: Blobs,
        registry: Registry,
        tracking: Tracking,
        upstream: Upstream,
    ) -> Judging:
        """The work on a model's partitions, before the first."""
        return cls(spec, load_contract(spec.contract), tables, blobs, registry, tracking, upstream)

    def look_at(self, partition: str, part: ValidatedPartition | None, *, drawn: bool) -> None:
        """Judge one partition over all its rows, and draw its page when asked to."""
        if part is None:
            self.refused[partition] = "there are no validated rows of it: materialize validated_features first."
            return
        try:
            reference = self._reference(partition)
            if reference is None:
                self.unjudged[partition] = NO_CHAMPION
                return
            self._judge(part, reference, drawn=drawn)
        except (CorruptBytesError, UnsafeModelError) as error:
            self.refused[partition] = str(error)
        except TrackingUnavailableError as error:
            self.refused[partition] = str(error)
            self.outage = True

    def _judge(self, part: ValidatedPartition, reference: Reference, *, drawn: bool) -> None:
        known = [name for name in reference.candidate.inputs if name in self.contract.columns]
        rows = self.tables.read(self.spec.name, "validated_features", part.files, known)
        predicted = reference.predicted(rows, self.spec)
        report = judge(
            self.spec,
            reference.about(part),
            reference.profile,
            rows,
            predicted,
            reference.candidate.importance,
            pii_columns(self.contract),
        )
        report = self.upstream.explained(part, report, self.judged)
        if drawn:
            self.pages[part.partition] = self._page(report.as_declared(self.spec.drift), reference, rows, predicted)
        self.judged[part.partition] = report

    def _page(self, report: DriftReport, reference: Reference, rows: pd.DataFrame, predicted: pd.Series | None) -> str:
        size = min(len(rows), self.spec.drift.report_rows)
        drawn = np.sort(np.random.default_rng(self.spec.seed).choice(len(rows), size, replace=False))
        before, now = reference.sample, rows.iloc[drawn].reset_index(drop=True)
        said = reference.predicted(before, self.spec)
        if said is not None and predicted is not None:
            before = before.assign(**{PREDICTION: said.to_numpy()})
            now = now.assign(**{PREDICTION: predicted.iloc[drawn].to_numpy()})
        return draw(report, before, now)

    def _reference(self, partition: str) -> Reference | None:
        """What `partition` is judged against, loaded once a version; None where no champion can judge it."""
        found = self.registry.reference_for(self.spec.name, partition)
        if found is None:
            return None
        version, candidate = found
        if version.number not in self.references:
            with self.blobs.open(candidate.reference_sample) as stream:
                sample = pd.read_parquet(stream)
            self.references[version.number] = Reference(
                version=version.number,
                candidate=candidate,
                pipeline=self.tracking.load(candidate),
                profile=Profile.model_validate_json(self.blobs.read(candidate.reference)),
                sample=sample,
            )
        return self.references[version.number]
