"""The sensor that starts one run for each new or changed delivery of labels, for all models that declare a source."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import dagster as dg
from pydantic import Field

from mlops_assets.lifecycle import common
from mlops_assets.lifecycle.common import VALIDATED, Clock, data_versions, utc_now
from mlops_assets.lifecycle.endings import Ending, finished_steps
from mlops_assets.lifecycle.labels import RAW_LABELS
from mlops_assets.lifecycle.sensors.new_data import (
    after_the_pause,
    batches,
    has_champion,
    position,
    run_request,
    said,
    without_verdict,
)
from mlops_assets.ml.labels import source_of
from mlops_assets.ml.planning import DECISION, LABELLING, PERFORMANCE, Memory, Plan, Request, State, plan_labels
from mlops_assets.ml.spec import ModelSpec, Value, digest_of
from mlops_assets.ml.unpacking import UnreadableFileError
from mlops_assets.resources.blobs import Blobs
from mlops_assets.resources.deliveries import Deliveries, Look, Stopwatch
from mlops_assets.resources.landing import UnreachableSourceError
from mlops_assets.resources.records import Records

EVERY_SECONDS = 15
SECONDS_A_LOOK = 25  # Dagster ends a look of a sensor after 60, and one model may take 20
SAID = 20
ASKED = (*LABELLING, PERFORMANCE, DECISION)
NO_BATCH = "its rows have not come; it is fetched when they have"


class Memories(Value):
    """What is remembered between two looks, by model; and the model that the next look begins with.

    `settled` is the digest of what lay in a source when nothing of it was left to ask for.
    """

    models: dict[str, Memory] = Field(default_factory=dict)
    settled: dict[str, str] = Field(default_factory=dict)
    next: str | None = None


@dataclass(frozen=True)
class Seen:
    """What one look at one model's labels came to: what was seen, what is asked for, and what to remember."""

    model: str
    told: str
    memory: Memory
    requests: tuple[dg.RunRequest, ...] = ()
    settled: str | None = None


def new_labels(
    specs: Sequence[ModelSpec], clock: Clock = utc_now, stopwatch: Stopwatch = time.monotonic
) -> dg.SensorDefinition:
    """One sensor for all models with late labels. While a run of a model is going on, that model waits."""
    late = [spec for spec in specs if spec.labels is not None]

    @dg.sensor(
        name="new_labels",
        asset_selection=dg.AssetSelection.assets(*(common.key(spec, asset) for spec in late for asset in ASKED)),
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts one run for each new or changed delivery of labels of any model, neighbours together.",
    )
    def look(
        context: dg.SensorEvaluationContext, deliveries: Deliveries, blobs: Blobs, records: dg.ResourceParam[Records]
    ) -> dg.SensorResult:
        """Look into every source of labels, those first that the last look did not get to."""
        memories = common.remembered(Memories, context.cursor)
        known, settled, begun, seen = dict(memories.models), dict(memories.settled), stopwatch(), []
        waiting = _in_turn(late, memories.next)
        while waiting and (not seen or stopwatch() - begun < SECONDS_A_LOOK):
            spec = waiting.pop(0)
            memory = known.get(spec.name, Memory())
            before = settled.pop(spec.name, None)
            each = _look(context.instance, spec, deliveries, blobs, records, memory, before, clock())
            known[spec.name] = each.memory
            settled |= {} if each.settled is None else {spec.name: each.settled}
            seen.append(each)
        following = waiting[0].name if waiting else None
        cursor = Memories(models=known, settled=settled, next=following).model_dump_json()
        requests = [request for each in seen for request in each.requests]
        told = _told(seen, len(waiting))
        return dg.SensorResult(run_requests=requests, skip_reason=None if requests else told, cursor=cursor)

    return look


def _in_turn(specs: Sequence[ModelSpec], first: str | None) -> list[ModelSpec]:
    names = [spec.name for spec in specs]
    at = names.index(first) if first in names else 0
    return [*specs[at:], *specs[:at]]


def _look(
    instance: dg.DagsterInstance,
    spec: ModelSpec,
    deliveries: Deliveries,
    blobs: Blobs,
    records: Records,
    memory: Memory,
    settled: str | None,
    now: datetime,
) -> Seen:
    """Look into one source. One that is down stops no other; one that is as it was costs no question to Dagster."""
    ended = without_verdict(instance, spec, memory, RAW_LABELS, _rest)
    tried = frozenset(partition for each in ended.values() for request in each for partition in request.deliveries)
    try:
        found = deliveries.look(source_of(spec), blobs, now, memory, tried)
    except (UnreachableSourceError, UnreadableFileError) as error:
        return Seen(spec.name, f"the source of labels cannot be looked into: {error}", memory, settled=settled)
    seen, digest = {"growing": found.growing, "looked_to": found.looked_to}, digest_of(found.versions)
    if not memory.asked and digest == settled:
        return Seen(spec.name, said(found, Plan((), memory)), memory.model_copy(update=seen), settled=settled)
    if busy := common.going_on(instance, spec):
        return Seen(spec.name, f"run {busy} is going on; labels are looked at when it has ended", memory)
    if again := after_the_pause(instance, ended["outage"], now):
        return Seen(spec.name, f"a service did not answer in the last run; the next is at {again} UTC", memory)
    keys = _known_batches(instance, spec, found)
    decided = plan_labels(spec, _state(instance, spec, found, memory, ended, records), memory, position(spec, keys))
    requests = tuple(run_request(spec, request) for request in decided.requests)
    left = decided.memory.model_copy(update=seen)
    done = not requests and digest == digest_of(found.versions)
    return Seen(spec.name, said(found, decided), left, requests, settled=digest if done else None)


def _state(
    instance: dg.DagsterInstance,
    spec: ModelSpec,
    found: Look,
    memory: Memory,
    ended: Mapping[Ending, tuple[Request, ...]],
    records: Records,
) -> State:
    held = data_versions(instance, spec, RAW_LABELS)
    return State(
        found=found.versions,
        held=held,
        validated=data_versions(instance, spec, VALIDATED),
        champion=has_champion(spec, records),
        reported=frozenset(data_versions(instance, spec, "predictions")),
        died=ended["died"],
        outages=ended["outage"],
        cancelled=ended["cancelled"],
        by_hand=frozenset(key for key, each in memory.given_up.items() if held.get(key) == each.version),
    )


def _rest(instance: dg.DagsterInstance, spec: ModelSpec, request: Request) -> Request | None:
    """The request itself, unless all that was asked for was made."""
    steps = {f"{spec.name}__{asset}" for asset in request.assets}
    return None if steps <= finished_steps(instance, request.run_key) else request


def _known_batches(instance: dg.DagsterInstance, spec: ModelSpec, found: Look) -> list[str]:
    """The names of batches in their order. Labels of one that is not known yet are left until its rows come."""
    if spec.partitions.every != "batch":
        return []
    definition = common.partitions_definition(spec)
    known = list(definition.get_partition_keys(dynamic_partitions_store=instance))
    for key in found.versions.keys() - set(known):
        del found.versions[key]
        found.waiting[key] = NO_BATCH
    return batches(instance, spec, found)


def _told(seen: Sequence[Seen], left: int) -> str:
    """What was looked at, model by model."""
    lines = [f"{each.model}: {each.told.rstrip('.')}." for each in seen[:SAID]]
    more = [f"And {len(seen) - SAID} more models."] if len(seen) > SAID else []
    later = [f"{left} models are looked at next."] if left else []
    return "\n".join([*lines, *more, *later]) or "No model declares a source of labels."
