"""What a row of `electricity_price` must be, as it comes: prices of the neighbour, demands and the transfer in 0..1.

The price of this market, and with it the label, are known only when it is settled: they come with the labels.
"""

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series


class MarketHalfHour(pa.DataFrameModel):
    """One half-hour of the market of New South Wales, and of Victoria's beside it."""

    event_time: Series[pd.DatetimeTZDtype] = pa.Field(dtype_kwargs={"unit": "us", "tz": "UTC"}, unique=True)
    day: Series[int] = pa.Field(ge=1, le=7)
    period: Series[float] = pa.Field(ge=0, le=1)
    nswdemand: Series[float] = pa.Field(ge=0, le=1)
    vicprice: Series[float] = pa.Field(nullable=True, ge=0, le=1)
    vicdemand: Series[float] = pa.Field(nullable=True, ge=0, le=1)
    transfer: Series[float] = pa.Field(nullable=True, ge=0, le=1)

    class Config:
        """Nothing that is not declared; text that holds a number is read as one."""

        strict = True
        coerce = True
