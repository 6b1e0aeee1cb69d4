"""What a row of `bike_demand` must be. Weather readings are shares of the largest value that the feed can report."""

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series


class BikeHour(pa.DataFrameModel):
    """One hour of rentals. A weather reading may be missing; a humidity of zero is a broken sensor."""

    event_time: Series[pd.DatetimeTZDtype] = pa.Field(dtype_kwargs={"unit": "us", "tz": "UTC"}, unique=True)
    instant: Series[int] = pa.Field(ge=1)
    season: Series[int] = pa.Field(ge=1, le=4)
    yr: Series[int] = pa.Field(ge=0, le=30)
    mnth: Series[int] = pa.Field(ge=1, le=12)
    hr: Series[int] = pa.Field(ge=0, le=23)
    holiday: Series[int] = pa.Field(isin=[0, 1])
    weekday: Series[int] = pa.Field(ge=0, le=6)
    workingday: Series[int] = pa.Field(isin=[0, 1])
    weathersit: Series[int] = pa.Field(ge=1, le=4)
    temp: Series[float] = pa.Field(nullable=True, ge=0, le=1)
    atemp: Series[float] = pa.Field(nullable=True, ge=0, le=1)
    hum: Series[float] = pa.Field(nullable=True, gt=0, le=1)
    windspeed: Series[float] = pa.Field(nullable=True, ge=0, le=1)
    casual: Series[int] = pa.Field(ge=0)
    registered: Series[int] = pa.Field(ge=0)
    cnt: Series[int] = pa.Field(ge=0, le=5000)

    class Config:
        """Nothing that is not declared; text that holds a number is read as one."""

        strict = True
        coerce = True
