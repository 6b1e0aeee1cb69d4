"""`predictions`, what the champion of the moment said of every row, and `performance_report`, how right it was."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import dagster as dg
import pandas as pd

from mlops_assets.lifecycle import common, pictures
from mlops_assets.lifecycle.common import VALIDATED
from mlops_assets.lifecycle.estimates import Estimating
from mlops_assets.lifecycle.judging import NO_CHAMPION
from mlops_assets.lifecycle.labelled import LABELS, answers_known, labels_of, rows_with_target
from mlops_assets.lifecycle.refusing import unrepeated
from mlops_assets.ml import charts
from mlops_assets.ml.artifacts import UnsafeModelError
from mlops_assets.ml.charts import Point
from mlops_assets.ml.code import code_version
from mlops_assets.ml.contracts import load_contract
from mlops_assets.ml.estimation import BLIND
from mlops_assets.ml.holdout import EvaluationError, answers
from mlops_assets.ml.labels import LabelledPartition
from mlops_assets.ml.metrics import METRICS, UnusablePredictionsError
from mlops_assets.ml.performance import (
    Answered,
    Late,
    PerformanceReport,
    PredictedPartition,
    Yardsticks,
    as_table,
    first_of,
    looked_back,
    measure,
    score_columns,
    scored,
    worse_than_registered,
)
from mlops_assets.ml.spec import ModelSpec, digest_of
from mlops_assets.ml.threads import for_rows
from mlops_assets.ml.training import Candidate
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.resources.blobs import Blobs, CorruptBytesError
from mlops_assets.resources.records import Records
from mlops_assets.resources.registry import Registry, Version
from mlops_assets.resources.reports import Reports
from mlops_assets.resources.tables import Tables
from mlops_assets.resources.tracking import Tracking, TrackingUnavailableError

PREDICTIONS, REPORT = "predictions", "performance_report"
CHECK = "performs_as_registered"
CHARTED = 12
LEARNED = 12
DECIDING = ("baselines", "estimation", "evaluation", "holdout", "metrics", "performance", "relations")
JUDGES = tuple(f"mlops_assets.ml.{name}" for name in DECIDING)
NOT_PREDICTED = "nothing was predicted for it: materialize predictions first."
UNREADABLE = (CorruptBytesError, UnsafeModelError, EvaluationError, UnusablePredictionsError)


def performance(spec: ModelSpec) -> dg.Definitions:
    """What was predicted for each partition, and how good that was on the rows whose labels have come."""
    return dg.Definitions(assets=[_predictions(spec), _performance_report(spec)])


def _predictions(spec: ModelSpec) -> dg.AssetsDefinition:
    @dg.asset(
        **common.describe(spec, "monitoring", "scikitlearn", "deltalake"),
        partitions_def=common.partitions_definition(spec),
        backfill_policy=dg.BackfillPolicy.single_run(),
        **common.compute(spec, "monitoring", common.FIRST),
        code_version=code_version(spec.task, ["mlops_assets.ml.holdout"]),
    )
    @unrepeated
    def predictions(
        context: dg.AssetExecutionContext,
        validated_features: dict[str, ValidatedPartition],
        tables: Tables,
        records: dg.ResourceParam[Records],
        blobs: Blobs,
        registry: Registry,
        tracking: Tracking,
    ) -> Iterator[dg.MaterializeResult | dg.AssetMaterialization]:
        """What the champion of this moment says of every validated row, in their order.

        That is the newest version that has been champion and was not fitted on the partition.
        """
        work = Scoring(spec, tables, records, blobs, registry, tracking)
        for partition in context.partition_keys:
            work.score(partition, validated_features.get(partition))
        versions = {partition: digest_of([made.rows_of, made.candidate]) for partition, made in work.made.items()}
        metadata = {partition: _of_predictions(spec, made, tables, registry) for partition, made in work.made.items()}
        asset_key = common.key(spec, PREDICTIONS)
        if work.refused:
            for partition, made in work.made.items():
                records.put(spec.name, PREDICTIONS, made, partition)
            yield from common.materializations(asset_key, versions, metadata)
            what = f"{len(work.refused)} partitions cannot be predicted; the others are."
            raise common.refusal(spec, PREDICTIONS, what, work.refused, outage=work.outage)
        yield from common.finish(context, asset_key, work.made, versions, metadata)

    return predictions


@dataclass
class Scoring:
    """One run's work on a model's predictions. Every partition ends in `made` or in `refused`, with the reason."""

    spec: ModelSpec
    tables: Tables
    records: Records
    blobs: Blobs
    registry: Registry
    tracking: Tracking
    made: dict[str, PredictedPartition] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    pipelines: dict[int, Any] = field(default_factory=dict)
    outage: bool = False

    @cached_property
    def columns(self) -> Collection[str]:
        """What validated rows have now."""
        return load_contract(self.spec.contract).columns

    def score(self, partition: str, part: ValidatedPartition | None) -> None:
        """Predict every row of one partition, and store what was said."""
        if part is None:
            self.refused[partition] = "there are no validated rows of it: materialize validated_features first."
            return
        try:
            found = self.registry.reference_for(self.spec.name, partition)
            if found is None:
                self.refused[partition] = NO_CHAMPION
            else:
                self.made[partition] = self._scored(part, *found)
        except UNREADABLE as error:
            self.refused[partition] = str(error)
        except TrackingUnavailableError as error:
            self.refused[partition] = str(error)
            self.outage = True

    def _scored(self, part: ValidatedPartition, version: Version, candidate: Candidate) -> PredictedPartition:
        spec = self.spec
        if version.number not in self.pipelines:
            self.pipelines[version.number] = self.tracking.load(candidate)
        rows = self._rows(part, version, candidate)
        with for_rows(len(rows)):
            said = answers(spec.task, self.pipelines[version.number], rows, candidate.inputs)
        table = as_table(spec, said, candidate.classes, version.number, candidate.model_sha256)
        commit = self.tables.write(spec.name, PREDICTIONS, part.partition, table)
        before = self.records.get(PredictedPartition, spec.name, PREDICTIONS, part.partition)
        made = PredictedPartition(
            model=spec.name,
            partition=part.partition,
            first=part.first,
            delivery=part.delivery,
            rows_of=part.content,
            version=version.number,
            candidate=candidate.model_sha256,
            rows=part.rows_out,
            table_version=commit.version,
            files=commit.files,
            classes=candidate.classes,
            replaces=_replaced(before, version.number),
            rows_files=part.files,
            before=self.blobs.put_bytes(before.said()) if before else None,
        )
        self.blobs.put_bytes(made.said())
        return made

    def _rows(self, part: ValidatedPartition, version: Version, candidate: Candidate) -> pd.DataFrame:
        """What a version is given. Raises EvaluationError where the rows do not have its columns any more."""
        if missing := [name for name in candidate.inputs if name not in self.columns]:
            raise EvaluationError(f"v{version.number} needs columns that the rows do not have: {', '.join(missing)}.")
        return self.tables.read(self.spec.name, VALIDATED, part.files, candidate.inputs)


def _replaced(before: PredictedPartition | None, version: int) -> int | None:
    """The version whose predictions give way: of the record before, or what that one replaced itself."""
    if before is None:
        return None
    return before.replaces if before.version == version else before.version


def _of_predictions(
    spec: ModelSpec, made: PredictedPartition, tables: Tables, registry: Registry
) -> dict[str, dg.MetadataValue | Any]:
    said = f"All {made.rows:,} rows by v{made.version}."
    return {
        "summary": said if made.replaces is None else f"{said} They replace those of v{made.replaces}.",
        "predicted_by_version": made.version,
        "version": dg.MetadataValue.url(registry.url(spec.name, made.version)),
        "candidate": made.candidate,
        "dagster/row_count": made.rows,
        "table_version": made.table_version,
        "dagster/uri": tables.uri(spec.name, PREDICTIONS),
        "first_prediction": f"mlops-assets explain {first_of(made)}",
        **({} if made.replaces is None else {"replaces_predictions_of_version": made.replaces}),
    }


def _performance_report(spec: ModelSpec) -> dg.AssetsDefinition:
    asset_key = common.key(spec, REPORT)
    decides = spec.model_dump(mode="json", include={"task", "target", "evaluation", "labels", "seed"})

    @dg.asset(
        **common.describe(spec, "monitoring", "scikitlearn"),
        partitions_def=common.partitions_definition(spec),
        backfill_policy=dg.BackfillPolicy.single_run(),
        deps=[common.key(spec, LABELS)] if spec.labels else [],
        **common.compute(spec, "monitoring", common.FIRST),
        code_version=code_version(decides, JUDGES),
        check_specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset=asset_key,
                description="No mature figure of the run is worse than the version's hold-out, beyond both intervals.",
            )
        ],
    )
    @unrepeated
    def performance_report(
        context: dg.AssetExecutionContext,
        validated_features: dict[str, ValidatedPartition],
        predictions: dict[str, PredictedPartition],
        tables: Tables,
        records: dg.ResourceParam[Records],
        registry: Registry,
        reports: Reports,
    ) -> Iterator[dg.MaterializeResult | dg.AssetMaterialization]:
        """How good the predictions were on the rows whose labels have come, and whether enough of them have."""
        work = Measuring(spec, tables, records, registry)
        for partition in context.partition_keys:
            work.measure(partition, validated_features.get(partition), predictions.get(partition))
        versions = {partition: report.digest() for partition, report in work.made.items()}
        metadata = {partition: _of_report(spec, report, work, reports) for partition, report in work.made.items()}
        if work.refused:
            for partition, report in work.made.items():
                records.put(spec.name, REPORT, report, partition)
            yield from common.materializations(asset_key, versions, metadata)
            what = f"The performance on {len(work.refused)} partitions cannot be measured; on the others it is."
            raise common.refusal(spec, REPORT, what, work.refused, outage=work.outage)
        checks = [_check(spec, work.made)]
        yield from common.finish(context, asset_key, work.made, versions, metadata, check_results=checks)

    return performance_report


@dataclass
class Measuring:
    """One run's work on a model's reports. Every partition ends in `made` or in `refused`, with the reason."""

    spec: ModelSpec
    tables: Tables
    records: Records
    registry: Registry
    made: dict[str, PerformanceReport] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    yardsticks: dict[int, Yardsticks] = field(default_factory=dict)
    outage: bool = False

    @cached_property
    def estimating(self) -> Estimating:
        """What the rows were expected to give without their labels."""
        return Estimating(self.spec, self.records, REPORT)

    def measure(self, partition: str, part: ValidatedPartition | None, predicted: PredictedPartition | None) -> None:
        """Measure what was predicted for one partition by the labels that there are."""
        if part is None or predicted is None:
            self.refused[partition] = NOT_PREDICTED
            return
        if predicted.rows_of != part.content:
            self.refused[partition] = "its rows have changed since they were predicted: materialize predictions first."
            return
        try:
            rows = self._answered(part, predicted)
            against = self._against(predicted)
            report = measure(self.spec, rows, replace(against, later=self._later(part)))
            self.made[partition] = self.estimating.add(report, predicted.candidate, rows.scores)
        except UNREADABLE as error:
            self.refused[partition] = str(error)
        except TrackingUnavailableError as error:
            self.refused[partition] = str(error)
            self.outage = True

    def _answered(self, part: ValidatedPartition, predicted: PredictedPartition) -> Answered:
        spec = self.spec
        columns = score_columns(spec.task, predicted.classes)
        said = scored(spec.task, self.tables.read(spec.name, PREDICTIONS, predicted.files, columns))
        if spec.labels is None:
            rows = rows_with_target(spec, self.tables, [part], {}, [spec.time.name])
            return Answered(predicted, rows[spec.time.name], rows[spec.target], said)
        labels = self.records.get(LabelledPartition, spec.name, LABELS, part.partition)
        if labels is None or not labels.is_of(part):
            raise EvaluationError("its labels are not joined with its rows as they are now: materialize labels first.")
        times = self.tables.read(spec.name, VALIDATED, part.files, [spec.time.name])[spec.time.name]
        target, known = answers_known(spec, self.tables, labels)
        return Answered(predicted, times, target, said, Late(labels, known))

    def _later(self, part: ValidatedPartition) -> pd.DataFrame | None:
        """Time and label of the rows just before a partition, where labels come late; None where there are none."""
        spec, back = self.spec, looked_back(self.spec)
        if not back:
            return None
        keys = [key for key in self.records.partitions(spec.name, VALIDATED) if key < part.partition]
        parts = self.records.some(ValidatedPartition, spec.name, VALIDATED, keys[-back:])
        labels = labels_of(spec, self.records, parts)
        known = [each for key, each in parts.items() if key in labels and labels[key].teaches(each)]
        return rows_with_target(spec, self.tables, known, labels, [spec.time.name]) if known else None

    def _against(self, predicted: PredictedPartition) -> Yardsticks:
        """What the figures of one version are held against, read once a version."""
        if predicted.version not in self.yardsticks:
            [version] = [each for each in self.registry.versions(self.spec.name) if each.number == predicted.version]
            self.yardsticks[predicted.version] = self._yardsticks(version)
        return self.yardsticks[predicted.version]

    def _yardsticks(self, version: Version) -> Yardsticks:
        spec = self.spec
        learned = self.registry.candidate(version).manifest.fitted_partitions[-LEARNED:]
        parts = self.records.some(ValidatedPartition, spec.name, VALIDATED, learned)
        labels = labels_of(spec, self.records, parts)
        if spec.labels is not None:
            parts = {key: part for key, part in parts.items() if key in labels and labels[key].teaches(part)}
        history = rows_with_target(spec, self.tables, parts.values(), labels, [spec.time.name])
        return Yardsticks(history, pictures.at_registration(spec, version))


def _of_report(spec: ModelSpec, report: PerformanceReport, work: Measuring, reports: Reports) -> dict[str, Any]:
    path = f"{report.model}/performance/{report.partition}-v{report.version}.json"
    measured, registered = report.measured, report.at_registration
    return {
        "summary": report.sentence,
        "mature": report.mature,
        "rows": report.rows,
        "labelled_rows": report.labelled,
        "labelled_share": report.labelled / report.rows,
        "predicted_by_version": report.version,
        "version": dg.MetadataValue.url(work.registry.url(spec.name, report.version)),
        **({} if measured is None else {report.metric: measured.value, "interval": str(measured)}),
        **({} if report.baseline is None else {"naive_baseline": report.baseline}),
        **({} if registered is None else {"at_registration": str(registered)}),
        **_of_estimate(report),
        **{name: dg.MetadataValue.md(charts.markdown(svg, name)) for name, svg in _pictures(spec, report, work)},
        "report_json": dg.MetadataValue.url(reports.save(path, report.model_dump_json(indent=1))),
    }


def _of_estimate(report: PerformanceReport) -> dict[str, Any]:
    """What was expected without labels and what came of it, where anything was said of it."""
    if report.estimated is None:
        return {} if report.unestimated is None else {"not_estimated": report.unestimated}
    inside, of = report.held
    return {
        "estimated_without_labels": str(report.estimated),
        "an_estimate_is_blind_to": BLIND,
        **({} if report.inside is None else {"truth_inside_estimate": report.inside}),
        **({"truth_inside_the_last_estimates": f"{inside} of {of}"} if of else {}),
    }


def _pictures(spec: ModelSpec, report: PerformanceReport, work: Measuring) -> Iterator[tuple[str, str]]:
    """The metric over the newest partitions, once a run; and when the labels came, where they come late."""
    if spec.labels is not None and report.arrival:
        title = f"Labels of {report.partition}: share of rows by days after the row"
        yield "label_arrival", charts.steps([(hours / 24, share) for hours, share in report.arrival], title)
    if report.partition == list(work.made)[-1]:
        known = work.records.all(PerformanceReport, spec.name, REPORT, CHARTED) | work.made
        yield f"{report.metric}_over_partitions", _over_partitions(spec, known)


def _over_partitions(spec: ModelSpec, known: Mapping[str, PerformanceReport]) -> str:
    newest = sorted(known.values(), key=lambda each: each.first)[-CHARTED:]
    points = [
        Point(each.partition, found.value, found.low, found.high, settled=each.mature)
        for each in newest
        if (found := each.measured or each.estimated) is not None
    ]
    metric = spec.evaluation.metric
    better = "nearer to zero" if metric == "bias" else METRICS[spec.task][metric]
    return charts.line(points, f"{metric} over partitions ({better} is better; hollow: not mature, or estimated)")


def _check(spec: ModelSpec, made: Mapping[str, PerformanceReport]) -> dg.AssetCheckResult:
    """One result over all partitions of the run, which says how many of them could be compared."""
    judged = {partition: worse_than_registered(spec, report) for partition, report in made.items()}
    compared = sum(worse is not None for worse in judged.values())
    worse = {partition: made[partition].sentence for partition, found in judged.items() if found}
    return dg.AssetCheckResult(
        check_name=CHECK,
        passed=not worse,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{compared} of {len(made)} figures are mature and were compared; {len(worse)} are worse.",
        metadata={"compared": compared, "worse": dg.MetadataValue.json(worse)},
    )
