"""What a run of validation does to each delivery: read it, judge it, store both parts, compare it with those before."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from mlops_assets.ml import resemblance
from mlops_assets.ml.contracts import column_types, inputs, load_contract, pii_columns, refuse_impossible
from mlops_assets.ml.profiles import profile
from mlops_assets.ml.reading import UnreadableFileError, read
from mlops_assets.ml.resemblance import Finding
from mlops_assets.ml.sources import Delivery
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.validation import (
    BrokenContractError,
    BrokenRule,
    Judged,
    QuarantinedPartition,
    ValidatedPartition,
    Window,
    as_table,
    content_digest,
    judge,
)
from mlops_assets.ml.windows import Windows
from mlops_assets.resources.blobs import Blobs, CorruptBytesError
from mlops_assets.resources.records import Records
from mlops_assets.resources.tables import Tables

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pandera

VALIDATED, QUARANTINED = "validated_features", "quarantined_rows"
USUAL_ROW_COUNT = "has_usual_row_count"
COMPARED_WITH, CHARTED = 3, 12
RULES_NAMED = 5
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
CLOCK_TOLERANCE = timedelta(days=2)


@dataclass
class Inspection:
    """One run's work on a model's deliveries. Every partition ends in `validated`, or in `refused` with the reason.

    `unusual` are those refused that honour the contract, in a number of rows that is declared to block.
    """

    spec: ModelSpec
    contract: pandera.DataFrameSchema
    blobs: Blobs
    tables: Tables
    history: dict[str, ValidatedPartition]
    validated: dict[str, ValidatedPartition] = field(default_factory=dict)
    quarantined: dict[str, QuarantinedPartition] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    unusual: dict[str, str] = field(default_factory=dict)
    findings: dict[str, dict[str, Finding]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, spec: ModelSpec, blobs: Blobs, records: Records, tables: Tables, partitions: Iterable[str]
    ) -> Inspection:
        """An inspection of `partitions` that knows the contract, and what was validated before as far as it matters."""
        contract = load_contract(spec.contract)
        refuse_impossible(contract, spec)
        return cls(spec, contract, blobs, tables, history(spec, records, partitions))

    def inspect(self, partition: str, delivery: Delivery | None) -> None:
        """Judge one delivery. What breaks rules is stored in any case; what honours them, when it is enough."""
        if delivery is None:
            self.refused[partition] = "there is no delivery of it: materialize raw_data first."
            return
        try:
            judged = self._judged(delivery)
        except (UnreadableFileError, CorruptBytesError, BrokenContractError) as error:
            self.refused[partition] = str(error)
            return
        self._keep_quarantined(delivery, judged)
        if judged.good.empty or judged.bad_share > self.spec.quality.max_bad_share:
            self.refused[partition] = too_many_bad_rows(judged, self.spec)
            return
        volume = self._volume(partition, judged)
        if volume.passed or self.spec.quality.row_count == "warn":
            self._keep_validated(delivery, judged, volume)
        else:
            self.findings[partition] = {USUAL_ROW_COUNT: volume}
            self.refused[partition] = self.unusual[partition] = f"{volume.sentence} quality.row_count is block."

    def _judged(self, delivery: Delivery) -> Judged:
        types = column_types(self.contract, self.spec)
        files = {}
        for file in delivery.files:
            with self.blobs.open(file.sha256) as stream:
                files[file.name] = read(stream, file.name, self.spec.source, types, file.rows)
        return judge(files, self.spec, self.contract, window(self.spec, delivery))

    def _keep_quarantined(self, delivery: Delivery, judged: Judged) -> None:
        commit = self.tables.write(self.spec.name, QUARANTINED, delivery.partition, judged.quarantined)
        self.quarantined[delivery.partition] = QuarantinedPartition(
            model=self.spec.name,
            partition=delivery.partition,
            delivery=delivery.version,
            rows_in=judged.rows_in,
            rows_quarantined=judged.quarantined.num_rows,
            broken_rules=judged.broken,
            table_version=commit.version,
            files=commit.files,
            content=content_digest(judged.quarantined),
        )

    def _keep_validated(self, delivery: Delivery, judged: Judged, volume: Finding) -> None:
        rows = as_table(judged.good)
        commit = self.tables.write(self.spec.name, VALIDATED, delivery.partition, rows)
        times = judged.good[self.spec.time.name]
        found = ValidatedPartition(
            model=self.spec.name,
            partition=delivery.partition,
            delivery=delivery.version,
            delivered=delivered(delivery),
            rows_in=judged.rows_in,
            rows_out=len(judged.good),
            rows_quarantined=judged.quarantined.num_rows,
            broken_rules=judged.broken,
            first=times.iloc[0].to_pydatetime(),
            last=times.iloc[-1].to_pydatetime(),
            table_version=commit.version,
            files=commit.files,
            content=content_digest(rows),
            profile=profile(judged.good, compared_columns(self.contract, self.spec)),
            layout=judged.layout,
        )
        self.findings[delivery.partition] = self._compared(found, judged.good, volume)
        self.validated[delivery.partition] = self.history[delivery.partition] = found

    def _before(self, partition: str, first: datetime) -> list[ValidatedPartition]:
        """The partitions that one whose rows begin then is compared with."""
        before = [each for each in self.history.values() if each.first < first and each.partition != partition]
        return sorted(before, key=lambda each: each.first)[-COMPARED_WITH:]

    def _volume(self, partition: str, judged: Judged) -> Finding:
        before = self._before(partition, judged.good[self.spec.time.name].iloc[0].to_pydatetime())
        usual = [each.rows_in for each in before]
        return resemblance.has_usual_row_count(judged.rows_in, usual, self.spec.quality.row_count_ratio)

    def _compared(self, found: ValidatedPartition, rows: pd.DataFrame, volume: Finding) -> dict[str, Finding]:
        before, quality = self._before(found.partition, found.first), self.spec.quality
        return {
            "resembles_previous_partitions": resemblance.resembles(
                [each.profile for each in before], rows, quality.resembles_threshold
            ),
            USUAL_ROW_COUNT: volume,
            "is_fresh": resemblance.is_fresh(
                found.last,
                found.delivered,
                [each.delivered - each.last for each in before],
                length(self.spec, found, before),
                quality.max_age_partitions,
            ),
        }


def history(spec: ModelSpec, records: Records, partitions: Iterable[str]) -> dict[str, ValidatedPartition]:
    """What was validated before: the newest, and those that `partitions` are compared with.

    Windows are in the order of their keys. Batches are in no order until they are read, so all are.
    """
    keys = records.partitions(spec.name, VALIDATED)
    if spec.partitions.every == "batch":
        return records.some(ValidatedPartition, spec.name, VALIDATED, keys)
    needed = set(keys[-CHARTED:])
    for partition in partitions:
        here = bisect_left(keys, partition)
        needed.update(keys[max(0, here - COMPARED_WITH) : here])
    return records.some(ValidatedPartition, spec.name, VALIDATED, sorted(needed))


def too_many_bad_rows(judged: Judged, spec: ModelSpec) -> str:
    """Why a delivery is refused although its columns are right: how many rows broke which rules, and the limit."""
    worst = sorted(judged.broken, key=lambda broken: -broken.count)
    named = "; ".join(map(in_words, worst[:RULES_NAMED]))
    more = f"; and {len(worst) - RULES_NAMED} rules more" if len(worst) > RULES_NAMED else ""
    return (
        f"{judged.quarantined.num_rows} of {judged.rows_in} rows ({judged.bad_share:.2%}) break the contract and "
        f"quality.max_bad_share is {spec.quality.max_bad_share:.2%}: {named}{more}. "
        f"They are in {spec.name}/{QUARANTINED}."
    )


def in_words(broken: BrokenRule) -> str:
    """One broken rule in words: file, column, rule, how many rows and the first few of them."""
    what = f"{broken.column!r} {broken.rule}" if broken.column else broken.rule
    few = ", ".join(map(str, broken.rows)) + (", ..." if broken.count > len(broken.rows) else "")
    return f"{broken.file}: {what}: broken by {broken.count} rows (row {few})"


def delivered(delivery: Delivery) -> datetime:
    """When the newest of the delivered files was last changed."""
    return max(file.modified for file in (delivery.origins or delivery.files))


def window(spec: ModelSpec, delivery: Delivery) -> Window:
    """The times that rows of a partition may have, by the clocks of UTC or of the declared time zone.

    A batch has no window of its own; but no row is older than EARLIEST, nor younger than its file.
    """
    if spec.partitions.every == "batch":
        return EARLIEST, delivered(delivery) + CLOCK_TOLERANCE
    start, end = Windows.of(spec.partitions).bounds(delivery.partition)
    zone = ZoneInfo(spec.time.timezone)
    return min(start, start.replace(tzinfo=zone)), max(end, end.replace(tzinfo=zone))


def length(spec: ModelSpec, found: ValidatedPartition, before: Sequence[ValidatedPartition]) -> timedelta:
    """How much time a partition covers: its window, or what batches usually cover."""
    if spec.partitions.every == "batch":
        return timedelta(seconds=median((each.last - each.first).total_seconds() for each in (*before, found)))
    start, end = Windows.of(spec.partitions).bounds(found.partition)
    return end - start


def compared_columns(contract: pandera.DataFrameSchema, spec: ModelSpec) -> list[str]:
    """The columns whose distributions are compared: inputs and target, without times, calendars and personal data."""
    left_out = {spec.time.name, *spec.time.columns, *spec.calendar, *pii_columns(contract)}
    known = (*inputs(contract, spec), *((spec.target,) if spec.labels is None else ()))
    return [name for name in known if name not in left_out]
