"""`evaluation_report`, and the checks that keep a weak candidate out of the registry."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import dagster as dg
import numpy as np

from mlops_assets.lifecycle import pictures
from mlops_assets.lifecycle.common import Clock, compute, describe, key, utc_now
from mlops_assets.lifecycle.endings import OUTAGE
from mlops_assets.lifecycle.estimates import keep_relations
from mlops_assets.lifecycle.labelled import LABELS, labels_of, rows_with_target
from mlops_assets.lifecycle.refusing import unrepeated
from mlops_assets.lifecycle.report_metadata import gate_metadata, gate_table, shown
from mlops_assets.lifecycle.waiving import waivers_in_force
from mlops_assets.ml.artifacts import UnsafeModelError
from mlops_assets.ml.code import code_version
from mlops_assets.ml.evaluation import NOBODY_SERVES, Contender, EvaluationReport, evaluate, incomparable, unseen
from mlops_assets.ml.gates import promise
from mlops_assets.ml.holdout import EvaluationError, HoldOut, answers
from mlops_assets.ml.labels import LabelledPartition, content_of
from mlops_assets.ml.metrics import UnusablePredictionsError
from mlops_assets.ml.spec import BehaviourGate, FairnessGate, ModelSpec
from mlops_assets.ml.threads import for_rows
from mlops_assets.ml.training import Candidate
from mlops_assets.ml.trying import Stopwatch, tried
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.ml.waivers import Waiver, unwaived
from mlops_assets.resources.blobs import CorruptBytesError
from mlops_assets.resources.keys import Keys, KeyUnavailableError
from mlops_assets.resources.ledger import BrokenLedgerError, Ledger, LedgerUnavailableError
from mlops_assets.resources.records import Records
from mlops_assets.resources.registry import Registry
from mlops_assets.resources.reports import Reports
from mlops_assets.resources.tables import Tables
from mlops_assets.resources.tracking import Tracking, TrackingUnavailableError

VALIDATED = "validated_features"
CLEARS, BEATS, UNSEEN = "clears_every_gate", "beats_the_naive_baseline", "judged_on_unseen_rows"
JUDGING = ("baselines", "evaluation", "gates", "holdout", "measuring", "metrics", "trying")
JUDGES = tuple(f"mlops_assets.ml.{name}" for name in JUDGING)
DECIDES = {"task", "target", "time", "contract", "evaluation", "gates", "seed"}
REFUSALS = (
    BrokenLedgerError,
    CorruptBytesError,
    EvaluationError,
    KeyUnavailableError,
    UnsafeModelError,
    UnusablePredictionsError,
)
CHECKS = {
    CLEARS: "Every declared gate is cleared; a figure that is missing or not a number clears none.",
    BEATS: "The candidate errs less than a guess made of old labels, on the metric that decides.",
    UNSEEN: "No partition that judged the candidate was among those that it was fitted on.",
}


class Judged(NamedTuple):
    """A report with the rows and predictions that it was made from."""

    report: EvaluationReport
    holdout: HoldOut
    predicted: np.ndarray


def evaluation(spec: ModelSpec, clock: Clock = utc_now, stopwatch: Stopwatch = time.perf_counter_ns) -> dg.Definitions:
    """The candidate's report, with a check for each gate and a blocking one on all of them."""

    @dg.asset(
        **describe(spec, "evaluation", "scikitlearn", "mlflow"),
        deps=[key(spec, VALIDATED), *([key(spec, LABELS)] if spec.labels else [])],
        code_version=code_version(spec.model_dump(mode="json", include=DECIDES), [*JUDGES, *_behaviours(spec)]),
        **compute(spec, "evaluation"),
        check_specs=list(_check_specs(spec)),
    )
    @unrepeated
    def evaluation_report(
        trained_model: Candidate,
        records: Records,
        tables: Tables,
        registry: Registry,
        tracking: Tracking,
        reports: Reports,
        ledger: Ledger,
        keys: Keys,
    ) -> Iterator[dg.MaterializeResult]:
        """How good the candidate is on rows that it has not seen, beside the champion and a naive guess."""
        try:
            judged = _judge(spec, trained_model, records, tables, registry, tracking, stopwatch)
            report = judged.report
            keep_relations(spec, trained_model, judged.holdout, judged.predicted, records)
            tracking.log_metrics(trained_model, {f"holdout_{name}": value for name, value in report.figures.items()})
            drawn = _pictures(spec, judged, trained_model, registry)
            waived = waivers_in_force(spec, report.candidate, report, ledger, keys, clock)
        except (TrackingUnavailableError, LedgerUnavailableError) as error:
            why = f"{spec.name} cannot be judged: {error}"
            raise dg.Failure(why, metadata={OUTAGE: True}, allow_retries=False) from error
        except REFUSALS as error:
            raise dg.Failure(f"{spec.name} cannot be judged: {error}", allow_retries=False) from error
        yield dg.MaterializeResult(
            value=report,
            data_version=dg.DataVersion(report.digest()),
            metadata=shown(report, drawn, reports) | {"mlflow_run": dg.MetadataValue.url(tracking.url(trained_model))},
            check_results=[*_gate_checks(report, waived), *_checks(report, trained_model)],
        )

    return dg.Definitions(assets=[evaluation_report])


def _check_specs(spec: ModelSpec) -> Iterator[dg.AssetCheckSpec]:
    for name, text in {**CHECKS, **{gate.called: promise(gate) for gate in spec.gates}}.items():
        yield dg.AssetCheckSpec(name, asset=key(spec, "evaluation_report"), description=text, blocking=name == CLEARS)


