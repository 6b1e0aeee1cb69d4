"""Tables: one Delta Lake table an asset, replaced a partition at a time, read back only as the bytes once written."""

from __future__ import annotations

import hashlib
import io
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import dagster as dg

from mlops_assets.ml.spec import PARTITION_KEY
from mlops_assets.resources.blobs import CorruptBytesError, write_atomically
from mlops_assets.resources.places import filesystem

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from deltalake import DeltaTable, Schema
    from pyarrow.fs import FileSystem
    from typing_extensions import Buffer

PARTITION = "partition"
ATTEMPTS = 100
ROW_GROUP_ROWS = 1 << 17


class ChangedTypeError(dg.DagsterError):
    """A column would be stored with another type than the table has."""


class Commit(NamedTuple):
    """What one write left behind: the table's version, and the partition's files with the SHA-256 of their bytes."""

    version: int
    files: dict[str, str]


class Tables(dg.ConfigurableResource):
    """Delta Lake tables under `root/tables/<model>/<asset>`, partitioned by the column `partition`.

    A write replaces one partition in one atomic commit. Files are never changed once written, so the files that a
    commit names are also the way back to any earlier state. On object stores credentials come from `AWS_*`.
    """

    root: str

    def uri(self, model: str, asset: str) -> str:
        """Where the table of an asset is."""
        return f"{self.root}/tables/{model}/{asset}"

    def write(self, model: str, asset: str, partition: str, table: pa.Table) -> Commit:
        """Replace one partition by the rows of `table`; no rows remove the partition. New columns join the table.

        Writers at the same time are put in order: the loser of a race looks at the new state and writes again.
        Raises ChangedTypeError when a column has another type than it has in the table.
        """
        from deltalake.exceptions import CommitFailedError

        if not PARTITION_KEY.fullmatch(partition):
            raise ValueError(f"{model}/{asset}: {partition!r} is not a partition key: {PARTITION_KEY.pattern}.")
        delta = _opened(self.uri(model, asset))
        if table.num_rows == 0 and not _live(delta, partition):
            return Commit(delta.version(), {})
        _refuse_changed_types(delta, table)
        files = [self._file(model, asset, partition, table)] if table.num_rows else []
        for _ in range(ATTEMPTS - 1):
            try:
                return _commit(delta, partition, table.schema, files)
            except CommitFailedError:
                delta = _opened(self.uri(model, asset))
                _refuse_changed_types(delta, table)
        return _commit(delta, partition, table.schema, files)

    def read(
        self, model: str, asset: str, files: Mapping[str, str], columns: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """The rows of `files` (path in the table -> SHA-256), in that order: strings as categories, times in UTC.

        A column that some of the files lack is missing in their rows. Raises CorruptBytesError when a file is gone or
        holds other bytes than were written.
        """
        import pyarrow as pa

        system, base = filesystem(self.uri(model, asset))
        parts = [_part(system, f"{base}/{path}", sha256, columns) for path, sha256 in files.items()]
        if not parts:
            raise ValueError(f"{model}/{asset}: no files to read.")
        rows = pa.concat_tables(parts, promote_options="default").unify_dictionaries()
        rows = rows if columns is None else rows.select(list(columns))
        del parts
        frame = rows.to_pandas(split_blocks=True, self_destruct=True)
        del rows
        _give_back()
        return frame

    def _file(self, model: str, asset: str, partition: str, table: pa.Table) -> File:
        """Write the rows as a file that no commit names yet."""
        path, sink = f"{PARTITION}={partition}/{uuid.uuid4().hex}.parquet", _Sink()
        write_atomically(self.uri(model, asset), path, _parquet(table, sink))
        _give_back()
        return File(path, table.num_rows, sink.size, sink.sha256.hexdigest())


class File(NamedTuple):
    """A file of a table: its path in the table, its rows, its bytes and their SHA-256."""

    path: str
    rows: int
    size: int
    sha256: str


class _Sink(io.RawIOBase):
    """Counts and hashes what is written, and holds it until it is taken."""

    def __init__(self) -> None:
        self.held: list[bytes] = []
        self.sha256 = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, content: Buffer, /) -> int:
        self.held.append(bytes(content))
        self.sha256.update(self.held[-1])
        self.size += len(self.held[-1])
        return len(self.held[-1])

    def taken(self) -> list[bytes]:
        held, self.held = self.held, []
        return held


