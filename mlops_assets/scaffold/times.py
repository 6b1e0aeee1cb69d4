"""Which columns say when a row happened, and how to read them. Two readings that both make sense are no reading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zoneinfo import available_timezones

import numpy as np
import pandas as pd

from mlops_assets.ml.spec import Time
from mlops_assets.ml.timestamps import ISO_8601, joined, parse
from mlops_assets.scaffold.sample import Sample, ScaffoldError

if TYPE_CHECKING:
    import pyarrow as pa

DATES = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d",
    "%d-%m-%Y", "%d/%m/%Y", "%d.%m.%Y", "%m-%d-%Y", "%m/%d/%Y", "%m.%d.%Y",
    "%d-%m-%y", "%d/%m/%y", "%d.%m.%y", "%m-%d-%y", "%m/%d/%y", "%m.%d.%y", "%y-%m-%d", "%y/%m/%d", "%y.%m.%d",
)  # fmt: skip
CLOCKS = ("%H:%M:%S", "%H:%M", "%H.%M.%S", "%I:%M:%S %p", "%I:%M %p")
JOINTS = (" ", "T")
HOUR_NAMES = {"hr", "hour", "hours", "hour_of_day", "hora", "heure", "stunde"}
ENOUGH = 0.99
FIRST_LOOK = 50
FEWEST_IN_ORDER, MANY_DAYS, DENSER = 10, 60, 3.0


@dataclass(frozen=True)
class TimeFound:
    """How the sample's time is read, one moment a row (UTC, NaT where unreadable), and an example for the reader."""

    time: Time
    moments: pd.DatetimeIndex
    example: str


def find_time(sample: Sample, columns: Sequence[str] = (), form: str | None = None, timezone: str = "UTC") -> TimeFound:
    """The time of the sample's rows, in the columns and format given, or in the only ones that make sense."""
    unknown = [name for name in columns if name not in sample.texts.column_names]
    if unknown:
        raise ScaffoldError(f"--time: no column {unknown[0]!r}. There are: {', '.join(sample.texts.column_names)}.")
    if not columns:
        columns = _only_candidate(sample)
    name = "event_time" if "event_time" not in sample.texts.column_names or columns == ("event_time",) else "row_time"
    cells = [sample.texts.column(column) for column in columns]
    form = form or _format(cells, columns)
    if timezone not in available_timezones():
        raise ScaffoldError(f"--timezone: {timezone!r} is no time zone; they are called as Europe/Berlin or UTC.")
    time = Time(columns=tuple(columns), format=form, timezone=timezone, name=name)
    moments = parse(cells, time).utc
    share = float(moments.notna().mean())
    if share < ENOUGH:
        raise ScaffoldError(f"--time: only {share:.1%} of the rows can be read as a time by {form or 'ISO 8601'}.")
    first = int(np.argmax(moments.notna()))
    delivered = joined([cell.slice(first, 1) for cell in cells])[0].as_py()
    return TimeFound(time, moments, f"{delivered} is {moments[first]:%Y-%m-%d %H:%M} UTC")


def _only_candidate(sample: Sample) -> tuple[str, ...]:
    dates = [name for name in sample.texts.column_names if _is_date(sample.texts.column(name))]
    if not dates:
        raise ScaffoldError("No column holds dates or times. Name it: --time COLUMN, and --time-format if need be.")
    if len(dates) > 1:
        raise ScaffoldError(f"Several columns hold times: {', '.join(dates)}. Name the one to go by: --time COLUMN.")
    if _has_clock(sample.texts.column(dates[0])):
        return (dates[0],)
    clocks = [name for name in sample.table.column_names if name != dates[0] and _is_clock(sample, name)]
    if len(clocks) > 1:
        named = ", ".join(clocks)
        raise ScaffoldError(f"{dates[0]} is a date, and several columns hold times of day: {named}. Give --time twice.")
    return (dates[0], *clocks)


def _is_date(cells: pa.ChunkedArray) -> bool:
    if _is_moment(cells):
        return True
    few = _few(cells)
    return _is_text(cells) and len(few) > 0 and (_matches(few, ISO_8601) or any(_fitting(few)))


def _has_clock(cells: pa.ChunkedArray) -> bool:
    """Whether the times have a time of day other than midnight in all rows."""
    import pyarrow as pa

    if _is_moment(cells):
        return not pa.types.is_date(cells.type) and bool((pd.DatetimeIndex(cells.to_pandas()).hour != 0).any())
    return bool(_few(cells).str.contains(r"[ T]\d").any())


