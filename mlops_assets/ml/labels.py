"""Labels that come later than their rows: what was delivered, which label counts, and the label of each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from mlops_assets.ml.cells import Cells, WrongTypeError, convert, moments, not_missing, series
from mlops_assets.ml.contracts import kind_of, pii_columns
from mlops_assets.ml.metrics import Task
from mlops_assets.ml.quarantine import SEVERAL, Findings, quarantine
from mlops_assets.ml.spec import Labels, ModelSpec, Time, Value, digest_of
from mlops_assets.ml.timestamps import parse
from mlops_assets.ml.validation import BrokenContractError, ValidatedPartition

if TYPE_CHECKING:
    import pandera.pandas as pandera
    import pyarrow as pa

LABEL, KNOWN, PLACE = "(label)", "(known)", "(place)"
STORED_LABEL, STORED_KNOWN = "label", "known"
CONFLICT = "is the only label that was known last for its row"


class LabelledPartition(Value):
    """What `labels` says of one partition: the label of each validated row, in their order, and when it was known.

    `delivery` is the version of the delivered labels (None while there are none), `rows_of` the content digest of the
    validated rows, which are in `rows_files`; `quarantined` more rows were delivered. `unknown` labels have no row,
    `conflicting` ones differ for one row, `superseded` ones gave way to a later one, `broken` ones cannot be read.
    `files` and `content` as in ValidatedPartition. `extends` are the earlier deliveries to which later ones have only
    added: no label of theirs has changed.
    """

    model: str
    partition: str
    delivery: str | None
    rows_of: str
    rows_files: dict[str, str]
    rows: int
    quarantined: int = 0
    labelled: int
    unknown: int
    conflicting: int
    superseded: int
    broken: int
    table_version: int
    files: dict[str, str]
    content: str
    extends: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """The data version: same labels of same rows, same version."""
        return digest_of([self.delivery, self.rows_of, self.content])

    @property
    def strangers(self) -> int:
        """How many labels have no row though no row of theirs can have been quarantined."""
        return max(self.unknown - self.quarantined, 0)

    def teaches(self, part: ValidatedPartition) -> bool:
        """Whether some of the rows as they are now have a label."""
        return self.is_of(part) and bool(self.files)

    def holds(self, delivery: str | None) -> bool:
        """Whether what an earlier delivery said of the rows is still so, for as many as it knew of."""
        return delivery in (self.delivery, *self.extends)

    def is_of(self, part: ValidatedPartition) -> bool:
        """Whether these are the labels of the rows as they are now."""
        return self.rows_of == part.content


class Settled(NamedTuple):
    """The one label that counts for each key, with what did not count: its rows, and how many keys it is about."""

    labels: pd.DataFrame
    conflicts: np.ndarray
    conflicting: int
    superseded: int


@dataclass(frozen=True)
class Delivered:
    """The labels of one delivery: the one that counts for each key, the rows set aside, and why."""

    settled: Settled
    quarantined: pa.Table
    rows: int
    broken: int


class Joined(NamedTuple):
    """The label of each row and when it was known, missing where there is none; and how many labels have no row."""

    table: pa.Table
    labelled: int
    unknown: int

    @property
    def stored(self) -> pa.Table:
        """What is stored: nothing while there is no label, as nothing would be known of its type."""
        return self.table if self.labelled else self.table.slice(0, 0).select([STORED_KNOWN])


def source_of(spec: ModelSpec) -> ModelSpec:
    """The declaration as the source of labels sees it. Only for models that declare one."""
    labels = declared(spec)
    return spec.model_copy(update={"source": labels.source, "time": labels.time or spec.time})


def declared(spec: ModelSpec) -> Labels:
    """The declared labels of a model that has them."""
    if spec.labels is None:
        raise ValueError(f"{spec.name} declares no labels: its target stands in the rows.")
    return spec.labels


def column_types(contract: pandera.DataFrameSchema, spec: ModelSpec) -> dict[str, pa.DataType]:
    """How a reader should read delivered labels: times as the text that they are, numbers where they are declared."""
    import pyarrow as pa

    labels, time = declared(spec), source_of(spec).time
    kinds = {"number": pa.float64(), "integer": pa.int64(), "boolean": pa.bool_(), "time": pa.string()}
    text = pa.dictionary(pa.int32(), pa.string())
    found = {name: kinds.get(kind_of(contract.columns[name]), text) for name in labels.key}
    found |= dict.fromkeys([*time.columns, *([labels.known] if labels.known else [])], pa.string())
    return found | ({spec.target: pa.float64()} if spec.task == "regression" else {})


def judge(
    files: Mapping[str, pa.Table],
    arrived: Mapping[str, datetime],
    spec: ModelSpec,
    contract: pandera.DataFrameSchema,
) -> Delivered:
    """Part the labels of a delivery's files into the one that counts for each key, and those that are set aside.

    `arrived` says when each file was delivered. Raises BrokenContractError where columns are missing or hold another
    kind of thing.
    """
    files = _needed(files, spec)
    findings = Findings([table.num_rows for table in files.values()])
    frame = _typed(files, arrived, spec, contract, findings)
    broken = findings.rows()
    settled = settle(frame[~broken & frame[LABEL].notna().to_numpy()], declared(spec).key)
    conflicts = np.zeros(findings.total, bool)
    conflicts[settled.conflicts] = True
    findings.add(SEVERAL, {CONFLICT: conflicts})
    aside = quarantine(files, findings, source_of(spec).time, pii_columns(contract))
    return Delivered(settled, aside, findings.total, int(broken.sum()))


def matured(spec: ModelSpec, labelled: int, rows: int) -> bool:
    """Whether so many labelled rows of so many are enough to judge by. Labels that come with their rows always are."""
    return labelled > 0 and (spec.labels is None or labelled / rows >= spec.labels.matured)


def settle(labels: pd.DataFrame, key: Sequence[str]) -> Settled:
    """One label a key: the one known last, and since when it was known. Two that were known last together are none."""
    if labels.empty:
        return Settled(labels, np.array([], np.int64), 0, 0)
    groups = labels.groupby(list(key), sort=False, observed=True)
    group, value = groups.ngroup().to_numpy(), pd.factorize(labels[LABEL])[0]
    contradicted = _several(group, value)
    last = (labels[KNOWN] == groups[KNOWN].transform("max")).to_numpy() | ~contradicted
    conflict = np.zeros(len(labels), bool)
    conflict[last] = _several(group[last], value[last])
    keys_in_conflict = np.unique(group[conflict])
    lost = contradicted & ~last & ~np.isin(group, keys_in_conflict)
    kept = labels[last & ~conflict].sort_values(KNOWN, kind="stable").drop_duplicates(list(key))
    return Settled(kept, labels.index[conflict].to_numpy(), len(keys_in_conflict), int(lost.sum()))


def join(rows: pd.DataFrame, labels: pd.DataFrame, key: Sequence[str], before: pd.DataFrame | None = None) -> Joined:
    """The label of each of `rows`, which hold the key, in their order.

    `before` holds key, label and known of an earlier state: a label that is in both was known since then.
    """
    import pyarrow as pa

    numbered = labels.assign(**{PLACE: np.arange(len(labels))})
    found = _as_declared(rows[list(key)], labels).merge(numbered, how="left", on=list(key))
    if before is not None:
        found[KNOWN] = _since(found, before, key)
    places = found[PLACE].dropna()
    unknown = len(labels) - places.nunique()
    if places.empty:
        return nothing(len(rows))._replace(unknown=unknown)
    known = pa.array(found[KNOWN], pa.timestamp("us", "UTC"))
    return Joined(pa.table({STORED_LABEL: _as_array(found[LABEL]), STORED_KNOWN: known}), len(places), unknown)


def only_adds(before: pd.Series, now: pd.Series) -> bool:
    """Whether each row that had a label before has the same now. Both are of the same rows, in their order."""
    known = before.notna().to_numpy()
    then, since = (each.astype(object).to_numpy()[known] for each in (before, now))
    return not pd.isna(since).any() and bool((then == since).all())


def nothing(rows: int) -> Joined:
    """So many rows, none of which has a label."""
    import pyarrow as pa

    known = pa.nulls(rows, pa.timestamp("us", "UTC"))
    return Joined(pa.table({STORED_LABEL: pa.nulls(rows), STORED_KNOWN: known}), 0, 0)


def _as_declared(rows: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Keys as the contract declares them: whole numbers that may be missing are read back as other numbers."""
    kinds = labels.dtypes[list(rows.columns)].to_dict()
    masked = {name: kind for name, kind in kinds.items() if kind.kind in "iub" and not isinstance(kind, np.dtype)}
    return rows.astype(masked) if masked else rows


