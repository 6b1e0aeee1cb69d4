"""The sensors that see what a person has to look at, in all models at once, and the one that tells it."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorType, SensorInstigatorData
from pydantic import Field, ValidationError

from mlops_assets import settings
from mlops_assets.compute.diagnosis import FAILURE
from mlops_assets.lifecycle.common import GOING_ON, MODEL, RAW, Clock, utc_now
from mlops_assets.lifecycle.labels import RAW_LABELS
from mlops_assets.lifecycle.sensors.ended import EndedRun
from mlops_assets.lifecycle.sensors.new_labels import Memories as LabelMemories
from mlops_assets.lifecycle.sensors.retrain_on_decision import Memory as AskedToTrain
from mlops_assets.ml.alerts import TITLES, Alert, Known, Telling, subject
from mlops_assets.ml.planning import CANCELLED, GivenUp, Memory
from mlops_assets.ml.spec import ModelSpec, Value
from mlops_assets.resources.alerts import Alerts
from mlops_assets.resources.channels import ChannelError
from mlops_assets.resources.outbox import Round

EVERY_SECONDS = 15
BUDGET_SECONDS = 20.0
AT_ONCE = 50
LOOK_BACK = timedelta(hours=24)
SHOWN = 50
ASSET = dg.AssetKey("alerts")
ENDS = (dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_CANCELED, dg.DagsterEventType.RUN_SUCCESS)
SILENT = f"No channel is configured: alerts are kept here and told to nobody. Set {settings.ALERTS.name}."


class Seen(Value):
    """Up to which event, of each way in which runs end, runs were looked at."""

    newest: dict[str, int] = Field(default_factory=dict)


def alerting() -> dg.AssetSpec:
    """Where a person finds the alerts in the catalog: an event each time that something is told."""
    return dg.AssetSpec(
        ASSET,
        description="What a person has to look at, in all models: what is open, and how telling it went. "
        "`mlops-assets alerts` says the same; docs/runbooks says what to do.",
        group_name="platform",
        owners=["team:platform"],
        kinds={"apprise"},
        tags={"mlops/stage": "alerts"},
    )


def raise_alerts(specs: Sequence[ModelSpec], clock: Clock = utc_now) -> dg.SensorDefinition:
    """One sensor for all models: runs that ended, runs that are stuck, deliveries and trainings that were given up."""
    by_name = {spec.name: spec for spec in specs}

    @dg.sensor(
        name="raise_alerts",
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Raises an alert for every run that failed or is stuck, every failed check and all that is given "
        "up, and says which of them are over.",
    )
    def look(context: dg.SensorEvaluationContext, alerts: Alerts) -> dg.SensorResult:
        """Look at what happened since the last look. What raises an error is looked at again: the cursor stays."""
        now, until = clock(), time.monotonic() + BUDGET_SECONDS
        seen, raised = _seen(context.cursor, context.instance, now), []
        for kind, number, run, at in _ended(context.instance, seen):
            ended = EndedRun.read(context.instance, run, at, by_name, alerts)
            alerts.resolve(ended.over(), at)
            alerts.resolve_of(ended.passed(), at, ended.covers)
            raised += [alert for alert in ended.raised() if alerts.raise_(alert)]
            seen = seen.model_copy(update={"newest": seen.newest | {kind: number}})
            if time.monotonic() > until:
                break
        raised += alerts.hold(("stuck_run",), list(_stuck(context.instance, alerts, now)), now)
        raised += alerts.hold(("given_up",), list(_given_up(context.instance, by_name, alerts, now)), now)
        return dg.SensorResult(skip_reason=_said(raised, alerts), cursor=seen.model_dump_json())

    return look


def deliver_alerts(specs: Sequence[ModelSpec], clock: Clock = utc_now) -> dg.SensorDefinition:
    """The sensor that tells what was raised, apart from whoever raised it."""
    owners = {spec.name: spec.owner for spec in specs}

    @dg.sensor(
        name="deliver_alerts",
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Puts new alerts into messages, tells each channel once, and tries again those that took none.",
    )
    def look(context: dg.SensorEvaluationContext, alerts: Alerts) -> dg.SensorResult | dg.SkipReason:
        """Tell what is to be told."""
        try:
            done = alerts.deliver(clock, owners)
        except ChannelError as error:
            return dg.SkipReason(f"Nothing can be told: {error}")
        if done.busy:
            return dg.SkipReason("Another process is telling alerts.")
        for text in done.unreadable:
            context.log.error(text)
        silent = any(not telling.deliveries for telling in done.over)
        if silent and not context.cursor:
            context.log.warning(SILENT)
        return dg.SensorResult(
            skip_reason=_told(done),
            asset_events=[_event(done, alerts)] if done.made or done.over else [],
            cursor=SILENT if silent else context.cursor,
        )

    return look


def _seen(cursor: str | None, instance: dg.DagsterInstance, now: datetime) -> Seen:
    """What was looked at before; on the first look whatever ended more than LOOK_BACK ago."""
    try:
        if cursor:
            return Seen.model_validate_json(cursor)
    except ValidationError:
        pass
    before = (now - LOOK_BACK).timestamp()
    newest = {}
    for kind in ENDS:
        older = dg.RunStatusChangeRecordsFilter(kind, before_timestamp=before)
        newest[kind.value] = next((each.storage_id for each in instance.fetch_run_status_changes(older, 1).records), 0)
    return Seen(newest=newest)


def _ended(instance: dg.DagsterInstance, seen: Seen) -> Iterator[tuple[str, int, dg.DagsterRun, datetime]]:
    """The runs that ended since, in the order in which they did: how, the number of the event, the run, and when."""
    found = []
    for kind in ENDS:
        since = dg.RunStatusChangeRecordsFilter(kind, after_storage_id=seen.newest.get(kind.value, 0))
        records = instance.fetch_run_status_changes(since, AT_ONCE, ascending=True).records
        found.append([(each.timestamp, kind.value, each.storage_id, each.run_id) for each in records])
    for timestamp, kind, number, run_id in heapq.merge(*found):
        run = instance.get_run_by_id(run_id)
        if run is not None:
            yield kind, number, run, datetime.fromtimestamp(timestamp, UTC)


def _stuck(instance: dg.DagsterInstance, alerts: Alerts, now: datetime) -> Iterator[Alert]:
    """A run that has been in one state for longer than declared."""
    limit = settings.stuck_after()
    for record in instance.get_run_records(dg.RunsFilter(statuses=list(GOING_ON))):
        run = record.dagster_run
        began = record.start_time if run.status == dg.DagsterRunStatus.STARTED else record.create_timestamp.timestamp()
        since = datetime.fromtimestamp(began or record.create_timestamp.timestamp(), UTC)
        if now - since <= limit:
            continue
        state = run.status.value.lower().replace("_", " ")
        minutes = limit.total_seconds() / 60
        yield Alert(
            kind="stuck_run",
            model=run.tags.get("mlops/model"),
            partition=run.tags.get("dagster/partition"),
            about=f"{run.run_id} {state}",
            sentence=f"Run {run.run_id[:8]} of {run.job_name} is {state} since {since:%Y-%m-%d %H:%M} UTC, which is "
            f"longer than {minutes:g} minutes.",
            link=alerts.run_url(run.run_id),
            raised=now,
        )


def _given_up(
    instance: dg.DagsterInstance, specs: Mapping[str, ModelSpec], alerts: Alerts, now: datetime
) -> Iterator[Alert]:
    """What the sensors of the models do not ask for any more, by what they remember."""
    states = _states(instance)
    late = _memory(LabelMemories, states.get("new_labels"))
    asked = _memory(AskedToTrain, states.get("retrain_on_decision"))
    for model in specs:
        found: list[tuple[str, str | None, GivenUp]] = []
        for asset, memory in (
            (RAW, _memory(Memory, states.get(f"{model}_new_data"))),
            (RAW_LABELS, late.models.get(model) if late else None),
        ):
            found += [(asset, partition, each) for partition, each in (memory.given_up if memory else {}).items()]
            if memory and memory.training_given_up:
                found.append(("trained_model", None, memory.training_given_up))
        training = asked.asked.get(model) if asked else None
        if training and training.given_up:
            found.append(("trained_model", None, GivenUp(version=training.decision, reason=training.given_up)))
        for asset, partition, each in found:
            if each.reason != CANCELLED:
                key, cause = dg.AssetKey([model, asset]), _death(instance, model, partition)
                yield _giving_up(key, partition, each, cause, alerts, now)


def _death(instance: dg.DagsterInstance, model: str, partition: str | None) -> str:
    """Why the newest failed run of a partition failed, where a pod died; the last try was of that partition alone."""
    tags = {MODEL: model} | ({"dagster/partition": partition} if partition else {})
    failed = dg.RunsFilter(tags=tags, statuses=[dg.DagsterRunStatus.FAILURE])
    found = {name: text for run in instance.get_runs(failed, limit=1) for name, text in run.tags.items()}
    steps = sorted(name for name in found if name.startswith(f"{FAILURE}/{model}__"))
    return f" The last one: {found[steps[0]]}" if steps else ""


def _giving_up(
    asset: dg.AssetKey, partition: str | None, given_up: GivenUp, cause: str, alerts: Alerts, now: datetime
) -> Alert:
    model, name = asset.path
    what = f"{name} of {partition}" if partition else name
    return Alert(
        kind="given_up",
        model=model,
        partition=partition,
        about=f"{what} {given_up.version}",
        sentence=f"{model}/{what} is not asked for any more: {given_up.reason}.{cause} See to the cause, then "
        "materialize it" + (", or have it delivered again." if partition else "."),
        link=alerts.asset_url(asset, partition),
        raised=now,
    )


def _states(instance: dg.DagsterInstance) -> dict[str, SensorInstigatorData]:
    """What Dagster keeps of each sensor, by name; of two, from before and after a move, the one that looked last."""
    found = instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
    kept = [(each.instigator_name, each.instigator_data) for each in found]
    states = [(name, data) for name, data in kept if isinstance(data, SensorInstigatorData)]
    return dict(sorted(states, key=lambda each: each[1].last_tick_timestamp or 0.0))


def _memory(kind: Any, data: SensorInstigatorData | None) -> Any:
    """What a sensor remembers; None where it remembers nothing, or in the words of another version of the code."""
    try:
        return kind.model_validate_json(data.cursor) if data and data.cursor else None
    except ValidationError:
        return None


def _said(raised: Sequence[Alert], alerts: Alerts) -> str:
    """What was raised, and what is open."""
    still = len(alerts.open_names())
    news = "; ".join(f"{alert.model or 'instance'}: {alert.sentence.splitlines()[0]}" for alert in raised[:SHOWN])
    return f"{f'Raised {len(raised)}: {news}' if raised else 'Nothing new.'} {still} alerts are open."


def _told(done: Round) -> str:
    """What was told, what waits, and for whom."""
    lines = [f"New: {subject(message)}." for message in done.made]
    for telling in [*done.over, *done.waiting]:
        for delivery in telling.deliveries:
            said = delivery.attempts[-1].said if delivery.attempts else "not tried yet"
            said = "told" if delivery.state == "told" else f"{delivery.state.replace('_', ' ')}, {said}"
            lines.append(f"{subject(telling.message)} -> {delivery.channel}: {said}.")
    if any(not telling.deliveries for telling in done.over):
        lines.append(SILENT)
    return "\n".join(lines[:SHOWN]) or "Nothing to tell."


def _event(done: Round, alerts: Alerts) -> dg.AssetMaterialization:
    tellings = [*done.over, *done.waiting]
    still = alerts.open()
    return dg.AssetMaterialization(
        ASSET,
        metadata={
            "open": len(still),
            **_table("open_alerts", [_open_row(known) for known in still]),
            **_table("messages", [row for telling in tellings for row in _rows(telling)]),
            **{
                f"runbook_{kind}": dg.MetadataValue.url(f"{alerts.runbooks}/{kind}.md")
                for kind in sorted({telling.message.kind for telling in tellings})
            },
        },
    )


def _open_row(known: Known) -> dict[str, str | int]:
    alert = known.alert
    return {
        "since": f"{known.since:%Y-%m-%d %H:%M} UTC",
        "what": TITLES[alert.kind],
        "model": alert.model or "",
        "partition": alert.partition or "",
        "sentence": alert.sentence,
        "link": alert.link or "",
        "times": known.times,
    }


def _rows(telling: Telling) -> Iterator[dict[str, str | int]]:
    if not telling.deliveries:
        yield {"message": subject(telling.message), "channel": "none", "state": "kept", "attempts": 0, "said": ""}
    for delivery in telling.deliveries:
        yield {
            "message": subject(telling.message),
            "channel": delivery.channel,
            "state": delivery.state,
            "attempts": len(delivery.attempts),
            "said": delivery.attempts[-1].said if delivery.attempts else "",
        }


def _table(name: str, rows: Sequence[Mapping[str, str | int]]) -> dict[str, dg.MetadataValue]:
    records = [dg.TableRecord(dict(row)) for row in rows[:SHOWN]]
    return {name: dg.MetadataValue.table(records)} if records else {}
