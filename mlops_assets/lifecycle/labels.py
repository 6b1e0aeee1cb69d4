"""`raw_labels` and `labels`: what a source of labels delivers, and the label of each validated row."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from mlops_assets.lifecycle import common
from mlops_assets.lifecycle.common import VALIDATED, Clock, utc_now
from mlops_assets.lifecycle.data import delivered_bytes
from mlops_assets.lifecycle.labelled import LABELS, answers_known
from mlops_assets.lifecycle.refusing import unrepeated
from mlops_assets.ml import labels as late
from mlops_assets.ml.code import code_version
from mlops_assets.ml.contracts import load_contract
from mlops_assets.ml.labels import KNOWN, LABEL, Delivered, Joined, LabelledPartition, matured
from mlops_assets.ml.reading import UnreadableFileError, read
from mlops_assets.ml.sources import Delivery
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.validation import BrokenContractError, ValidatedPartition, content_digest
from mlops_assets.resources.blobs import Blobs, CorruptBytesError
from mlops_assets.resources.records import Records
from mlops_assets.resources.tables import ChangedTypeError, Tables

RAW_LABELS, ASIDE = "raw_labels", "labels_set_aside"
CHECK = "labels_fit_their_rows"
NO_ROWS = "its rows have not come; what was delivered is kept, and joins them when they come."
UNREADABLE = (UnreadableFileError, CorruptBytesError, BrokenContractError, ChangedTypeError)


def labels(spec: ModelSpec, clock: Clock = utc_now) -> dg.Definitions:
    """The labels of a model whose labels come later than its rows; nothing for the others."""
    if spec.labels is None:
        return dg.Definitions()
    return dg.Definitions(assets=[delivered_bytes(late.source_of(spec), RAW_LABELS, clock), _labels(spec)])


def _labels(spec: ModelSpec) -> dg.AssetsDefinition:
    asset_key = common.key(spec, LABELS)

    @dg.asset(
        **common.describe(spec, "validation", "deltalake"),
        name=LABELS,
        deps=[common.key(spec, RAW_LABELS)],
        partitions_def=common.partitions_definition(spec),
        backfill_policy=dg.BackfillPolicy.single_run(),
        **common.compute(spec, "validation", common.FIRST),
        code_version=code_version(
            spec.model_dump(mode="json", include={"labels", "target", "task"}), ["mlops_assets.ml.labels"]
        ),
        check_specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset=asset_key,
                description="Every label can be read and has a row that was delivered, and no two of a row differ.",
            )
        ],
    )
    @unrepeated
    def labelled(
        context: dg.AssetExecutionContext,
        validated_features: dict[str, ValidatedPartition],
        blobs: Blobs,
        records: dg.ResourceParam[Records],
        tables: Tables,
    ) -> Iterator[dg.MaterializeResult | dg.AssetMaterialization]:
        """The label of each validated row, in their order, and when it became known; missing while there is none."""
        work = Joining(spec, load_contract(spec.contract), blobs, records, tables)
        for partition in context.partition_keys:
            work.join(partition, validated_features.get(partition))
        versions = {partition: made.version for partition, made in work.made.items()}
        metadata = {partition: _metadata(spec, made, tables) for partition, made in work.made.items()}
        if work.refused:
            for partition, made in work.made.items():
                records.put(spec.name, LABELS, made, partition)
            yield from common.materializations(asset_key, versions, metadata)
            what = f"The labels of {len(work.refused)} partitions cannot be used; the others are kept."
            raise common.refusal(spec, LABELS, what, work.refused)
        yield from common.finish(context, asset_key, work.made, versions, metadata, check_results=[_check(work)])

    return labelled


@dataclass
class Joining:
    """One run's work on a model's labels. Every partition ends in `made` or in `refused`, with the reason."""

    spec: ModelSpec
    contract: Any
    blobs: Blobs
    records: Records
    tables: Tables
    made: dict[str, LabelledPartition] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def join(self, partition: str, part: ValidatedPartition | None) -> None:
        """Give each validated row of one partition its label."""
        if part is None:
            self.refused[partition] = NO_ROWS
            return
        try:
            delivery = self.records.get(Delivery, self.spec.name, RAW_LABELS, partition)
            found = None if delivery is None else self._delivered(delivery)
            if found is not None and (reason := _too_many_broken(found, self.spec)):
                self._keep_aside(partition, found)
                self.refused[partition] = reason
                return
            self.made[partition] = self._joined(part, delivery, found)
        except UNREADABLE as error:
            self.refused[partition] = str(error)

    def _delivered(self, delivery: Delivery) -> Delivered:
        """The delivered labels, each with the moment at which its file came."""
        source = late.source_of(self.spec).source
        types = late.column_types(self.contract, self.spec)
        files = {}
        for file in delivery.files:
            with self.blobs.open(file.sha256) as stream:
                files[file.name] = read(stream, file.name, source, types, file.rows)
        arrived = {file.name: file.modified for file in delivery.files}
        return late.judge(files, arrived, self.spec, self.contract)

    def _joined(
        self, part: ValidatedPartition, delivery: Delivery | None, found: Delivered | None
    ) -> LabelledPartition:
        spec, key = self.spec, late.declared(self.spec).key
        if found is None:
            joined = late.nothing(part.rows_out)
        else:
            rows = self.tables.read(spec.name, VALIDATED, part.files, key)
            before = None if late.declared(spec).known else self._before(part.partition)
            joined = late.join(rows, found.settled.labels, key, before)
            self._keep_aside(part.partition, found)
        commit = self.tables.write(spec.name, LABELS, part.partition, joined.stored)
        return LabelledPartition(
            model=spec.name,
            partition=part.partition,
            delivery=delivery.version if delivery else None,
            rows_of=part.content,
            rows_files=part.files,
            rows=part.rows_out,
            quarantined=part.rows_quarantined,
            labelled=joined.labelled,
            unknown=joined.unknown,
            conflicting=found.settled.conflicting if found else 0,
            superseded=found.settled.superseded if found else 0,
            broken=found.broken if found else 0,
            table_version=commit.version,
            files=commit.files,
            content=content_digest(joined.table),
            extends=self._extended(part, delivery, joined),
        )

    def _extended(self, part: ValidatedPartition, delivery: Delivery | None, joined: Joined) -> tuple[str, ...]:
        """The earlier deliveries of labels of the same rows of which none has changed."""
        before = self.records.get(LabelledPartition, self.spec.name, LABELS, part.partition)
        if before is None or delivery is None or before.delivery is None or not before.is_of(part):
            return ()
        said = answers_known(self.spec, self.tables, before)[0]
        now = late.as_target(joined.table.column(late.STORED_LABEL).to_pandas(), self.spec.task)
        if not late.only_adds(said, now):
            return ()
        return tuple(each for each in dict.fromkeys([*before.extends, before.delivery]) if each != delivery.version)

    def _before(self, partition: str) -> Any:
        """Key, label and known of the rows that had a label before, None where none had."""
        spec = self.spec
        before = self.records.get(LabelledPartition, spec.name, LABELS, partition)
        if before is None or not before.files:
            return None
        keys = self.tables.read(spec.name, VALIDATED, before.rows_files, late.declared(spec).key)
        label, known = answers_known(spec, self.tables, before)
        return keys.assign(**{LABEL: label.array, KNOWN: known.array})

    def _keep_aside(self, partition: str, found: Delivered) -> None:
        self.tables.write(self.spec.name, ASIDE, partition, found.quarantined)


def _too_many_broken(found: Delivered, spec: ModelSpec) -> str | None:
    limit = spec.quality.max_bad_share
    if found.broken <= limit * found.rows:
        return None
    return (
        f"{found.broken} of {found.rows} labels ({found.broken / found.rows:.2%}) cannot be used and "
        f"quality.max_bad_share is {limit:.2%}. They are in the table {spec.name}/{ASIDE}; have the producer send a "
        "correction. The labels known before stay."
    )


def _metadata(spec: ModelSpec, made: LabelledPartition, tables: Tables) -> dict[str, Any]:
    return {
        "summary": sentence(spec, made),
        "dagster/row_count": made.rows,
        "labelled_rows": made.labelled,
        "labelled_share": made.labelled / made.rows,
        "mature": matured(spec, made.labelled, made.rows),
        "unknown": made.unknown,
        "conflicting": made.conflicting,
        "superseded": made.superseded,
        "broken": made.broken,
        "delivery": made.delivery or "none yet",
        "table_version": made.table_version,
        "dagster/uri": tables.uri(spec.name, LABELS),
        "set_aside": tables.uri(spec.name, ASIDE),
    }


def sentence(spec: ModelSpec, made: LabelledPartition) -> str:
    """How many rows have a label, and what was corrected and set aside."""
    if made.delivery is None:
        return f"No label has been delivered for the {made.rows:,} rows of {made.partition}."
    word = "matured" if matured(spec, made.labelled, made.rows) else "not matured"
    have = f"{made.labelled:,} of {made.rows:,} rows of {made.partition} have a label, {word}"
    quarantined = f" ({_counted(made.quarantined, 'row was', 'rows were')} quarantined)" if made.quarantined else ""
    aside = [
        (made.unknown, "label has", "labels have", f"no row{quarantined}"),
        (made.superseded, "label", "labels", "gave way to a later one"),
        (made.conflicting, "row has", "rows have", "labels that contradict each other"),
        (made.broken, "label", "labels", "cannot be read"),
    ]
    told = [f"{_counted(count, one, many)} {what}" for count, one, many, what in aside if count]
    return "; ".join([have, *told]) + "."


def _counted(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _check(work: Joining) -> dg.AssetCheckResult:
    odd = {
        partition: sentence(work.spec, made)
        for partition, made in work.made.items()
        if made.strangers or made.conflicting or made.broken
    }
    return dg.AssetCheckResult(
        check_name=CHECK,
        passed=not odd,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"looked_at": len(work.made), "odd": dg.MetadataValue.json(odd)},
    )
