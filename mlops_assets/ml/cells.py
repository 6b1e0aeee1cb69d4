"""Delivered cells turned into what the contract declares: numbers, text, times. A cell that cannot be breaks a rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from unicodedata import normalize

import numpy as np
import pandas as pd

from mlops_assets.ml.contracts import kind_of
from mlops_assets.ml.spec import Time
from mlops_assets.ml.timestamps import Moments, parse

if TYPE_CHECKING:
    import pandera.pandas as pandera
    import pyarrow as pa

NUMBER = r"^[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[iI]nf|[iI]nfinity|[nN]a[nN])$"
WHOLE_NUMBER = r"^[+-]?\d{1,18}(\.0*)?$"
HIDDEN = r"[\p{C}\p{Zl}\p{Zp}]"
EXACT = 2**53


class WrongTypeError(Exception):
    """A whole column holds another kind of thing than the contract declares."""


class Cells(NamedTuple):
    """One column as the contract declares it, missing where it is broken, and the broken rows by the rule's name."""

    values: pa.Array
    broken: dict[str, np.ndarray]


def convert(cells: pa.ChunkedArray, column: pandera.Column, timezone: str) -> Cells:
    """The cells of a column as its contract declares them. Raises WrongTypeError where the whole column cannot be."""
    import pyarrow as pa

    if pa.types.is_null(cells.type):
        cells = cells.cast(pa.string())
    match kind_of(column):
        case "number":
            found = _numbers(cells, column)
        case "integer":
            found = _integers(cells, column)
        case "boolean":
            found = _booleans(cells)
        case "time":
            found = moments(parse([cells], Time(columns=(column.name,), timezone=timezone)))
        case _:
            found = _text(cells, column)
    found = _without_broken(found)
    return found if column.nullable else not_missing(found)


def moments(found: Moments) -> Cells:
    """Parsed times as a column."""
    import pyarrow as pa

    return Cells(pa.array(found.utc, pa.timestamp("us", "UTC")), found.broken)


def not_missing(cells: Cells) -> Cells:
    """The same column, where a missing cell breaks a rule as well."""
    missing = cells.values.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    for rows in cells.broken.values():
        missing = missing & ~rows
    return Cells(cells.values, {**cells.broken, "is not missing": missing})


def series(values: pa.ChunkedArray, column: pandera.Column) -> pd.Series:
    """A converted column in the very dtype that the contract declares."""
    import pyarrow as pa

    declared = column.dtype.type
    if pa.types.is_integer(values.type) or pa.types.is_boolean(values.type):
        extension = pd.api.types.is_extension_array_dtype(declared)
        wide = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
        nothing = pa.scalar(0).cast(values.type)
        found = values.to_pandas(types_mapper=wide.get) if extension else values.fill_null(nothing).to_pandas()
    else:
        found = values.to_pandas()
    if isinstance(found.dtype, pd.CategoricalDtype) and not isinstance(declared, pd.CategoricalDtype):
        found = found.astype(object)
    any_category = isinstance(declared, pd.CategoricalDtype) and declared.categories is None
    return found if found.dtype == declared or any_category else column.dtype.coerce(found)


def _without_broken(cells: Cells) -> Cells:
    """The same column, missing where it is broken."""
    import pyarrow as pa
    import pyarrow.compute as pc

    bad = [rows for rows in cells.broken.values() if rows.any()]
    if not bad:
        return cells
    sound = pa.array(~np.logical_or.reduce(bad))
    return Cells(pc.if_else(sound, cells.values, pa.scalar(None, cells.values.type)), cells.broken)


def _numbers(cells: pa.ChunkedArray, column: pandera.Column) -> Cells:
    import pyarrow as pa

    values, broken = _floats(cells)
    with np.errstate(over="ignore"):
        finite = np.isfinite(values.astype(_width(column), copy=False)) | np.isnan(values)
    return Cells(pa.array(values), {**broken, "is finite": ~finite})


def _floats(cells: pa.ChunkedArray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if _is_text(cells.type):
        text = pc.utf8_trim_whitespace(cells.cast(pa.string()))
        readable = pc.match_substring_regex(text, NUMBER)
        values = pc.if_else(readable, text, None).cast(pa.float64())
        return values.to_numpy(), {"is a number": _true(pc.invert(readable))}
    if not (pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type) or pa.types.is_decimal(cells.type)):
        raise WrongTypeError(f"{cells.type} where numbers are declared")
    return cells.cast(pa.float64(), safe=False).to_numpy(), {}


