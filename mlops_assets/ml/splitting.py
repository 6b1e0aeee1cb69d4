"""One file that holds many windows of time, cut into one file a window: its own lines where it has them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from mlops_assets.ml.reading import extract, is_plain_json, parse_text
from mlops_assets.ml.spec import FileSource, Partitions, Time
from mlops_assets.ml.unpacking import EXTRACT, Unpacked, UnreadableFileError, unpack
from mlops_assets.ml.windows import Windows

if TYPE_CHECKING:
    import pyarrow as pa

SKEW = timedelta(days=1)


class Part(NamedTuple):
    """The rows of one window: the content of a file, and the suffix that says what it is."""

    content: bytes
    suffix: str


class Split(NamedTuple):
    """The rows by the key of their window, and how many lie before the declared start and so in none."""

    parts: dict[str, Part]
    before: int


class _Run(NamedTuple):
    """Neighbouring rows of one window, from `begin` to before `end`."""

    window: int
    begin: int
    end: int


class _Lines(NamedTuple):
    """A text whose rows are its lines: row n is from `bounds[n]` to before `bounds[n + 1]`."""

    header: bytes
    content: bytes
    bounds: np.ndarray
    suffix: str

    def part(self, runs: Sequence[_Run]) -> Part:
        """The lines of some rows, below the header."""
        text = memoryview(self.content)
        pieces = [text[self.bounds[run.begin] : self.bounds[run.end]] for run in runs]
        return Part(b"".join([self.header, *pieces]), self.suffix)


def split(
    stream: BinaryIO,
    name: str,
    source: FileSource,
    time: Time,
    partitions: Partitions,
    now: datetime,
    rows: int | None = None,
) -> Split:
    """Cut a file into windows by the time of its rows, which keep their order.

    A row whose time cannot be read, or lies in the future, goes with the row above it (at the top: below it), where
    validation will judge it. Lines of text are kept as they are; rows that are not lines become Parquet. Raises
    UnreadableFileError when the file cannot be read whole, or has no usable time.
    """
    file = unpack(stream, name, source)
    lines = _lines(file)
    table = parse_text(file, rows, None if lines is None else time.columns)
    if lines is not None and len(lines.bounds) != table.num_rows + 1:
        lines, table = None, parse_text(file, rows)
    windows = Windows.of(partitions)
    numbers = _numbers(table, name, time, windows, now)
    runs: dict[int, list[_Run]] = {}
    for run in _runs(numbers):
        if run.window >= windows.first():
            runs.setdefault(run.window, []).append(run)
    parts = {
        windows.key(number): _from_rows(table, each) if lines is None else lines.part(each)
        for number, each in sorted(runs.items())
    }
    return Split(parts, int((numbers < windows.first()).sum()))


def _lines(file: Unpacked) -> _Lines | None:
    """The lines of a text, None where a row may be less than a line. Where it may be more, there are more of them."""
    if file.kind == "parquet" or file.content.count(b"\r") > file.content.count(b"\r\n"):
        return None
    if file.kind == "jsonl" and not is_plain_json(file.content):
        return None
    content = file.content if file.content.endswith(b"\n") else file.content + b"\n"
    ends = np.flatnonzero(np.frombuffer(content, np.uint8) == ord("\n")) + 1
    if file.kind == "jsonl":
        return _Lines(b"", content, np.concatenate([[0], ends]), ".jsonl")
    return _Lines(content[: ends[0]], content, ends, ".csv")


def _from_rows(table: pa.Table, runs: Sequence[_Run]) -> Part:
    import pyarrow as pa

    pieces = [table.slice(run.begin, run.end - run.begin) for run in runs]
    return Part(extract(pa.concat_tables(pieces)), EXTRACT)


def _numbers(table: pa.Table, name: str, time: Time, windows: Windows, now: datetime) -> np.ndarray:
    """The number of the window of each row."""
    from mlops_assets.ml.timestamps import parse

    missing = [column for column in time.columns if column not in table.column_names]
    if missing:
        raise UnreadableFileError(name, f"lacks the time column {', '.join(map(repr, missing))}")
    times = parse([table.column(column) for column in time.columns], time).utc
    moments = times.tz_localize(None).to_numpy().astype("M8[s]")
    latest = np.datetime64((now + SKEW).astimezone(UTC).replace(tzinfo=None), "s")
    usable = ~np.isnat(moments) & (moments <= latest)
    if not usable.any():
        raise UnreadableFileError(name, f"has no row with a usable time in {', '.join(time.columns)}")
    return windows.numbers(moments)[_carried(usable)]


def _carried(usable: np.ndarray) -> np.ndarray:
    """For each row the number of the usable row whose time it takes: itself, or the nearest above, or the first."""
    rows = np.where(usable, np.arange(len(usable)), -1)
    above = np.maximum.accumulate(rows)
    return np.where(above >= 0, above, int(np.argmax(usable)))


def _runs(numbers: np.ndarray) -> Iterator[_Run]:
    edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    for begin, end in itertools.pairwise(edges):
        yield _Run(int(numbers[begin]), begin, end)
