"""The sample file, read the way that deliveries will be, and the numbers in it that mean "missing"."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlops_assets.ml.reading import read, read_text
from mlops_assets.ml.spec import FileSource
from mlops_assets.ml.unpacking import UnreadableFileError, format_of

if TYPE_CHECKING:
    import pyarrow as pa

DELIMITERS = ",;\t|"
SENTINELS = (-99, -200, -999, -9999, -99999, 9999, 99999, 999999)
FEWEST_SENTINELS = 3
HEAD = 1 << 16


class ScaffoldError(Exception):
    """What was asked for cannot be done as asked; the text says what to give."""


@dataclass(frozen=True)
class Sample:
    """The sample's rows: `texts` as they were delivered, `table` with the types that the values suggest."""

    source: FileSource
    texts: pa.Table
    table: pa.Table
    sentinels: dict[str, tuple[str, ...]]


def read_sample(path: Path) -> Sample:
    """Read a CSV, JSON lines or Parquet file (also .gz and .zip). Raises ScaffoldError when it cannot be read."""
    if not path.is_file():
        raise ScaffoldError(f"--from: there is no file {path}.")
    if any(sign in path.name for sign in "*?[]{}"):
        raise ScaffoldError(
            f"--from: rename {path.name!r}; *, ?, brackets and braces mean something in a file pattern."
        )
    source = FileSource(uri=str(path.absolute().parent), files=(path.name,))
    content = path.read_bytes()
    try:
        source = source.model_copy(update={"delimiter": _delimiter(content, path.name, source)})
        texts = read_text(io.BytesIO(content), path.name, source)
        sentinels = _sentinels(read(io.BytesIO(content), path.name, source))
        declared = (*source.null_values, *dict.fromkeys(text for found in sentinels.values() for text in found))
        source = source.model_copy(update={"null_values": declared})
        table = read(io.BytesIO(content), path.name, source)
    except UnreadableFileError as error:
        raise ScaffoldError(f"--from: {error}") from error
    return Sample(source, texts, table, sentinels)


def _delimiter(content: bytes, name: str, source: FileSource) -> str:
    """What parts the cells of the first line; a comma where the file is no CSV or cannot be read."""
    try:
        head, name = _head(content, name)
        if format_of(name, source) != "csv":
            return ","
        first_line = head.decode("utf-8-sig", "replace").partition("\n")[0]
        return csv.Sniffer().sniff(first_line, DELIMITERS).delimiter
    except (csv.Error, UnreadableFileError, OSError, EOFError, zlib.error, zipfile.BadZipFile, IndexError):
        return ","


def _head(content: bytes, name: str) -> tuple[bytes, str]:
    """The first bytes of the file that an archive holds, and its name."""
    if name.lower().endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive, archive.open(archive.namelist()[0]) as member:
            return member.read(HEAD), member.name
    if name.lower().endswith(".gz"):
        return gzip.GzipFile(fileobj=io.BytesIO(content)).read(HEAD), name
    return content[:HEAD], name


def _sentinels(table: pa.Table) -> dict[str, tuple[str, ...]]:
    """The numbers that stand for "missing", by column, as they are written: far from all values, and often the same.

    One that is an ordinary value in any column is none: the source declares them for the whole file.
    """
    import pyarrow as pa

    ordinary: set[int] = set()
    found: dict[int, dict[str, tuple[str, ...]]] = {}
    for name in table.column_names:
        kind = table.schema.field(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            continue
        values = table.column(name).drop_null().to_numpy()
        for sentinel in SENTINELS:
            if _stands_apart(values, sentinel):
                written = (str(sentinel),) if pa.types.is_integer(kind) else (str(sentinel), f"{sentinel}.0")
                found.setdefault(sentinel, {})[name] = written
            elif np.any(values == sentinel):
                ordinary.add(sentinel)
    by_column: dict[str, tuple[str, ...]] = {}
    for sentinel, columns in found.items():
        if sentinel not in ordinary:
            by_column |= {name: (*by_column.get(name, ()), *written) for name, written in columns.items()}
    return by_column


def _stands_apart(values: np.ndarray, sentinel: int) -> bool:
    """Whether the value occurs several times, at an end, further from its neighbour than any two others are apart."""
    distinct = np.unique(values)
    if len(distinct) < FEWEST_SENTINELS or sentinel not in (distinct[0], distinct[-1]):
        return False
    gaps = np.diff(distinct)
    own, others = (gaps[0], gaps[1:]) if sentinel == distinct[0] else (gaps[-1], gaps[:-1])
    return bool(np.count_nonzero(values == sentinel) >= FEWEST_SENTINELS and own > others.max())