def _parquet(table: pa.Table, sink: _Sink) -> Iterator[bytes]:
    """The rows as Parquet, a row group at a time. Dictionaries for text only: on measured numbers they save nothing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(_stored_schema(table.schema).to_arrow())
    text = [field.name for field in schema if field.type == pa.string()]
    with pq.ParquetWriter(sink, schema, compression="snappy", use_dictionary=text, store_schema=False) as writer:
        for start in range(0, table.num_rows, ROW_GROUP_ROWS):
            writer.write_table(table.slice(start, ROW_GROUP_ROWS).cast(schema, safe=False))
            yield from sink.taken()
    yield from sink.taken()


def _commit(delta: DeltaTable, partition: str, schema: pa.Schema, files: Sequence[File]) -> Commit:
    """Make `files` all there is of the partition. Raises CommitFailedError when the table is not as it was read."""
    from deltalake import CommitProperties
    from deltalake.transaction import AddAction, RemoveAction

    added: list[AddAction | RemoveAction] = [
        AddAction(file.path, file.size, {PARTITION: partition}, 0, True, json.dumps({"numRecords": file.rows}))
        for file in files
    ]
    delta.create_write_transaction(
        added,
        mode="overwrite",
        schema=_joined(delta, schema),
        partition_by=[PARTITION],
        partition_filters=[(PARTITION, "=", partition)],
        commit_properties=CommitProperties(max_commit_retries=0),
    )
    return Commit(delta.version() + 1, {file.path: file.sha256 for file in files})


def _joined(delta: DeltaTable, schema: pa.Schema) -> Schema:
    """The table's columns and the new ones behind them. Times without a zone are a feature that a table must have."""
    import pyarrow as pa
    from deltalake import TableFeatures

    stored = pa.schema(delta.schema().to_arrow())
    new = [field for field in schema if field.name not in stored.names]
    if any(pa.types.is_timestamp(field.type) and field.type.tz is None for field in new):
        delta.alter.add_feature(TableFeatures.TimestampWithoutTimezone, allow_protocol_versions_increase=True)
    return _stored_schema(pa.schema([*stored, *new]))


def _stored_schema(schema: pa.Schema) -> Schema:
    import pyarrow as pa
    from deltalake import Schema

    return Schema.from_arrow(pa.schema([(field.name, _stored_type(field.type)) for field in schema]))


def _give_back() -> None:
    """Return the memory of rows that are gone to the system; Arrow keeps it for the next rows, which may never come."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()


def _opened(uri: str) -> DeltaTable:
    """The table, made with no rows and no other column than the partition where there is none yet.

    Were the first write to make it, the first writers at once would replace each other's rows.
    """
    import pyarrow as pa
    from deltalake import CommitProperties, DeltaTable
    from deltalake.exceptions import CommitFailedError

    if not DeltaTable.is_deltatable(uri):
        with suppress(CommitFailedError):  # another writer made it meanwhile
            DeltaTable.create(
                uri,
                pa.schema([(PARTITION, pa.string())]),
                mode="ignore",
                partition_by=[PARTITION],
                commit_properties=CommitProperties(max_commit_retries=0),
            )
    return DeltaTable(uri)


def _live(delta: DeltaTable, partition: str) -> list[str]:
    """The files that hold the partition now, as paths in the table."""
    uris = delta.file_uris(file_pruning_predicate=[(PARTITION, "=", partition)])
    return sorted(f"{PARTITION}={partition}/{uri.rpartition('/')[2]}" for uri in uris)


def _refuse_changed_types(delta: DeltaTable, table: pa.Table) -> None:
    """Delta would cast without a word, 1.5 to 1."""
    import pyarrow as pa

    stored = {field.name: field.type for field in pa.schema(delta.schema().to_arrow())}
    for field in table.schema:
        found = _stored_type(field.type)
        if field.name in stored and stored[field.name] != found:
            raise ChangedTypeError(
                f"{delta.table_uri}: column {field.name!r} is {stored[field.name]} in the table and {found} in what is "
                "to be written. Rename the column, or move the table away and materialize its partitions again."
            )


def _stored_type(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _stored_type(kind.value_type)
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    return kind


def _part(system: FileSystem, path: str, sha256: str, columns: Sequence[str] | None) -> pa.Table:
    """One file's rows, parsed from the very buffer whose digest was taken."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with system.open_input_file(path) as stream:
            content = stream.read_buffer()
    except FileNotFoundError as error:
        raise CorruptBytesError(
            f"{path} is gone. Restore it from a backup, or materialize its partition again."
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise CorruptBytesError(
            f"{path} holds other bytes than were written: SHA-256 {found}, expected {sha256}. "
            "Restore it from a backup, or materialize its partition again."
        )
    schema = pq.read_schema(pa.BufferReader(content))
    text = [field.name for field in schema if _stored_type(field.type) == pa.string()]
    wanted = None if columns is None else [name for name in columns if name in schema.names]
    return pq.read_table(pa.BufferReader(content), columns=wanted, read_dictionary=text)
