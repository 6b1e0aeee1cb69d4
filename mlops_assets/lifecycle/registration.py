"""`registered_version`: the candidate's number in the registry, as challenger. It refuses by itself."""

import json
from collections.abc import Mapping
from typing import Any

import dagster as dg

from mlops_assets.lifecycle import pictures
from mlops_assets.lifecycle.approving import Desk
from mlops_assets.lifecycle.common import Clock, compute, describe, utc_now
from mlops_assets.lifecycle.dossier import Dossier, Maker
from mlops_assets.lifecycle.endings import OUTAGE
from mlops_assets.lifecycle.refusing import unrepeated
from mlops_assets.lifecycle.releasing import DECIDES
from mlops_assets.lifecycle.waiving import waivers_in_force
from mlops_assets.ml.artifacts import UnsafeModelError
from mlops_assets.ml.charts import markdown
from mlops_assets.ml.code import code_version
from mlops_assets.ml.evaluation import EvaluationReport
from mlops_assets.ml.registration import RegisteredVersion, refusal
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.training import Candidate
from mlops_assets.ml.waivers import Waiver
from mlops_assets.resources.blobs import Blobs, CorruptBytesError
from mlops_assets.resources.keys import Keys, KeyUnavailableError
from mlops_assets.resources.ledger import BrokenLedgerError, Ledger, LedgerUnavailableError
from mlops_assets.resources.records import Records
from mlops_assets.resources.registry import Registry, Version
from mlops_assets.resources.reports import Reports
from mlops_assets.resources.tables import Tables
from mlops_assets.resources.tracking import Tracking, TrackingUnavailableError

DECIDERS = [f"mlops_assets.ml.{name}" for name in ("gates", "registration", "waivers")]
WAIVED = "mlops.waived"


def registration(spec: ModelSpec, clock: Clock = utc_now) -> dg.Definitions:
    """The version of a candidate, which a failed gate stops however the run was started."""

    @dg.asset(
        **describe(spec, "registration", "mlflow"),
        code_version=code_version(spec.model_dump(mode="json", include=DECIDES), DECIDERS),
        **compute(spec, "registration"),
    )
    @unrepeated
    def registered_version(
        context: dg.AssetExecutionContext,
        trained_model: Candidate,
        evaluation_report: EvaluationReport,
        registry: Registry,
        tracking: Tracking,
        records: dg.ResourceParam[Records],
        tables: Tables,
        blobs: Blobs,
        ledger: Ledger,
        keys: Keys,
        reports: Reports,
    ) -> dg.MaterializeResult[RegisteredVersion]:
        """The candidate's number in the registry, as challenger: whether it serves is decided by the next asset."""
        waived = _admitted(spec, trained_model, evaluation_report, ledger, keys, clock)
        try:
            record = _register(spec, trained_model, evaluation_report, waived, context.run.run_id, registry, tracking)
            dossier = Dossier(Desk(spec, ledger, registry, records, blobs, keys, clock), reports)
            maker = Maker(spec, records, tables, blobs, tracking)
            pages = _pages(
                registry.version(spec.name, record.version), trained_model, evaluation_report, maker, dossier
            )
            metadata = _metadata(record, spec, evaluation_report, waived, registry) | pages
        except (TrackingUnavailableError, LedgerUnavailableError) as error:
            why = f"The registration of {spec.name} is not finished: {error}"
            raise dg.Failure(why, metadata={OUTAGE: True}, allow_retries=False) from error
        return dg.MaterializeResult(
            value=record,
            data_version=dg.DataVersion(record.digest()),
            metadata=metadata | {"mlflow_run": dg.MetadataValue.url(tracking.url(trained_model))},
        )

    return dg.Definitions(assets=[registered_version])


