"""Delivered bytes as an Arrow table, or a refusal that says what is wrong with the file. Not what the cells mean.

A file is read whole or refused: rows are never skipped, shifted or cut off in silence.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from mlops_assets.ml.spec import FileSource, SqlSource

if TYPE_CHECKING:
    import pyarrow as pa

EXTRACT = ".extract.parquet"
CHUNK = 1 << 20
MAX_COLUMNS = 10_000
MAX_RATIO, RATIO_FROM = 200, 1 << 26
SHOWN = 10
MAX_NESTING = 64
BOM = b"\xef\xbb\xbf"
SUFFIXES = {"csv": "csv", "tsv": "csv", "txt": "csv", "jsonl": "jsonl", "ndjson": "jsonl", "parquet": "parquet"}
ARCHIVES = {"zip", "gz", "bz2", "xz", "7z", "tar", "tgz", "zst", "rar"}
SEND_AGAIN = "Have the producer send it again"


class UnreadableFileError(Exception):
    """A delivered file that cannot be read whole. The text names the file, the reason and what to do."""

    def __init__(self, name: str, reason: str, remedy: str = SEND_AGAIN) -> None:
        super().__init__(f"{name} {reason}. {remedy}.")


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
    return _read(stream, name, source, types, rows, as_text=False)


def read_text(stream: BinaryIO, name: str, source: FileSource, rows: int | None = None) -> pa.Table:
    """The rows of a file with every cell of a text format as the text that was delivered. Refuses what `read` does."""
    return _read(stream, name, source, None, rows, as_text=True)


def extract(table: pa.Table) -> bytes:
    """Rows as a Parquet file: the same rows and types, the same bytes. Each page carries a checksum."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    plain = table.replace_schema_metadata(None).combine_chunks()
    sink = pa.BufferOutputStream()
    pq.write_table(plain, sink, compression="zstd", write_page_checksum=True, store_schema=True)
    return sink.getvalue().to_pybytes()


def format_of(name: str, source: FileSource | SqlSource) -> str:
    """The format of a file: what the source declares, or else what the name says. Our own extracts are Parquet."""
    if name.endswith(EXTRACT) or isinstance(source, SqlSource):
        return "parquet"
    if source.format != "auto":
        return source.format
    suffix = name.lower().removesuffix(".gz").rpartition(".")[2]
    if suffix not in SUFFIXES:
        raise UnreadableFileError(
            name,
            f"has the unknown suffix {suffix[:20]!r}; known are {', '.join(SUFFIXES)}, each also as .gz or in a .zip",
            "Rename it, or declare source.format",
        )
    return SUFFIXES[suffix]


def _read(
    stream: BinaryIO,
    name: str,
    source: FileSource | SqlSource,
    types: Mapping[str, pa.DataType] | None,
    rows: int | None,
    as_text: bool,
) -> pa.Table:
    limits = source if isinstance(source, FileSource) else FileSource(uri="", files=("",))
    content, inner = _unpacked(stream, name, limits.max_bytes)
    if not content or content.isspace():
        raise UnreadableFileError(name, "is empty")
    kind = format_of(inner, source)
    if kind == "parquet":
        table = _parquet(content, name, limits, types or {})
    elif kind == "csv":
        table = _csv(content, name, limits, types, as_text)
    else:
        table = _jsonl(content, name, limits, keep_text=as_text or types is not None)
    _refuse_bad_names(table.column_names, name)
    if not table.num_rows:
        raise UnreadableFileError(name, "has columns and no rows")
    if rows is not None and rows != table.num_rows:
        raise UnreadableFileError(name, f"holds {table.num_rows} rows, and its manifest promises {rows}")
    return table if as_text else _conformed(table, types or {})


def _unpacked(stream: BinaryIO, name: str, limit: int) -> tuple[bytes, str]:
    """The content, decompressed as far as `limit` allows, and the name that says its format."""
    suffix = name.lower().rpartition(".")[2]
    packed = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    try:
        if suffix == "gz":
            with gzip.open(stream) as unpacked:
                return _bounded(unpacked, name, limit, stream), name
        if suffix == "zip":
            with zipfile.ZipFile(stream) as archive:
                member = _only_member(archive, name)
                with archive.open(member) as unpacked:
                    return _bounded(unpacked, name, limit, stream), member.filename
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError) as error:
        raise UnreadableFileError(name, f"is not a whole .{suffix} archive: {error}") from error
    if packed > limit:
        raise _too_many_bytes(name, limit)
    return stream.read(), name