def _is_clock(sample: Sample, name: str) -> bool:
    """Whether a column holds times of day: such as 18:00:00, or whole hours under a name that says so."""
    cells = sample.texts.column(name)
    if name.lower() in HOUR_NAMES:
        hours = pd.to_numeric(cells.to_pandas(), errors="coerce")
        return bool((hours.between(0, 23) & (hours % 1 == 0)).mean() >= ENOUGH)
    return _is_text(cells) and any(_fits(_few(cells), clock) for clock in CLOCKS)


def _format(cells: Sequence[pa.ChunkedArray], columns: Sequence[str]) -> str | None:
    """The one format that fits; None for ISO 8601 and for columns that hold moments already."""
    if len(cells) == 1 and _is_moment(cells[0]):
        return None
    date = joined([cells[0]]).to_pandas()
    if len(cells) == 1 and _matches(date, ISO_8601):
        return None
    distinct = pd.Series(date.dropna().unique())
    fitting = list(_fitting(distinct))
    if not fitting:
        raise ScaffoldError(f"--time: no format that is known fits {columns[0]}. Give it: --time-format '%d.%m.%Y'.")
    chosen = fitting[0] if len(fitting) == 1 else _most_sensible(date, fitting, columns[0])
    return " ".join([chosen, *(_clock_format(cell, name) for cell, name in zip(cells[1:], columns[1:], strict=True))])


def _fitting(texts: pd.Series) -> Iterator[str]:
    """The formats, with or without a time of day, by which nearly all texts are times."""
    first = texts.head(FIRST_LOOK)
    if not _matches(first, r"^\s*\d{1,8}[-/.]?\d"):
        return
    for form in (form for form in DATES if form[2].strip("%") in first.iloc[0]):
        for full in (form, *(f"{form}{joint}{clock}" for joint in JOINTS for clock in CLOCKS)):
            if _fits(first, full) and _fits(texts, full):
                yield full


def _fits(texts: pd.Series, form: str) -> bool:
    if form.startswith("%Y%m%d") and not _matches(texts, r"^(19|20)\d{6}"):
        return False
    return bool(len(texts)) and bool(pd.to_datetime(texts, format=form, errors="coerce").notna().mean() >= ENOUGH)


def _most_sensible(texts: pd.Series, forms: Sequence[str], column: str) -> str:
    """Of several formats that fit, the only one by which the rows are in order, or by which days are not scattered."""
    values = pd.Series(texts.dropna().unique())
    parsed = {form: pd.to_datetime(values, format=form, errors="coerce") for form in forms}
    ordered = [form for form in forms if parsed[form].dropna().is_monotonic_increasing]
    if len(ordered) == 1 and len(values) >= FEWEST_IN_ORDER:
        return ordered[0]
    dense = sorted(forms, key=lambda form: -_density(parsed[form]))
    many = parsed[dense[0]].dt.normalize().nunique() >= MANY_DAYS
    if not ordered and many and _density(parsed[dense[0]]) >= DENSER * _density(parsed[dense[1]]):
        return dense[0]
    readings = ", ".join(f"{form!r} ({parsed[form].iloc[0]:%d %B %Y})" for form in forms)
    raise ScaffoldError(f"{column}: {values[0]!r} can be read as {readings}. Say which: --time-format FORMAT.")


def _density(moments: pd.Series) -> float:
    """The share of the days of the whole span that occur."""
    days = moments.dropna().dt.normalize()
    return days.nunique() / ((days.max() - days.min()).days + 1)


def _clock_format(cells: pa.ChunkedArray, name: str) -> str:
    texts = joined([cells]).to_pandas().dropna()
    for clock in ("%H", *CLOCKS):
        if _fits(pd.Series(texts.unique()), clock):
            return clock
    raise ScaffoldError(f"--time: {name} does not hold times of day. Give the format of both: --time-format.")


def _is_moment(cells: pa.ChunkedArray) -> bool:
    import pyarrow as pa

    return pa.types.is_timestamp(cells.type) or pa.types.is_date(cells.type)


def _is_text(cells: pa.ChunkedArray) -> bool:
    import pyarrow as pa

    kind = cells.type.value_type if pa.types.is_dictionary(cells.type) else cells.type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _few(cells: pa.ChunkedArray) -> pd.Series:
    import pyarrow as pa

    texts = cells.cast(pa.string()) if _is_text(cells) else cells
    return pd.Series(texts.drop_null().unique().slice(0, FIRST_LOOK).to_pandas())


def _matches(texts: pd.Series, pattern: str) -> bool:
    return bool(texts.astype(str).str.match(pattern).mean() >= ENOUGH) if len(texts) else False
