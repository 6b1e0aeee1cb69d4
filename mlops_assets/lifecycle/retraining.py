"""`retraining_decision`: whether to train anew, with the reasons, the cost, and what would have changed the verdict."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from mlops_assets.lifecycle import common
from mlops_assets.lifecycle.common import RAW, VALIDATED
from mlops_assets.lifecycle.endings import OUTAGE
from mlops_assets.lifecycle.labelled import LABELS, teaches
from mlops_assets.lifecycle.labels import RAW_LABELS
from mlops_assets.lifecycle.refusing import unrepeated
from mlops_assets.lifecycle.training import STANDS
from mlops_assets.ml import charts
from mlops_assets.ml.charts import Moment
from mlops_assets.ml.code import code_version
from mlops_assets.ml.evaluation import EvaluationReport
from mlops_assets.ml.evidence import PARTITIONS, Learned, Watched, depth, differing, gather, stale
from mlops_assets.ml.labels import LabelledPartition
from mlops_assets.ml.monitoring import DriftReport, in_force
from mlops_assets.ml.performance import PerformanceReport
from mlops_assets.ml.planning import DECISION
from mlops_assets.ml.policies import policy
from mlops_assets.ml.registration import Champion
from mlops_assets.ml.retraining import RetrainingDecision, TrainingFacts, Verdict
from mlops_assets.ml.sources import several
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.training import Candidate
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.resources.blobs import CorruptBytesError
from mlops_assets.resources.records import Record, Records
from mlops_assets.resources.registry import CHAMPION, Registry
from mlops_assets.resources.tracking import TrackingUnavailableError

CURRENT = "champion_stands_on_current_data"
LOOKED_AT = (VALIDATED, "drift_report", "performance_report")
SHOWN = 3
DECIDERS = [f"mlops_assets.ml.{name}" for name in ("evidence", "gain", "policies", "prospects", "retraining")]


def retraining(spec: ModelSpec) -> dg.Definitions:
    """The verdict on the newest partition. What it asks for is done by the sensor `retrain_on_decision`."""
    asset_key = common.key(spec, DECISION)

    @dg.asset(
        **common.describe(spec, "retraining", "mlflow"),
        deps=[common.key(spec, asset) for asset in (*LOOKED_AT, *((LABELS,) if spec.labels else ()))],
        **common.compute(spec, "retraining", common.FIRST),
        code_version=_code_version(spec),
        check_specs=[
            dg.AssetCheckSpec(
                CURRENT,
                asset=asset_key,
                description="Nothing that the champion learned from was corrected after it had learned from it.",
            )
        ],
    )
    @unrepeated
    def retraining_decision(
        context: dg.AssetExecutionContext, records: dg.ResourceParam[Records], registry: Registry
    ) -> Iterator[dg.MaterializeResult]:
        """RETRAIN, WAIT, FIX_UPSTREAM or NEED_LABELS: what is gained, what it costs, and what would change it."""
        learned, champion = _learned(spec, records), _champion(spec, registry)
        outdated = _outdated(context.instance, spec, champion, records)
        newest = _outdated(context.instance, spec, learned.candidate or champion, records)
        before = records.get(RetrainingDecision, spec.name, DECISION)
        known = before.evidence.trainings if before else ()
        both = [partition for partition in outdated if partition in newest]
        at_hand = before.partition if before and spec.labels else None
        evidence = gather(spec, watched(spec, records), learned, known, both, at_hand)
        decided = policy(spec.retraining).decide(evidence, spec.retraining)
        decision = decided.model_copy(update={"past": _past(before, decided)})
        if newest:
            context.log_event(_stale(spec, newest))
        yield dg.MaterializeResult(
            value=decision,
            data_version=dg.DataVersion(decision.digest()),
            metadata=_metadata(decision, outdated),
            check_results=[_check(outdated)],
        )

    return dg.Definitions(assets=[retraining_decision])


def _code_version(spec: ModelSpec) -> str:
    """A digest of what decides the verdict beside the evidence: the declared rule, and the code that decides."""
    declared = spec.model_dump(mode="json", include={"retraining", "drift", "evaluation"})
    return code_version(declared, DECIDERS)


def _learned(spec: ModelSpec, records: Records) -> Learned:
    champion = records.get(Champion, spec.name, CHAMPION)
    return Learned(
        candidate=records.get(Candidate, spec.name, "trained_model"),
        report=records.get(EvaluationReport, spec.name, "evaluation_report"),
        champion=champion.mlflow_run_id if champion else None,
    )


def _champion(spec: ModelSpec, registry: Registry) -> Candidate:
    """What serves now. Without it there is nothing to decide: the first training waits for no decision."""
    try:
        version = registry.champion(spec.name)
        champion = registry.candidate(version) if version else None
    except TrackingUnavailableError as error:
        raise dg.Failure(f"Nothing was decided: {error}", metadata={OUTAGE: True}, allow_retries=False) from error
    except CorruptBytesError as error:
        raise dg.Failure(f"Nothing was decided: {error}", allow_retries=False) from error
    if champion is None:
        raise dg.Failure(
            f"{spec.name} has no champion, so there is nothing to decide: materialize trained_model, "
            "evaluation_report, registered_version and champion first.",
            allow_retries=False,
        )
    return champion


def watched(spec: ModelSpec, records: Records) -> Watched:
    """The newest partitions. Batches are in no order until they are read: all of them."""
    keys = records.partitions(spec.name, VALIDATED)
    newest = keys if spec.partitions.every == "batch" else keys[-depth(spec) :]

    def read(kind: type[Record], asset: str) -> dict[str, Record]:
        return records.some(kind, spec.name, asset, newest)

    parts = read(ValidatedPartition, VALIDATED)
    labels = read(LabelledPartition, LABELS) if spec.labels else {}
    return Watched(
        validated=parts,
        drift=in_force(read(DriftReport, "drift_report"), spec.drift),
        performance=read(PerformanceReport, "performance_report"),
        labels=labels,
        unlabelled=[key for key, part in parts.items() if not teaches(spec, part, labels.get(key))],
        before=len(keys) - len(newest),
    )


def _outdated(instance: dg.DagsterInstance, spec: ModelSpec, candidate: Candidate, records: Records) -> tuple[str, ...]:
    """The partitions of a candidate of which corrected rows or labels are used now. Only what may be is read."""
    learned = candidate.manifest
    suspects = differing(learned.deliveries, common.data_versions(instance, spec, RAW))
    parts = records.some(ValidatedPartition, spec.name, VALIDATED, suspects)
    relabelled = differing(learned.labels, common.data_versions(instance, spec, RAW_LABELS)) if spec.labels else ()
    labels = records.some(LabelledPartition, spec.name, LABELS, relabelled)
    return stale(candidate, {partition: part.delivery for partition, part in parts.items()}, labels)


def _past(before: RetrainingDecision | None, decided: RetrainingDecision) -> dict[str, Verdict]:
    """The verdicts on earlier partitions, as far back as the evidence goes."""
    if before is None:
        return {}
    known = {**before.past, before.partition: before.verdict}
    shown = [each.partition for each in decided.evidence.partitions][-PARTITIONS:]
    return {partition: known[partition] for partition in shown if partition in known and partition != decided.partition}


def _stale(spec: ModelSpec, corrected: Sequence[str]) -> dg.AssetCheckEvaluation:
    """What is said on the model's own page: Dagster compares no data versions between a model and windows of time."""
    return dg.AssetCheckEvaluation(
        asset_key=common.key(spec, "trained_model"),
        check_name=STANDS,
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"It learned from {several(dict.fromkeys(corrected, 'corrected since'), SHOWN)}.",
        metadata={"corrected": dg.MetadataValue.json(list(corrected))},
    )


