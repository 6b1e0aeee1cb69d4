"""What every stage shares: names, groups, owners and tags in one place; partitions; results of a run over several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import dagster as dg
from pydantic import ValidationError

from mlops_assets.compute import profiles
from mlops_assets.lifecycle.endings import OUTAGE, REQUEST
from mlops_assets.ml.spec import ModelSpec, Stage, Value

RAW, VALIDATED = "raw_data", "validated_features"
DELIVERIES = "deliveries"
DRILL = "rollback_drill"
MODEL = "mlops/model"
DATA_VERSION = "dagster/data_version"
WILL_RETRY, RETRIED_BY = "dagster/will_retry", "dagster/auto_retry_run_id"
LOOKED_AT = 20
FIRST = {"dagster/priority": "10"}
RETRY_DELAY = 30
SHOWN = 50

Clock = Callable[[], datetime]
Memory = TypeVar("Memory", bound=Value)

GOING_ON = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


def utc_now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def key(spec: ModelSpec, asset: str) -> dg.AssetKey:
    """The key of one of the model's assets."""
    return dg.AssetKey([spec.name, asset])


def describe(spec: ModelSpec, stage: Stage, *kinds: str) -> dict[str, Any]:
    """The catalog entries that make a model's assets findable by model, stage, owner and kind."""
    return {
        "key_prefix": spec.name,
        "group_name": spec.name,
        "owners": [spec.owner],
        "kinds": set(kinds),
        "tags": {"mlops/stage": stage, "mlops/task": spec.task},
    }


def compute(spec: ModelSpec, stage: Stage, tags: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What the stage's compute profile gives an asset beside the step's own tags; those alone where it has none."""
    if stage not in spec.compute:
        return {"op_tags": dict(tags or {})}
    name = spec.compute[stage]
    if reason := profiles.refusal(stage, name):
        raise ValueError(f"{spec.name}: compute.{stage}: {reason}")
    profile = profiles.named(name)
    given: dict[str, Any] = {"op_tags": {**(tags or {}), **profiles.op_tags(name)}}
    if profile.pool:
        given["pool"] = profile.pool
    if profile.retries:
        given["retry_policy"] = dg.RetryPolicy(
            max_retries=profile.retries, delay=RETRY_DELAY, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
        )
    return given


def partitions_definition(spec: ModelSpec) -> dg.PartitionsDefinition:
    """How the model's deliveries are cut. Batches are dynamic: the sensor adds what it finds."""
    every, start, end = spec.partitions.every, spec.partitions.start, spec.partitions.end
    if every == "batch" or start is None:
        return dg.DynamicPartitionsDefinition(name=f"{spec.name}_batches")
    window: dict[str, Any] = {"start_date": start.isoformat(), "end_date": end.isoformat() if end else None}
    match every:
        case "hourly":
            fmt = "%Y-%m-%d-%H"
            return dg.HourlyPartitionsDefinition(
                start_date=start.strftime(fmt), end_date=end.strftime(fmt) if end else None, fmt=fmt
            )
        case "daily":
            return dg.DailyPartitionsDefinition(**window)
        case "weekly":
            return dg.WeeklyPartitionsDefinition(**window, day_offset=start.isoweekday() % 7)
        case _:
            return dg.MonthlyPartitionsDefinition(**window)


def finish(
    context: dg.AssetExecutionContext,
    asset_key: dg.AssetKey,
    results: Mapping[str, Value],
    versions: Mapping[str, str],
    metadata: Mapping[str, Mapping[str, Any]],
    **result: Any,
) -> Iterator[dg.MaterializeResult | dg.AssetMaterialization]:
    """The events of one asset for one partition or several, each with a data version and metadata of its own.

    Dagster gives every partition of a run the same data version; a second event, after its own, corrects that.
    """
    for partition, entries in metadata.items():
        context.add_asset_metadata(dict(entries), asset_key=asset_key, partition_key=partition)
    whole = next(iter(versions.values())) if len(versions) == 1 else None
    yield dg.MaterializeResult(
        asset_key=asset_key,
        value=dict(results),
        data_version=dg.DataVersion(whole) if whole else None,
        **result,
    )
    if whole is None:
        yield from materializations(asset_key, versions, metadata)


def materializations(
    asset_key: dg.AssetKey, versions: Mapping[str, str], metadata: Mapping[str, Mapping[str, Any]]
) -> Iterator[dg.AssetMaterialization]:
    """One event a partition, with its own data version: for a run over several, whole or cut short by a failure."""
    for partition, version in versions.items():
        yield dg.AssetMaterialization(
            asset_key,
            partition=partition,
            metadata=dict(metadata[partition]),
            tags={DATA_VERSION: version, "dagster/data_version_is_user_provided": "true"},
        )


def remembered(kind: type[Memory], cursor: str | None) -> Memory:
    """What a sensor's last look left; nothing where it was left by another version of this code."""
    try:
        return kind.model_validate_json(cursor) if cursor else kind()
    except ValidationError:
        return kind()


def refusal(spec: ModelSpec, asset: str, what: str, refused: Mapping[str, str], *, outage: bool = False) -> dg.Failure:
    """A failure that names every partition of an asset that could not be made, with the reason."""
    lines = [f"{spec.name}/{asset}[{partition}]: {reason}" for partition, reason in refused.items()]
    more = [f"... and {len(lines) - SHOWN} more."] if len(lines) > SHOWN else []
    return dg.Failure(
        f"{what}\n" + "\n".join([*lines[:SHOWN], *more]),
        metadata={"refused": dg.MetadataValue.json(dict(refused))} | ({OUTAGE: True} if outage else {}),
        allow_retries=False,
    )


def data_versions(instance: dg.DagsterInstance, spec: ModelSpec, asset: str) -> dict[str, str]:
    """The newest data version of each partition, in one query however many there are."""
    tags = instance.event_log_storage.get_latest_tags_by_partition(
        key(spec, asset), dg.DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION]
    )
    return {partition: each[DATA_VERSION] for partition, each in tags.items() if DATA_VERSION in each}


def going_on(instance: dg.DagsterInstance, spec: ModelSpec) -> str | None:
    """The run of the model that has not ended, if there is one: sensors wait for it, so that runs never race.

    Nor has a run ended that a sensor asked for and Dagster is about to retry.
    """
    return _going_on(instance, {MODEL: spec.name}, 1, LOOKED_AT).get(spec.name)


def all_going_on(instance: dg.DagsterInstance) -> dict[str, str]:
    """The run of each model that has not ended, in two queries however many models there are."""
    return _going_on(instance, {}, None, 10 * LOOKED_AT)


def _going_on(
    instance: dg.DagsterInstance, tags: Mapping[str, str], limit: int | None, looked_at: int
) -> dict[str, str]:
    runs = instance.get_runs(dg.RunsFilter(tags=dict(tags), statuses=list(GOING_ON)), limit=limit)
    retried = dg.RunsFilter(tags={**tags, WILL_RETRY: "true"}, statuses=[dg.DagsterRunStatus.FAILURE])
    failed = instance.get_runs(retried, limit=looked_at)
    runs = [*(run for run in failed if REQUEST in run.tags and RETRIED_BY not in run.tags), *runs]
    return {run.tags[MODEL]: run.run_id for run in runs if MODEL in run.tags}
