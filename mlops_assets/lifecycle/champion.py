"""`champion`: the version that serves, since when, by whom and why; and the sensor that looks after it."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from mlops_assets.lifecycle.arrivals import Clock, utc_now
from mlops_assets.lifecycle.common import compute, describe, key, remembered
from mlops_assets.lifecycle.endings import OUTAGE
from mlops_assets.lifecycle.releasing import Release, adopt, follow, release
from mlops_assets.ml.alerts import Alert
from mlops_assets.ml.code import code_version
from mlops_assets.ml.evaluation import EvaluationReport
from mlops_assets.ml.ledger import Reign, deposed, misplaced, reigns
from mlops_assets.ml.registration import Champion, Decision, RegisteredVersion, decide, refusal
from mlops_assets.ml.spec import ModelSpec, Value, digest_of
from mlops_assets.ml.training import Candidate
from mlops_assets.resources.alerts import Alerts
from mlops_assets.resources.blobs import Blobs, CorruptBytesError
from mlops_assets.resources.ledger import BrokenLedgerError, Ledger, LedgerUnavailableError
from mlops_assets.resources.records import Records
from mlops_assets.resources.registry import CHAMPION, Registry, RegistryConflictError
from mlops_assets.resources.tracking import TrackingUnavailableError

SERVES = "serves_what_was_released"
DECIDES = {"evaluation", "gates", "registration"}
DECIDERS = [f"mlops_assets.ml.{name}" for name in ("ledger", "registration")]
EVERY_SECONDS = 30
SHOWN = 20


def champion(spec: ModelSpec, clock: Clock = utc_now) -> dg.Definitions:
    """The release of what was registered, where it is better than what serves. It refuses by itself, too."""

    @dg.asset(
        name=CHAMPION,
        **describe(spec, "registration", "mlflow"),
        code_version=code_version(spec.model_dump(mode="json", include=DECIDES), DECIDERS),
        op_tags=compute(spec, "registration"),
        check_specs=[
            dg.AssetCheckSpec(
                SERVES,
                asset=key(spec, CHAMPION),
                description="The registry's alias champion is on the version that the ledger says was released.",
            )
        ],
    )
    def serving(
        context: dg.AssetExecutionContext,
        trained_model: Candidate,
        evaluation_report: EvaluationReport,
        registered_version: RegisteredVersion,
        blobs: Blobs,
        registry: Registry,
        ledger: Ledger,
    ) -> Iterator[dg.MaterializeResult]:
        """The version that serves. A better one takes its place by an entry in the ledger; failures change nothing."""
        version = registered_version.version
        if reason := _refusal(spec, trained_model, evaluation_report, registered_version):
            raise dg.Failure(f"{spec.name} v{version} is not released: {reason}", allow_retries=False)
        try:
            reign = adopt(spec.name, ledger, registry, clock)
            past = reigns(ledger.links(spec.name), spec.name)
            decision = _decision(spec, evaluation_report, version, past)
            if decision.champion:
                wish = Release(
                    model=spec.name,
                    version=version,
                    judged_against=reign.version if reign else None,
                    who=f"run {context.run.run_id}",
                    why=decision.sentence,
                    evidence=_evidence(spec, trained_model, evaluation_report, blobs),
                )
                release(wish, ledger, registry, clock)
            follow(spec.name, ledger, registry, clock)
            history = reigns(ledger.links(spec.name), spec.name)
            record = _record(spec, history[-1], registered_version, decision, registry)
            wrong = _wrong(spec, ledger.verify(), history, registry)
        except (TrackingUnavailableError, LedgerUnavailableError) as error:
            why = f"The release of {spec.name} v{version} is not finished: {error}"
            raise dg.Failure(why, metadata={OUTAGE: True}, allow_retries=False) from error
        except (BrokenLedgerError, CorruptBytesError, RegistryConflictError) as error:
            raise dg.Failure(f"{spec.name} v{version} is not released: {error}", allow_retries=False) from error
        yield dg.MaterializeResult(
            value=record,
            data_version=dg.DataVersion(record.reign.hash),
            metadata=_metadata(record, history, registry),
            check_results=[dg.AssetCheckResult(check_name=SERVES, passed=wrong is None, description=wrong)],
        )

    return dg.Definitions(assets=[serving])


class Memory(Value):
    """What the last look found wrong, by model."""

    wrong: dict[str, str] = Field(default_factory=dict)


def watch_champions(specs: Sequence[ModelSpec], clock: Clock = utc_now) -> dg.SensorDefinition:
    """One sensor for all models: it ends releases that were cut off, and finds aliases that were moved by hand."""

    @dg.sensor(
        name="watch_champions",
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Lets MLflow's alias champion follow the ledger after a release that was cut off, and says where "
        "somebody moved it by hand.",
    )
    def look(
        context: dg.SensorEvaluationContext,
        records: dg.ResourceParam[Records],
        registry: Registry,
        ledger: Ledger,
        alerts: Alerts,
    ) -> dg.SensorResult:
        """Look at the champion of every model. What cannot be looked at now is as it was."""
        before, wrong, events, said = remembered(Memory, context.cursor).wrong, {}, [], []
        for spec in specs:
            try:
                now = _looked(spec, records, registry, ledger, clock)
            except (TrackingUnavailableError, LedgerUnavailableError, RegistryConflictError) as error:
                said.append(f"{spec.name}: {error}")
                now = before.get(spec.name)
            if now != before.get(spec.name):
                events.append(_evaluation(spec, now))
                _tell(spec, now, alerts, clock)
            if now is not None:
                wrong[spec.name] = now
        said += [f"{model}: {text}" for model, text in wrong.items()]
        told = "\n".join(said) or "Every champion is the one that was released."
        return dg.SensorResult(skip_reason=told, asset_events=events, cursor=Memory(wrong=wrong).model_dump_json())

    return look


def _looked(spec: ModelSpec, records: Records, registry: Registry, ledger: Ledger, clock: Clock) -> str | None:
    """What is wrong with a model's champion after a release that was cut off has been ended."""
    history = reigns(ledger.links(spec.name), spec.name)
    if not history and records.get(RegisteredVersion, spec.name, "registered_version") is None:
        return None
    broken = ledger.verify()
    if broken is None and follow(spec.name, ledger, registry, clock):
        history = reigns(ledger.links(spec.name), spec.name)
    return _wrong(spec, broken, history, registry)


