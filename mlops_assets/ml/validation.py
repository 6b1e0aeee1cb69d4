"""Validation: which rows honour the contract, which break it and why. Comparing deliveries is in resemblance.py."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from mlops_assets.ml.cells import Cells, WrongTypeError, convert, moments, not_missing, series
from mlops_assets.ml.contracts import delivered, pii_columns
from mlops_assets.ml.profiles import Profile
from mlops_assets.ml.quarantine import SEVERAL, Findings, quarantine
from mlops_assets.ml.spec import ModelSpec, Value
from mlops_assets.ml.timestamps import parse

if TYPE_CHECKING:
    import pandera.pandas as pandera
    import pyarrow as pa

FEW = 5
LONGEST_RULE = 120
NAMES, LONGEST_NAME = 20, 60
KEPT: dict[str, Any] = {"all": False, "exclude_first": "first", "exclude_last": "last"}
Window = tuple[datetime, datetime]


class BrokenRule(Value):
    """One rule that rows of one file broke: `count` is exact, `rows` holds the first few row numbers (from 1)."""

    file: str
    column: str
    rule: str
    count: int
    rows: tuple[int, ...]


class QuarantinedPartition(Value):
    """What `quarantined_rows` says of one partition; `files` and `content` as in ValidatedPartition."""

    model: str
    partition: str
    delivery: str
    rows_in: int
    rows_quarantined: int
    broken_rules: tuple[BrokenRule, ...]
    table_version: int
    files: dict[str, str]
    content: str


class ValidatedPartition(Value):
    """What `validated_features` says of one partition.

    `files` maps each data file of the table to its SHA-256. `content` is the digest of the rows themselves, `delivered`
    is when the newest of the delivered files was last changed, `layout` the columns that were delivered, in order, each
    with its type.
    """

    model: str
    partition: str
    delivery: str
    delivered: datetime
    rows_in: int
    rows_out: int
    rows_quarantined: int
    broken_rules: tuple[BrokenRule, ...]
    first: datetime
    last: datetime
    table_version: int
    files: dict[str, str]
    content: str
    profile: Profile
    layout: tuple[str, ...] = ()


class BrokenContractError(Exception):
    """A delivery that breaks the contract as a whole: nothing of it can be used. Holds names, never values."""


class Judged(NamedTuple):
    """A delivery, parted: rows in = good rows + quarantined rows. `layout` are its columns as they came."""

    rows_in: int
    good: pd.DataFrame
    quarantined: pa.Table
    broken: tuple[BrokenRule, ...]
    layout: tuple[str, ...]

    @property
    def bad_share(self) -> float:
        """The share of rows that are quarantined."""
        return self.quarantined.num_rows / self.rows_in


def judge(
    files: Mapping[str, pa.Table], spec: ModelSpec, contract: pandera.DataFrameSchema, window: Window | None = None
) -> Judged:
    """Part the rows of a delivery's files into those that honour the contract, in order of time, and those that do not.

    All rules are judged for all rows. Times outside `window` break a rule. Raises BrokenContractError where columns
    are missing, too many, named twice, of another type or empty, where there are no rows, and where the good rows
    together break a rule of the contract that no single row breaks.
    """
    _refuse_columns(files, spec, contract)
    findings = Findings([table.num_rows for table in files.values()])
    frame = _typed(files, spec, contract, findings)
    findings.add(spec.time.name, _outside(frame[spec.time.name], window))
    _apply_checks(frame, contract, findings)
    _apply_uniqueness(frame, contract, findings)
    quarantined = quarantine(files, findings, spec.time, pii_columns(contract))
    good = _good(frame, findings.rows(), spec.time.name)
    _refuse_together(good, contract)
    return Judged(findings.total, good, quarantined, _broken_rules(list(files), findings), _layout(files))


def _layout(files: Mapping[str, pa.Table]) -> tuple[str, ...]:
    """The delivered columns with their types, in order; a column again where files differ in it."""
    return tuple(dict.fromkeys(f"{field.name}: {field.type}" for table in files.values() for field in table.schema))


def _refuse_columns(files: Mapping[str, pa.Table], spec: ModelSpec, contract: pandera.DataFrameSchema) -> None:
    expected = delivered(contract, spec)
    for file, table in files.items():
        names = table.column_names
        if not set(names) & set(expected):
            raise BrokenContractError(f"{file}: none of the expected columns is there: {_listed(expected)}.")
        faults = {
            "missing columns": [name for name in expected if name not in names],
            "columns that the contract does not have": [name for name in names if name not in expected],
            "columns named twice": [name for name, count in Counter(names).items() if count > 1],
        }
        found = "; ".join(f"{fault}: {_listed(names)}" for fault, names in faults.items() if names)
        if found:
            raise BrokenContractError(f"{file}: {found}. Expected: {_listed(expected)}.")
    if not any(table.num_rows for table in files.values()):
        raise BrokenContractError(f"{', '.join(files) or 'the delivery'}: EMPTY, there are no rows.")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return ", ".join(repr(name[:LONGEST_NAME]) for name in names[:NAMES]) + more


def _typed(
    files: Mapping[str, pa.Table], spec: ModelSpec, contract: pandera.DataFrameSchema, findings: Findings
) -> pd.DataFrame:
    """All files' rows, each column in the dtype that the contract declares."""
    import pyarrow as pa

    parts: dict[str, list[pa.Array]] = {name: [] for name in contract.columns}
    faults = []
    for number, (file, table) in enumerate(files.items()):
        for name, column in contract.columns.items():
            try:
                cells = _cells(table, column, spec)
            except WrongTypeError as error:
                faults.append(f"{file}: column {name!r} holds {error}")
                continue
            findings.add(name, cells.broken, number)
            parts[name].append(cells.values)
    if faults:
        raise BrokenContractError(f"{'; '.join(faults)}.")
    together = {name: pa.chunked_array(arrays).unify_dictionaries() for name, arrays in parts.items()}
    return pd.DataFrame({name: series(cells, contract.columns[name]) for name, cells in together.items()}, copy=False)


