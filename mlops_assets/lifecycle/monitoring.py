"""`drift_report`, the check beside it, and the sensor that asks for retraining when drift lasts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from mlops_assets.lifecycle import common
from mlops_assets.lifecycle.endings import OUTAGE, REQUEST, ending
from mlops_assets.lifecycle.judging import Judging
from mlops_assets.ml import charts
from mlops_assets.ml.code import code_version
from mlops_assets.ml.monitoring import ColumnEffect, DriftReport, needs_retraining
from mlops_assets.ml.planning import ATTEMPTS, CANCELLED, DIED, TRAINING
from mlops_assets.ml.planning import OUTAGE as NO_ANSWER
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.training import Candidate
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.ml.windows import oldest_first
from mlops_assets.resources.blobs import Blobs
from mlops_assets.resources.records import Records
from mlops_assets.resources.registry import Registry
from mlops_assets.resources.reports import Reports
from mlops_assets.resources.tables import Tables
from mlops_assets.resources.tracking import Tracking

UNFINISHED = {"cancelled": CANCELLED, "died": DIED, "outage": NO_ANSWER}
BARS = 15
SHOWN = 50


def monitoring(spec: ModelSpec) -> dg.Definitions:
    """How far each partition lies from what the champion learned from, and the request to learn again."""
    return dg.Definitions(assets=[_drift_report(spec)], sensors=[_drift_sensor(spec)])


def _drift_report(spec: ModelSpec) -> dg.AssetsDefinition:
    asset_key = common.key(spec, "drift_report")

    @dg.asset(
        **common.describe(spec, "monitoring", "evidently", "mlflow"),
        partitions_def=common.partitions_definition(spec),
        backfill_policy=dg.BackfillPolicy.single_run(),
        op_tags={"dagster/priority": "10", **common.compute(spec, "monitoring")},
        code_version=_code_version(spec),
        check_specs=[
            dg.AssetCheckSpec(
                "has_not_drifted",
                asset=asset_key,
                description="No partition judged in the run has drifted from what its champion learned from.",
            )
        ],
    )
    def drift_report(
        context: dg.AssetExecutionContext,
        validated_features: dict[str, ValidatedPartition],
        tables: Tables,
        blobs: Blobs,
        records: dg.ResourceParam[Records],
        registry: Registry,
        tracking: Tracking,
        reports: Reports,
    ) -> Iterator[dg.MaterializeResult | dg.AssetMaterialization]:
        """How far the rows lie from those that the champion learned from, and whether that matters.

        Judged over all rows, against the newest version that has been champion and was not fitted on the partition.
        """
        work = Judging.of(spec, tables, blobs, registry, tracking)
        newest = max(validated_features.values(), key=lambda part: part.first, default=None)
        for partition in context.partition_keys:
            part = validated_features.get(partition)
            work.look_at(partition, part, drawn=part is newest)
        versions = {partition: report.digest() for partition, report in work.judged.items()}
        metadata = {
            partition: _metadata(report, registry) | _saved(report, work.pages.get(partition), reports)
            for partition, report in work.judged.items()
        }
        if work.refused:
            for partition, report in work.judged.items():
                records.put(spec.name, "drift_report", report, partition)
            yield from common.materializations(asset_key, versions, metadata)
            raise _refusal(spec, work)
        checks = [_check(work.judged)]
        yield from common.finish(context, asset_key, work.judged, versions, metadata, check_results=checks)

    return drift_report


def _code_version(spec: ModelSpec) -> str:
    """A digest of what decides a verdict: the declared limits and exclusions, and the code that judges."""
    declared = spec.model_dump(mode="json", include={"drift", "calendar", "exclude"})
    return code_version(declared, ["mlops_assets.ml.monitoring", "mlops_assets.ml.profiles"])


def _saved(report: DriftReport, page: str | None, reports: Reports) -> dict[str, Any]:
    """Links to the report as JSON and as a page. Drawing costs more than judging: once a run is enough."""
    path = f"{report.model}/drift/{report.partition}-v{report.version}"
    html = (
        dg.MetadataValue.url(reports.save(f"{path}.html", page))
        if page is not None
        else "Of several partitions in a run only the newest is drawn: materialize this one by itself."
    )
    saved = reports.save(f"{path}.json", report.model_dump_json(indent=1))
    return {"report_html": html, "report_json": dg.MetadataValue.url(saved)}


def _metadata(report: DriftReport, registry: Registry) -> dict[str, Any]:
    effects = [*([report.prediction] if report.prediction else []), *report.columns]
    return {
        "verdict": report.verdict,
        "summary": report.sentence,
        "weighted_share": report.weighted_share,
        "judged_against_version": report.version,
        "version": dg.MetadataValue.url(registry.url(report.model, report.version)),
        "rows": report.rows,
        "usual_rows": report.usual_rows,
        "drift_per_column": dg.MetadataValue.md(_bars(report, effects)),
        "effects": dg.MetadataValue.table([_record(effect) for effect in effects]) if effects else "none",
        "left_out": dg.MetadataValue.json(report.left_out),
    }


def _bars(report: DriftReport, effects: Sequence[ColumnEffect]) -> str:
    """The columns nearest to or farthest beyond their thresholds."""
    shown = sorted(effects, key=lambda effect: -effect.effect / effect.threshold)[:BARS]
    svg = charts.bars(
        [effect.column for effect in shown],
        [effect.effect for effect in shown],
        [effect.threshold for effect in shown],
        title=f"Drift of {report.partition} against version {report.version}: {report.verdict}",
    )
    return charts.markdown(svg, f"drift per column: {report.verdict}")


def _record(effect: ColumnEffect) -> dg.TableRecord:
    return dg.TableRecord(
        {
            "column": effect.column,
            "method": effect.method,
            "effect": round(effect.effect, 6),
            "threshold": effect.threshold,
            "beyond": effect.beyond,
            "weight": round(effect.weight, 6),
            "missing_before": round(effect.nulls_before, 6),
            "missing_now": round(effect.nulls_now, 6),
            "new_categories": round(effect.new_category_share, 6),
        }
    )


def _check(results: Mapping[str, DriftReport]) -> dg.AssetCheckResult:
    drifted = {partition: report.sentence for partition, report in results.items() if report.verdict == "drifted"}
    return dg.AssetCheckResult(
        check_name="has_not_drifted",
        passed=not drifted,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"judged": len(results), "drifted": dg.MetadataValue.json(drifted)},
    )


def _refusal(spec: ModelSpec, work: Judging) -> dg.Failure:
    refused = work.refused
    lines = [f"{spec.name}/drift_report[{partition}]: {reason}" for partition, reason in refused.items()]
    more = [f"... and {len(lines) - SHOWN} more."] if len(lines) > SHOWN else []
    return dg.Failure(
        f"The drift of {len(refused)} partitions cannot be judged.\n" + "\n".join([*lines[:SHOWN], *more]),
        metadata={"refused": dg.MetadataValue.json(refused)} | ({OUTAGE: True} if work.outage else {}),
        allow_retries=False,
    )


def _drift_sensor(spec: ModelSpec) -> dg.SensorDefinition:
    rule = spec.drift

    @dg.sensor(
        name=f"{spec.name}_drift",
        job_name=f"{spec.name}_lifecycle",
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Asks for retraining, once a report, when {rule.k} of the last {rule.n} reports are drifted.",
    )
    def drift(
        context: dg.SensorEvaluationContext, records: dg.ResourceParam[Records]
    ) -> dg.SensorResult | dg.SkipReason:
        """Look at the newest reports against the version that the newest was judged against."""
        recent = _newest(spec, records)
        if not recent:
            return dg.SkipReason(f"{spec.name} has no drift report yet.")
        newest = recent[0]
        alike = [report for report in recent if report.version == newest.version]
        looked_at = _looked_at(alike)
        if not needs_retraining([report.verdict for report in alike], rule.k, rule.n):
            return dg.SkipReason(
                f"{looked_at}. Retraining takes {rule.k} drifted of the last {rule.n}, the newest among them."
            )
        asked = _asked(context.cursor, newest)
        if reason := _settled(context, spec, newest, records, asked):
            return dg.SkipReason(f"{looked_at}. {reason}")
        run_key = f"{spec.name}:{newest.partition}:{newest.digest()}:{asked + 1}"
        because = {"mlops/reason": "drift", "mlops/because": newest.partition}
        tags = {"mlops/model": spec.name, **because, REQUEST: run_key}
        retrained = [common.key(spec, asset) for asset in TRAINING]
        request = dg.RunRequest(run_key=run_key, tags=tags, asset_selection=retrained)
        return dg.SensorResult(run_requests=[request], cursor=run_key)

    return drift


def _newest(spec: ModelSpec, records: Records) -> list[DriftReport]:
    """The newest reports that are looked at, newest first."""
    few = None if spec.partitions.every == "batch" else spec.drift.n
    found = records.all(DriftReport, spec.name, "drift_report", newest=few).values()
    return oldest_first(found)[: -spec.drift.n - 1 : -1]


def _looked_at(reports: Sequence[DriftReport]) -> str:
    shown = ", ".join(f"{report.partition} {report.verdict} ({report.weighted_share:.0%})" for report in reports)
    return f"Against version {reports[0].version}, newest first: {shown}"


def _asked(cursor: str | None, report: DriftReport) -> int:
    """How often retraining because of this report was asked for."""
    before, _, attempt = (cursor or "").rpartition(":")
    return int(attempt) if before == f"{report.model}:{report.partition}:{report.digest()}" else 0


def _settled(
    context: dg.SensorEvaluationContext, spec: ModelSpec, report: DriftReport, records: Records, asked: int
) -> str | None:
    """Why a drifted report asks for nothing (any more), None where it does."""
    candidate = records.get(Candidate, spec.name, "trained_model")
    if candidate is not None and candidate.manifest.deliveries.get(report.partition) == report.delivery:
        return f"The newest candidate has already been trained with {report.partition} at hand."
    if run_id := common.going_on(context.instance, spec):
        return f"Run {run_id} of {spec.name} is going on; retraining is decided when it has ended."
    if not asked or context.cursor is None:
        return None
    how = ending(context.instance, context.cursor)
    if how == "verdict":
        return f"Retraining because of {report.partition} was asked for already."
    if how == "cancelled" or asked >= ATTEMPTS:
        return f"Retraining because of {report.partition} is given up: {UNFINISHED[how]}; materialize trained_model."
    return None