def _judge(
    spec: ModelSpec,
    candidate: Candidate,
    records: Records,
    tables: Tables,
    registry: Registry,
    tracking: Tracking,
    stopwatch: Stopwatch,
) -> Judged:
    manifest = candidate.manifest
    labels = labels_of(spec, records, manifest.contents)
    parts = _as_trained(spec, candidate, labels, records)
    judging = {partition: parts[partition] for partition in manifest.holdout_partitions}
    rows = {partition: part.rows_out for partition, part in judging.items()}
    holdout = HoldOut.of(spec, rows_with_target(spec, tables, judging.values(), labels), rows)
    learned = [parts[partition] for partition in manifest.fitted_partitions]
    history = rows_with_target(spec, tables, learned, labels, [spec.time.name])
    pipeline = tracking.load(candidate)
    with for_rows(len(holdout.frame)):
        predicted = answers(spec.task, pipeline, holdout.frame, candidate.inputs)
        champion = _champion(spec, candidate, holdout, registry, tracking)
    found = tried(spec, candidate, pipeline, holdout, lambda: len(tracking.artifact(candidate)), stopwatch)
    report = evaluate(spec, candidate, holdout, predicted, history, champion, _personal(spec), found)
    return Judged(report, holdout, predicted)


def _as_trained(
    spec: ModelSpec, candidate: Candidate, labels: Mapping[str, LabelledPartition], records: Records
) -> dict[str, ValidatedPartition]:
    """The partitions of the candidate's manifest, while they still hold what it was trained with."""
    contents = candidate.manifest.contents
    found = {partition: records.get(ValidatedPartition, spec.name, VALIDATED, partition) for partition in contents}
    present = {partition: part for partition, part in found.items() if part is not None}
    changed = [
        partition
        for partition, content in contents.items()
        if partition not in present or content_of(present[partition], labels.get(partition)) != content
    ]
    if changed:
        what = "validated_features or labels" if labels else "validated_features"
        raise EvaluationError(
            f"{', '.join(changed)} of {what} changed after the candidate was trained. Materialize trained_model again."
        )
    return present


def _champion(
    spec: ModelSpec, candidate: Candidate, holdout: HoldOut, registry: Registry, tracking: Tracking
) -> Contender | str:
    """The champion's predictions for the rows that it has not seen, or why there is nothing to compare with."""
    version = registry.champion(spec.name)
    if version is None:
        return NOBODY_SERVES
    champion = registry.candidate(version)
    if reason := incomparable(candidate, champion, version.number, holdout):
        return reason
    partitions = unseen(champion, holdout)
    rows = holdout.frame if partitions == holdout.partitions else holdout.frame[holdout.within(partitions)]
    predicted = answers(spec.task, tracking.load(champion), rows, champion.inputs)
    return Contender(version.number, partitions, predicted, champion.classes)


def _personal(spec: ModelSpec) -> tuple[str, ...]:
    """The personal columns, for the sake of slices and groups: without them no value is shown, and no contract read."""
    if not spec.evaluation.slices and not any(isinstance(gate, FairnessGate) for gate in spec.gates):
        return ()
    from mlops_assets.ml.contracts import load_contract, pii_columns

    return pii_columns(load_contract(spec.contract))


def _pictures(spec: ModelSpec, judged: Judged, candidate: Candidate, registry: Registry) -> dict[str, str]:
    """What a person looks at first, by name: the answers, and the metric over versions."""
    target = judged.holdout.frame[spec.target]
    return {
        "predicted_against_actual": pictures.answers(spec, target, judged.predicted, candidate.classes),
        f"{spec.evaluation.metric}_over_versions": pictures.over_versions(
            spec, judged.report, registry.versions(spec.name)
        ),
    }


def _behaviours(spec: ModelSpec) -> list[str]:
    """The modules of the declared tests of behaviour."""
    return sorted({gate.behaviour.rpartition(".")[0] for gate in spec.gates if isinstance(gate, BehaviourGate)})


def _gate_checks(report: EvaluationReport, waived: Mapping[str, Waiver]) -> Iterator[dg.AssetCheckResult]:
    """One check for each gate, and one that blocks on all. A waived one stays failed, and blocks nothing."""
    told = []
    for result in report.gates:
        waiver = None if result.passed else waived.get(result.gate.called)
        said = f"{result}; {waiver}" if waiver else str(result)
        told += [] if result.passed else [said]
        yield dg.AssetCheckResult(
            check_name=result.gate.called,
            passed=result.passed,
            severity=_severity(let_go=waiver is not None),
            description=said,
            metadata=gate_metadata(result, waiver),
        )
    yield dg.AssetCheckResult(
        check_name=CLEARS,
        passed=not told,
        severity=_severity(let_go=bool(told) and not unwaived(report.gates, waived)),
        description="; ".join(told or map(str, report.gates)) or "No gate is declared.",
        metadata={"gates": gate_table(report)} if report.gates else {},
    )


def _severity(*, let_go: bool) -> dg.AssetCheckSeverity:
    return dg.AssetCheckSeverity.WARN if let_go else dg.AssetCheckSeverity.ERROR


def _checks(report: EvaluationReport, candidate: Candidate) -> Iterator[dg.AssetCheckResult]:
    yield dg.AssetCheckResult(
        check_name=BEATS,
        passed=report.skill is not None and report.skill > 0,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"skill": report.skill, "baseline": report.baseline_name},
    )
    seen = sorted(set(report.partitions) & set(candidate.manifest.fitted_partitions))
    yield dg.AssetCheckResult(
        check_name=UNSEEN,
        passed=not seen and report.rows > 0,
        metadata={
            "judged_rows": report.rows,
            "judged_partitions": dg.MetadataValue.json(list(report.partitions)),
            "fitted_partitions": len(candidate.manifest.fitted_partitions),
            "seen": dg.MetadataValue.json(seen),
        },
    )
