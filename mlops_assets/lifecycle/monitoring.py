"""`drift_report` and the checks beside it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from mlops_assets.lifecycle import common
from mlops_assets.lifecycle.judging import Judging
from mlops_assets.lifecycle.refusing import unrepeated
from mlops_assets.lifecycle.upstream import Upstream
from mlops_assets.ml import charts
from mlops_assets.ml.code import code_version
from mlops_assets.ml.monitoring import ColumnEffect, DriftReport
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.resources.blobs import Blobs
from mlops_assets.resources.records import Records
from mlops_assets.resources.registry import Registry
from mlops_assets.resources.reports import Reports
from mlops_assets.resources.tables import Tables
from mlops_assets.resources.tracking import Tracking

BARS = 15
SHOWN = 50
UNJUDGED = "not judged"
CHECKS = {
    "has_not_drifted": "No partition judged in the run has drifted from what its champion learned from.",
    "moved_with_the_world": "No partition judged in the run looks as if its feed were broken.",
}
JUDGES = ("monitoring", "profiles", "causes", "symptoms", "observed", "recoding", "distributions", "units")


def monitoring(spec: ModelSpec) -> dg.Definitions:
    """How far each partition lies from what the champion learned from."""
    return dg.Definitions(assets=[_drift_report(spec)])


def _drift_report(spec: ModelSpec) -> dg.AssetsDefinition:
    asset_key = common.key(spec, "drift_report")

    @dg.asset(
        **common.describe(spec, "monitoring", "evidently", "mlflow"),
        partitions_def=common.partitions_definition(spec),
        backfill_policy=dg.BackfillPolicy.single_run(),
        **common.compute(spec, "monitoring", common.FIRST),
        code_version=_code_version(spec),
        check_specs=[dg.AssetCheckSpec(name, asset=asset_key, description=text) for name, text in CHECKS.items()],
    )
    @unrepeated
    def drift_report(
        context: dg.AssetExecutionContext,
        validated_features: dict[str, ValidatedPartition],
        tables: Tables,
        blobs: Blobs,
        records: dg.ResourceParam[Records],
        registry: Registry,
        tracking: Tracking,
        reports: Reports,
    ) -> Iterator[dg.MaterializeResult | dg.AssetMaterialization | dg.AssetCheckResult]:
        """How far the rows lie from those that the champion learned from, whether that matters, and the likely cause.

        Judged over all rows, against the newest version that has been champion and was not fitted on the partition.
        Where there is none that is said, and is no failure: a first model is trained after this.
        """
        work = Judging.of(spec, tables, blobs, registry, tracking, Upstream(spec, records, context.instance))
        newest = max(validated_features.values(), key=lambda part: part.first, default=None)
        for partition in context.partition_keys:
            part = validated_features.get(partition)
            work.look_at(partition, part, drawn=part is newest)
        versions = {partition: report.digest() for partition, report in work.judged.items()}
        versions |= dict.fromkeys(work.unjudged, UNJUDGED)
        told = {partition: report.as_declared(spec.drift) for partition, report in work.judged.items()}
        metadata = {
            partition: _metadata(report, registry) | _saved(report, work.pages.get(partition), reports)
            for partition, report in told.items()
        } | {partition: _not_judged(partition, reason) for partition, reason in work.unjudged.items()}
        checks = [_has_not_drifted(told), _moved_with_the_world(told)]
        if work.refused:
            for partition, report in work.judged.items():
                records.put(spec.name, "drift_report", report, partition)
            yield from common.materializations(asset_key, versions, metadata)
            if versions:
                yield from checks
            what = f"The drift of {len(work.refused)} partitions cannot be judged."
            raise common.refusal(spec, "drift_report", what, work.refused, outage=work.outage)
        yield from common.finish(context, asset_key, work.judged, versions, metadata, check_results=checks)

    return drift_report


def _code_version(spec: ModelSpec) -> str:
    """A digest of what decides a verdict: the declared limits and exclusions, and the code that judges."""
    declared = spec.model_dump(mode="json", include={"drift", "calendar", "exclude", "quality"})
    return code_version(declared, [f"mlops_assets.ml.{name}" for name in JUDGES])


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
        **_cause(report),
    }


def _not_judged(partition: str, reason: str) -> dict[str, Any]:
    return {"verdict": UNJUDGED, "summary": f"{partition} is not judged: {reason}"}


def _cause(report: DriftReport) -> dict[str, Any]:
    if report.cause is None:
        return {}
    findings = [
        dg.TableRecord({"kind": each.kind, "columns": ", ".join(each.columns), "finding": each.sentence})
        for each in report.cause.findings[:SHOWN]
    ]
    accepts = {"counts_again": dg.MetadataValue.json(sorted(report.accepts))} if report.accepts else {}
    return {
        "likely_cause": report.cause.likely,
        "because": report.cause.sentence,
        **accepts,
        **({"evidence_of_the_cause": dg.MetadataValue.table(findings)} if findings else {}),
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


def _has_not_drifted(results: Mapping[str, DriftReport]) -> dg.AssetCheckResult:
    drifted = {partition: report.sentence for partition, report in results.items() if report.verdict == "drifted"}
    return _warning("has_not_drifted", {"judged": len(results), "drifted": dg.MetadataValue.json(drifted)}, drifted)


def _moved_with_the_world(results: Mapping[str, DriftReport]) -> dg.AssetCheckResult:
    broken = {
        partition: report.cause.sentence
        for partition, report in results.items()
        if report.cause is not None and report.is_broken_feed
    }
    return _warning("moved_with_the_world", {"judged": len(results), "broken": dg.MetadataValue.json(broken)}, broken)


def _warning(check: str, metadata: Mapping[str, Any], found: Mapping[str, str]) -> dg.AssetCheckResult:
    """A check that passes where nothing was found, and tells of the first finding where something was."""
    return dg.AssetCheckResult(
        check_name=check,
        passed=not found,
        severity=dg.AssetCheckSeverity.WARN,
        description=next(iter(found.values()), None),
        metadata=metadata,
    )