def as_target(stored: pd.Series, task: Task) -> pd.Series:
    """Labels as they were before they were stored: whole numbers and truth values with gaps come back as others."""
    if task == "regression" or isinstance(stored.dtype, pd.CategoricalDtype):
        return stored
    kinds = {"f": "Int64", "O": "boolean"}
    return stored.astype(kinds[stored.dtype.kind]) if stored.dtype.kind in kinds else stored


def content_of(part: ValidatedPartition, labelled: LabelledPartition | None = None) -> str:
    """The digest of what is learned of a partition: the stored rows, and their labels where those have files."""
    return digest_of(sorted([*part.files.values(), *(labelled.files.values() if labelled else ())]))


def _several(group: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Which rows belong to a group with more than one value."""
    pairs = pd.DataFrame({"group": group, "value": value}).drop_duplicates()
    counts = np.bincount(pairs["group"], minlength=group.max(initial=-1) + 1)
    return counts[group] > 1


def _since(found: pd.DataFrame, before: pd.DataFrame, key: Sequence[str]) -> pd.Series:
    """Since when each label was known: since the earlier state, where that had the same."""
    held = before[before[LABEL].notna()].drop_duplicates(list(key))
    merged = found[list(key)].merge(held, how="left", on=list(key))
    same = merged[LABEL].astype(object).eq(found[LABEL].astype(object)).to_numpy()
    earlier = same & (merged[KNOWN] < found[KNOWN]).to_numpy()
    return found[KNOWN].where(~earlier, merged[KNOWN])


def _needed(files: Mapping[str, pa.Table], spec: ModelSpec) -> dict[str, pa.Table]:
    """The columns that are looked at. Others may be there, and are nobody's business here."""
    labels, time = declared(spec), source_of(spec).time
    keys = [name for name in labels.key if name != time.name]
    timed = list(time.columns) if time.name in labels.key else []
    wanted = list(dict.fromkeys([*timed, *keys, spec.target, *([labels.known] if labels.known else [])]))
    for file, table in files.items():
        if missing := [name for name in wanted if name not in table.column_names]:
            raise BrokenContractError(f"{file}: missing columns: {', '.join(map(repr, missing))}.")
    return {file: table.select(wanted) for file, table in files.items()}


def _typed(
    files: Mapping[str, pa.Table],
    arrived: Mapping[str, datetime],
    spec: ModelSpec,
    contract: pandera.DataFrameSchema,
    findings: Findings,
) -> pd.DataFrame:
    """All files' labels: the key as the contract declares it, the label, and when it was known."""
    labels = declared(spec)
    parts: dict[str, list[pa.Array]] = {name: [] for name in (*labels.key, LABEL, KNOWN)}
    for number, (file, table) in enumerate(files.items()):
        try:
            cells = {name: _key(table, contract.columns[name], spec) for name in labels.key}
            cells |= {LABEL: _label(table.column(spec.target), spec), KNOWN: _known(table, arrived[file], spec)}
        except WrongTypeError as error:
            raise BrokenContractError(f"{file}: {error}.") from error
        for name, found in cells.items():
            findings.add({LABEL: spec.target, KNOWN: str(labels.known)}.get(name, name), found.broken, number)
            parts[name].append(found.values)
    typed = {name: _together(arrays) for name, arrays in parts.items()}
    keys = {name: series(typed[name], contract.columns[name]) for name in labels.key}
    known = pd.Series(typed[KNOWN].to_pandas())
    return pd.DataFrame({**keys, LABEL: with_gaps(typed[LABEL]), KNOWN: known}, copy=False)


def with_gaps(labels: pa.ChunkedArray) -> pd.Series:
    """Labels as pandas, whole numbers and truth values in types that can be missing."""
    import pyarrow as pa

    return labels.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}.get)


