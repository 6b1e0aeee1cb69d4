"""The sensor that starts one run for each new or corrected delivery. What it decides by is in ml/planning.py."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from mlops_assets.lifecycle.common import (
    RAW,
    VALIDATED,
    Clock,
    data_versions,
    going_on,
    key,
    partitions_definition,
    remembered,
)
from mlops_assets.lifecycle.endings import REQUEST, Ending, ended_at, ending, finished_steps
from mlops_assets.lifecycle.labelled import LABELS, learnable
from mlops_assets.ml.evidence import had
from mlops_assets.ml.planning import (
    ATTEMPTS_IN_OUTAGES,
    MONITORING,
    TRAINING,
    Memory,
    Plan,
    Request,
    State,
    pause,
    plan,
)
from mlops_assets.ml.registration import Champion
from mlops_assets.ml.sources import several
from mlops_assets.ml.spec import FileSource, ModelSpec
from mlops_assets.ml.training import Candidate, in_window
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.ml.windows import Windows
from mlops_assets.resources.blobs import Blobs
from mlops_assets.resources.deliveries import Deliveries, Look
from mlops_assets.resources.records import Records
from mlops_assets.resources.registry import CHAMPION

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
FILES_EVERY, DATABASE_EVERY = 5, 30
SHOWN = 3
Rest = Callable[[dg.DagsterInstance, ModelSpec, Request], Request | None]
"""What is left to do of a request whose run came to no verdict, None where that is nothing."""


def new_data(spec: ModelSpec, job: UnresolvedAssetJobDefinition, clock: Clock) -> dg.SensorDefinition:
    """The sensor of one model. While a run of the model is going on it waits, so runs never race each other."""
    quiet = Quiet()  # a cache: what it holds can be found out again

    @dg.sensor(
        name=f"{spec.name}_new_data",
        job=job,
        minimum_interval_seconds=FILES_EVERY if isinstance(spec.source, FileSource) else DATABASE_EVERY,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Starts one run for each new or corrected delivery of {spec.name}, neighbours together.",
    )
    def look(
        context: dg.SensorEvaluationContext,
        deliveries: Deliveries,
        blobs: Blobs,
        records: dg.ResourceParam[Records],
    ) -> dg.SensorResult | dg.SkipReason:
        """Look into the source, and ask for what is new."""
        instance, memory = context.instance, remembered(Memory, context.cursor)
        events = None if memory.asked else quiet.happened(instance, spec)
        if quiet.may_hold(context.cursor, events) and deliveries.look(spec, blobs, clock(), memory) == quiet.seen:
            return quiet.answer
        if busy := going_on(instance, spec):
            return dg.SkipReason(f"Run {busy} of {spec.name} is going on; deliveries are looked at when it has ended.")
        ended = without_verdict(instance, spec, memory, RAW, _rest)
        if again := after_the_pause(instance, ended["outage"], clock()):
            return dg.SkipReason(
                f"A service did not answer in the last run of {spec.name}; the next is at {again} UTC."
            )
        again = frozenset(partition for each in ended.values() for request in each for partition in request.deliveries)
        seen = deliveries.look(spec, blobs, clock(), memory, again)
        keys = batches(instance, spec, seen)
        state = replace(
            _state(instance, spec, records, seen),
            died=ended["died"],
            outages=ended["outage"],
            cancelled=ended["cancelled"],
            by_hand=_by_hand(spec, records, memory),
        )
        decided = plan(spec, state, memory, position(spec, keys))
        if decided.requests and (left := unasked(seen, decided)):
            context.log.warning(" ".join(left))
        cursor = decided.memory.model_copy(update={"growing": seen.growing, "looked_to": seen.looked_to})
        return quiet.keep(events, seen, _result(spec, seen, decided, cursor))

    return look


@dataclass
class Quiet:
    """The newest look that found nothing to do. While nothing has changed that it looked at, its answer holds.

    Many models look every few seconds, and nearly always nothing has happened anywhere: one small query says so.
    """

    newest: int | None = None
    current: Mapping[dg.AssetKey, int | None] | None = None
    events: Mapping[dg.AssetKey, int | None] | None = None
    seen: Look | None = None
    answer: dg.SensorResult = field(default_factory=dg.SensorResult)

    def happened(self, instance: dg.DagsterInstance, spec: ModelSpec) -> Mapping[dg.AssetKey, int | None]:
        """The number of the newest event of each asset that a look depends on."""
        newest = instance.event_log_storage.get_maximum_record_id()
        if self.current is None or newest != self.newest:
            self.newest, self.current = newest, newest_events(instance, spec)
        return self.current

    def may_hold(self, cursor: str | None, events: Mapping[dg.AssetKey, int | None] | None) -> bool:
        """Whether nothing has happened to the model's assets since, and the sensor remembers the same."""
        return events is not None and events == self.events and cursor == self.answer.cursor

    def keep(
        self, events: Mapping[dg.AssetKey, int | None] | None, seen: Look, answer: dg.SensorResult
    ) -> dg.SensorResult:
        """Remember an answer that time alone does not change."""
        self.events = None if answer.run_requests or seen.waiting else events
        self.seen, self.answer = seen, answer
        return answer


