"""The contract of the benchmark's world, shared by every contestant."""

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series


class Contract(pa.DataFrameModel):
    """Sixteen columns, a time and a target."""

    event_time: Series[pd.DatetimeTZDtype] = pa.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})
    n00: Series[float] = pa.Field(ge=-1e6, le=1e6)
    n01: Series[float] = pa.Field(ge=-1e6, le=1e6)
    n02: Series[float] = pa.Field(ge=-1e6, le=1e6)
    n03: Series[float] = pa.Field(ge=-1e6, le=1e6)
    n04: Series[float] = pa.Field(ge=-1e6, le=1e6, nullable=True)
    n05: Series[float] = pa.Field(ge=-1e6, le=1e6)
    n06: Series[float] = pa.Field(ge=-1e6, le=1e6)
    n07: Series[float] = pa.Field(ge=-1e6, le=1e6)
    n08: Series[float] = pa.Field(ge=-1e6, le=1e6)
    n09: Series[float] = pa.Field(ge=-1e6, le=1e6)
    n10: Series[float] = pa.Field(ge=-1e6, le=1e6)
    n11: Series[float] = pa.Field(ge=-1e6, le=1e6)
    c0: Series[pd.CategoricalDtype] = pa.Field(isin=[f"c0_{level}" for level in range(5)])
    c1: Series[pd.CategoricalDtype] = pa.Field(isin=[f"c1_{level}" for level in range(10)])
    c2: Series[pd.CategoricalDtype] = pa.Field(isin=[f"c2_{level}" for level in range(15)])
    c3: Series[pd.CategoricalDtype] = pa.Field(isin=[f"c3_{level}" for level in range(20)])
    target: Series[int] = pa.Field(isin=[0, 1])

    class Config:
        """Nothing that is not declared."""

        strict = True
        coerce = True
