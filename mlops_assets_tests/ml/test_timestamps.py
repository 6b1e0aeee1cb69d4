import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.ml.spec import Time
from mlops_assets.ml.timestamps import parse

NOT_ISO = "is a time (ISO 8601)"


def parsed(values, **time):
    """The moment of each value, or the rule that it breaks."""
    moments = parse([pa.chunked_array([pa.array(values)])], Time(columns=("t",), **time))
    return [
        next((rule for rule, rows in moments.broken.items() if rows[row]), None)
        or (None if moment is pd.NaT else moment.isoformat())
        for row, moment in enumerate(moments.utc)
    ]


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("2024-01-15", "UTC", "2024-01-15T00:00:00+00:00"),
        ("2024-01-15 10:30", "UTC", "2024-01-15T10:30:00+00:00"),
        ("2024-01-15T10:30:00.250", "UTC", "2024-01-15T10:30:00.250000+00:00"),
        ("2024-01-15T10:30:00Z", "UTC", "2024-01-15T10:30:00+00:00"),
        ("2024-01-15 10:30", "Europe/Berlin", "2024-01-15T09:30:00+00:00"),
        ("2024-07-15 10:30", "Europe/Berlin", "2024-07-15T08:30:00+00:00"),
        ("2024-07-15T10:30:00+02:00", "Europe/Berlin", "2024-07-15T08:30:00+00:00"),
        ("2024-07-15T10:30:00+0200", "Europe/Berlin", "2024-07-15T08:30:00+00:00"),
        ("2024-07-15T10:30:00+02", "Europe/Berlin", "2024-07-15T08:30:00+00:00"),
        ("2024-07-15T10:30:00+01:00", "Europe/Berlin", "has the offset of Europe/Berlin"),
        ("2024-07-15T10:30:00Z", "Europe/Berlin", "has the offset of Europe/Berlin"),
        ("2024-07-15T10:30:00+02:00", "UTC", "has the offset of UTC"),
        ("2024-03-31 01:59", "Europe/Berlin", "2024-03-31T00:59:00+00:00"),
        ("2024-03-31 02:00", "Europe/Berlin", "exists in Europe/Berlin"),
        ("2024-03-31 02:59", "Europe/Berlin", "exists in Europe/Berlin"),
        ("2024-03-31 03:00", "Europe/Berlin", "2024-03-31T01:00:00+00:00"),
        ("2024-10-27 01:59", "Europe/Berlin", "2024-10-26T23:59:00+00:00"),
        ("2024-10-27 02:00", "Europe/Berlin", "is one moment in Europe/Berlin"),
        ("2024-10-27 02:59", "Europe/Berlin", "is one moment in Europe/Berlin"),
        ("2024-10-27 03:00", "Europe/Berlin", "2024-10-27T02:00:00+00:00"),
        ("2024-10-27 02:30+02:00", "Europe/Berlin", "2024-10-27T00:30:00+00:00"),
        ("2024-10-27 02:30+01:00", "Europe/Berlin", "2024-10-27T01:30:00+00:00"),
        ("2024-02-30", "UTC", NOT_ISO),
        ("2024-13-01", "UTC", NOT_ISO),
        ("2024-01-15 24:00", "UTC", NOT_ISO),
        ("15/01/2024", "UTC", NOT_ISO),
        ("20240115", "UTC", NOT_ISO),
        ("1705312800", "UTC", NOT_ISO),
        ("yesterday", "UTC", NOT_ISO),
        (None, "UTC", None),
    ],
)
def test_a_text_is_the_moment_it_means_or_breaks_a_rule(text, zone, expected):
    assert parsed([text, "2024-01-15"], timezone=zone)[0] == expected
    assert parsed([text, "2024-01-15", "no time at all"], timezone=zone)[0] == expected


def test_a_format_is_followed_to_the_letter():
    day_first = {"format": "%d-%m-%y %H:%M:%S"}
    assert parsed(["10-03-04 18:00:00"], **day_first) == ["2004-03-10T18:00:00+00:00"]
    assert parsed(["2004-03-10 18:00:00", "31-02-04 18:00:00"], **day_first) == ["is a time (%d-%m-%y %H:%M:%S)"] * 2


def test_a_format_with_an_offset_keeps_to_the_zone():
    found = parsed(
        ["15/07/2024 10:30 +0200", "15/07/2024 10:30 +0000"], format="%d/%m/%Y %H:%M %z", timezone="Europe/Berlin"
    )
    assert found == ["2024-07-15T08:30:00+00:00", "has the offset of Europe/Berlin"]


def test_columns_are_joined_by_a_space():
    date, hour = pa.chunked_array([["2011-01-01", "2011-01-01", None]]), pa.chunked_array([[0, 23, 5]])
    moments = parse([date, hour], Time(columns=("dteday", "hr"), format="%Y-%m-%d %H"))
    assert [str(each) for each in moments.utc] == ["2011-01-01 00:00:00+00:00", "2011-01-01 23:00:00+00:00", "NaT"]
    assert not any(rows.any() for rows in moments.broken.values())


def test_typed_times_keep_their_moment_and_naive_ones_get_the_zone():
    aware = pd.Timestamp("2024-07-15 10:30", tz="Asia/Tokyo")
    assert parsed(pd.Series([aware, None]), timezone="Europe/Berlin") == ["2024-07-15T01:30:00+00:00", None]
    naive = pd.Timestamp("2024-07-15 10:30")
    assert parsed([naive], timezone="Europe/Berlin") == ["2024-07-15T08:30:00+00:00"]
    assert parsed([naive.date()], timezone="UTC") == ["2024-07-15T00:00:00+00:00"]


def test_seconds_since_1970_are_no_time():
    assert parsed([1705312800, None]) == [NOT_ISO, None]


ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])


@given(moment=st.datetimes(pd.Timestamp("1970-01-02"), pd.Timestamp("2060-01-01")), zone=ZONES, odd=st.booleans())
def test_a_moment_written_with_its_offset_is_read_back_whatever_stands_beside_it(moment, zone, odd):
    local = pd.Timestamp(moment, tz="UTC").tz_convert(zone).floor("s")
    texts = [local.isoformat(), "2024-01-15", *(["broken"] if odd else [])]
    assert parsed(texts, timezone=zone)[0] == local.tz_convert("UTC").isoformat()


@given(text=st.text(max_size=30))
def test_any_text_is_a_moment_or_breaks_a_rule_and_never_raises(text):
    (found,) = parsed([text])
    assert found is not None