def _admitted(
    spec: ModelSpec, candidate: Candidate, report: EvaluationReport, ledger: Ledger, keys: Keys, clock: Clock
) -> dict[str, Waiver]:
    """The waivers by which a candidate is admitted, none where it cleared its gates. Any other is refused."""
    try:
        waived = waivers_in_force(spec, candidate.model_sha256, report, ledger, keys, clock)
    except LedgerUnavailableError as error:
        why = f"{spec.name} is not registered: {error}"
        raise dg.Failure(why, metadata={OUTAGE: True}, allow_retries=False) from error
    except (BrokenLedgerError, KeyUnavailableError) as error:
        raise dg.Failure(f"{spec.name} is not registered: {error}", allow_retries=False) from error
    if reason := refusal(candidate, report, spec, waived):
        raise _refused(spec, reason, candidate, report)
    return waived


def _register(
    spec: ModelSpec,
    candidate: Candidate,
    report: EvaluationReport,
    waived: Mapping[str, Waiver],
    run_id: str,
    registry: Registry,
    tracking: Tracking,
) -> RegisteredVersion:
    """The candidate's version, made if there is none, while what is stored is what was trained."""
    tags = {**pictures.metric_tag(report), "dagster_run_id": run_id}
    if waived:
        tags[WAIVED] = json.dumps({name: str(waiver) for name, waiver in waived.items()})
    try:
        tracking.artifact(candidate)
        version = registry.register(candidate, tags, report.sentence)
    except (KeyUnavailableError, UnsafeModelError) as error:
        raise dg.Failure(f"{spec.name} is not registered: {error}", allow_retries=False) from error
    return RegisteredVersion(
        model=spec.name,
        version=version.number,
        candidate=candidate.model_sha256,
        mlflow_run_id=version.mlflow_run_id,
        sentence=f"{spec.name} v{version.number} is registered. {report.sentence}",
    )


def _pages(
    version: Version, candidate: Candidate, report: EvaluationReport, maker: Maker, dossier: Dossier
) -> dict[str, Any]:
    """The card of a version and the links to its pages."""
    try:
        return dossier.open(maker.card(version, candidate, report))
    except (BrokenLedgerError, CorruptBytesError, KeyUnavailableError, UnsafeModelError) as error:
        why = f"{version.model} v{version.number} is registered, and its card cannot be written: {error}"
        raise dg.Failure(why, allow_retries=False) from error


def _let_go(waived: Mapping[str, Waiver]) -> dict[str, Any]:
    """What a person sees of the gates that the version did not clear."""
    rows = [
        {
            "gate": name,
            "who": each.who,
            "why": each.why,
            "until": f"{each.expires:%Y-%m-%d %H:%M}",
            "entry": each.sequence,
        }
        for name, each in waived.items()
    ]
    return {"waivers": dg.MetadataValue.table([dg.TableRecord(row) for row in rows])} if rows else {}


def _refused(spec: ModelSpec, reason: str, candidate: Candidate, report: EvaluationReport) -> dg.Failure:
    return dg.Failure(
        f"{spec.name} is not registered: {reason}",
        metadata={
            "candidate": candidate.model_sha256,
            "judged_candidate": report.candidate,
            "figures": dg.MetadataValue.json(report.figures),
            "gates": dg.MetadataValue.json([gate.model_dump() for gate in spec.gates]),
        },
        allow_retries=False,
    )


def _metadata(
    record: RegisteredVersion,
    spec: ModelSpec,
    report: EvaluationReport,
    waived: Mapping[str, Waiver],
    registry: Registry,
) -> dict[str, Any]:
    metric = spec.evaluation.metric
    svg = pictures.over_versions(spec, report, registry.versions(spec.name))
    return {
        "summary": dg.MetadataValue.text(record.sentence),
        "version": record.version,
        "registered_version": dg.MetadataValue.url(registry.url(spec.name, record.version)),
        "registered_model": dg.MetadataValue.url(registry.url(spec.name)),
        f"{metric}_over_versions": dg.MetadataValue.md(markdown(svg, f"{metric} over versions")),
        **_let_go(waived),
        **{name: value for name, value in report.figures.items() if name in {metric, "skill"}},
    }
