"""Times as they are delivered, and the moments in UTC that they mean. A time that is no one moment breaks a rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from mlops_assets.ml.spec import Time

if TYPE_CHECKING:
    import pyarrow as pa

ISO_8601 = r"^\d{4}-\d{2}-\d{2}([T ]\d{1,2}(:\d{2}(:\d{2}([.,]\d{1,9})?)?)? ?(Z|[+-]\d{2}(:?\d{2})?)?)?$"
ZONED = r"[T ]\d.*(?:Z|[+-]\d{2}(?::?\d{2})?)$"
OFFSET = r"(?P<sign>[+-])(?P<hours>\d{2}):?(?P<minutes>\d{2})?$"


class Moments(NamedTuple):
    """One moment a row, NaT where there is none, and the rows that break a rule, by the rule's name."""

    utc: pd.DatetimeIndex
    broken: dict[str, np.ndarray]


def joined(columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    """The delivered cells of a time as one text a row, missing where one of them is."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = [column.cast(pa.string()) for column in columns]
    return texts[0] if len(texts) == 1 else pc.binary_join_element_wise(*texts, " ")


def parse(columns: Sequence[pa.ChunkedArray], time: Time) -> Moments:
    """The moments that the delivered columns mean.

    A time without an offset is in `time.timezone`; one with an offset must have the offset that the zone has then.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = columns[0].type
    if len(columns) == 1 and pa.types.is_timestamp(kind) and kind.tz:
        return Moments(_index(columns[0].cast(pa.timestamp("us", "UTC"), safe=False)), {})
    if len(columns) == 1 and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        return _localized(_index(columns[0].cast(pa.timestamp("us"), safe=False)), time.timezone)
    text = joined(columns)
    if time.format is None:
        try:
            return _localized(_index(pc.cast(text, pa.timestamp("us"))), time.timezone)
        except pa.ArrowInvalid:
            pass  # some cell is no plain time: look at each
    return _parsed(text.to_pandas(), time)


def _index(column: pa.ChunkedArray) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(column.to_pandas())


def _localized(wall: pd.DatetimeIndex, timezone: str) -> Moments:
    """Times on the clocks of a zone. Some exist twice and some never, when clocks are changed."""
    utc = wall.tz_localize(timezone, ambiguous="NaT", nonexistent="NaT").tz_convert("UTC")
    unclear = utc.isna() & wall.notna()
    if not unclear.any():
        return Moments(utc, {})
    summer = wall.tz_localize(timezone, ambiguous=np.ones(len(wall), bool), nonexistent="NaT")
    never = unclear & summer.isna()
    return Moments(utc, {f"exists in {timezone}": never, f"is one moment in {timezone}": unclear & ~never})


def _parsed(text: pd.Series, time: Time) -> Moments:
    """Row by row, for texts that are not all of the one plain kind: slower, and exact about each row."""
    readable = text.str.match(ISO_8601).eq(True) if time.format is None else text.notna()
    instants = pd.to_datetime(text.where(readable), format=time.format or "ISO8601", utc=True, errors="coerce")
    utc = pd.DatetimeIndex(instants).as_unit("us")
    zoned = utc.notna() & _zoned(text, time.format)
    wall = utc.tz_localize(None)
    if zoned.any():
        wall = wall + np.where(zoned, _offset(text), np.timedelta64(0, "us"))
    local = _localized(wall.where(~zoned), time.timezone)
    elsewhere = zoned & (utc.tz_convert(time.timezone).tz_localize(None) != wall)
    broken = {
        f"is a time ({time.format or 'ISO 8601'})": text.notna().to_numpy() & utc.isna(),
        f"has the offset of {time.timezone}": elsewhere,
        **local.broken,
    }
    return Moments(utc.where(zoned, local.utc), broken)


def _zoned(text: pd.Series, form: str | None) -> np.ndarray:
    if form is None:
        return text.str.contains(ZONED).eq(True).to_numpy(bool)
    return np.full(len(text), "%z" in form)


def _offset(text: pd.Series) -> np.ndarray:
    """The offset at the end of each text; none for Z, and for texts that have none."""
    parts = text.str.extract(OFFSET)
    minutes = 60 * pd.to_numeric(parts["hours"]).fillna(0) + pd.to_numeric(parts["minutes"]).fillna(0)
    return (np.where(parts["sign"] == "-", -1, 1) * minutes.to_numpy("int64")).astype("timedelta64[m]")
