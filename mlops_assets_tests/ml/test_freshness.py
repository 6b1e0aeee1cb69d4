"""What is overdue: both sides of each border, at the borders of summer time, and for history that is played again."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.ml.freshness import Unlabelled, ended, exists, outlook, overdue_labels
from mlops_assets.ml.windows import Windows
from mlops_assets_tests import toy

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
MARCH = datetime(2024, 3, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LENGTHS = {"hourly": timedelta(hours=1), "daily": timedelta(days=1), "weekly": timedelta(days=7)}


def spec(every="daily", start="2024-03-01", end=None, timezone="UTC", patience=2):
    return toy.spec(
        "landing",
        partitions={"every": every, "start": start, **({"end": end} if end else {})},
        time={"columns": ["ts"], "timezone": timezone},
        quality={"max_age_partitions": patience},
    )


def held_until(model, key, delay=timedelta(0)):
    """Every window up to one, each delivered so long after its end."""
    windows = Windows.of(model.partitions)
    keys = [windows.key(number) for number in range(windows.first(), windows.position(key) + 1)]
    return {each: ended(model, windows, each) + delay for each in keys}


def look(model, held, now, began=LONG_AGO):
    return outlook(model, held.keys(), held, began, now)


@pytest.mark.parametrize(
    ("every", "last", "missing"),
    [
        ("hourly", "2024-03-05-11", "2024-03-05-12"),
        ("daily", "2024-03-05", "2024-03-06"),
        ("weekly", "2024-03-08", "2024-03-15"),
    ],
)
@pytest.mark.parametrize("delay", [timedelta(0), timedelta(hours=7)])
def test_a_window_is_overdue_when_it_is_later_than_usual_by_what_is_declared_and_not_a_second_earlier(
    every, last, missing, delay
):
    model = spec(every)
    held = held_until(model, last, delay)
    due = ended(model, Windows.of(model.partitions), missing) + delay + 2 * LENGTHS[every]
    before = look(model, held, due - SECOND)
    assert (before.overdue, before.next_due) == (None, due)
    found = look(model, held, due)
    assert (found.overdue.count, found.overdue.first, found.overdue.since) == (1, missing, due)
    assert found.next_due == due + LENGTHS[every]


def test_a_gap_is_seen_although_later_windows_came_and_is_named_by_its_first_window_while_it_grows():
    model = spec()
    held = held_until(model, "2024-03-20")
    for key in ("2024-03-07", "2024-03-08"):
        del held[key]
    found = look(model, held, datetime(2024, 3, 21, tzinfo=UTC)).overdue
    assert (found.count, found.first, found.last) == (2, "2024-03-07", "2024-03-08")
    assert found.sentence.startswith(
        "2 partitions from 2024-03-07 to 2024-03-08 should have come: 2024-03-07 was due at"
    )
    later = look(model, held, datetime(2024, 3, 30, tzinfo=UTC)).overdue
    assert (later.count, later.first, later.last, later.since) == (9, "2024-03-07", "2024-03-27", found.since)


def test_history_that_is_played_again_is_due_as_fast_as_it_is_played():
    model, now = spec("monthly", "2011-01-01"), datetime(2024, 3, 1, tzinfo=UTC)
    held = {f"2011-{month:02}-01": now + timedelta(minutes=month) for month in range(1, 6)}
    found = look(model, held, now + timedelta(minutes=6))
    assert found.overdue is None
    assert timedelta(days=60) < found.next_due - now < timedelta(days=130)


def test_a_declared_end_ends_what_is_due():
    model = spec(end="2024-03-05")
    held = held_until(model, "2024-03-04")
    assert look(model, held, datetime(2030, 1, 1, tzinfo=UTC)) == look(model, held, datetime(2024, 3, 5, tzinfo=UTC))
    assert look(model, held, datetime(2030, 1, 1, tzinfo=UTC)).next_due is None


def test_a_model_that_never_had_a_delivery_counts_from_when_it_was_first_seen():
    model, began = spec(), datetime(2024, 6, 1, tzinfo=UTC)
    due = began + timedelta(days=3)
    assert look(model, {}, due - SECOND, began).overdue is None
    assert look(model, {}, due - SECOND, began).next_due == due
    found = look(model, {}, due, began).overdue
    assert (found.count, found.first, found.last, found.since) == (95, "2024-03-01", "2024-06-03", due)
    assert found.sentence.startswith("Nothing has ever come: 95 partitions from 2024-03-01 to 2024-06-03 are over.")


def test_a_model_whose_first_window_is_not_over_waits_for_it():
    began = datetime(2024, 2, 1, tzinfo=UTC)
    found = look(spec(), {}, datetime(2024, 3, 1, 12, tzinfo=UTC), began)
    assert (found.overdue, found.next_due) == (None, datetime(2024, 3, 2, tzinfo=UTC))


def test_batches_have_no_cadence():
    model = toy.spec("landing", partitions={"every": "batch"}, source={"uri": "x", "files": ["{partition}.csv"]})
    assert outlook(model, [], {}, LONG_AGO, datetime(2030, 1, 1, tzinfo=UTC)).overdue is None


@pytest.mark.parametrize(
    ("day", "over"),
    [
        ("2024-03-30", "2024-03-31T00:00"),
        ("2024-03-31", "2024-04-01T00:00"),
        ("2024-10-26", "2024-10-27T00:00"),
        ("2024-10-27", "2024-10-28T00:00"),
    ],
)
@pytest.mark.parametrize(("zone", "winter"), [("Europe/Berlin", 0), ("America/New_York", 5)])
def test_a_day_is_over_when_it_is_over_in_utc_and_by_the_clocks_of_its_zone(day, over, zone, winter):
    """East of Greenwich it ends later in UTC, west of it by its own clocks: five hours later, four in summer."""
    model = spec(timezone=zone)
    end = ended(model, Windows.of(model.partitions), day)
    summer = 1 if winter and day > "2024-03-10" and day < "2024-11-03" else 0
    assert end == datetime.fromisoformat(over).replace(tzinfo=UTC) + timedelta(hours=winter - summer)


def test_the_hour_that_clocks_leave_out_in_spring_is_not_waited_for_and_the_double_one_in_autumn_once():
    model = spec("hourly", timezone="Europe/Berlin")
    windows = Windows.of(model.partitions)
    assert not exists(model, windows, "2024-03-31-02")
    assert exists(model, windows, "2024-03-31-01")
    assert exists(model, windows, "2024-03-31-03")
    assert exists(model, windows, "2024-10-27-02")
    held = held_until(model, "2024-03-31-12")
    del held["2024-03-31-02"]
    now = datetime(2024, 3, 31, 14, tzinfo=UTC)
    assert look(model, held, now).overdue is None
    utc = spec("hourly")
    assert look(utc, held, now).overdue.first == "2024-03-31-02"


@given(
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
    st.integers(0, 270 * 86_400).map(lambda seconds: MARCH + timedelta(days=1, seconds=seconds)),
    st.sets(st.integers(0, 250), max_size=20),
)
def test_what_is_overdue_is_missing_over_and_exactly_what_a_later_look_would_still_miss(zone, now, gaps):
    model = spec(timezone=zone)
    windows = Windows.of(model.partitions)
    numbers = [
        number for number in range(windows.first(), windows.last(now) + 1) if number - windows.first() not in gaps
    ]
    held = {windows.key(number): ended(model, windows, windows.key(number)) for number in numbers}
    found = look(model, held, now)
    if not held:
        return
    if found.overdue:
        assert found.overdue.first not in held
        assert found.overdue.since <= now
        assert ended(model, windows, found.overdue.last) <= now
    assert found.next_due > now
    again = look(model, held, found.next_due - SECOND)
    assert again.overdue == found.overdue


LABELS = {
    "source": {"uri": "labels", "files": ["{partition:%Y-%m}.csv"]},
    "key": ["ts"],
    "delay_days": 30,
    "matured": 0.9,
}


@pytest.mark.parametrize(("labelled", "late"), [(89, True), (90, False), (0, True)])
@pytest.mark.parametrize("delivered", [MARCH, MARCH + timedelta(days=100), MARCH - timedelta(days=9)])
def test_labels_are_overdue_their_delay_after_the_rows_ended_or_came_unless_enough_have_one(labelled, late, delivered):
    labels = toy.spec("landing", labels=LABELS).labels
    parts = [Unlabelled(partition="2024-02-01", ended=MARCH, delivered=delivered, rows=100, labelled=labelled)]
    due = max(MARCH, delivered) + timedelta(days=30)
    before = overdue_labels(labels, parts, due - SECOND)
    assert before.overdue is None
    assert before.next_due == (due if late else None)
    found = overdue_labels(labels, parts, due).overdue
    assert (found is not None) == late
    if found:
        assert found.sentence == (
            f"The labels of 2024-02-01 are overdue: {labelled} of the 100 rows of 2024-02-01 have one 30 days after "
            "they came; 90% are enough."
        )