def _only_member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    members = [each for each in archive.infolist() if not each.is_dir() and not each.filename.startswith("__MACOSX/")]
    if len(members) != 1:
        raise UnreadableFileError(name, f"holds {len(members)} files; one is expected", "Send each file by itself")
    if members[0].filename.lower().rpartition(".")[2] in ARCHIVES:
        raise UnreadableFileError(name, "holds an archive within the archive", "Send the file itself")
    if members[0].flag_bits & 1:
        raise UnreadableFileError(name, "is encrypted", "Send it without a password")
    return members[0]


def _bounded(unpacked: BinaryIO | Any, name: str, limit: int, packed: BinaryIO) -> bytes:
    """What is unpacked, refused as soon as it is too much, or too much for what has been read of the packed bytes."""
    content = io.BytesIO()
    while chunk := unpacked.read(CHUNK):
        content.write(chunk)
        size = content.tell()
        if size > limit:
            raise _too_many_bytes(name, limit)
        if size > RATIO_FROM and size > MAX_RATIO * packed.tell():
            raise UnreadableFileError(
                name, f"grows more than {MAX_RATIO} times when it is decompressed", "Send it with less compression"
            )
    return content.getvalue()


def _refuse_bad_text(content: bytes, name: str, limits: FileSource) -> None:
    if (at := content.find(b"\0")) >= 0:
        wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
        what = "is UTF-16" if wide else f"holds a NUL byte in line {_line(content, at)}"
        raise UnreadableFileError(name, what, "Save it as UTF-8 text")
    if not content.isascii() and not _is_utf8(content):
        try:
            content.decode()
        except UnicodeDecodeError as error:
            line = _line(content, error.start)
            raise UnreadableFileError(name, f"is not UTF-8 in line {line}", "Save it as UTF-8 text") from error
    if content.count(b"\n") > limits.max_rows + 1:
        raise _too_many_rows(name, content.count(b"\n"), limits)


def _is_utf8(content: bytes) -> bool:
    """Whether `content` is UTF-8, found out without a second copy of it."""
    import pyarrow as pa

    ends = pa.array([0, len(content)], pa.int64()).buffers()[1]
    try:
        pa.LargeStringArray.from_buffers(1, ends, pa.py_buffer(content)).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _line(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1


def _too_many_bytes(name: str, limit: int) -> UnreadableFileError:
    return UnreadableFileError(name, f"holds more than {limit} bytes", "Split it, or raise source.max_bytes")


def _too_many_rows(name: str, rows: int, limits: FileSource) -> UnreadableFileError:
    reason = f"holds {rows} rows; source.max_rows is {limits.max_rows}"
    return UnreadableFileError(name, reason, "Split it, or raise the limit")


def _refuse_bad_names(names: Sequence[str], name: str) -> None:
    if len(names) > MAX_COLUMNS:
        raise UnreadableFileError(name, f"has {len(names)} columns; at most {MAX_COLUMNS} are read")
    twice = [each for each, count in Counter(names).items() if count > 1]
    if twice:
        shown = ", ".join(repr(each[:60]) for each in twice[:SHOWN])
        raise UnreadableFileError(name, f"has columns of the same name: {shown}", "Give each column a name of its own")


def _csv(
    content: bytes, name: str, source: FileSource, types: Mapping[str, pa.DataType] | None, as_text: bool
) -> pa.Table:
    import pyarrow as pa

    _refuse_bad_text(content, name, source)
    header = _header(content, name, source.delimiter)
    if content.count(b'"') % 2:
        raise UnreadableFileError(name, "has a quoted field that is never closed")
    wanted = dict.fromkeys(header, pa.string()) if as_text else dict(types or {})
    try:
        table = _parsed(content, name, source, wanted)
    except pa.ArrowInvalid as error:
        if "conversion error" not in str(error):
            raise UnreadableFileError(name, f"is not CSV: {str(error)[:200]}") from error
        texts = {each: kind if _is_text(kind) else pa.string() for each, kind in wanted.items()}
        table = _parsed(content, name, source, texts)
    return _named(table)


def _header(content: bytes, name: str, delimiter: str) -> list[str]:
    text = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="")
    try:
        header = next(row for row in csv.reader(text, delimiter=delimiter) if row)
    except (csv.Error, StopIteration) as error:
        raise UnreadableFileError(name, f"has no header that can be read: {error}") from error
    _refuse_bad_names([each for each in header if each], name)
    return header


