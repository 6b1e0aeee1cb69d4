"""Quarantine: the rows that broke rules, as they were delivered, each with every rule that it broke."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mlops_assets.ml.spec import Time
from mlops_assets.ml.timestamps import joined

if TYPE_CHECKING:
    import pyarrow as pa

LONGEST_VALUE = 100
ROWS_IN_FULL = 10_000
PERSONAL = "(personal)"
SEVERAL = ""


class Findings:
    """Which rows of a delivery's files, laid end to end, broke which rule. Kept: one bit a row and broken rule."""

    def __init__(self, lengths: Sequence[int]) -> None:
        """Nothing found yet, in files of these many rows."""
        self.starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self.broken: dict[tuple[str, str], np.ndarray] = {}

    @property
    def total(self) -> int:
        """The rows of all files."""
        return int(self.starts[-1])

    def add(self, column: str, broken: Mapping[str, np.ndarray], file: int | None = None) -> None:
        """Note the rows that broke rules of a column (SEVERAL for rules over several), in one file or over all."""
        first, end = (0, self.total) if file is None else self.starts[file : file + 2]
        for rule, rows in broken.items():
            if rows.any():
                self.broken.setdefault((column, rule), np.zeros(self.total, bool))[first:end] |= rows

    def rows(self, column: str | None = None) -> np.ndarray:
        """The rows that broke any rule (of a column)."""
        found = np.zeros(self.total, bool)
        for (name, _), rows in self.broken.items():
            if column in {None, name}:
                found |= rows
        return found


def quarantine(files: Mapping[str, pa.Table], findings: Findings, time: Time, personal: Sequence[str]) -> pa.Table:
    """One row for each broken row: file, row number (from 1), the first broken rule with its value, and all reasons.

    `row` holds the whole row as it was delivered, for the first ROWS_IN_FULL rows; file and row number lead to
    the others. Values of personal columns are masked.
    """
    import pyarrow as pa

    rules = list(findings.broken)
    at = np.flatnonzero(findings.rows())
    combination, combinations = _combinations([rows[at] for rows in findings.broken.values()])
    first = np.array([each[0] for each in combinations], np.int32)[combination]
    file = np.searchsorted(findings.starts, at, side="right") - 1
    reasons = [json.dumps([_reason(*rules[rule]) for rule in each], ensure_ascii=False) for each in combinations]
    return pa.table(
        {
            "file": _encoded(file, list(files)),
            "row_number": at - findings.starts[file] + 1,
            "column": _encoded(first, [column for column, _ in rules]),
            "rule": _encoded(first, [rule for _, rule in rules]),
            "value": _values(files, findings, at, first, time, personal),
            "reasons": _encoded(combination, reasons),
            "row": _rows_in_full(files, findings, at[:ROWS_IN_FULL], len(at), personal),
        }
    )


def _reason(column: str, rule: str) -> str:
    return f"{column}: {rule}" if column else rule


def _combinations(masks: Sequence[np.ndarray]) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Which rules each row broke together: a number a row, and the rules that each number stands for."""
    numbers = np.zeros(len(masks[0]) if masks else 0, np.int64)
    meanings: list[tuple[int, ...]] = [()]
    for rule, mask in enumerate(masks):
        numbers, found = pd.factorize(numbers * 2 + mask)
        meanings = [meanings[number // 2] + ((rule,) if number % 2 else ()) for number in found.tolist()]
    return numbers, meanings if len(numbers) else []


def _encoded(codes: np.ndarray, values: Sequence[str]) -> pa.Array:
    """Text that repeats, each text kept once."""
    import pyarrow as pa

    texts, inverse = np.unique(np.array(values, object), return_inverse=True)
    indices = inverse[codes] if len(values) else codes
    return pa.DictionaryArray.from_arrays(pa.array(indices.astype(np.int32)), pa.array(texts, pa.string()))


def _values(
    files: Mapping[str, pa.Table],
    findings: Findings,
    at: np.ndarray,
    first: np.ndarray,
    time: Time,
    personal: Sequence[str],
) -> pa.Array:
    """The delivered value that broke each row's first rule, cut short; none for a rule over several columns."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found, order = [pa.array([], pa.string())], [np.array([], np.int64)]
    for rule, (column, _) in enumerate(findings.broken):
        for table, start, end in zip(files.values(), findings.starts, findings.starts[1:], strict=False):
            rows = np.flatnonzero((first == rule) & (at >= start) & (at < end))
            if len(rows):
                cells = _delivered(table, column, time, personal, pa.array(at[rows] - start))
                found.append(pc.utf8_slice_codeunits(cells, 0, LONGEST_VALUE))
                order.append(rows)
    return pa.concat_arrays(found).take(pa.array(np.argsort(np.concatenate(order))))


def _delivered(table: pa.Table, column: str, time: Time, personal: Sequence[str], rows: pa.Array) -> pa.Array:
    import pyarrow as pa

    if column in personal:
        return pa.repeat(PERSONAL, len(rows))
    sources = list(time.columns) if column == time.name else [column]
    if column == SEVERAL:
        return pa.nulls(len(rows), pa.string())
    return joined([table.column(name).take(rows) for name in sources]).combine_chunks()


def _rows_in_full(
    files: Mapping[str, pa.Table], findings: Findings, at: np.ndarray, rows: int, personal: Sequence[str]
) -> pa.Array:
    import pyarrow as pa

    texts: list[str | None] = []
    for table, start, end in zip(files.values(), findings.starts, findings.starts[1:], strict=False):
        here = at[(at >= start) & (at < end)] - start
        shown = [name for name in table.column_names if name not in personal]
        delivered = table.select(shown).take(pa.array(here)).to_pylist()
        texts.extend(_json({**row, **dict.fromkeys(personal, PERSONAL)}) for row in delivered)
    return pa.array([*texts, *[None] * (rows - len(texts))], pa.string())


def _json(row: Mapping[str, Any]) -> str:
    """Standard JSON, which has no infinities: they are kept as text."""
    plain = {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
    return json.dumps(plain, default=str, ensure_ascii=False)
