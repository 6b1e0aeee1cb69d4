"""`champion`: the version that serves, since when, by whom and why; and the sensor that looks after it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from mlops_assets.lifecycle.approving import Desk, people_who_trained
from mlops_assets.lifecycle.common import Clock, compute, describe, key, utc_now
from mlops_assets.lifecycle.dossier import Dossier
from mlops_assets.lifecycle.endings import OUTAGE
from mlops_assets.lifecycle.refusing import unrepeated
from mlops_assets.lifecycle.releasing import DECIDES, Release, adopt, evidence_of, follow, release
from mlops_assets.lifecycle.waiving import waivers_in_force
from mlops_assets.ml.approvals import Standing
from mlops_assets.ml.code import code_version
from mlops_assets.ml.evaluation import EvaluationReport
from mlops_assets.ml.ledger import Reign, deposed, misplaced, reigns
from mlops_assets.ml.registration import Champion, Decision, RegisteredVersion, decide, refusal
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.training import Candidate
from mlops_assets.ml.waivers import Waiver
from mlops_assets.resources.blobs import Blobs, CorruptBytesError
from mlops_assets.resources.keys import Keys, KeyUnavailableError
from mlops_assets.resources.ledger import BrokenLedgerError, Ledger, LedgerUnavailableError
from mlops_assets.resources.records import Records
from mlops_assets.resources.registry import CHAMPION, Registry, RegistryConflictError
from mlops_assets.resources.reports import Reports
from mlops_assets.resources.tracking import TrackingUnavailableError

SERVES = "serves_what_was_released"
WAITS = "waits_for_nobody"
DECIDERS = [f"mlops_assets.ml.{name}" for name in ("approvals", "gates", "ledger", "registration", "waivers")]
CHECKS = {
    SERVES: "The registry's alias champion is on the version that the ledger says was released.",
    WAITS: "No version waits for a person: to approve or refuse it, or to ask anew where an approval became void.",
}
SHOWN = 20


def champion(spec: ModelSpec, clock: Clock = utc_now) -> dg.Definitions:
    """The release of what was registered, where it is better than what serves. It refuses by itself, too."""

    @dg.asset(
        name=CHAMPION,
        **describe(spec, "registration", "mlflow"),
        code_version=code_version(spec.model_dump(mode="json", include=DECIDES), DECIDERS),
        **compute(spec, "registration"),
        check_specs=[
            dg.AssetCheckSpec(name, asset=key(spec, CHAMPION), description=description)
            for name, description in CHECKS.items()
            if name == SERVES or spec.release.mode == "approval"
        ],
        output_required=spec.release.mode == "automatic",
    )
    @unrepeated
    def serving(
        context: dg.AssetExecutionContext,
        trained_model: Candidate,
        evaluation_report: EvaluationReport,
        registered_version: RegisteredVersion,
        blobs: Blobs,
        registry: Registry,
        ledger: Ledger,
        records: dg.ResourceParam[Records],
        keys: Keys,
        reports: Reports,
    ) -> Iterator[dg.MaterializeResult | dg.AssetObservation | dg.AssetCheckResult]:
        """The version that serves. A better one takes its place by an entry in the ledger; failures change nothing."""
        version = registered_version.version
        desk = Desk(spec, ledger, registry, records, blobs, keys, clock)
        try:
            waived = waivers_in_force(spec, trained_model.model_sha256, evaluation_report, ledger, keys, clock)
            if reason := _refusal(spec, trained_model, evaluation_report, registered_version, waived):
                raise dg.Failure(f"{spec.name} v{version} is not released: {reason}", allow_retries=False)
            decision = _decided(context, desk, trained_model, evaluation_report, version, waived)
            follow(spec.name, ledger, registry, clock)
            history = reigns(ledger.links(spec.name), spec.name)
            sentence = f"{spec.name} v{version}: {decision.sentence}"
            record = recorded(spec, history, registered_version.candidate, sentence, registry)
            checks = _checks(spec, what_is_wrong(spec, ledger.verify(), history, registry), desk.standing())
            pages = Dossier(desk, reports).written(history, version)
        except (TrackingUnavailableError, LedgerUnavailableError) as error:
            why = f"The release of {spec.name} v{version} is not finished: {error}"
            raise dg.Failure(why, metadata={OUTAGE: True}, allow_retries=False) from error
        except (BrokenLedgerError, CorruptBytesError, KeyUnavailableError, RegistryConflictError) as error:
            raise dg.Failure(f"{spec.name} v{version} is not released: {error}", allow_retries=False) from error
        if record:
            metadata = shown(record, history, registry) | pages
            yield dg.MaterializeResult(value=record, data_version=dg.DataVersion(record.reign.hash), metadata=metadata)
        else:
            said = {"summary": dg.MetadataValue.text(sentence), **pages}
            yield dg.AssetObservation(key(spec, CHAMPION), metadata=said)
        yield from checks

    return dg.Definitions(assets=[serving])


def what_is_wrong(spec: ModelSpec, broken: str | None, history: Sequence[Reign], registry: Registry) -> str | None:
    """Why what serves is not what was released, or cannot be known to be; None where it is."""
    if broken is not None:
        return f"The ledger cannot be trusted: {broken} docs/ledger.md says what to do."
    return misplaced(history[-1] if history else None, registry.holder(spec.name), spec.name)


def _refusal(
    spec: ModelSpec,
    candidate: Candidate,
    report: EvaluationReport,
    registered: RegisteredVersion,
    waived: Mapping[str, Waiver],
) -> str | None:
    if registered.candidate != candidate.model_sha256:
        return (
            f"it holds {registered.candidate[:12]}, and the candidate is {candidate.model_sha256[:12]}. "
            "Materialize registered_version again."
        )
    return refusal(candidate, report, spec, waived)


def _decided(
    context: dg.AssetExecutionContext,
    desk: Desk,
    candidate: Candidate,
    report: EvaluationReport,
    version: int,
    waived: Mapping[str, Waiver],
) -> Decision:
    """Release a version that is better than what serves, or ask those who have to approve it."""
    spec, ledger, registry = desk.spec, desk.ledger, desk.registry
    reign = adopt(spec.name, ledger, registry, desk.clock)
    decision = _decision(spec, report, version, reigns(ledger.links(spec.name), spec.name))
    if not decision.champion:
        return decision
    wish = Release(
        model=spec.name,
        version=version,
        judged_against=reign.version if reign else None,
        who=f"run {context.run.run_id}",
        why=" ".join([decision.sentence, *(f"{name} is {let_go}." for name, let_go in waived.items())]),
        evidence=evidence_of(spec, candidate, report, desk.blobs),
    )
    if spec.release.mode == "automatic":
        release(wish, ledger, registry, desk.clock)
        return decision
    asked = desk.ask(wish, candidate, _trainers(context, spec, version, registry))
    sentence = f"It does not serve: {asked.sentence} What was judged: {decision.sentence}"
    return Decision(champion=False, sentence=sentence)


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


def _trainers(context: dg.AssetExecutionContext, spec: ModelSpec, version: int, registry: Registry) -> tuple[str, ...]:
    """Who is known to have started what made the version."""
    trained = context.instance.get_latest_materialization_event(key(spec, "trained_model"))
    runs = [registry.version(spec.name, version).tags.get("dagster_run_id"), trained.run_id if trained else None]
    return people_who_trained(context.instance, [run for run in runs if run], context.run)


def _checks(spec: ModelSpec, wrong: str | None, waits: Standing | None) -> list[dg.AssetCheckResult]:
    asset, pending = key(spec, CHAMPION), waits is not None and waits.pending
    found = [dg.AssetCheckResult(asset_key=asset, check_name=SERVES, passed=wrong is None, description=wrong)]
    if spec.release.mode == "approval":
        found += [
            dg.AssetCheckResult(
                asset_key=asset,
                check_name=WAITS,
                passed=not pending,
                severity=dg.AssetCheckSeverity.WARN,
                description=waits.sentence if waits else None,
            )
        ]
    return found


def recorded(
    spec: ModelSpec, history: Sequence[Reign], considered: str, sentence: str, registry: Registry
) -> Champion | None:
    """Who serves, and what was decided about the version considered last; None while nobody serves."""
    if not history:
        return None
    serving = registry.version(spec.name, history[-1].version)
    return Champion(
        model=spec.name,
        version=history[-1].version,
        candidate=registry.candidate(serving).model_sha256,
        mlflow_run_id=serving.mlflow_run_id,
        reign=history[-1],
        considered=considered,
        sentence=sentence,
    )


def shown(record: Champion, history: Sequence[Reign], registry: Registry) -> dict[str, Any]:
    """What a person sees of the champion."""
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
