"""One row among millions, out of files whose bytes are proven first: only its row group is decoded, and its columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.prediction_id import NoPredictionError, PredictionId

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN = 5
Reader = Callable[[str, str], bytes]
"""Reads a file by path, and refuses it where its SHA-256 is another than the one given."""


def scores_at(row: int, files: Mapping[str, str], read: Reader) -> tuple[str, dict[str, Any]]:
    """The stored columns of a row, counted from 1 over all files (path -> SHA-256), and the file that holds it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    before = row - 1
    for path, sha256 in files.items():
        stored = pq.ParquetFile(pa.BufferReader(read(path, sha256)))
        for group in range(stored.num_row_groups):
            rows = stored.metadata.row_group(group).num_rows
            if before < rows:
                return path, stored.read_row_group(group).slice(before, 1).to_pylist()[0]
            before -= rows
    raise NoPredictionError(f"There is no row {row:,}: the files hold {row - 1 - before:,}.")


def place_of(asked: PredictionId, files: Mapping[str, str], read: Reader) -> int:
    """The number of the one row that has the values that name it. Raises NoPredictionError where it is not one."""
    import pyarrow.compute as pc

    if not files:
        raise NoPredictionError(f"{asked}: which rows were scored was not recorded then; name the row by its number.")
    table = _columns(asked, files, read)
    wanted = None
    for name, text in asked.key:
        equal = pc.fill_null(pc.equal(table[name], _typed(asked, table[name].type, name, text)), False)
        wanted = equal if wanted is None else pc.and_(wanted, equal)
    found = [place + 1 for place in pc.indices_nonzero(wanted).to_pylist()]
    if len(found) == 1:
        return found[0]
    if not found:
        raise NoPredictionError(f"{asked}: no row of this partition has these values.")
    some = ", ".join(map(str, found[:SHOWN])) + (", ..." if len(found) > SHOWN else "")
    raise NoPredictionError(f"{asked}: {len(found)} rows have these values. Name one by its number: {some}.")


def _columns(asked: PredictionId, files: Mapping[str, str], read: Reader) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [name for name, _ in asked.key]
    opened = [pq.ParquetFile(pa.BufferReader(read(path, sha256))) for path, sha256 in files.items()]
    known = [name for name in opened[0].schema_arrow.names if name != "partition"]
    if unknown := [name for name in names if name not in known]:
        raise NoPredictionError(f"{asked}: the rows have no column {', '.join(unknown)}; they have {', '.join(known)}.")
    return pa.concat_tables([each.read(columns=names) for each in opened])


def _typed(asked: PredictionId, kind: pa.DataType, name: str, text: str) -> pa.Scalar:
    import pyarrow as pa

    try:
        return pa.scalar(text).cast(kind)
    except pa.ArrowException as error:
        raise NoPredictionError(f"{asked}: {name} is {kind}, and {text!r} is none.") from error