def _cells(table: pa.Table, column: pandera.Column, spec: ModelSpec) -> Cells:
    sources = spec.time.columns if column.name == spec.time.name else (column.name,)
    cells = [table.column(name) for name in sources]
    if table.num_rows and not column.nullable and any(each.null_count == table.num_rows for each in cells):
        raise WrongTypeError("nothing at all, and it must not be missing")
    if column.name == spec.time.name:
        return not_missing(moments(parse(cells, spec.time)))
    return convert(cells[0], column, spec.time.timezone)


def _outside(times: pd.Series, window: Window | None) -> dict[str, np.ndarray]:
    if window is None:
        return {}
    start, end = window
    broken = (times < start) | (times >= end)
    return {f"is from {start:%Y-%m-%d %H:%M} to before {end:%Y-%m-%d %H:%M} UTC": broken.to_numpy()}


def _apply_checks(frame: pd.DataFrame, contract: pandera.DataFrameSchema, findings: Findings) -> None:
    """Note the rows that break the contract's own checks, cells that are broken already left alone."""
    for name, column in contract.columns.items():
        for check in column.checks:
            broken = _broken_rows(check, frame[name])
            if broken is not None:
                findings.add(name, {_rule(check): broken & ~findings.rows(name)})
    for check in contract.checks:
        broken = _broken_rows(check, frame)
        if broken is not None:
            findings.add(SEVERAL, {_rule(check): broken & ~findings.rows()})


def _broken_rows(check: pandera.Check, subject: pd.Series | pd.DataFrame) -> np.ndarray | None:
    """The rows that break a check; None where it passes, or is about all rows together."""
    if check.groupby is not None:
        return None
    result = check(subject)
    if result.check_passed or not isinstance(result.check_output, pd.Series):
        return None
    passed = result.check_output
    broken = np.zeros(len(subject), bool)
    broken[passed.index[~passed.to_numpy(bool, na_value=True)]] = True
    return broken


