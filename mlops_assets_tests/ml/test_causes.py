"""The likelier cause of drift: a broken feed, a changed world, or neither to be told; and what it is held against."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.ml.causes import (
    NAMED,
    RECENT,
    Cause,
    Earlier,
    Feed,
    accepted,
    changes,
    comparable,
    feed,
    find_cause,
)
from mlops_assets.ml.observed import History, Observed
from mlops_assets.ml.profiles import profile
from mlops_assets.ml.sources import DeliveredFile, Delivery
from mlops_assets.ml.spec import Partitions
from mlops_assets.ml.validation import ValidatedPartition

ROWS = 1000
START = datetime(2024, 1, 1, tzinfo=UTC)
USUAL = Feed(
    producer=("shop-#.csv",),
    layout=("ts: string", "price: double"),
    code={"raw_data": "r1", "validated_features": "v1"},
)


def world(seed=0, level=0.0, demand=1.0):
    random = np.random.default_rng(seed)
    price = random.normal(20 + level, 4, ROWS).round(2)
    frame = {"price": price, "wind": random.normal(0, 5, ROWS).round(1)}
    return pd.DataFrame({**frame, "sales": (demand * random.normal(50, 9, ROWS)).round(1)})


def seen(frame, month=RECENT):
    first = START + timedelta(days=30 * month)
    return Observed(f"month {month}", first, first + timedelta(days=29), len(frame), profile(frame))


def history(step=0.0):
    return History([seen(world(100 + month, step * month), month) for month in range(RECENT)])


def cause(frame, before=None, feeds=(USUAL, [USUAL] * RECENT), moved=("price",)):
    return find_cause(seen(frame), history() if before is None else before, feeds, moved, "sales", 0.5)


def test_a_symptom_of_a_broken_feed_says_upstream_by_itself():
    found = cause(world().assign(wind=np.nan), moved=())
    assert (found.likely, [each.kind for each in found.findings]) == ("upstream", ["missing"])
    assert found.sentence == (
        "Likely a broken feed: wind is missing in 100.0% of the rows, and was in at most 0.0% before."
    )


def test_a_feed_that_lost_most_of_its_rows_is_found_where_no_column_moved():
    found = cause(world().head(230), moved=())
    assert (found.likely, found.findings[0].kind) == ("upstream", "rows")


def test_nothing_that_moved_needs_no_cause():
    found = cause(world(), moved=())
    assert (found.likely, found.findings) == ("unknown", ())
    assert found.sentence == "Nothing moved that would need a cause."


def test_a_first_partition_has_nothing_to_be_held_against():
    assert cause(world(), History([])).sentence == "There is no earlier partition to compare with."


def test_what_moved_step_by_step_since_training_is_the_world():
    found = cause(world(level=12), history(step=2))
    assert (found.likely, [each.kind for each in found.findings]) == ("world", ["gradual"])
    assert found.sentence == (
        "Likely the world: price moved no farther in this partition than from one to the next of the 6 before."
    )


def test_what_is_nearer_to_last_year_than_to_last_month_is_the_season():
    before = history(step=2)._replace(likewise=[seen(world(9, level=14), -6)])
    found = cause(world(level=14), before)
    assert (found.likely, [each.kind for each in found.findings]) == ("world", ["gradual", "season"])


def test_a_leap_without_a_reason_cannot_be_told():
    found = cause(world(level=15))
    assert (found.likely, [each.kind for each in found.findings]) == ("unknown", ["leap"])
    assert "price leapt away from the partition before" in found.sentence


def test_a_leap_that_the_target_took_part_in_is_the_world():
    found = cause(world(level=15, demand=0.4))
    assert (found.likely, [each.kind for each in found.findings]) == ("world", ["target"])
    assert set(found.findings[0].columns) == {"price", "sales"}


CHANGED = {
    "files": {"producer": ("export_v#.csv",)},
    "schema": {"layout": ("price: double", "ts: string")},
    "code": {"code": {"raw_data": "r1", "validated_features": "v2"}},
    "correction": {"correction": True},
    "quarantined": {"quarantined": 0.02},
}


@pytest.mark.parametrize("kind", CHANGED)
def test_a_leap_in_the_partition_in_which_something_upstream_changed_is_upstream(kind):
    feeds = (USUAL.model_copy(update=CHANGED[kind]), [USUAL] * RECENT)
    found = cause(world(level=15, demand=0.4), feeds=feeds)
    assert (found.likely, [each.kind for each in found.findings]) == ("upstream", [kind, "together"])
    assert cause(world(), feeds=feeds, moved=()).likely == "unknown"
    assert cause(world(level=12), history(step=2), feeds).likely == "world"


def test_a_leap_to_more_decimals_than_ever_is_upstream():
    noisy = world(level=15) + np.random.default_rng(1).normal(0, 1e-6, (ROWS, 3))
    found = cause(noisy)
    assert (found.likely, found.findings[0].kind, found.findings[0].columns) == ("upstream", "decimals", ("price",))


@pytest.mark.parametrize("kind", ["files", "schema", "code"])
def test_what_was_so_in_one_of_the_partitions_before_has_not_changed(kind):
    other = USUAL.model_copy(update=CHANGED[kind])
    assert list(changes(other, [other, *[USUAL] * 5])) == []
    assert list(changes(Feed(), [USUAL])) == list(changes(USUAL, [Feed()])) == list(changes(other, [])) == []


@pytest.mark.parametrize(
    ("now", "before", "named"),
    [(0.005, 0.0, True), (0.0049, 0.0, False), (0.03, 0.01, True), (0.0299, 0.01, False), (0.02, 0.02, False)],
)
def test_rows_that_broke_the_contract_count_when_three_times_as_many_did(now, before, named):
    found = list(changes(Feed(quarantined=now), [Feed(quarantined=before)]))
    assert [each.kind for each in found] == ["quarantined"] * named


def test_a_change_is_told_with_what_it_was_before():
    [files, schema, code] = changes(
        Feed(producer=("b-#.csv",), layout=("x: string",), code={"raw_data": "r2", "spare": "1"}),
        [Feed(producer=("a-#.csv",), layout=("x: double",), code={"raw_data": "r1"})],
    )
    assert files.sentence == "The files are called b-#.csv, and were a-#.csv."
    assert schema.sentence == "The files hold other columns or types: x: double, x: string."
    assert code.sentence == "raw_data was made by other code (version r2, before r1)."


@given(st.integers(1, 30))
def test_many_findings_are_counted_and_kept(count):
    wide = {f"c{number}": np.random.default_rng(number).normal(0, 1, ROWS) for number in range(count)}
    before = History([seen(pd.DataFrame(wide), month) for month in range(3)])
    found = find_cause(seen(pd.DataFrame(wide) * np.nan), before, (Feed(), ()), (), "sales", 0.5)
    assert len(found.findings) == count
    assert (f"And {count - NAMED} findings more." in found.sentence) == (count > NAMED)


MONTHS = [f"{year}-{month:02}-01" for year in (2023, 2024) for month in range(1, 13)]


CAUSES = {likely: Cause(likely=likely, findings=(), sentence="") for likely in ("upstream", "world", "unknown")}


@pytest.mark.parametrize(
    ("beside_them", "beside_sound", "accepts"),
    [
        ("unknown", "upstream", True),
        ("world", "upstream", True),
        ("upstream", "upstream", False),
        ("unknown", "unknown", False),
        ("world", "world", False),
    ],
)
def test_blamed_partitions_are_accepted_by_what_looks_like_them_and_not_like_those_before(
    beside_them, beside_sound, accepts
):
    blamed = [part(partition="a", delivery="1"), part(partition="b", delivery="2")]
    found = accepted(blamed, CAUSES[beside_them], CAUSES[beside_sound])
    assert found == ({"a": "1", "b": "2"} if accepts else {})


@pytest.mark.parametrize(("recent", "broken", "all_of_them"), [("ab", "ab", True), ("ab", "a", False), ("", "", False)])
def test_only_where_all_recent_partitions_are_blamed_may_they_be_the_new_normal(recent, broken, all_of_them):
    before = Earlier([part(partition=each) for each in recent])
    assert before.all_in(broken) == all_of_them


def test_a_month_is_held_against_the_six_before_and_the_same_month_a_year_ago():
    monthly = Partitions(every="monthly", start="2023-01-01")
    assert comparable(MONTHS, "2024-09-01", monthly) == (MONTHS[14:20], ["2023-09-01"])
    assert comparable(MONTHS, "2023-03-01", monthly) == (MONTHS[:2], [])
    assert comparable([*MONTHS[:8], *MONTHS[9:]], "2024-09-01", monthly)[1] == []
    assert comparable(MONTHS, "2025-01-01", monthly) == (MONTHS[-6:], ["2024-01-01"])
    assert comparable([], "2025-01-01", monthly) == ([], [])


def test_a_day_is_held_against_the_same_weekday_and_an_hour_against_the_same_hour():
    days = [f"2024-01-{day:02}" for day in range(1, 31)]
    daily = Partitions(every="daily", start="2024-01-01")
    assert comparable(days, "2024-01-30", daily) == (days[23:29], ["2024-01-23", "2024-01-16"])
    hours = [f"2024-01-0{day}-{hour:02}" for day in (1, 2) for hour in range(24)]
    hourly = Partitions(every="hourly", start="2024-01-01")
    assert comparable(hours, "2024-01-02-20", hourly) == (hours[38:44], ["2024-01-01-20"])


def delivered(*names, corrects=None):
    files = [DeliveredFile(name=name, sha256="0" * 64, bytes=1, modified=START) for name in names]
    return Delivery(model="toy", partition="p", files=files[:1], origins=files[1:], corrects=corrects)


def part(**changed):
    return ValidatedPartition(
        **{
            "model": "toy",
            "partition": "p",
            "delivery": "d",
            "delivered": START,
            "rows_in": 200,
            "rows_out": 190,
            "rows_quarantined": 10,
            "broken_rules": (),
            "first": START,
            "last": START,
            "table_version": 1,
            "files": {},
            "content": "c",
            "profile": profile(world()),
            **changed,
        }
    )


def test_a_feed_is_known_by_its_file_names_without_their_digits():
    known = feed(part(layout=("x: double",)), delivered("shop-2024-01.csv", corrects="old"), {"raw_data": "r1"})
    assert known == Feed(
        producer=("shop-#-#.csv",), layout=("x: double",), correction=True, quarantined=0.05, code={"raw_data": "r1"}
    )
    cut = feed(part(), delivered("extract.parquet", "all-1.csv", "all-2.csv"), {})
    assert cut.producer == ("all-#.csv",)
    assert feed(part(rows_in=0, rows_quarantined=0), None, {}) == Feed()
