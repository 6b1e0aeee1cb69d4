"""Tables: one Delta Lake table an asset, replaced a partition at a time, read back only as the bytes once written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import dagster as dg

from mlops_assets.ml.spec import PARTITION_KEY
from mlops_assets.resources.blobs import CorruptBytesError
from mlops_assets.resources.places import filesystem

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from deltalake import DeltaTable, WriterProperties
    from pyarrow.fs import FileSystem

PARTITION = "partition"
ATTEMPTS = 30
ONE_FILE = 1 << 34
BATCH_ROWS, ROW_GROUP_ROWS = 1 << 16, 1 << 17


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
        for _ in range(ATTEMPTS - 1):
            try:
                return self._commit(self.uri(model, asset), partition, table)
            except CommitFailedError:
                continue
        return self._commit(self.uri(model, asset), partition, table)

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

    def _commit(self, uri: str, partition: str, table: pa.Table) -> Commit:
        from deltalake import write_deltalake

        delta = _opened(uri)
        if table.num_rows == 0 and not _live(delta, partition):
            return Commit(delta.version(), {})
        _refuse_changed_types(delta, table)
        write_deltalake(
            delta,
            _batches(table, partition),
            partition_by=[PARTITION],
            mode="overwrite",
            predicate=f"{PARTITION} = '{partition}'",
            schema_mode="merge",
            target_file_size=ONE_FILE,
            writer_properties=_properties(table),
        )
        _give_back()
        system, base = filesystem(uri)
        return Commit(delta.version(), {path: _sha256(system, f"{base}/{path}") for path in _live(delta, partition)})


def _give_back() -> None:
    """Return the memory of rows that are gone to the system; Arrow keeps it for the next rows, which may never come."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()


def _opened(uri: str) -> DeltaTable:
    """The table, made with no rows and no other column than the partition where there is none yet.

    Were the first write to make it, the first writers at once would replace each other's rows.
    """
    import pyarrow as pa
    from deltalake import DeltaTable

    if not DeltaTable.is_deltatable(uri):
        DeltaTable.create(uri, pa.schema([(PARTITION, pa.string())]), mode="ignore", partition_by=[PARTITION])
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


def _batches(table: pa.Table, partition: str) -> pa.RecordBatchReader:
    """The rows with their partition, a few at a time: Delta copies a batch several times, and holds a row group."""
    import pyarrow as pa

    rows = table.append_column(PARTITION, pa.repeat(partition, table.num_rows))
    return pa.RecordBatchReader.from_batches(rows.schema, rows.to_batches(max_chunksize=BATCH_ROWS))


def _properties(table: pa.Table) -> WriterProperties:
    """Dictionaries for text only: on measured numbers they cost three times the time and save next to nothing."""
    import pyarrow as pa
    from deltalake import ColumnProperties, WriterProperties

    text = {
        field.name: ColumnProperties(dictionary_enabled=True)
        for field in table.schema
        if _stored_type(field.type) == pa.string()
    }
    return WriterProperties(
        compression="SNAPPY",
        max_row_group_size=ROW_GROUP_ROWS,
        default_column_properties=ColumnProperties(dictionary_enabled=False),
        column_properties=text,
    )


def _sha256(system: FileSystem, path: str) -> str:
    with system.open_input_file(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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