def _integers(cells: pa.ChunkedArray, column: pandera.Column) -> Cells:
    import pyarrow as pa
    import pyarrow.compute as pc

    width = np.iinfo(_width(column))
    if _is_text(cells.type):
        text = pc.utf8_trim_whitespace(cells.cast(pa.string()))
        whole = pc.match_substring_regex(text, WHOLE_NUMBER)
        digits = pc.replace_substring_regex(pc.if_else(whole, text, None), r"^\+|\.0*$", "")
        values, fraction = digits.cast(pa.int64()), _true(pc.invert(whole))
    elif pa.types.is_integer(cells.type) and cells.type != pa.uint64():
        values, fraction = cells.cast(pa.int64()), np.zeros(len(cells), bool)
    else:
        floats, _ = _floats(cells)
        fraction = ~((np.floor(floats) == floats) & (np.abs(floats) <= EXACT) | np.isnan(floats))
        values = pa.chunked_array([pa.array(floats, mask=fraction | np.isnan(floats)).cast(pa.int64())])
    outside = pc.or_(pc.less(values, max(width.min, -(2**63))), pc.greater(values, min(width.max, 2**63 - 1)))
    broken = {"is a whole number": fraction, f"fits {width.dtype}": _true(outside)}
    return Cells(values.combine_chunks(), broken)


def _booleans(cells: pa.ChunkedArray) -> Cells:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_boolean(cells.type):
        return Cells(cells.combine_chunks(), {})
    if not (_is_text(cells.type) or pa.types.is_integer(cells.type)):
        raise WrongTypeError(f"{cells.type} where true and false are declared")
    text = pc.utf8_lower(pc.utf8_trim_whitespace(cells.cast(pa.string())))
    known = pc.if_else(text.is_null(), None, pc.is_in(text, pa.array(["true", "false", "1", "0"])))
    values = pc.if_else(known, text, None).cast(pa.bool_())
    return Cells(values.combine_chunks(), {"is true or false": _true(pc.invert(known))})


def _text(cells: pa.ChunkedArray, column: pandera.Column) -> Cells:
    """Rules of text are judged on each distinct value once."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (_is_text(cells.type) or pa.types.is_integer(cells.type) or pa.types.is_boolean(cells.type)):
        raise WrongTypeError(f"{cells.type} where text is declared")
    if not pa.types.is_dictionary(cells.type):
        cells = cells.cast(pa.string()).dictionary_encode()
    encoded = cells.unify_dictionaries().combine_chunks()
    encoded = encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded
    values = encoded.dictionary.cast(pa.string())
    normal = composed(values)
    broken = {"holds no control or invisible characters": _rows(encoded, pc.match_substring_regex(normal, HIDDEN))}
    declared = getattr(column.dtype.type, "categories", None)
    if declared is not None:
        broken["is a declared category"] = _rows(encoded, pc.invert(pc.is_in(normal, pa.array(declared))))
    if not normal.equals(values):
        encoded = normal.take(encoded.indices).dictionary_encode()
    else:
        encoded = pa.DictionaryArray.from_arrays(encoded.indices, values)
    return Cells(encoded, broken)


def composed(values: pa.Array) -> pa.Array:
    """The texts in Unicode's composed form, NFC: pyarrow 25 decomposes whatever form it is asked for."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pc.all(pc.string_is_ascii(values)).as_py() is not False:
        return values
    return pa.array([None if text is None else normalize("NFC", text) for text in values.to_pylist()], pa.string())


def _rows(encoded: pa.DictionaryArray, broken: pa.Array) -> np.ndarray:
    """The rows whose value is a broken one."""
    import pyarrow.compute as pc

    if not pc.any(broken).as_py():
        return np.zeros(len(encoded), bool)
    return _true(broken.take(encoded.indices))


def _true(mask: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """A mask as NumPy, false where it is missing."""
    return np.asarray(mask.fill_null(False))


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value)


def _width(column: pandera.Column) -> np.dtype:
    declared = column.dtype.type
    return np.dtype(getattr(declared, "numpy_dtype", declared))
