"""What a run that has ended says of itself: what a person has to look at, and which alerts are over because of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.events import DagsterEvent, RunFailureReason

from mlops_assets.compute.diagnosis import FAILURE
from mlops_assets.lifecycle.common import VALIDATED, WILL_RETRY, partitions_definition
from mlops_assets.lifecycle.endings import CHECK_FAILED, REQUEST, ending_of
from mlops_assets.ml.alerts import Alert, Kind, name_of
from mlops_assets.ml.planning import DECISION, TRAINING
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.resources.alerts import Alerts
from mlops_assets.resources.blobs import CorruptBytesError
from mlops_assets.resources.records import Records

TOLD_AS: Mapping[str, Kind] = {
    "has_not_drifted": "drift",
    "moved_with_the_world": "drift",
    "has_usual_row_count": "unusual_volume",
}
TOLD_ELSEWHERE = {"performs_as_registered", "waits_for_nobody"}
LOOKED_AT = {
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.RUN_CANCELING,
    dg.DagsterEventType.RUN_CANCELED,
}
UNPARTITIONED = {*TRAINING, DECISION}
PARTITION = "dagster/partition"
TO = " to "
FIRST, LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
TOOK_TOO_LONG = "Canceling due to exceeding maximum runtime"
BY_A_PERSON = "This run has been marked as canceled from outside"
REASONS = {
    RunFailureReason.START_TIMEOUT: "it did not start in time",
    RunFailureReason.RUN_WORKER_RESTART: "its process was started again",
    RunFailureReason.JOB_INITIALIZATION_FAILURE: "its job could not be set up",
    RunFailureReason.UNEXPECTED_TERMINATION: "its process was killed",
}
SHOWN = 20


class Finding(NamedTuple):
    """One partition for which a check failed, and why; without a partition, all that the check looked at."""

    partition: str | None
    sentence: str


@dataclass(frozen=True)
class EndedRun:
    """A run, when it ended, and what it left in the log."""

    instance: dg.DagsterInstance
    run: dg.DagsterRun
    at: datetime
    specs: Mapping[str, ModelSpec]
    alerts: Alerts
    events: Sequence[DagsterEvent] = field(default_factory=tuple)

    @classmethod
    def read(
        cls,
        instance: dg.DagsterInstance,
        run: dg.DagsterRun,
        at: datetime,
        specs: Mapping[str, ModelSpec],
        alerts: Alerts,
    ) -> EndedRun:
        """The run with those of its events that matter here."""
        logs = instance.all_logs(run.run_id, of_type=LOOKED_AT)
        return cls(instance, run, at, specs, alerts, [log.dagster_event for log in logs if log.dagster_event])

    @property
    def model(self) -> str | None:
        """The model that the run belongs to, None where it belongs to none or several."""
        if (tagged := self.run.tags.get("mlops/model")) in self.specs:
            return tagged
        named = {key.path[0] for key in self.run.asset_selection or ()}
        steps = {event.step_key.partition("__")[0] for event in self.events if event.step_key}
        found = (named or steps) & self.specs.keys()
        return next(iter(found)) if len(found) == 1 else None

    @property
    def partitions(self) -> list[str]:
        """The partitions that the run covered."""
        tags, spec = self.run.tags, self.specs.get(self.model or "")
        if FIRST not in tags or spec is None:
            return [tags[PARTITION]] if PARTITION in tags else []
        span = dg.PartitionKeyRange(tags[FIRST], tags[LAST])
        try:
            with partition_loading_context(dynamic_partitions_store=self.instance):
                return list(partitions_definition(spec).get_partition_keys_in_range(span))
        except dg.DagsterError:  # the declaration has changed since, and has no such partitions any more
            return []

    @property
    def span(self) -> str | None:
        """The partitions in words."""
        tags = self.run.tags
        return f"{tags[FIRST]}{TO}{tags[LAST]}" if FIRST in tags else tags.get(PARTITION)

    def raised(self) -> Iterator[Alert]:
        """What a person has to look at."""
        for event in self.events:
            if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                yield from self._of_check(event.asset_check_evaluation_data)
        for step, finding in self._why_it_failed():
            partition = finding.partition or self.span
            yield Alert(
                kind="failed_run",
                model=self.model,
                partition=partition,
                about=self._about(step, partition),
                sentence=finding.sentence,
                link=self.alerts.run_url(self.run.run_id),
                raised=self.at,
            )

    def over(self) -> Iterator[str]:
        """The names of the alerts that this run shows to be over."""
        for event in self.events:
            if event.event_type == dg.DagsterEventType.STEP_SUCCESS:
                for partition in (self.span, *self.partitions):
                    yield name_of("failed_run", self.model, self._about(event.step_key, partition))
            elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                check = event.asset_check_evaluation_data
                if check.passed:
                    for partition in self.partitions:
                        yield name_of(_kind(check), check.asset_key.path[0], _about_check(check, partition))
        if self.run.status == dg.DagsterRunStatus.SUCCESS:
            yield name_of("failed_run", self.model, self._about(None, self.span))

    def passed(self) -> Iterator[str]:
        """The names of the alerts about an asset as it is, which are over for the partitions that the run covers."""
        for event in self.events:
            if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                check = event.asset_check_evaluation_data
                if check.passed:
                    yield name_of(_kind(check), check.asset_key.path[0], _about_check(check, None))

    def covers(self, partition: str | None) -> bool:
        """Whether the run covered a partition (of several, the last) or a later one; without partitions, all of them.

        Where the order cannot be told only a partition that it covered itself.
        """
        if partition is None or self.span is None:
            return True
        last = partition.rpartition(TO)[2]
        place = self._place(last)
        places = (self._place(each) for each in self.partitions)
        return last in self.partitions or (place is not None and any(each and each >= place for each in places))

    def _place(self, partition: str) -> str | None:
        """What is in order as the partitions are: their keys but for batches, of those when their first row was."""
        spec = self.specs.get(self.model or "")
        if spec is None or spec.partitions.every != "batch":
            return partition if spec else None
        try:
            found = Records(root=self.alerts.root).get(ValidatedPartition, spec.name, VALIDATED, partition)
        except CorruptBytesError:
            return None
        return found and found.first.astimezone(UTC).isoformat(timespec="microseconds")

    def _about(self, step: str | None, partition: str | None) -> str:
        whole = (step or "").rpartition("__")[2] in UNPARTITIONED
        return f"{step or self.run.job_name} {'' if whole else partition or ''}".strip()

    def _of_check(self, check: AssetCheckEvaluation) -> Iterator[Alert]:
        """A check that blocks is about each partition that it refused, one that warns about the asset as it is."""
        model = check.asset_key.path[0]
        if check.passed or check.check_name in TOLD_ELSEWHERE or self._is_gate(check):
            return
        found = _findings(check)
        blocks = check.severity == dg.AssetCheckSeverity.ERROR
        for finding in found if blocks else found[-1:]:
            yield Alert(
                kind=_kind(check),
                model=model if model in self.specs else None,
                partition=finding.partition or self.span,
                about=_about_check(check, finding.partition if blocks else None),
                sentence=_sentence(check, finding, len(found) if not blocks else 1),
                link=self.alerts.asset_url(check.asset_key, check=check.check_name),
                raised=self.at,
            )

    def _is_gate(self, check: AssetCheckEvaluation) -> bool:
        """Whether this is the check of one gate: `clears_every_gate` tells of all that failed at once."""
        model, asset = check.asset_key.path
        gates = self.specs[model].gates if model in self.specs else ()
        return asset == "evaluation_report" and check.check_name in {gate.called for gate in gates}

    def _why_it_failed(self) -> list[tuple[str | None, Finding]]:
        """The step that failed and why, by partition; nothing where a person need not be told, or is told otherwise.

        A run that a sensor asked for and that came to no verdict is asked for again, and told when it is given up. One
        that Dagster retries has not failed yet. Of a blocking check its own alert tells.
        """
        if self.run.status == dg.DagsterRunStatus.CANCELED:
            return [] if self._cancelled_by_a_person() else [(None, Finding(None, "It was cancelled by nobody."))]
        if self.run.status != dg.DagsterRunStatus.FAILURE or self.run.tags.get(WILL_RETRY) == "true":
            return []
        retried = {f"{self.model}__raw_data"}
        if REQUEST in self.run.tags and ending_of(self.instance, self.run, retried=retried) in {"died", "outage"}:
            return []
        failures = [event for event in self.events if event.event_type == dg.DagsterEventType.STEP_FAILURE]
        if not failures:
            return [(None, Finding(None, self._outside_its_steps()))]
        checked = {event.step_key for event in self.events if _blocked(event)}
        told = [event for event in failures if not _by_check(event) and event.step_key not in checked]
        if not told:
            return []
        step = told[0].step_key
        death = self.run.tags.get(f"{FAILURE}/{step}")
        found = _of_step(told[0]) if death is None else [Finding(None, f"{_asset_of(step)} failed: {death}")]
        return [(step, finding) for finding in found]

    def _cancelled_by_a_person(self) -> bool:
        messages = {
            kind: [event.message or "" for event in self.events if event.event_type == kind]
            for kind in (dg.DagsterEventType.RUN_CANCELING, dg.DagsterEventType.RUN_CANCELED)
        }
        asked = messages[dg.DagsterEventType.RUN_CANCELING]
        forced = messages[dg.DagsterEventType.RUN_CANCELED]
        return any(not text.startswith(TOOK_TOO_LONG) for text in asked) or (
            not asked and any(text.startswith(BY_A_PERSON) for text in forced)
        )

    def _outside_its_steps(self) -> str:
        """A failure of the run itself, in words of ours: what launchers say may hold configuration."""
        failed = next(
            (event for event in reversed(self.events) if event.event_type == dg.DagsterEventType.RUN_FAILURE), None
        )
        data = failed.event_specific_data if failed else None
        reason = REASONS.get(getattr(data, "failure_reason", None) or RunFailureReason.UNKNOWN)
        message = (failed.message or "") if failed else ""
        if reason is None and message.startswith("Exceeded maximum runtime"):
            reason = message.rstrip(".").replace("Exceeded", "it exceeded the")
        return f"The run failed outside its steps: {reason or 'its log says why'}."


def _by_check(event: DagsterEvent) -> bool:
    error = event.step_failure_data.error
    return error is not None and error.cls_name == CHECK_FAILED


def _blocked(event: DagsterEvent) -> bool:
    """Whether this is a blocking check that did not pass."""
    if event.event_type != dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        return False
    check = event.asset_check_evaluation_data
    return not check.passed and check.severity == dg.AssetCheckSeverity.ERROR


def _of_step(event: DagsterEvent) -> list[Finding]:
    """What a stage said when it refused. Of an error that nobody raised on purpose only the name: it may hold rows."""
    asset, failure = _asset_of(event.step_key), event.step_failure_data
    said = failure.user_failure_data
    if said is None or not said.description:
        error = failure.error.cause or failure.error if failure.error else None
        return [Finding(None, f"{asset} broke with {error.cls_name if error else 'an error'}: its log says where.")]
    found = [finding for value in said.metadata.values() for finding in _of_metadata(value)]
    named = [Finding(partition, f"{asset}[{partition}] failed: {reason}") for partition, reason in found]
    return named[:SHOWN] or [Finding(None, f"{asset} failed: {said.description}")]


def _asset_of(step: str | None) -> str:
    return (step or "").replace("__", "/", 1)


def _kind(check: AssetCheckEvaluation) -> Kind:
    return TOLD_AS.get(check.check_name, "failed_check")


def _about_check(check: AssetCheckEvaluation, partition: str | None) -> str:
    return " ".join(part for part in (check.asset_key.path[-1], check.check_name, partition) if part)


def _sentence(check: AssetCheckEvaluation, finding: Finding, partitions: int) -> str:
    more = f" So it is with {partitions - 1} more partitions of the run." if partitions > 1 else ""
    if check.check_name in TOLD_AS:
        return finding.sentence + more
    asset = "/".join(check.asset_key.path)
    return f"{asset} fails the check {check.check_name}: {finding.sentence}{more}"


def _findings(check: AssetCheckEvaluation) -> list[Finding]:
    """The partitions for which a check failed, from what the stages leave in its metadata; else what it says itself."""
    found = [finding for value in check.metadata.values() for finding in _of_metadata(value)]
    return found[:SHOWN] or [Finding(check.partition, check.description or "its result in the UI says why.")]


def _of_metadata(value: dg.MetadataValue) -> Iterator[Finding]:
    """A table with a partition and a reason in each row, or a mapping of partitions to sentences."""
    if isinstance(value, dg.TableMetadataValue):
        rows: list[Mapping[str, Any]] = [record.data for record in value.records]
        yield from (
            Finding(str(row["partition"]), str(row.get("reason") or row.get("why")))
            for row in rows
            if "partition" in row and ("reason" in row or "why" in row) and not row.get("passed")
        )
    elif isinstance(value, dg.JsonMetadataValue) and isinstance(value.value, dict):
        sentences = {key: text for key, text in value.value.items() if isinstance(text, str)}
        if len(sentences) == len(value.value):
            yield from (Finding(str(partition), text) for partition, text in sentences.items())
