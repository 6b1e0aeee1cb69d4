"""The sensor that tells a person, once a report, that a model does worse than when it was registered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import dagster as dg
from pydantic import Field

from mlops_assets.lifecycle import common
from mlops_assets.ml.alerts import Alert
from mlops_assets.ml.performance import PerformanceReport, worse_than_registered
from mlops_assets.ml.spec import ModelSpec, Value
from mlops_assets.resources.alerts import Alerts
from mlops_assets.resources.blobs import CorruptBytesError
from mlops_assets.resources.records import Records

EVERY_SECONDS = 30
AT_ONCE = 1000
SAID = 20


class Memory(Value):
    """What is remembered of each model: the newest event that was looked at."""

    seen: dict[str, int] = Field(default_factory=dict)


def performance_drop(specs: Sequence[ModelSpec]) -> dg.SensorDefinition:
    """One sensor for all models, in one query where nothing is new.

    A good report ends the alerts of its partition and of earlier ones.
    """
    by_key = {common.key(spec, "performance_report"): spec for spec in specs}

    @dg.sensor(
        name="performance_drop",
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Raises an alert where a mature figure is worse than at registration, beyond both intervals.",
    )
    def look(
        context: dg.SensorEvaluationContext, records: dg.ResourceParam[Records], alerts: Alerts
    ) -> dg.SensorResult:
        """Look at the reports that were made since the last look."""
        memory, said = common.remembered(Memory, context.cursor), []
        for spec, newest in _reported(context.instance, by_key, memory):
            found = _new(context.instance, spec, memory.seen.get(spec.name), records)
            _judge(spec, found, records, alerts)
            said += [f"{spec.name}: {report.sentence}" for report, _ in found if worse_than_registered(spec, report)]
            memory = Memory(seen=memory.seen | {spec.name: newest})
        told = "\n".join(said[-SAID:]) or "No new mature figure is worse than at registration."
        return dg.SensorResult(skip_reason=told, cursor=memory.model_dump_json())

    return look


def _reported(
    instance: dg.DagsterInstance, by_key: Mapping[dg.AssetKey, ModelSpec], memory: Memory
) -> Iterator[tuple[ModelSpec, int]]:
    """The models that have a report which was not looked at, with the number of the newest event."""
    for record in instance.get_asset_records(list(by_key)):
        spec, newest = by_key[record.asset_entry.asset_key], record.asset_entry.last_materialization_storage_id
        if newest is not None and newest > memory.seen.get(spec.name, 0):
            yield spec, newest


def _new(
    instance: dg.DagsterInstance, spec: ModelSpec, seen: int | None, records: Records
) -> list[tuple[PerformanceReport, datetime]]:
    """The reports made since, in order of their rows, each with when it was made. Without a memory only the newest."""
    wanted = dg.AssetRecordsFilter(common.key(spec, "performance_report"), after_storage_id=seen)
    events = instance.fetch_materializations(wanted, limit=1 if seen is None else AT_ONCE).records
    made = {event.partition_key: datetime.fromtimestamp(event.timestamp, UTC) for event in reversed(events)}
    found = [(_report(spec, partition, records), at) for partition, at in made.items() if partition is not None]
    return sorted(((report, at) for report, at in found if report is not None), key=lambda each: each[0].first)


def _report(spec: ModelSpec, partition: str, records: Records) -> PerformanceReport | None:
    try:
        return records.get(PerformanceReport, spec.name, "performance_report", partition)
    except CorruptBytesError:
        return None


def _judge(
    spec: ModelSpec, found: Sequence[tuple[PerformanceReport, datetime]], records: Records, alerts: Alerts
) -> None:
    """Raise what has dropped; what is as it was registered ends the alerts of its partition and of earlier ones."""
    for report, at in found:
        worse = worse_than_registered(spec, report)
        if worse:
            alerts.raise_(_alert(spec, report, at, alerts))
        elif worse is False:
            alerts.resolve(list(_ended(spec, report, records, alerts)), at)


def _ended(spec: ModelSpec, report: PerformanceReport, records: Records, alerts: Alerts) -> Iterator[str]:
    """The open alerts of the report's partition and of earlier ones, by when their rows begin."""
    for alert in (known.alert for known in alerts.open()):
        if (alert.kind, alert.model) != ("performance_drop", spec.name) or alert.partition is None:
            continue
        told = _report(spec, alert.partition, records)
        if alert.partition == report.partition or (told is not None and told.first <= report.first):
            yield alert.name


def _alert(spec: ModelSpec, report: PerformanceReport, at: datetime, alerts: Alerts) -> Alert:
    return Alert(
        kind="performance_drop",
        model=spec.name,
        partition=report.partition,
        about=f"{report.partition} by v{report.version}",
        sentence=report.sentence,
        link=alerts.asset_url(common.key(spec, "performance_report"), report.partition),
        raised=at,
    )