def newest_events(instance: dg.DagsterInstance, spec: ModelSpec) -> dict[dg.AssetKey, int | None]:
    """The number of the newest event of each of the model's assets that a look depends on, in one query."""
    assets = (RAW, VALIDATED, *MONITORING, *TRAINING, *((LABELS,) if spec.labels else ()))
    records = instance.get_asset_records([key(spec, asset) for asset in assets])
    return {each.asset_entry.asset_key: each.asset_entry.last_materialization_storage_id for each in records}


def without_verdict(
    instance: dg.DagsterInstance, spec: ModelSpec, memory: Memory, raw: str, rest_of: Rest
) -> dict[Ending, tuple[Request, ...]]:
    """What is left to do of the requests whose run came to no verdict, by how it ended. `raw` keeps the deliveries."""
    left: dict[Ending, tuple[Request, ...]] = {"died": (), "outage": (), "cancelled": ()}
    for request in memory.asked:
        how = ending(instance, request.run_key, retried={f"{spec.name}__{raw}"})
        if how != "verdict" and (rest := rest_of(instance, spec, request)):
            left[how] += (rest,)
    return left


def after_the_pause(instance: dg.DagsterInstance, outages: Sequence[Request], now: datetime) -> str | None:
    """When the sensor goes on after an outage, None where it does so now or has tried often enough."""
    tried = [request for request in outages if request.attempt < ATTEMPTS_IN_OUTAGES]
    again = [(ended_at(instance, each.run_key) or now) + pause(each.attempt) for each in tried]
    return f"{max(again):%H:%M:%S}" if again and now < max(again) else None


def _rest(instance: dg.DagsterInstance, spec: ModelSpec, request: Request) -> Request | None:
    """What is left to do of a request: training alone, or nothing, where the deliveries were dealt with."""
    steps = {RAW, "validation", *(set(request.assets) & {*MONITORING, LABELS})}
    if not request.deliveries or not {f"{spec.name}__{step}" for step in steps} <= finished_steps(
        instance, request.run_key
    ):
        return request
    if not set(TRAINING) <= set(request.assets):
        return None
    return request.model_copy(update={"deliveries": {}, "assets": TRAINING, "reason": "training"})


def _by_hand(spec: ModelSpec, records: Records, memory: Memory) -> frozenset[str]:
    """The partitions whose version was given up, and is validated all the same."""
    found = {key: records.get(ValidatedPartition, spec.name, VALIDATED, key) for key in memory.given_up}
    return frozenset(key for key, part in found.items() if part and part.delivery == memory.given_up[key].version)


def has_champion(spec: ModelSpec, records: Records) -> bool:
    """Whether a version serves."""
    return records.get(Champion, spec.name, CHAMPION) is not None