def _wrong(spec: ModelSpec, broken: str | None, history: Sequence[Reign], registry: Registry) -> str | None:
    """Why what serves is not what was released, or cannot be known to be; None where it is."""
    if broken is not None:
        return f"The ledger cannot be trusted: {broken} docs/ledger.md says what to do."
    return misplaced(history[-1] if history else None, registry.holder(spec.name), spec.name)


def _evaluation(spec: ModelSpec, wrong: str | None) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=key(spec, CHAMPION), check_name=SERVES, passed=wrong is None, description=wrong
    )


def _tell(spec: ModelSpec, wrong: str | None, alerts: Alerts, clock: Clock) -> None:
    """Raise the alert of a failed check, or end it: a sensor's look is no run, whose end is seen by another sensor."""
    alert = Alert(
        kind="failed_check",
        model=spec.name,
        partition=None,
        about=f"{CHAMPION} {SERVES}",
        sentence=f"{spec.name}/{CHAMPION} fails the check {SERVES}: {wrong}",
        link=alerts.asset_url(key(spec, CHAMPION), check=SERVES),
        raised=clock(),
    )
    if wrong is None:
        alerts.resolve([alert.name], alert.raised)
    else:
        alerts.raise_(alert)


def _refusal(
    spec: ModelSpec, candidate: Candidate, report: EvaluationReport, registered: RegisteredVersion
) -> str | None:
    if registered.candidate != candidate.model_sha256:
        return (
            f"it holds {registered.candidate[:12]}, and the candidate is {candidate.model_sha256[:12]}. "
            "Materialize registered_version again."
        )
    return refusal(candidate, report, spec)


def _decision(spec: ModelSpec, report: EvaluationReport, version: int, past: Sequence[Reign]) -> Decision:
    """Whether a version is to be released."""
    holder = past[-1].version if past else None
    if holder == version:
        return Decision(champion=False, sentence="It is champion already.")
    if away := deposed(past, version):
        sentence = (
            f"It stays challenger: {away.who} went back from it to v{away.version} ({away.why}). "
            f"`mlops-assets rollback {spec.name} --to {version}` makes it champion again."
        )
        return Decision(champion=False, sentence=sentence)
    return decide(report, holder, spec)


def _evidence(spec: ModelSpec, candidate: Candidate, report: EvaluationReport, blobs: Blobs) -> dict[str, str]:
    """What the release rests on, by SHA-256. Candidate (with its manifest), report and policy are kept as blobs."""
    return {
        "model": candidate.model_sha256,
        "manifest": candidate.manifest.digest(),
        "data": digest_of(candidate.manifest.contents),
        "candidate": blobs.put_bytes(candidate.model_dump_json().encode()),
        "report": blobs.put_bytes(report.model_dump_json().encode()),
        "policy": blobs.put_bytes(spec.model_dump_json(include=DECIDES).encode()),
    }


def _record(
    spec: ModelSpec, reign: Reign, registered: RegisteredVersion, decision: Decision, registry: Registry
) -> Champion:
    serving = registry.version(spec.name, reign.version)
    return Champion(
        model=spec.name,
        version=reign.version,
        candidate=registry.candidate(serving).model_sha256,
        mlflow_run_id=serving.mlflow_run_id,
        reign=reign,
        considered=registered.candidate,
        sentence=f"{spec.name} v{registered.version}: {decision.sentence}",
    )


def _metadata(record: Champion, history: Sequence[Reign], registry: Registry) -> dict[str, Any]:
    reign = record.reign
    return {
        "summary": dg.MetadataValue.text(record.sentence),
        "version": record.version,
        "since": dg.MetadataValue.timestamp(reign.since),
        "released_by": reign.who,
        "why": reign.why,
        "previous_champion": f"v{reign.previous}" if reign.previous else "none",
        "ledger_entry": reign.sequence,
        "ledger_hash": reign.hash,
        "evidence": dg.MetadataValue.json(reign.evidence),
        "history": _history(history),
        "registered_version": dg.MetadataValue.url(registry.url(record.model, record.version)),
        "mlflow_run_id": record.mlflow_run_id,
    }


def _history(history: Sequence[Reign]) -> dg.TableMetadataValue:
    """The newest champions, newest first."""
    ends = [*(reign.since for reign in history[1:]), None]
    rows = [
        {
            "version": f"v{reign.version}",
            "since": f"{reign.since:%Y-%m-%d %H:%M:%S}",
            "until": f"{end:%Y-%m-%d %H:%M:%S}" if end else "now",
            "how": reign.kind.replace("_", " "),
            "who": reign.who,
            "why": reign.why,
            "entry": reign.sequence,
        }
        for reign, end in zip(history, ends, strict=True)
    ]
    return dg.MetadataValue.table([dg.TableRecord(row) for row in rows[: -SHOWN - 1 : -1]])
