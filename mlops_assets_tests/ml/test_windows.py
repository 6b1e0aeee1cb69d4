from datetime import UTC, date, datetime, timedelta, timezone

import dagster as dg
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.lifecycle.common import partitions_definition
from mlops_assets.ml.spec import Partitions
from mlops_assets.ml.windows import Windows, partitions_in
from mlops_assets_tests import toy

EVERY = st.sampled_from(["hourly", "daily", "weekly", "monthly"])
STARTS = st.dates(date(1969, 12, 1), date(2039, 12, 31))


def windows(every="monthly", start=date(2024, 1, 1), end=None):
    return Windows.of(Partitions(every=every, start=start, end=end))


@given(every=EVERY, start=STARTS, length=st.integers(0, 24 * 120), days=st.none() | st.integers(62, 200))
def test_keys_are_those_of_dagsters_own_partitions(every, start, length, days):
    partitions = Partitions(every=every, start=start, end=days and start + timedelta(days=days))
    now = datetime(start.year, start.month, start.day, tzinfo=UTC) + timedelta(hours=length)
    ours = Windows.of(partitions)
    theirs = partitions_definition(toy.spec(".", partitions=partitions.model_dump()))
    assert isinstance(theirs, dg.TimeWindowPartitionsDefinition)
    keys = [ours.key(number) for number in range(ours.first(), ours.last(now) + 1)]
    assert keys == theirs.get_partition_keys(current_time=now)
    for key in keys[:3]:
        window = theirs.time_window_for_partition_key(key)
        assert ours.bounds(key) == (window.start, window.end)


@given(every=EVERY, start=STARTS, seconds=st.integers(-(10**9), 3 * 10**9))
def test_every_time_falls_into_exactly_the_window_whose_bounds_hold_it(every, start, seconds):
    ours, time = windows(every, start), datetime.fromtimestamp(seconds, UTC)
    number = ours.number(time)
    first, after = ours.bounds(ours.key(number))
    assert first <= time < after
    assert ours.position(ours.key(number)) == number
    assert ours.bounds(ours.key(number + 1))[0] == after


def test_a_window_is_over_at_its_last_moment_and_not_a_second_earlier():
    ours = windows()
    assert ours.key(ours.last(datetime(2024, 2, 1, tzinfo=UTC))) == "2024-01-01"
    assert ours.last(datetime(2024, 1, 31, 23, 59, 59, tzinfo=UTC)) < ours.first()


def test_an_offset_is_honoured():
    east = timezone(timedelta(hours=2))
    assert windows("daily").key(windows("daily").number(datetime(2024, 3, 1, 1, tzinfo=east))) == "2024-02-29"


def test_many_times_are_numbered_at_once():
    times = np.array(["2024-01-31T23:59:59", "2024-02-01", "1969-12-31"], dtype="M8[ns]")
    assert [windows().key(number) for number in windows().numbers(times)] == ["2024-01-01", "2024-02-01", "1969-12-01"]


@pytest.mark.parametrize("every", ["hourly", "daily", "weekly", "monthly"])
def test_many_keys_are_numbered_at_once(every):
    ours = windows(every)
    keys = [ours.key(number) for number in range(ours.first(), ours.first() + 50)]
    assert ours.positions(keys).tolist() == [ours.position(key) for key in keys]
    assert ours.positions([]).tolist() == []


def test_batches_have_no_windows():
    with pytest.raises(ValueError, match="named by their files"):
        Windows.of(Partitions(every="batch"))


@given(every=EVERY, start=STARTS, hours=st.integers(1, 24 * 200))
def test_no_more_partitions_begin_in_some_days_than_they_are_said_to_span(every, start, hours):
    ours, begin = windows(every, start), datetime(start.year, start.month, start.day, tzinfo=UTC)
    begun = ours.number(begin + timedelta(hours=hours)) - ours.number(begin)
    assert 0 <= begun <= partitions_in(hours / 24, every) <= -(-hours // {"hourly": 1, "daily": 24}.get(every, 168))


def test_batches_span_no_time():
    assert partitions_in(40, "batch") == 0


@given(every=EVERY, start=STARTS, ahead=st.integers(-3, 50))
def test_a_declared_window_is_known_by_its_key_and_no_window_before_the_first_is(every, start, ahead):
    ours = windows(every, start)
    assert ours.has(ours.key(ours.first() + ahead)) == (ahead >= 0)


@pytest.mark.parametrize(
    ("every", "key", "known"),
    [
        ("monthly", "2024-02-01", True),
        ("monthly", "2024-02-02", False),
        ("monthly", "2024-2-1", False),
        ("monthly", "2024-02", False),
        ("monthly", "2024-05-01", True),
        ("monthly", "2024-06-01", False),
        ("hourly", "2024-02-01-05", True),
        ("hourly", "2024-02-01", False),
        ("weekly", "2024-01-08", True),
        ("weekly", "2024-01-09", False),
        ("daily", "", False),
    ],
)
def test_only_whole_keys_of_windows_before_the_end_are_known(every, key, known):
    assert windows(every, end=date(2024, 6, 1)).has(key) == known