def _check(corrected: Sequence[str]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=CURRENT,
        passed=not corrected,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"corrected": dg.MetadataValue.json(list(corrected))},
    )


def _metadata(decision: RetrainingDecision, corrected: Sequence[str]) -> Mapping[str, Any]:
    evidence = decision.evidence
    drawn = charts.markdown(_picture(decision), f"{evidence.metric} over partitions: {decision.verdict}")
    return {
        "verdict": decision.verdict,
        "summary": decision.sentence,
        "would_change": decision.would_change,
        "partition": decision.partition,
        "policy": decision.policy,
        "expected_gain": str(decision.expected_gain) if decision.expected_gain else "unknown",
        "cost": f"{decision.cost:.4g} {decision.currency}",
        "pays_back": decision.pays_back.isoformat() if decision.pays_back else "unknown",
        "corrected_since_learned": ", ".join(corrected) or "nothing",
        f"{evidence.metric}_over_partitions": dg.MetadataValue.md(drawn),
        "trainings": _trainings(evidence.trainings) if evidence.trainings else "none known",
    }


def _trainings(known: Sequence[TrainingFacts]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "partition": each.partition,
                    "fitted_partitions": each.fitted,
                    "holdout": str(each.holdout),
                    "gain": str(each.gain) if each.gain else "first version",
                    "became_champion": each.became_champion,
                    "cpu_seconds": round(each.cpu_seconds, 3),
                }
            )
            for each in reversed(known)
        ]
    )


def _picture(decision: RetrainingDecision) -> str:
    evidence = decision.evidence
    verdicts = {**decision.past, decision.partition: decision.verdict}
    trained = {each.partition: "champion" if each.became_champion else "challenger" for each in evidence.trainings}
    moments = []
    for each in evidence.partitions:
        shown = each.measured or each.estimated
        moments.append(
            Moment(
                label=each.partition,
                value=shown.value if shown else None,
                baseline=each.baseline,
                expected=each.measured is None,
                verdict=verdicts.get(each.partition),
                trained=trained.get(each.partition),
            )
        )
    first = next((index for index, each in enumerate(moments) if each.value is not None or each.trained), 0)
    title = f"{evidence.metric} over partitions, {decision.policy}: {decision.verdict}"
    return charts.timeline(moments[first:], title)
