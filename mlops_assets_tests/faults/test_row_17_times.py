"""Row 17: time zones, clocks that are changed, naive stamps, stamps of the future and of 1970."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from mlops_assets_tests import toy
from mlops_assets_tests.faults.deliveries import inspected

GAP, FOLD = "exists in Europe/Berlin", "is one moment in Europe/Berlin"
OFFSET = "has the offset of Europe/Berlin"
NOT_A_TIME = "is a time (ISO 8601)"
WINDOW = "is from "
BAD = [
    ("2024-03", "2024-03-31 02:00:00", GAP),
    ("2024-03", "2024-03-31 02:59:59", GAP),
    ("2024-03", "2024-03-31T02:30:00", GAP),
    ("2024-10", "2024-10-27 02:00:00", FOLD),
    ("2024-10", "2024-10-27 02:59:59", FOLD),
    ("2024-10", "2024-10-27T02:30", FOLD),
    ("2024-03", "2024-03-10 12:00:00+02:00", OFFSET),
    ("2024-03", "2024-03-10 12:00:00-05:00", OFFSET),
    ("2024-03", "2024-03-10T12:00:00Z", OFFSET),
    ("2024-10", "2024-10-05 12:00:00+01:00", OFFSET),
    ("2024-03", "2041-03-10 12:00:00", WINDOW),
    ("2024-03", "2025-03-10 12:00:00", WINDOW),
    ("2024-03", "2024-04-01 02:00:00", WINDOW),
    ("2024-03", "2024-02-29 23:59:59", WINDOW),
    ("2024-03", "1970-01-01 00:00:00", WINDOW),
    ("2024-03", "1969-12-31 23:59:59", WINDOW),
    ("2024-03", "1899-12-31 00:00:00", WINDOW),
    ("2024-03", "9999-12-31 23:59:59", WINDOW),
    ("2024-03", "1710072000", NOT_A_TIME),
    ("2024-03", "10/03/2024", NOT_A_TIME),
    ("2024-03", "2024-03-32", NOT_A_TIME),
    ("2024-03", "2024-03-10 25:00", NOT_A_TIME),
    ("2024-03", "noon", NOT_A_TIME),
    ("2024-03", "", "is not missing"),
]
GOOD = [
    ("2024-03", "2024-03-31 01:59:59"),
    ("2024-03", "2024-03-31 03:00:00"),
    ("2024-10", "2024-10-27 01:59:59"),
    ("2024-10", "2024-10-27 03:00:00"),
    ("2024-10", "2024-10-27 02:30:00+02:00"),
    ("2024-10", "2024-10-27 02:30:00+01:00"),
    ("2024-03", "2024-03-01 00:00:00"),
    ("2024-03", "2024-03-31 23:59:59"),
    ("2024-03", "2024-03-10 12:00:00+01:00"),
]


def delivered(home, month, stamp):
    """The inspection of a month whose fourth row has this stamp."""
    spec = toy.spec("landing", time={"columns": ["ts"], "timezone": "Europe/Berlin"})
    frame = toy.rows(month, 50)
    frame.loc[3, "ts"] = stamp
    return inspected(home, spec, {"shop.csv": frame}, f"{month}-01")


@pytest.mark.fault(17)
def test_every_bad_stamp_is_caught_with_its_rule_and_row(tmp_path, record_figure):
    caught = 0
    for case, (month, stamp, rule) in enumerate(BAD):
        found = delivered(tmp_path / str(case), month, stamp)
        (broken,) = found.quarantined[f"{month}-01"].broken_rules
        caught += broken.rule.startswith(rule) and broken.column == "event_time" and broken.rows == (4,)
    record_figure(caught=caught, cases=len(BAD))
    assert caught == len(BAD) == 24


@pytest.mark.fault(17)
def test_no_good_stamp_is_refused(tmp_path, record_figure):
    refused = [
        stamp
        for case, (month, stamp) in enumerate(GOOD)
        if delivered(tmp_path / str(case), month, stamp).quarantined[f"{month}-01"].rows_quarantined
    ]
    record_figure(false_alarms=len(refused), cases=len(GOOD))
    assert refused == []


@pytest.mark.fault(17)
def test_plain_libraries_take_such_stamps_without_a_word():
    berlin = ZoneInfo("Europe/Berlin")
    assert (
        datetime(2024, 3, 31, 2, 30, tzinfo=berlin).timestamp()
        == datetime(2024, 3, 31, 3, 30, tzinfo=berlin).timestamp()
    )
    assert pd.to_datetime("1710072000", format="ISO8601", errors="coerce") is pd.NaT
    assert pd.to_datetime(1710072000).year == 1970
