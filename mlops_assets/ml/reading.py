"""Delivered bytes as an Arrow table, or a refusal that says what is wrong with the file. Not what the cells mean.

A file is read whole or refused: rows are never skipped, shifted or cut off in silence.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from mlops_assets.ml.spec import FileSource, SqlSource
from mlops_assets.ml.unpacking import Unpacked, UnreadableFileError, too_many_rows, unpack

if TYPE_CHECKING:
    import pyarrow as pa

MAX_COLUMNS = 10_000
MAX_NESTING = 64
SHOWN = 10


def read(
    stream: BinaryIO,
    name: str,
    source: FileSource | SqlSource,
    types: Mapping[str, pa.DataType] | None = None,
    rows: int | None = None,
) -> pa.Table:
    """The rows of a file.

    Columns named in `types` are converted where every value converts; where one does not, the whole column stays text,
    so that its cells can be judged one by one. Other columns are inferred. `rows` is how many the producer promised.
    Raises UnreadableFileError when the file is damaged, empty, too large or not what its name says.
    """
    file = unpack(stream, name, source)
    if file.kind == "parquet":
        table = _parquet(file, types or {})
    elif file.kind == "csv":
        table = _csv(file, types or {})
    else:
        table = _jsonl(file, infer_times=types is None)
    return _conformed(_whole(file, table, rows), types or {})


def read_text(stream: BinaryIO, name: str, source: FileSource, rows: int | None = None) -> pa.Table:
    """The rows of a file with every cell of a text format as the text that was delivered. Refuses what `read` does."""
    return parse_text(unpack(stream, name, source), rows)


def parse_text(file: Unpacked, rows: int | None, columns: Collection[str] | None = None) -> pa.Table:
    """The rows of an unpacked file, or only some of its columns, with every cell of a text format as text."""
    if file.kind == "parquet":
        table = _parquet(file, {})
    elif file.kind == "csv":
        table = _csv_text(file, columns)
    else:
        table = _jsonl(file, infer_times=False)
    return _whole(file, table, rows)


def extract(table: pa.Table) -> bytes:
    """Rows as a Parquet file: the same rows and types, the same bytes. Each page carries a checksum."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    plain = table.replace_schema_metadata(None).combine_chunks()
    sink = pa.BufferOutputStream()
    pq.write_table(plain, sink, compression="zstd", write_page_checksum=True, store_schema=True)
    return sink.getvalue().to_pybytes()


def is_plain_json(content: bytes) -> bool:
    """Whether each line is one object that hardly nests: deep nesting overflows the stack of Arrow's reader."""
    symbols = np.frombuffer(content.rstrip().replace(b"\r\n", b"\n"), np.uint8)
    ends = np.flatnonzero(symbols == ord("\n"))
    openings = np.flatnonzero((symbols == ord("{")) | (symbols == ord("[")))
    nested = np.diff(np.searchsorted(openings, ends), prepend=0, append=len(openings))
    whole = (symbols[ends - 1] == ord("}")).all() and (symbols[ends + 1] == ord("{")).all()
    return bool(whole and nested.max() <= MAX_NESTING)


def _whole(file: Unpacked, table: pa.Table, rows: int | None) -> pa.Table:
    _refuse_bad_names(table.column_names, file.name)
    if not table.num_rows:
        raise UnreadableFileError(file.name, "has columns and no rows")
    if rows is not None and rows != table.num_rows:
        raise UnreadableFileError(file.name, f"holds {table.num_rows} rows, and its manifest promises {rows}")
    return table


def _refuse_bad_names(names: Sequence[str], name: str) -> None:
    if len(names) > MAX_COLUMNS:
        raise UnreadableFileError(name, f"has {len(names)} columns; at most {MAX_COLUMNS} are read")
    twice = [each for each, count in Counter(names).items() if count > 1]
    if twice:
        shown = ", ".join(repr(each[:60]) for each in twice[:SHOWN])
        raise UnreadableFileError(name, f"has columns of the same name: {shown}", "Give each column a name of its own")


def _csv(file: Unpacked, types: Mapping[str, pa.DataType]) -> pa.Table:
    """The rows with typed columns; all of those as text where one cell does not convert, to be tried one by one."""
    import pyarrow as pa

    _header(file)
    try:
        return _named(_parsed(file, types))
    except pa.ArrowInvalid as error:
        if "conversion error" not in str(error):
            raise UnreadableFileError(file.name, f"is not CSV: {str(error)[:200].rstrip('.')}") from error
    return _named(_parsed(file, {each: kind if _is_text(kind) else pa.string() for each, kind in types.items()}))


def _csv_text(file: Unpacked, columns: Collection[str] | None) -> pa.Table:
    import pyarrow as pa

    header = _header(file)
    wanted = None if columns is None else [each for each in columns if each in header]
    try:
        return _named(_parsed(file, dict.fromkeys(header, pa.string()), wanted))
    except pa.ArrowInvalid as error:
        raise UnreadableFileError(file.name, f"is not CSV: {str(error)[:200].rstrip('.')}") from error


def _header(file: Unpacked) -> list[str]:
    text = io.TextIOWrapper(io.BytesIO(file.content), "utf-8", newline="")
    try:
        header = next(row for row in csv.reader(text, delimiter=file.limits.delimiter) if row)
    except (csv.Error, StopIteration) as error:
        raise UnreadableFileError(file.name, f"has no header that can be read: {error}") from error
    _refuse_bad_names([each for each in header if each], file.name)
    if file.content.count(b'"') % 2:
        raise UnreadableFileError(file.name, "has a quoted field that is never closed")
    return header


