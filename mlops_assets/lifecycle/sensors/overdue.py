"""The sensor that sees, for all models at once, which deliveries and which labels should have come by now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg
from pydantic import Field

from mlops_assets.lifecycle.common import RAW, VALIDATED, Clock, key, remembered, utc_now
from mlops_assets.lifecycle.inspection import delivered
from mlops_assets.lifecycle.labelled import LABELS
from mlops_assets.ml.alerts import Alert, Kind
from mlops_assets.ml.freshness import USUAL_OF, Outlook, Overdue, Unlabelled, ended, outlook, overdue_labels
from mlops_assets.ml.labels import LabelledPartition
from mlops_assets.ml.sources import Delivery
from mlops_assets.ml.spec import ModelSpec, Value
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.ml.windows import Windows, partitions_in
from mlops_assets.resources.alerts import Alerts
from mlops_assets.resources.blobs import CorruptBytesError
from mlops_assets.resources.records import Records

EVERY_SECONDS = 60
LABELS_LOOKED_AT = 100
KINDS: Mapping[Kind, str] = {"overdue_data": RAW, "overdue_labels": LABELS}


class Waiting(Value):
    """Since when each model waits for its first delivery."""

    began: dict[str, datetime] = Field(default_factory=dict)


@dataclass
class Known:
    """What was found out about a model by `events`, its newest events: it holds until one of `outlooks` is due."""

    events: tuple[int, ...]
    at: datetime
    empty: bool
    outlooks: dict[Kind, Outlook] = field(default_factory=dict)

    def holds(self, events: tuple[int, ...], now: datetime) -> bool:
        """Whether nothing has come since, and nothing more has become due."""
        due = [each.next_due for each in self.outlooks.values() if each.next_due is not None]
        return events == self.events and self.at <= now < min(due, default=datetime.max.replace(tzinfo=UTC))


def overdue(specs: Sequence[ModelSpec], clock: Clock = utc_now) -> dg.SensorDefinition:
    """One sensor for all models, in one query where nothing has come and nothing has become due."""
    known: dict[str, Known] = {}  # a cache: what it holds can be found out again

    @dg.sensor(
        name="overdue",
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Raises an alert where a delivery or its labels should have come, by cadence and usual delay.",
    )
    def look(
        context: dg.SensorEvaluationContext, records: dg.ResourceParam[Records], alerts: Alerts
    ) -> dg.SensorResult:
        """Compare what came with what should have come by now."""
        now, waiting = clock(), remembered(Waiting, context.cursor)
        events = _newest_events(context.instance, specs)
        for spec in specs:
            before = known.get(spec.name)
            if before is None or not before.holds(events[spec.name], now):
                began = waiting.began.get(spec.name, now)
                try:
                    known[spec.name] = _found_out(spec, records, events[spec.name], began, now)
                except (CorruptBytesError, ValueError) as error:
                    context.log.error(f"{spec.name}: {error}")
                    known[spec.name] = Known(events[spec.name], now, empty=False)
        true = [alert for spec in specs for alert in _alerts(spec, known[spec.name], alerts, now)]
        news = alerts.hold(tuple(KINDS), true, now)
        began = {spec.name: waiting.began.get(spec.name, now) for spec in specs if known[spec.name].empty}
        return dg.SensorResult(skip_reason=_said(true, news), cursor=Waiting(began=began).model_dump_json())

    return look


def _newest_events(instance: dg.DagsterInstance, specs: Sequence[ModelSpec]) -> dict[str, tuple[int, ...]]:
    """The number of the newest event of each asset that matters to each model, in one query."""
    assets = {spec.name: (RAW, VALIDATED, LABELS) if spec.labels else (RAW,) for spec in specs}
    keys = [key(spec, asset) for spec in specs for asset in assets[spec.name]]
    newest = {
        record.asset_entry.asset_key: record.asset_entry.last_materialization_storage_id or 0
        for record in instance.get_asset_records(keys)
    }
    return {spec.name: tuple(newest.get(key(spec, asset), 0) for asset in assets[spec.name]) for spec in specs}


def _found_out(spec: ModelSpec, records: Records, events: tuple[int, ...], began: datetime, now: datetime) -> Known:
    held = records.partitions(spec.name, RAW)
    found = Known(events, now, empty=not held)
    newest = records.some(Delivery, spec.name, RAW, held[-USUAL_OF:])
    found.outlooks["overdue_data"] = outlook(
        spec, held, {partition: delivered(each) for partition, each in newest.items()}, began, now
    )
    if spec.labels is not None:
        looked_at = LABELS_LOOKED_AT + partitions_in(spec.labels.delay_days, spec.partitions.every)
        found.outlooks["overdue_labels"] = overdue_labels(spec.labels, _unlabelled(spec, records, looked_at), now)
    return found


def _unlabelled(spec: ModelSpec, records: Records, newest: int) -> list[Unlabelled]:
    """The newest validated partitions, with how many of their rows have a label."""
    parts = records.all(ValidatedPartition, spec.name, VALIDATED, newest)
    labels = records.some(LabelledPartition, spec.name, LABELS, parts)
    windows = None if spec.partitions.every == "batch" else Windows.of(spec.partitions)
    return [
        Unlabelled(
            partition=partition,
            ended=part.last if windows is None else ended(spec, windows, partition),
            delivered=part.delivered,
            rows=part.rows_out,
            labelled=labels[partition].labelled if partition in labels else 0,
        )
        for partition, part in parts.items()
    ]


def _alerts(spec: ModelSpec, known: Known, alerts: Alerts, now: datetime) -> list[Alert]:
    return [
        _alert(spec, kind, found.overdue, alerts, now)
        for kind, found in known.outlooks.items()
        if found.overdue is not None
    ]


def _alert(spec: ModelSpec, kind: Kind, found: Overdue, alerts: Alerts, now: datetime) -> Alert:
    """Named by the first partition that is missing: a gap that grows is the same."""
    return Alert(
        kind=kind,
        model=spec.name,
        partition=found.first,
        about=f"from {found.first} on",
        sentence=found.sentence,
        link=alerts.asset_url(key(spec, KINDS[kind]), found.first),
        raised=now,
    )


def _said(true: Sequence[Alert], news: Sequence[Alert]) -> str:
    """What is overdue, new things first."""
    ordered = [*news, *(alert for alert in true if alert not in news)]
    lines = [f"{alert.model}: {alert.sentence}" for alert in ordered[:20]]
    return "\n".join(lines) or "Nothing is overdue."
