"""How the run that a sensor asked for ended: with a verdict on its work, or with none."""

from collections.abc import Set
from datetime import UTC, datetime
from typing import Literal

import dagster as dg
from dagster._core.execution.plan.objects import StepFailureData

from mlops_assets.compute.diagnosis import POD

Ending = Literal["verdict", "died", "outage", "cancelled"]
REQUEST = "mlops/request"
OUTAGE = "outage"
CHECK_FAILED = "DagsterAssetCheckFailedError"
DEATHS, NO_ROOM = frozenset({"preempted", "evicted", "error", "unknown"}), "unschedulable"


def ending(instance: dg.DagsterInstance, request: str, *, retried: Set[str] = frozenset()) -> Ending:
    """How the newest run of a request ended. A verdict is a success, or a step that refused on purpose.

    A run that was killed, or broke with an error that nobody raised on purpose, died; so did one that nobody knows any
    more, and one in which only steps in `retried` refused. An outage is a service that did not answer, or a cluster
    without room. A pod that filled its memory or its time, or was wrongly declared, is a verdict: it would do so again.
    """
    run = next(iter(instance.get_runs(dg.RunsFilter(tags={REQUEST: request}), limit=1)), None)
    return "died" if run is None else ending_of(instance, run, retried=retried)


def ending_of(instance: dg.DagsterInstance, run: dg.DagsterRun, *, retried: Set[str] = frozenset()) -> Ending:
    """How a run ended, by the same rules."""
    if run.status == dg.DagsterRunStatus.CANCELED:
        return "cancelled"
    if run.status != dg.DagsterRunStatus.FAILURE:
        return "verdict"
    logs = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    failures = [entry.dagster_event for entry in logs if entry.dagster_event is not None]
    if any(_on_purpose(each.step_failure_data) and each.step_key not in retried for each in failures):
        return "verdict"
    return "outage" if any(_is_outage(each.step_failure_data) for each in failures) else "died"


def ended_at(instance: dg.DagsterInstance, request: str) -> datetime | None:
    """When the newest run of a request ended; None where nobody knows any more."""
    record = next(iter(instance.get_run_records(dg.RunsFilter(tags={REQUEST: request}), limit=1)), None)
    return datetime.fromtimestamp(record.end_time, UTC) if record and record.end_time else None


def finished_steps(instance: dg.DagsterInstance, request: str) -> frozenset[str]:
    """The steps that succeeded in the runs of a request: a run that Dagster retries goes on where it failed."""
    return frozenset(
        entry.step_key
        for run in instance.get_runs(dg.RunsFilter(tags={REQUEST: request}))
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_SUCCESS)
        if entry.step_key is not None
    )


def _on_purpose(failure: StepFailureData) -> bool:
    """Whether a stage refused, or a blocking check of it did not pass."""
    checked = failure.error is not None and failure.error.cls_name == CHECK_FAILED
    said = failure.user_failure_data
    return checked or (said is not None and not _is_outage(failure) and _of_pod(failure) not in DEATHS)


def _is_outage(failure: StepFailureData) -> bool:
    said = failure.user_failure_data
    return said is not None and (OUTAGE in said.metadata or _of_pod(failure) == NO_ROOM)


def _of_pod(failure: StepFailureData) -> str | None:
    """Of what kind the death of its pod was, where that is why the step failed."""
    said = failure.user_failure_data
    found = said.metadata.get(POD) if said else None
    return str(found.value) if found else None
