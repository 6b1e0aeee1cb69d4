"""`raw_data`, the job that runs a model's whole life, and the sensor that starts it once for each new delivery.

Labels that come from a source of their own are kept by the same asset under another name.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from mlops_assets.lifecycle.common import (
    DELIVERIES,
    DRILL,
    RAW,
    Clock,
    compute,
    describe,
    finish,
    key,
    materializations,
    partitions_definition,
    utc_now,
)
from mlops_assets.lifecycle.refusing import unrepeated
from mlops_assets.lifecycle.sensors.new_data import new_data
from mlops_assets.ml.code import code_version
from mlops_assets.ml.freshness import length
from mlops_assets.ml.sources import Delivery, listing
from mlops_assets.ml.spec import FileSource, ModelSpec
from mlops_assets.resources.blobs import Blobs
from mlops_assets.resources.deliveries import Deliveries, Fetched
from mlops_assets.resources.landing import landing
from mlops_assets.resources.records import Records

SHOWN = 20


def data(spec: ModelSpec, clock: Clock = utc_now) -> dg.Definitions:
    """The delivered bytes of a model, the job over all its assets, and the sensor that asks for runs."""
    job = lifecycle_job(spec)
    return dg.Definitions(assets=[delivered_bytes(spec, RAW, clock)], jobs=[job], sensors=[new_data(spec, job, clock)])


def lifecycle_job(spec: ModelSpec) -> UnresolvedAssetJobDefinition:
    """The job over all of a model's assets."""
    return dg.define_asset_job(
        f"{spec.name}_lifecycle",
        selection=dg.AssetSelection.groups(spec.name) - dg.AssetSelection.assets(key(spec, DRILL)),
        tags={"mlops/model": spec.name},
        description=f"Everything in the life of {spec.name}, from raw bytes to the champion and its drift.",
    )


def delivered_bytes(spec: ModelSpec, asset: str, clock: Clock) -> dg.AssetsDefinition:
    """The asset that keeps what lies in `spec.source`."""
    declared = spec.model_dump(mode="json", include={"source", "partitions", "time"})

    @dg.asset(
        name=asset,
        **describe(spec, "data", *_kinds(spec)),
        **compute(spec, "data"),
        partitions_def=partitions_definition(spec),
        backfill_policy=dg.BackfillPolicy.single_run(),
        freshness_policy=_freshness(spec),
        code_version=code_version(declared),
        description="The delivered bytes, unchanged, under their SHA-256. A correction stands beside what it corrects.",
    )
    @unrepeated
    def raw(
        context: dg.AssetExecutionContext,
        deliveries: Deliveries,
        blobs: Blobs,
        records: dg.ResourceParam[Records],
    ) -> Iterator[Any]:
        fetched = deliveries.fetch(spec, context.partition_keys, blobs, clock())
        kept = {partition: _as_correction(spec, asset, each, records) for partition, each in fetched.deliveries.items()}
        for each in kept.values():
            blobs.put_bytes(listing(each))
            records.put(spec.name, DELIVERIES, each, each.version)
        versions = {partition: each.version for partition, each in kept.items()}
        metadata = {partition: _metadata(spec, each, blobs) for partition, each in kept.items()}
        if fetched.problems:
            for partition, each in kept.items():
                records.put(spec.name, asset, each, partition)
            yield from materializations(key(spec, asset), versions, metadata)
            raise _failure(spec, asset, fetched)
        yield from finish(context, key(spec, asset), kept, versions, metadata)

    return raw


def _freshness(spec: ModelSpec) -> dg.FreshnessPolicy | None:
    """What the UI shows: red when nothing has come for longer than one partition and the patience declared.

    Batches have no cadence, and windows with an end stop coming. What exactly is overdue, the sensor `overdue` says.
    """
    if spec.partitions.every == "batch" or spec.partitions.end is not None:
        return None
    return dg.FreshnessPolicy.time_window(fail_window=length(spec) * (1 + spec.quality.max_age_partitions))


def _kinds(spec: ModelSpec) -> tuple[str, ...]:
    if not isinstance(spec.source, FileSource):
        return ("sql", "parquet")
    named = {"csv": "csv", "jsonl": "json", "parquet": "parquet"}
    formats = {kind for suffix, kind in named.items() if any(suffix in pattern for pattern in spec.source.files)}
    place = ("s3",) if spec.source.uri.startswith("s3://") else ()
    return (*sorted(formats if spec.source.format == "auto" else {named[spec.source.format]})[:2], *place)


def _as_correction(spec: ModelSpec, asset: str, delivery: Delivery, records: Records) -> Delivery:
    """The delivery, with the version that it replaces: of the record before it, or what that one replaced itself."""
    before = records.get(Delivery, spec.name, asset, delivery.partition)
    if before is None:
        return delivery
    replaced = before.corrects if before.version == delivery.version else before.version
    return delivery.model_copy(update={"corrects": replaced})


def _metadata(spec: ModelSpec, delivery: Delivery, blobs: Blobs) -> dict[str, Any]:
    files = [*delivery.origins, *delivery.files]
    rows = [
        dg.TableRecord(
            {
                "file": file.name,
                "bytes": file.bytes,
                "sha256": file.sha256,
                "changed": file.modified.isoformat(),
                "stored_at": blobs.uri(file.sha256),
            }
        )
        for file in files[:SHOWN]
    ]
    entries: dict[str, Any] = {
        "files": dg.MetadataValue.table(rows),
        "file_count": len(files),
        "bytes": sum(file.bytes for file in files),
        "delivered": dg.MetadataValue.timestamp(max(file.modified for file in files)),
        "source": _source(spec),
        "is_correction": delivery.corrects is not None,
    }
    if delivery.corrects is not None:
        entries["corrects_version"] = delivery.corrects
    if delivery.also_named:
        entries["same_bytes_also_named"] = ", ".join(delivery.also_named[:SHOWN])
    return entries


def _source(spec: ModelSpec) -> str:
    if isinstance(spec.source, FileSource):
        return landing(spec.source.uri).where
    return f"{spec.source.url_env}: {spec.source.query}"


def _failure(spec: ModelSpec, asset: str, fetched: Fetched) -> dg.Failure:
    """Names every partition whose delivery could not be fetched."""
    total = len(fetched.problems) + len(fetched.deliveries)
    lines = [f"{spec.name}/{asset}[{partition}]: {reason}" for partition, reason in fetched.problems.items()]
    more = [f"... and {len(lines) - SHOWN} more."] if len(lines) > SHOWN else []
    return dg.Failure(
        f"{len(lines)} of {total} deliveries could not be fetched from {_source(spec)}; the others are kept.\n"
        + "\n".join([*lines[:SHOWN], *more])
        + "\nHave the producer deliver them again, and materialize these partitions.",
        metadata={"refused": dg.MetadataValue.json(dict(itertools.islice(fetched.problems.items(), SHOWN)))},
        allow_retries=False,
    )