def _state(instance: dg.DagsterInstance, spec: ModelSpec, records: Records, seen: Look) -> State:
    champion = has_champion(spec, records)
    return State(
        found=seen.versions,
        held=data_versions(instance, spec, RAW),
        validated=data_versions(instance, spec, VALIDATED),
        unlearned=lambda: _unlearned(spec, records),
        learnable=data_versions(instance, spec, LABELS) if spec.labels else None,
        champion=champion,
        reported=frozenset(data_versions(instance, spec, "drift_report")) if champion else frozenset(),
    )


def _unlearned(spec: ModelSpec, records: Records) -> list[str]:
    candidate = records.get(Candidate, spec.name, "trained_model")
    found = learnable(spec, records, spec.training.narrowest)
    if len(found.parts) < spec.training.min_partitions:
        return []
    window = in_window(found.parts, spec.training.narrowest)
    return [part.partition for part in window if candidate is None or not had(candidate, part, found.labels)]


def batches(instance: dg.DagsterInstance, spec: ModelSpec, seen: Look) -> list[str]:
    """The names of batches in the order in which Dagster will have them: those it knows, then the new ones."""
    definition = partitions_definition(spec)
    if not isinstance(definition, dg.DynamicPartitionsDefinition) or definition.name is None:
        return []
    known = list(instance.get_dynamic_partitions(definition.name))
    return known + sorted(set(seen.versions) - set(known))


def position(spec: ModelSpec, keys: Sequence[str]) -> Callable[[str], int]:
    """What numbers partitions so that neighbours differ by one; `keys` are the names of batches in their order."""
    if spec.partitions.every != "batch":
        return Windows.of(spec.partitions).position
    return {batch: number for number, batch in enumerate(keys)}.__getitem__


def _result(spec: ModelSpec, seen: Look, decided: Plan, memory: Memory) -> dg.SensorResult:
    cursor = memory.model_dump_json()
    if not decided.requests:
        return dg.SensorResult(skip_reason=said(seen, decided), cursor=cursor)
    added = []
    definition = partitions_definition(spec)
    if isinstance(definition, dg.DynamicPartitionsDefinition):
        asked = {partition for request in decided.requests for partition in request.deliveries}
        added = [definition.build_add_request([each for each in sorted(seen.versions) if each in asked])]
    return dg.SensorResult(
        run_requests=[run_request(spec, request) for request in decided.requests],
        dynamic_partitions_requests=added,
        cursor=cursor,
    )


def run_request(spec: ModelSpec, request: Request) -> dg.RunRequest:
    """The run of the model's job that does what is asked for."""
    first, last = next(iter(request.deliveries), None), next(reversed(request.deliveries), None)
    tags = {
        "mlops/model": spec.name,
        "mlops/reason": request.reason,
        "mlops/because": request.because,
        REQUEST: request.run_key,
    }
    if first is not None and last is not None and first != last:
        tags |= {RANGE_START: first, RANGE_END: last}
    return dg.RunRequest(
        job_name=f"{spec.name}_lifecycle",
        run_key=request.run_key,
        partition_key=first if first == last else None,
        tags=tags,
        asset_selection=[key(spec, asset) for asset in request.assets],
    )


def said(seen: Look, decided: Plan) -> str:
    """What was looked at, and why nothing is asked for."""
    newest = f", the newest {seen.newest}" if seen.newest else ""
    return " ".join([f"Nothing new among {seen.files} deliveries in {seen.where}{newest}.", *unasked(seen, decided)])


def unasked(seen: Look, decided: Plan) -> list[str]:
    """What lies there and is not asked for, with the reasons."""
    unfit = dict.fromkeys(seen.others, "fits no pattern")
    parts = {
        "Waiting": seen.waiting,
        "Refused": seen.refused,
        "Left alone": decided.left,
        "Not ours": unfit,
        "Left out": seen.notes,
    }
    return [f"{what}: {several(reasons, SHOWN)}." for what, reasons in parts.items() if reasons]
