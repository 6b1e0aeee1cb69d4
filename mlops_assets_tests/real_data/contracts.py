"""What a row of the public data sets must be, where no shipped model learns from it as it is."""

import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series

from mlops_assets.defs.models.electricity_price.contract import MarketHalfHour

UTC = {"unit": "us", "tz": "UTC"}


class SettledHalfHour(MarketHalfHour):
    """One half-hour of the market as it is known in the end, with its price and its label."""

    nswprice: Series[float] = pa.Field(nullable=True, ge=0, le=1)
    label: Series[int] = pa.Field(alias="class", isin=[0, 1])


class WeatherDay(pa.DataFrameModel):
    """A day at one of Australia's weather stations. Many never report some of the readings."""

    event_time: Series[pd.DatetimeTZDtype] = pa.Field(dtype_kwargs=UTC)
    Location: Series[pd.CategoricalDtype] = pa.Field()
    MinTemp: Series[float] = pa.Field(nullable=True, ge=-20, le=60)
    MaxTemp: Series[float] = pa.Field(nullable=True, ge=-20, le=60)
    Rainfall: Series[float] = pa.Field(nullable=True, ge=0, le=1000)
    Evaporation: Series[float] = pa.Field(nullable=True, ge=0)
    Sunshine: Series[float] = pa.Field(nullable=True, ge=0, le=24)
    WindGustDir: Series[pd.CategoricalDtype] = pa.Field(nullable=True)
    WindGustSpeed: Series[float] = pa.Field(nullable=True, ge=0)
    WindDir9am: Series[pd.CategoricalDtype] = pa.Field(nullable=True)
    WindDir3pm: Series[pd.CategoricalDtype] = pa.Field(nullable=True)
    WindSpeed9am: Series[float] = pa.Field(nullable=True, ge=0)
    WindSpeed3pm: Series[float] = pa.Field(nullable=True, ge=0)
    Humidity9am: Series[float] = pa.Field(nullable=True, ge=0, le=100)
    Humidity3pm: Series[float] = pa.Field(nullable=True, ge=0, le=100)
    Pressure9am: Series[float] = pa.Field(nullable=True, ge=900, le=1100)
    Pressure3pm: Series[float] = pa.Field(nullable=True, ge=900, le=1100)
    Cloud9am: Series[float] = pa.Field(nullable=True, ge=0, le=8)
    Cloud3pm: Series[float] = pa.Field(nullable=True, ge=0, le=8)
    Temp9am: Series[float] = pa.Field(nullable=True, ge=-20, le=60)
    Temp3pm: Series[float] = pa.Field(nullable=True, ge=-20, le=60)
    RainToday: Series[pd.CategoricalDtype] = pa.Field(nullable=True, isin=["Yes", "No"])
    RainTomorrow: Series[pd.CategoricalDtype] = pa.Field(nullable=True, isin=["Yes", "No"])

    class Config:
        """One row a station and day, and nothing that is not declared."""

        strict = True
        coerce = True
        unique = ["Location", "event_time"]  # noqa: RUF012


class AirHour(pa.DataFrameModel):
    """An hour of the air of an Italian town. Sensors fail for hours on end."""

    event_time: Series[pd.DatetimeTZDtype] = pa.Field(dtype_kwargs=UTC, unique=True)
    co: Series[float] = pa.Field(alias="CO(GT)", nullable=True, ge=0, le=50)
    tin_oxide: Series[float] = pa.Field(alias="PT08.S1(CO)", nullable=True, ge=0)
    nmhc: Series[float] = pa.Field(alias="NMHC(GT)", nullable=True, ge=0)
    benzene: Series[float] = pa.Field(alias="C6H6(GT)", nullable=True, ge=0)
    titania: Series[float] = pa.Field(alias="PT08.S2(NMHC)", nullable=True, ge=0)
    nox: Series[float] = pa.Field(alias="NOx(GT)", nullable=True, ge=0)
    tungsten_nox: Series[float] = pa.Field(alias="PT08.S3(NOx)", nullable=True, ge=0)
    no2: Series[float] = pa.Field(alias="NO2(GT)", nullable=True, ge=0)
    tungsten_no2: Series[float] = pa.Field(alias="PT08.S4(NO2)", nullable=True, ge=0)
    indium: Series[float] = pa.Field(alias="PT08.S5(O3)", nullable=True, ge=0)
    temperature: Series[float] = pa.Field(alias="T", nullable=True, ge=-30, le=60)
    relative_humidity: Series[float] = pa.Field(alias="RH", nullable=True, ge=0, le=100)
    absolute_humidity: Series[float] = pa.Field(alias="AH", nullable=True, ge=0)

    class Config:
        """Nothing that is not declared."""

        strict = True
        coerce = True
