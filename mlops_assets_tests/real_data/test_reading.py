from datetime import UTC, date, datetime

import pandas as pd
import pyarrow as pa
import pytest

from mlops_assets.ml.reading import read, read_text
from mlops_assets.ml.sources import split
from mlops_assets.ml.spec import FileSource, Partitions, Time

NOW = datetime(2024, 1, 1, tzinfo=UTC)
BIKE = Time(columns=("dteday", "hr"), format="%Y-%m-%d %H")
WEATHER = Time(columns=("Date",))
AIR = Time(columns=("Date", "Time"), format="%d-%m-%y %H:%M:%S")


@pytest.mark.parametrize(
    ("file", "time", "every", "first", "windows"),
    [
        ("bike_sharing_hourly/hour.csv", BIKE, "monthly", "2011-01-01", 24),
        ("weather_australia/weatherAUS.zip", WEATHER, "monthly", "2007-11-01", 113),
        ("air_quality_uci/AirQualityUCI.csv", AIR, "weekly", "2004-03-08", 57),
    ],
)
def test_real_files_are_split_by_time_without_losing_a_row(file, time, every, first, windows, real_data):
    with (real_data / file).open("rb") as stream:
        table = read_text(stream, file, FileSource(uri="", files=("*",), null_values=("", "NA")))
    expected = pd.read_csv(real_data / file, dtype=str, keep_default_na=False, na_values=["", "NA"])
    assert table.num_rows == len(expected)
    partitions = Partitions(every=every, start=date.fromisoformat(first))
    parts, before = split(table, file, time, partitions, NOW)
    assert (len(parts), before, min(parts)) == (windows, 0, first)
    assert sum(part.num_rows for part in parts.values()) == len(expected)
    assert all(
        table[name].to_pylist()[:500] == expected[name].head(500).where(expected[name].notna(), None).tolist()
        for name in table.column_names
    )


def test_the_empty_columns_that_trailing_commas_make_are_left_out(real_data):
    with (real_data / "air_quality_uci" / "AirQualityUCI.csv").open("rb") as stream:
        table = read_text(stream, "AirQualityUCI.csv", FileSource(uri="", files=("*",)))
    assert table.column_names[-1] == "AH"
    assert table.num_columns == 15


def test_real_parquet_reads_as_pandas_reads_it(real_data):
    path = real_data / "elec2_nsw" / "elec2_with_ts_derived.parquet"
    with path.open("rb") as stream:
        table = read(stream, path.name, FileSource(uri="", files=("*",)), {"class": pa.int64()})
    assert table.num_rows == 45_312
    pd.testing.assert_frame_equal(table.to_pandas(), pd.read_parquet(path), check_dtype=False)