def _rule(check: pandera.Check | str) -> str:
    text = check if isinstance(check, str) else check.description or check.error or check.name or "an unnamed check"
    return text if len(text) <= LONGEST_RULE else f"{text[: LONGEST_RULE - 1]}…"


def _apply_uniqueness(frame: pd.DataFrame, contract: pandera.DataFrameSchema, findings: Findings) -> None:
    """Note rows that stand twice, among those that break no other rule."""
    unique = {name: ([name], column.report_duplicates) for name, column in contract.columns.items() if column.unique}
    if contract.unique:
        unique[SEVERAL] = (list(contract.unique), contract.report_duplicates)
    for name, (columns, report) in unique.items():
        others = ~findings.rows()
        twice = np.zeros(len(frame), bool)
        twice[others] = frame.loc[others, columns].duplicated(keep=KEPT[report])
        findings.add(name, {f"is unique ({', '.join(columns)})": twice})


def _good(frame: pd.DataFrame, bad: np.ndarray, time: str) -> pd.DataFrame:
    if bad.any():
        frame = frame[~bad].reset_index(drop=True)
        for name in frame.columns[frame.dtypes == "category"]:
            if not frame[name].cat.ordered:
                frame[name] = frame[name].cat.remove_unused_categories()
    return frame if frame[time].is_monotonic_increasing else frame.sort_values(time, kind="stable", ignore_index=True)


def _refuse_together(good: pd.DataFrame, contract: pandera.DataFrameSchema) -> None:
    """The contract has the last word, on the good rows: what it still refuses is no single row's fault."""
    from pandera.errors import SchemaErrors

    if good.empty:
        return
    try:
        _unconverted(contract, good).validate(good, lazy=True, inplace=True)
    except SchemaErrors as errors:
        rules = sorted({f"{error.schema.name or 'rows'}: {_rule(error.check)}" for error in errors.schema_errors})
        raise BrokenContractError(f"the rows together break {'; '.join(rules)}.") from None


def _unconverted(contract: pandera.DataFrameSchema, rows: pd.DataFrame) -> pandera.DataFrameSchema:
    """The contract, but columns of the declared type are left as they are: converting them again takes longest."""
    found = copy(contract)
    found.coerce = False
    found.columns = {name: copy(column) for name, column in contract.columns.items()}
    for name, column in found.columns.items():
        column.coerce = (contract.coerce or column.coerce) and rows[name].dtype != column.dtype.type
    return found


def _broken_rules(files: list[str], findings: Findings) -> tuple[BrokenRule, ...]:
    found = []
    for number, file in enumerate(files):
        here = slice(*findings.starts[number : number + 2])
        for (column, rule), rows in findings.broken.items():
            if count := int(np.count_nonzero(rows[here])):
                few = tuple((np.flatnonzero(rows[here])[:FEW] + 1).tolist())
                found.append(BrokenRule(file=file, column=column, rule=rule, count=count, rows=few))
    return tuple(found)


def as_table(rows: pd.DataFrame) -> pa.Table:
    """Rows as Arrow, text as dictionaries of strings: the form in which they are stored."""
    import pyarrow as pa

    table = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None)
    for index, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type) and not pa.types.is_string(field.type.value_type):
            text = pa.dictionary(field.type.index_type, pa.string())
            table = table.set_column(index, field.name, table.column(index).cast(text))
    return table


def content_digest(table: pa.Table) -> str:
    """SHA-256 (hex) of the cells, names and types of a table: the same rows in the same order, the same digest."""
    import pyarrow as pa

    sink = _Digest()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.sha256.hexdigest()


class _Digest(io.RawIOBase):
    """A file that keeps only the digest of what is written to it."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        """Anything may be written."""
        return True

    def write(self, content: Any) -> int:
        """Take `content` into the digest."""
        self.sha256.update(content)
        return len(content)