def _parsed(file: Unpacked, types: Mapping[str, pa.DataType], columns: list[str] | None = None) -> pa.Table:
    """The rows as Arrow parses them. A row with too few or too many fields refuses the file."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    def parse(threads: bool) -> tuple[pa.Table, list[arrow_csv.InvalidRow]]:
        bad: list[arrow_csv.InvalidRow] = []
        table = arrow_csv.read_csv(
            pa.BufferReader(file.content),
            arrow_csv.ReadOptions(use_threads=threads),
            arrow_csv.ParseOptions(
                delimiter=file.limits.delimiter,
                newlines_in_values=b'"' in file.content,
                invalid_row_handler=lambda row: bad.append(row) or "skip",
            ),
            arrow_csv.ConvertOptions(
                check_utf8=False,
                column_types=types,
                include_columns=columns,
                null_values=file.limits.null_values,
                strings_can_be_null=True,
            ),
        )
        return table, bad

    table, bad = parse(threads=True)
    if bad:
        _, bad = parse(threads=False)  # only then does Arrow say which row it was
        shown = ", ".join(str(row.number) for row in bad[:SHOWN])
        raise UnreadableFileError(
            file.name, f"has rows with another number of fields than its header, {len(bad)} in all: row {shown}"
        )
    return table


def _named(table: pa.Table) -> pa.Table:
    """The table without nameless empty columns, which trailing delimiters make; other nameless ones get a name."""
    names = [each or f"column_{number}" for number, each in enumerate(table.column_names, 1)]
    kept = [
        number
        for number, each in enumerate(table.column_names)
        if each or table.column(number).null_count < table.num_rows
    ]
    return table.rename_columns(names).select(kept)


def _jsonl(file: Unpacked, infer_times: bool) -> pa.Table:
    import pyarrow as pa
    from pyarrow import json as arrow_json

    if not is_plain_json(file.content):
        return _line_by_line(file)
    try:
        table = arrow_json.read_json(pa.BufferReader(file.content))
        stamps = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
        if stamps and not infer_times:  # as times they would lose their offsets
            options = arrow_json.ParseOptions(explicit_schema=pa.schema([(each, pa.string()) for each in stamps]))
            again = arrow_json.read_json(pa.BufferReader(file.content), parse_options=options)
            table = again.select(table.column_names)
    except pa.ArrowInvalid:
        return _line_by_line(file)
    return table


def _line_by_line(file: Unpacked) -> pa.Table:
    """The slow way, for files that Arrow refuses: it finds the bad lines, and keeps columns of mixed kinds as text."""
    import pyarrow as pa

    records, bad = [], []
    for number, line in enumerate(io.BytesIO(file.content), 1):
        if line.strip():
            try:
                record = json.loads(line, object_pairs_hook=_without_doubles)
            except (ValueError, RecursionError):
                record = None
            if isinstance(record, dict):
                records.append(record)
            else:
                bad.append(number)
    if bad:
        shown = ", ".join(map(str, bad[:SHOWN]))
        raise UnreadableFileError(file.name, f"has lines that are not JSON objects, {len(bad)} in all: line {shown}")
    names = list(dict.fromkeys(each for record in records for each in record))
    return pa.table({each: _column([record.get(each) for record in records]) for each in names})


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return record


def _column(values: Iterable[Any]) -> pa.Array:
    import pyarrow as pa

    values = list(values)
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([value if value is None or isinstance(value, str) else json.dumps(value) for value in values])


def _parquet(file: Unpacked, types: Mapping[str, pa.DataType]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(pa.BufferReader(file.content))
        texts = [field.name for field in schema if _is_text(field.type) and _is_text(types.get(field.name, field.type))]
        opened = pq.ParquetFile(pa.BufferReader(file.content), read_dictionary=texts, page_checksum_verification=True)
        _refuse_large(opened.metadata, file)
        table = opened.read()
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise UnreadableFileError(file.name, f"is not a whole Parquet file: {str(error)[:200].rstrip('.')}") from error
    return table


def _refuse_large(footer: Any, file: Unpacked) -> None:
    """Refuse by the footer alone, before any page is decompressed."""
    if footer.num_columns > MAX_COLUMNS:
        raise UnreadableFileError(file.name, f"has {footer.num_columns} columns; at most {MAX_COLUMNS} are read")
    if footer.num_rows > file.limits.max_rows:
        raise too_many_rows(file.name, footer.num_rows, file.limits)
    decoded = max(
        sum(footer.row_group(number).total_byte_size for number in range(footer.num_row_groups)),
        footer.num_rows * footer.num_columns * 4,
    )
    if decoded > file.limits.max_bytes:
        reason = f"takes {decoded} bytes when decoded; source.max_bytes is {file.limits.max_bytes}"
        raise UnreadableFileError(file.name, reason, "Split it")


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    text = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(text) or pa.types.is_large_string(text)


def _conformed(table: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    import pyarrow as pa

    wanted = {field.name: types.get(field.name, field.type) for field in table.schema}
    return pa.table({each: _cast(table.column(each), kind) for each, kind in wanted.items()})


def _cast(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    """The column as wanted, or as it is when a value does not convert exactly."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.type.equals(wanted) or pa.types.is_boolean(column.type) or pa.types.is_temporal(column.type):
        return column  # Arrow would turn true into 1 and a moment into a count of microseconds
    if _is_text(column.type) and pa.types.is_dictionary(wanted):
        return column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    plain = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    try:
        return pc.cast(pc.utf8_trim_whitespace(plain) if _is_text(plain.type) else plain, wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return plain