def _parsed(content: bytes, name: str, source: FileSource, types: Mapping[str, pa.DataType]) -> pa.Table:
    """The rows as Arrow parses them. A row with too few or too many fields refuses the file."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    def parse(threads: bool) -> tuple[pa.Table, list[arrow_csv.InvalidRow]]:
        bad: list[arrow_csv.InvalidRow] = []
        table = arrow_csv.read_csv(
            pa.BufferReader(content),
            arrow_csv.ReadOptions(use_threads=threads),
            arrow_csv.ParseOptions(
                delimiter=source.delimiter,
                newlines_in_values=b'"' in content,
                invalid_row_handler=lambda row: bad.append(row) or "skip",
            ),
            arrow_csv.ConvertOptions(
                check_utf8=False, column_types=types, null_values=source.null_values, strings_can_be_null=True
            ),
        )
        return table, bad

    table, bad = parse(threads=True)
    if bad:
        _, bad = parse(threads=False)  # only then does Arrow say which row it was
        shown = ", ".join(str(row.number) for row in bad[:SHOWN])
        raise UnreadableFileError(
            name, f"has rows with another number of fields than its header, {len(bad)} in all: row {shown}"
        )
    return table


def _named(table: pa.Table) -> pa.Table:
    """The table without nameless empty columns, which trailing delimiters make; other nameless ones get a name."""
    names = [each or f"column_{number}" for number, each in enumerate(table.column_names, 1)]
    hollow = [
        number
        for number, each in enumerate(table.column_names)
        if not each and table.column(number).null_count == table.num_rows
    ]
    kept = [number for number in range(table.num_columns) if number not in hollow]
    return table.rename_columns(names).select(kept)


def _jsonl(content: bytes, name: str, source: FileSource, keep_text: bool) -> pa.Table:
    import pyarrow as pa
    from pyarrow import json as arrow_json

    content = content.removeprefix(BOM)
    _refuse_bad_text(content, name, source)
    if not _is_plain(content):
        return _line_by_line(content, name)
    try:
        table = arrow_json.read_json(pa.BufferReader(content))
        stamps = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
        if stamps and keep_text:  # read as times they would lose their offsets
            texts = arrow_json.ParseOptions(explicit_schema=pa.schema([(each, pa.string()) for each in stamps]))
            table = arrow_json.read_json(pa.BufferReader(content), parse_options=texts).select(table.column_names)
    except pa.ArrowInvalid:
        return _line_by_line(content, name)
    return table


def _is_plain(content: bytes) -> bool:
    """Whether each line is one object that hardly nests: deep nesting overflows the stack of Arrow's reader."""
    symbols = np.frombuffer(content.rstrip().replace(b"\r\n", b"\n"), np.uint8)
    ends = np.flatnonzero(symbols == ord("\n"))
    openings = np.flatnonzero((symbols == ord("{")) | (symbols == ord("[")))
    nested = np.diff(np.searchsorted(openings, ends), prepend=0, append=len(openings))
    whole = (symbols[ends - 1] == ord("}")).all() and (symbols[ends + 1] == ord("{")).all()
    return bool(whole and nested.max() <= MAX_NESTING)


def _line_by_line(content: bytes, name: str) -> pa.Table:
    """The slow way, for files that Arrow refuses: it finds the bad lines, and keeps columns of mixed kinds as text."""
    import pyarrow as pa

    records, bad = [], []
    for number, line in enumerate(io.BytesIO(content), 1):
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
        raise UnreadableFileError(name, f"has lines that are not JSON objects, {len(bad)} in all: line {shown}")
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


def _parquet(content: bytes, name: str, source: FileSource, types: Mapping[str, pa.DataType]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(pa.BufferReader(content))
        texts = [field.name for field in schema if _is_text(field.type) and _is_text(types.get(field.name, field.type))]
        file = pq.ParquetFile(pa.BufferReader(content), read_dictionary=texts, page_checksum_verification=True)
        _refuse_large(file.metadata, name, source)
        table = file.read()
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise UnreadableFileError(name, f"is not a whole Parquet file: {str(error)[:200]}") from error
    return table


def _refuse_large(footer: Any, name: str, source: FileSource) -> None:
    """Refuse by the footer alone, before any page is decompressed."""
    if footer.num_columns > MAX_COLUMNS:
        raise UnreadableFileError(name, f"has {footer.num_columns} columns; at most {MAX_COLUMNS} are read")
    if footer.num_rows > source.max_rows:
        raise _too_many_rows(name, footer.num_rows, source)
    decoded = max(
        sum(footer.row_group(number).total_byte_size for number in range(footer.num_row_groups)),
        footer.num_rows * footer.num_columns * 4,
    )
    if decoded > source.max_bytes:
        raise UnreadableFileError(
            name, f"takes {decoded} bytes when decoded; source.max_bytes is {source.max_bytes}", "Split it"
        )


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