def _together(arrays: Sequence[pa.Array]) -> pa.ChunkedArray:
    """The cells of all files as one column: text where the files do not agree on a kind."""
    import pyarrow as pa

    text = pa.dictionary(pa.int32(), pa.string())
    kinds = {array.type for array in arrays if array.null_count < len(array)}
    kind = kinds.pop() if len(kinds) == 1 else text
    alike = []
    for array in arrays:
        found = array if array.null_count < len(array) else pa.nulls(len(array), kind)
        alike.append(found if found.type == kind else found.cast(pa.string()).dictionary_encode())
    return pa.chunked_array(alike, kind).unify_dictionaries()


def _key(table: pa.Table, column: pandera.Column, spec: ModelSpec) -> Cells:
    """The cells of a key's column; one that is missing leads to no row."""
    time = source_of(spec).time
    if column.name == spec.time.name:
        return not_missing(moments(parse([table.column(name) for name in time.columns], time)))
    found = convert(table.column(column.name), column, time.timezone)
    return found if "is not missing" in found.broken else not_missing(found)


def _label(cells: pa.ChunkedArray, spec: ModelSpec) -> Cells:
    """The cells of the target: numbers in a regression, else whole numbers, true and false, or text as delivered.

    Text of which most are whole numbers is meant to be numbers: the others are broken.
    """
    import pandera.pandas as pandera
    import pyarrow as pa

    kinds = {"number": float, "integer": pd.Int64Dtype(), "boolean": pd.BooleanDtype(), "text": str}
    whole = pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type)
    kind = "integer" if whole else "boolean" if pa.types.is_boolean(cells.type) else "text"
    kind = "number" if spec.task == "regression" else kind

    def read(kind: str) -> Cells:
        column = pandera.Column(kinds[kind], nullable=True, name=spec.target)
        return convert(cells, column, spec.time.timezone)

    if kind != "text":
        return read(kind)
    numbers = read("integer")
    broken = np.logical_or.reduce(list(numbers.broken.values()))
    return numbers if 2 * broken.sum() < len(cells) - cells.null_count else read("text")


def _known(table: pa.Table, arrived: datetime, spec: ModelSpec) -> Cells:
    """When each label became known: as declared, which is never later than its delivery, or with the delivery."""
    import pyarrow as pa

    labels, stamp = declared(spec), pa.timestamp("us", "UTC")
    if labels.known is None:
        return Cells(pa.repeat(pa.scalar(arrived, stamp), table.num_rows), {})
    time = Time(columns=(labels.known,), timezone=source_of(spec).time.timezone)
    found = not_missing(moments(parse([table.column(labels.known)], time)))
    late = found.values.to_pandas().gt(pd.Timestamp(arrived)).to_numpy()
    return Cells(found.values, {**found.broken, "is not later than its delivery": late})


def _as_array(labels: pd.Series) -> pa.Array:
    """Labels as Arrow, text as dictionaries of strings."""
    import pyarrow as pa

    found = pa.Array.from_pandas(labels)
    return found.dictionary_encode() if pa.types.is_string(found.type) else found
