"""Finding the time of a sample: the only sensible reading, or a refusal that says what to give. Never a guess."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.scaffold.sample import ScaffoldError, read_sample
from mlops_assets.scaffold.times import DATES, find_time


def sample(folder, frame, name="sample.csv"):
    path = folder / name
    frame.to_parquet(path) if name.endswith("parquet") else frame.to_csv(path, index=False)
    return read_sample(path)


def days(start="2004-03-10", count=60):
    return pd.date_range(start, periods=count, freq="D")


@pytest.mark.parametrize("form", DATES)
def test_dates_in_order_are_read_as_they_were_written(tmp_path, form):
    written = days(count=400)
    found = find_time(sample(tmp_path, pd.DataFrame({"when": written.strftime(form), "x": range(400)})))
    assert found.moments.tz_localize(None).equals(written.as_unit("us"))


@settings(max_examples=25, deadline=None)
@given(
    form=st.sampled_from(DATES),
    start=st.dates(pd.Timestamp("1975-01-01").date(), pd.Timestamp("2060-01-01").date()),
    count=st.integers(1, 120),
    step=st.sampled_from([1, 7, 31]),
)
def test_what_can_be_read_in_two_ways_is_refused_or_read_rightly(tmp_path_factory, form, start, count, step):
    written = pd.date_range(start, periods=count, freq=f"{step}D")
    rows = sample(tmp_path_factory.mktemp("s"), pd.DataFrame({"when": written.strftime(form), "x": range(count)}))
    try:
        found = find_time(rows)
    except ScaffoldError as refusal:
        assert "--time-format" in str(refusal)  # noqa: PT017  (either outcome is right)
    else:
        assert found.moments.tz_localize(None).equals(written.as_unit("us"))


def test_rows_out_of_order_are_read_by_which_days_are_not_scattered(tmp_path):
    written = pd.Series(days(count=300)).sample(frac=1, random_state=1)
    found = find_time(sample(tmp_path, pd.DataFrame({"when": written.dt.strftime("%d-%m-%y"), "x": range(300)})))
    assert found.time.format == "%d-%m-%y"


def test_a_date_that_can_be_read_in_two_ways_is_refused_with_both_readings(tmp_path):
    rows = sample(tmp_path, pd.DataFrame({"Date": ["10-03-04"] * 24, "x": range(24)}))
    with pytest.raises(ScaffoldError, match=r"10 March 2004.*04 March 2010.*--time-format"):
        find_time(rows)
    assert find_time(rows, form="%d-%m-%y").example == "10-03-04 is 2004-03-10 00:00 UTC"


@pytest.mark.parametrize(
    ("clock", "form"),
    [
        ([f"{hour:02}:00:00" for hour in range(24)], "%Y-%m-%d %H:%M:%S"),
        ([f"{hour:02}.00.00" for hour in range(24)], "%Y-%m-%d %H.%M.%S"),
        ([f"{hour:02}:30" for hour in range(24)], "%Y-%m-%d %H:%M"),
    ],
)
def test_a_date_and_a_time_of_day_are_joined(tmp_path, clock, form):
    frame = pd.DataFrame({"date": ["2024-01-01"] * 24, "clock": clock, "x": range(24)})
    found = find_time(sample(tmp_path, frame))
    assert found.time.columns == ("date", "clock")
    assert found.time.format == form
    assert found.moments.is_unique


@pytest.mark.parametrize(("name", "columns"), [("hr", ("day", "hr")), ("visitors", ("day",))])
def test_whole_numbers_are_hours_only_under_a_name_that_says_so(tmp_path, name, columns):
    frame = pd.DataFrame({"day": ["2024-01-01"] * 24, name: range(24)})
    assert find_time(sample(tmp_path, frame)).time.columns == columns


def test_iso_times_and_parquet_timestamps_need_no_format(tmp_path):
    frame = pd.DataFrame({"ts": days().strftime("%Y-%m-%dT%H:%M:%SZ"), "x": range(60)})
    assert find_time(sample(tmp_path, frame)).time.format is None
    frame = pd.DataFrame({"ts": days(), "x": range(60)})
    assert find_time(sample(tmp_path, frame, "sample.parquet")).time.format is None


def test_several_times_are_refused_by_name_unless_one_is_named(tmp_path):
    frame = pd.DataFrame({"made": days().astype(str), "sold": days("2005-01-01").astype(str), "x": range(60)})
    rows = sample(tmp_path, frame)
    with pytest.raises(ScaffoldError, match=r"made, sold.*--time"):
        find_time(rows)
    assert find_time(rows, ["sold"]).moments[0] == pd.Timestamp("2005-01-01", tz="UTC")


@pytest.mark.parametrize(
    ("columns", "form", "message"),
    [
        ((), None, "No column holds dates"),
        (("y",), None, "no column 'y'"),
        (("x",), None, "--time-format"),
        (("x",), "%Y-%m-%d", "only 0.0%"),
    ],
)
def test_a_sample_without_a_readable_time_is_refused(tmp_path, columns, form, message):
    rows = sample(tmp_path, pd.DataFrame({"x": [1.5, 2.5], "name": ["a", "b"]}))
    with pytest.raises(ScaffoldError, match=message):
        find_time(rows, columns, form)


def test_a_column_that_is_called_like_the_parsed_time_is_not_shadowed(tmp_path):
    frame = pd.DataFrame({"ts": days().astype(str), "event_time": range(60)})
    assert find_time(sample(tmp_path, frame), ["ts"]).time.name == "row_time"
    frame = pd.DataFrame({"event_time": days().astype(str), "x": range(60)})
    assert find_time(sample(tmp_path, frame)).time.name == "event_time"


def test_the_real_files_are_read_rightly(real_data):
    air = find_time(read_sample(real_data / "air_quality_uci" / "AirQualityUCI.csv"))
    assert air.time.columns == ("Date", "Time")
    assert air.time.format == "%d-%m-%y %H:%M:%S"
    assert air.moments[0] == pd.Timestamp("2004-03-10 18:00", tz="UTC")
    assert air.moments[-1] == pd.Timestamp("2005-04-04 14:00", tz="UTC")
    bikes = find_time(read_sample(real_data / "bike_sharing_hourly" / "hour.csv"))
    assert bikes.time.columns == ("dteday", "hr")
