"""The toy model with labels that come ten days after their rows: what it declares and what is delivered."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series

from mlops_assets_tests import toy
from mlops_assets_tests.toy import Workshop


class Contract(pa.DataFrameModel):
    """Sales of a shop by the hour, the sales themselves to come."""

    event_time: Series[pd.DatetimeTZDtype] = pa.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})
    sale: Series[int]
    kind: Series[pd.CategoricalDtype] = pa.Field(isin=["a", "b", "c"])
    price: Series[float] = pa.Field(ge=0, le=100)
    wind: Series[float] = pa.Field(nullable=True, ge=-50, le=50)

    class Config:
        """Nothing that is not declared."""

        strict = True
        coerce = True


DELAY = timedelta(days=10)


def declared(folder: Path, **labels: Any) -> dict[str, Any]:
    """What the declaration of the toy model says beside what it always says."""
    source = {"uri": str(folder), "files": ["labels-{partition:%Y-%m}-*.csv"], "settle_seconds": 0}
    return {
        "contract": "mlops_assets_tests.late.Contract",
        "exclude": ["sale"],
        "labels": {"source": source, "key": ["sale"], "delay_days": 10, **labels},
    }


def rows(month: str, **changes: Any) -> pd.DataFrame:
    """The rows of one month, each with the number of its sale."""
    frame = toy.rows(month, **changes)
    return frame.assign(sale=range(len(frame)))


def labels(month: str, **changes: Any) -> pd.DataFrame:
    """The labels of one month's rows, with the time of the row and when each became known."""
    frame = rows(month, **changes)
    known = pd.to_datetime(frame["ts"]) + DELAY
    return frame[["ts", "sale", "sales"]].assign(known=known.dt.strftime("%Y-%m-%d %H:%M:%S"))


def deliver_rows(shop: Workshop, *months: str) -> None:
    """Deliver the rows of some months, without their target."""
    for month in months:
        toy.deliver(shop.landing, month, rows(month).drop(columns="sales"))


def deliver_labels(shop: Workshop, month: str, frame: pd.DataFrame | None = None, piece: str = "all") -> Path:
    """Deliver some labels of a month, as a piece of its own."""
    folder = shop.home / "labels"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"labels-{month}-{piece}.csv"
    (labels(month) if frame is None else frame).to_csv(path, index=False)
    return path


def arrived(path: Path, moment: datetime) -> Path:
    """The file as if it had been delivered at that moment."""
    os.utime(path, (moment.timestamp(), moment.timestamp()))
    return path


def pieces(frame: pd.DataFrame, count: int = 3) -> Sequence[pd.DataFrame]:
    """The labels in pieces, as they come."""
    size = -(-len(frame) // count)
    return [frame.iloc[start : start + size] for start in range(0, len(frame), size)]


def open_shop(workshop: Any, tmp_path: Path, **changes: Any) -> Workshop:
    """A workshop whose labels come later."""
    return workshop(**{**declared(tmp_path / "home" / "labels"), **changes})
