"""Contracts: what a model's rows must be, read from its pandera schema. Judging rows by it is in validation.py."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from mlops_assets.ml.spec import ModelSpec

if TYPE_CHECKING:
    import pandera.pandas as pandera
    import pyarrow as pa

Kind = Literal["number", "integer", "boolean", "text", "time"]


class ContractError(Exception):
    """A contract that cannot be honoured, whatever is delivered: the declaration is wrong, not the data."""


def load_contract(path: str) -> pandera.DataFrameSchema:
    """The schema behind `module.Class`: a pandera DataFrameModel, or a DataFrameSchema."""
    module, _, name = path.rpartition(".")
    contract = getattr(importlib.import_module(module), name)
    return contract.to_schema() if isinstance(contract, type) else contract


def kind_of(column: pandera.Column) -> Kind:
    """What a column's cells are, whatever their width."""
    declared = column.dtype.type
    types = pd.api.types
    if types.is_bool_dtype(declared):
        return "boolean"
    if types.is_integer_dtype(declared):
        return "integer"
    if types.is_float_dtype(declared):
        return "number"
    if types.is_datetime64_any_dtype(declared):
        return "time"
    return "text"


def column_types(contract: pandera.DataFrameSchema, spec: ModelSpec) -> dict[str, pa.DataType]:
    """How a reader should read each delivered column: text dictionary-encoded, times as the text that they are."""
    import pyarrow as pa

    arrow = {
        "number": pa.float64(),
        "integer": pa.int64(),
        "boolean": pa.bool_(),
        "text": pa.dictionary(pa.int32(), pa.string()),
        "time": pa.string(),
    }
    return {
        name: arrow[kind_of(contract.columns[name])] for name in delivered(contract, spec) if name in contract.columns
    } | {name: pa.string() for name in spec.time.columns if name not in contract.columns}


def delivered(contract: pandera.DataFrameSchema, spec: ModelSpec) -> list[str]:
    """The columns that a delivery must have: the contract's, with the time as the columns it is delivered in."""
    parsed = set() if spec.time.name in spec.time.columns else {spec.time.name}
    raw = [name for name in spec.time.columns if name not in contract.columns]
    return raw + [name for name in contract.columns if name not in parsed]


def pii_columns(contract: pandera.DataFrameSchema) -> tuple[str, ...]:
    """The columns marked as personal data: their values never reach a report, a log or a message."""
    return tuple(name for name, column in contract.columns.items() if (column.metadata or {}).get("pii"))


def inputs(contract: pandera.DataFrameSchema, spec: ModelSpec) -> tuple[str, ...]:
    """The columns that a model is given, in the contract's order: all but the target and the excluded."""
    return tuple(name for name in contract.columns if name != spec.target and name not in spec.exclude)


def refuse_impossible(contract: pandera.DataFrameSchema, spec: ModelSpec) -> None:
    """Raise ContractError, with everything that is wrong, for a contract that no delivery could honour."""
    wrong = [
        *_missing_columns(contract, spec),
        *(text for name in contract.columns for text in _faults(contract, name)),
    ]
    if contract.strict is not True or contract.index is not None:
        wrong.append("It must be strict (Config: strict = True) and have no index.")
    if wrong:
        raise ContractError(f"{spec.contract}: {' '.join(wrong)}")


def _missing_columns(contract: pandera.DataFrameSchema, spec: ModelSpec) -> list[str]:
    named = {
        "time.name": (spec.time.name,),
        "target": (spec.target,),
        "exclude": spec.exclude,
        "evaluation.slices": spec.evaluation.slices,
        "labels.key": spec.labels.key if spec.labels else (),
    }
    if spec.labels is not None:
        del named["target"]
    too_early = spec.labels is not None and spec.target in contract.columns
    known = [f"The target {spec.target!r} comes with the labels: leave it out of the contract."] if too_early else []
    return known + [
        f"{field} names {name!r}, which is not a column of the contract."
        for field, names in named.items()
        for name in names
        if name not in contract.columns
    ]


def _faults(contract: pandera.DataFrameSchema, name: str) -> list[str]:
    column = contract.columns[name]
    if column.dtype is None or not column.required or column.regex:
        return [f"Column {name!r} must have a type and a name of its own, and always be there."]
    if any(check.raise_warning for check in column.checks):
        return [f"Column {name!r} has a check that only warns, and warnings quote values: make it a rule."]
    kind, declared = kind_of(column), column.dtype.type
    if kind == "time" and str(getattr(declared, "tz", None)) != "UTC":
        return [f"Column {name!r} is a time without UTC: declare pd.DatetimeTZDtype with unit 'us' and tz 'UTC'."]
    if kind in {"integer", "boolean"} and column.nullable and not pd.api.types.is_extension_array_dtype(declared):
        return [
            f"Column {name!r} may be missing, which {declared} cannot be: declare pd.Int64Dtype or pd.BooleanDtype."
        ]
    if kind == "text" and any(not isinstance(value, str) for check in column.checks for value in _allowed(check)):
        return [f"Column {name!r} holds text, and its isin lists other things: write isin=['1', '2']."]
    return []


def _allowed(check: Any) -> tuple[Any, ...]:
    return tuple(check.statistics.get("allowed_values", ())) if check.name == "isin" and check.statistics else ()
