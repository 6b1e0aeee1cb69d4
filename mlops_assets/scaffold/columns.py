"""What each column of the sample must be from now on: type, range or categories, and whether it may be missing."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mlops_assets.ml.cells import composed
from mlops_assets.scaffold.sample import Sample, ScaffoldError

if TYPE_CHECKING:
    import pyarrow as pa

MOST_CATEGORIES = 50
CATEGORY_SHARE = 0.05
NAMES_SHARE = 0.5
SLACK = 0.5
PERSONAL = re.compile(
    r"e.?mail|phone|passport|ssn|iban|(first|last|sur|full).?name|street|address|birth", re.IGNORECASE
)


@dataclass(frozen=True)
class ColumnGuess:
    """A column as the contract will declare it, and why a model should not learn from it, if it should not."""

    name: str
    annotation: str
    rules: dict[str, Any] = field(default_factory=dict)
    unfit: str | None = None


def guess_columns(sample: Sample, target: str, left_out: Iterable[str]) -> list[ColumnGuess]:
    """A guess for each column of the sample but those `left_out`, in their order."""
    skipped = set(left_out)
    return [_guess(sample, name, name == target) for name in sample.table.column_names if name not in skipped]


def attribute(name: str, taken: set[str]) -> str:
    """A Python name for a column of any name, unlike those in `taken`: the column's own where it can be one."""
    import pandera.pandas as pandera

    plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()
    plain = name if name.isidentifier() and name.isascii() and not name.startswith("_") else plain or "column"
    plain = f"c_{plain}" if plain[0].isdigit() else plain
    while keyword.iskeyword(plain) or plain in taken or hasattr(pandera.DataFrameModel, plain):
        plain += "_"
    taken.add(plain)
    return plain


def _guess(sample: Sample, name: str, is_target: bool) -> ColumnGuess:
    import pyarrow as pa

    cells = sample.table.column(name)
    kind = cells.type.value_type if pa.types.is_dictionary(cells.type) else cells.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise ScaffoldError(f"Column {name!r} holds {kind}: flatten it, or leave it out of the deliveries.")
    missing = cells.null_count > 0 and not is_target
    if cells.null_count == len(cells):
        return ColumnGuess(name, "pd.CategoricalDtype", {"nullable": True}, "it is empty in the whole sample")
    if pa.types.is_boolean(kind):
        return ColumnGuess(name, *(("pd.BooleanDtype", {"nullable": True}) if missing else ("bool", {})))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _number(name, cells.drop_null().cast(pa.float64(), safe=False).to_numpy(), kind, missing, is_target)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        rules = {"dtype_kwargs": {"unit": "us", "tz": "UTC"}, **_nullable(missing)}
        return ColumnGuess(name, "pd.DatetimeTZDtype", rules, "it is a time, and not the one to go by")
    return _text(name, cells, missing, is_target)


def _number(name: str, values: np.ndarray, kind: pa.DataType, missing: bool, is_target: bool) -> ColumnGuess:
    import pyarrow as pa

    values = values[np.isfinite(values)]
    annotation = "int" if pa.types.is_integer(kind) and not missing else "float"
    distinct = np.unique(values)
    if len(distinct) == 2 and annotation == "int" and (is_target or set(distinct) <= {0, 1}):
        return ColumnGuess(name, annotation, {"isin": distinct.astype(int).tolist()})
    low, high = wide_range(values)
    if annotation == "int":
        low, high = math.floor(low), math.ceil(high)
    return ColumnGuess(name, annotation, {**_nullable(missing), "ge": low, "le": high})


def wide_range(values: np.ndarray) -> tuple[float, float]:
    """The range of the values and half as much on each side, rounded outwards; what is never negative stays so."""
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    slack = SLACK * (high - low) or max(abs(low), 1.0)
    below = 0.0 if low >= 0 and low - slack < 0 else _outwards(low - slack, np.floor)
    return below, _outwards(high + slack, np.ceil)


def _outwards(value: float, rounding: np.ufunc) -> float:
    """The value with two digits that count, rounded by `rounding`."""
    if value == 0:
        return 0.0
    digits = 1 - int(np.floor(np.log10(abs(value))))
    return round(float(rounding(value * 10.0**digits) / 10.0**digits), max(digits, 0))


def _text(name: str, cells: pa.ChunkedArray, missing: bool, is_target: bool) -> ColumnGuess:
    import pyarrow as pa

    values = sorted(set(composed(cells.drop_null().cast(pa.string()).unique()).to_pylist()))
    rules = _nullable(missing)
    if PERSONAL.search(name) and not is_target:
        return ColumnGuess(name, "pd.CategoricalDtype", {**rules, "metadata": {"pii": "direct"}}, "it looks personal")
    if is_target or len(values) <= min(MOST_CATEGORIES, max(CATEGORY_SHARE * len(cells), 2)):
        return ColumnGuess(name, "pd.CategoricalDtype", {**rules, "isin": values})
    if len(values) > NAMES_SHARE * len(cells):
        return ColumnGuess(name, "pd.CategoricalDtype", rules, "nearly every row has a text of its own")
    return ColumnGuess(name, "pd.CategoricalDtype", rules)


def _nullable(missing: bool) -> dict[str, Any]:
    return {"nullable": True} if missing else {}


def as_frame(sample: Sample, moments: pd.DatetimeIndex) -> pd.DataFrame:
    """The sample's rows in order of time, with the moment of each in `moments`."""
    order = np.argsort(moments.to_numpy(), kind="stable")
    frame = sample.table.to_pandas()
    return frame.iloc[order[~moments.isna()[order]]].reset_index(drop=True)
