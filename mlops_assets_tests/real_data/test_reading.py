import io
from datetime import UTC, date, datetime

import pandas as pd
import pyarrow as pa
import pytest

from mlops_assets.ml.reading import read, read_text
from mlops_assets.ml.spec import FileSource, Partitions, Time
from mlops_assets.ml.splitting import split

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
    source = FileSource(uri="", files=("*",), null_values=("", "NA"))
    partitions = Partitions(every=every, start=date.fromisoformat(first))
    with (real_data / file).open("rb") as stream:
        parts, before = split(stream, file, source, time, partitions, NOW)
    assert (len(parts), before, min(parts)) == (windows, 0, first)
    tables = [read_text(io.BytesIO(part.content), f"x{part.suffix}", source) for part in parts.values()]
    found = pa.concat_tables(tables).to_pandas()
    expected = pd.read_csv(real_data / file, dtype=str, keep_default_na=False, na_values=["", "NA"])[found.columns]
    assert sorted(found.fillna("").itertuples(index=False)) == sorted(expected.fillna("").itertuples(index=False))


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
