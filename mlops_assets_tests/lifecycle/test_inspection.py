"""Which earlier partitions a run of validation reads: as few as give the same comparisons and the same picture."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.lifecycle.inspection import CHARTED, COMPARED_WITH, VALIDATED, history, window
from mlops_assets.ml.profiles import Profile
from mlops_assets.ml.sources import Delivery
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.ml.windows import Windows
from mlops_assets.resources.records import Records
from mlops_assets_tests import toy

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = [START + timedelta(days=number) for number in range(60)]
DAILY = toy.spec("landing", partitions={"every": "daily", "start": "2024-01-01"})
BATCHES = toy.spec(
    "landing", partitions={"every": "batch"}, source={"uri": "landing", "files": ["shop-{partition}.csv"]}
)


def key(day):
    return f"{day:%Y-%m-%d}"


def put(records, partition, first):
    record = ValidatedPartition(
        model="toy",
        partition=partition,
        delivery="",
        delivered=first,
        rows_in=1,
        rows_out=1,
        rows_quarantined=0,
        broken_rules=(),
        first=first,
        last=first,
        table_version=0,
        files={},
        content="",
        profile=Profile(rows=1, columns={}),
    )
    records.put("toy", VALIDATED, record, partition)
    return record


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """The record of every day, and those that a test leaves in."""
    whole = Records(root=str(tmp_path_factory.mktemp("records")))
    return whole, {key(day): put(whole, key(day), day) for day in DAYS}


class Some(Records):
    """Records of which only some partitions are there."""

    present: list[str]

    def partitions(self, model, asset):
        return [each for each in super().partitions(model, asset) if each in self.present]


@settings(max_examples=40, deadline=None)
@given(present=st.sets(st.sampled_from(DAYS)), run=st.lists(st.sampled_from(DAYS), min_size=1, max_size=4, unique=True))
def test_what_is_read_compares_and_draws_like_all_that_is_there(records, present, run):
    whole, every = records
    there = [every[key(day)] for day in sorted(present)]
    found = history(DAILY, Some(root=whole.root, present=[each.partition for each in there]), map(key, run))
    assert list(found.values())[-CHARTED:] == there[-CHARTED:]
    for day in run:
        read = [each for each in found.values() if each.first < day]
        assert read[-COMPARED_WITH:] == [each for each in there if each.first < day][-COMPARED_WITH:]
    assert len(found) <= CHARTED + COMPARED_WITH * len(run)


def test_batches_are_all_read_because_their_names_say_nothing_about_their_time(tmp_path):
    records = Records(root=str(tmp_path))
    for number in range(CHARTED + COMPARED_WITH + 1):
        put(records, f"b{number:02}", START - timedelta(days=number))
    assert len(history(BATCHES, records, ["b99"])) == CHARTED + COMPARED_WITH + 1


@pytest.mark.parametrize(
    ("day", "zone", "first", "after"),
    [
        ("2024-03-31", "Europe/Berlin", "2024-03-30T23:00", "2024-04-01T00:00"),
        ("2024-10-27", "Europe/Berlin", "2024-10-26T22:00", "2024-10-28T00:00"),
        ("2024-03-10", "America/New_York", "2024-03-10T00:00", "2024-03-11T04:00"),
        ("2024-11-03", "America/New_York", "2024-11-03T00:00", "2024-11-04T05:00"),
        ("2024-10-06", "Australia/Lord_Howe", "2024-10-05T13:30", "2024-10-07T00:00"),
    ],
)
def test_a_day_on_which_the_clocks_change_holds_its_rows_by_either_clock_and_no_others(day, zone, first, after):
    spec = toy.spec(
        "landing",
        partitions={"every": "daily", "start": "2024-01-01"},
        time={"columns": ["ts"], "timezone": zone},
    )
    found = window(spec, Delivery(model="toy", partition=day, files=()))
    assert found == tuple(datetime.fromisoformat(each).replace(tzinfo=UTC) for each in (first, after))


@pytest.mark.parametrize("day", ["2024-03-31", "2024-10-27"])
def test_every_day_has_twenty_four_hourly_windows_whatever_the_clocks_do(day):
    windows = Windows.of(toy.spec("landing", partitions={"every": "hourly", "start": day}).partitions)
    over = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1)
    keys = [windows.key(number) for number in range(windows.first(), windows.last(over) + 1)]
    assert keys == [f"{day}-{hour:02}" for hour in range(24)]
