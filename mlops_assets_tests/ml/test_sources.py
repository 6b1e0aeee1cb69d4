import hashlib
import json
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.ml.sources import (
    DeliveredFile,
    Delivery,
    Promise,
    Sighting,
    promise,
    several,
    sort_out,
    still_growing,
)
from mlops_assets.ml.spec import PARTITION_KEY, Partitions

NOW = datetime(2024, 6, 15, 12, tzinfo=UTC)
MONTHLY = Partitions(every="monthly", start=date(2024, 1, 1))
BATCH = Partitions(every="batch")


def sorted_out(*names, patterns=("shop-{partition:%Y-%m}.csv",), partitions=MONTHLY, now=NOW):
    return sort_out([Sighting(name, 1, 0) for name in names], tuple(patterns), partitions, now)


def placed(name, pattern, partitions):
    return [*sorted_out(name, patterns=[pattern], partitions=partitions).partitions]


def every(period, start=date(2024, 1, 1)):
    return Partitions(every=period, start=start)


@pytest.mark.parametrize(
    ("name", "pattern", "partitions", "key"),
    [
        ("shop-2024-02.csv", "shop-{partition:%Y-%m}.csv", MONTHLY, "2024-02-01"),
        ("2024/02/a b é.csv", "{partition:%Y/%m}/*.csv", MONTHLY, "2024-02-01"),
        ("part-7_20240217.jsonl.gz", "*_{partition:%Y%m%d}.jsonl.gz", MONTHLY, "2024-02-01"),
        ("17Feb2024.csv", "{partition:%d%b%Y}.csv", every("daily"), "2024-02-17"),
        ("2024-02-17.csv", "{partition}.csv", every("daily"), "2024-02-17"),
        ("2024-02-17T05.csv", "{partition:%Y-%m-%dT%H}.csv", every("hourly"), "2024-02-17-05"),
        ("2024-02-17-05.csv", "{partition}.csv", every("hourly"), "2024-02-17-05"),
        ("2024-02-17.csv", "{partition:%Y-%m-%d}.csv", every("weekly"), "2024-02-12"),
        ("2024-W07.csv", "{partition:%G-W%V}.csv", every("weekly"), "2024-02-12"),
        ("2024-02-17.csv", "{partition:%Y-%m-%d}.csv", every("weekly", date(2024, 1, 3)), "2024-02-14"),
        ("north.v2.csv", "{partition}.csv", BATCH, "north.v2"),
        ("in/2024-02/x.csv", "in/{partition:%Y-%m}/*.csv", BATCH, "2024-02"),
    ],
)
def test_a_name_gives_the_partition_that_its_pattern_says(name, pattern, partitions, key):
    assert placed(name, pattern, partitions) == [key]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("shop-2024-13.csv", "'2024-13' is no date of the form %Y-%m"),
        ("shop-2023-12.csv", "2023-12-01 lies before the declared start 2024-01-01"),
    ],
)
def test_a_name_that_is_no_declared_window_is_refused_and_the_others_go_on(name, why):
    found = sorted_out(name, "shop-2024-01.csv")
    assert found.refused == {name: why}
    assert [*found.partitions] == ["2024-01-01"]


def test_a_window_waits_until_it_is_over():
    assert "not over" in sorted_out("shop-2024-06.csv").waiting["shop-2024-06.csv"]
    assert [*sorted_out("shop-2024-06.csv", now=datetime(2024, 7, 1, tzinfo=UTC)).partitions] == ["2024-06-01"]


def test_files_that_are_not_deliveries_are_left_alone():
    hidden = [".shop-2024-01.csv.tmp", ".old/shop-2024-01.csv"]
    found = sorted_out("shop-2024-01.csv.done", "shop-2024-01.csv.manifest.json", "notes.txt", *hidden)
    assert (found.others, found.partitions, found.refused) == (["notes.txt"], {}, {})


def test_a_pattern_without_a_partition_is_split_by_time_and_the_first_pattern_that_fits_wins():
    found = sorted_out("hour.csv", "shop-2024-01.csv", patterns=["shop-{partition:%Y-%m}.csv", "*.csv"])
    assert [file.name for file in found.to_split] == ["hour.csv"]
    assert [*found.partitions] == ["2024-01-01"]


def test_a_batch_cannot_be_split_by_time():
    found = sorted_out("hour.csv", "north.csv", patterns=["n{partition}.csv", "*.csv"], partitions=BATCH)
    assert [*found.refused] == ["hour.csv"]
    assert [*found.partitions] == ["orth"]


def test_several_files_make_one_delivery():
    found = sorted_out("2024-01/a.csv", "2024-01/b.csv", patterns=["{partition:%Y-%m}/*.csv"])
    assert [file.name for file in found.partitions["2024-01-01"]] == ["2024-01/a.csv", "2024-01/b.csv"]


@given(name=st.text(min_size=1, max_size=20).filter(lambda name: "/" not in name))
def test_a_batch_is_named_by_a_safe_key_or_refused_with_the_reason(name):
    found = sorted_out(f"b-{name}", patterns=["b-{partition}"], partitions=BATCH)
    [key] = [*found.partitions] or [None]
    if key is None:
        assert len(found.refused) == 1
    else:
        assert key == name
        assert PARTITION_KEY.fullmatch(key)
        assert not key.startswith(".")


@pytest.mark.parametrize(
    "name", ["b-é", "b-a b", "b-..", "b-.", "b-a...b", "b-.a", "b-a\nb", "b-\udce9", "b-" + "x" * 129]
)
def test_names_that_no_system_would_take_as_a_key_are_refused(name):
    found = sorted_out(name, "b-good", patterns=["b-{partition}"], partitions=BATCH)
    assert len(found.refused) == 1
    assert [*found.partitions] == ["good"]
    json.dumps(found.refused).encode()


@pytest.mark.parametrize(
    ("age", "settle", "growing"),
    [(9.9, 10, True), (10, 10, False), (0, 0, False), (-5, 10, True)],
)
def test_a_file_settles_when_it_has_been_quiet_for_long_enough(age, settle, growing):
    file = Sighting("a.csv", 1, int((NOW - timedelta(seconds=age)).timestamp() * 1e9))
    assert still_growing(file, {"a.csv"}, settle, NOW, None) is growing
    assert still_growing(file, {"a.csv", "a.csv.done"}, settle, NOW, None) is False


def test_a_file_from_a_clock_ahead_settles_by_our_own_clock():
    ahead = Sighting("a.csv", 1, int((NOW + timedelta(hours=2)).timestamp() * 1e9))
    assert still_growing(ahead, {"a.csv"}, 10, NOW, NOW - timedelta(seconds=9))
    assert not still_growing(ahead, {"a.csv"}, 10, NOW, NOW - timedelta(seconds=10))


SHA = hashlib.sha256(b"rows").hexdigest()


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"bytes": 4, "sha256": SHA, "rows": 1, "producer": "shop"}, True),
        ({"sha256": SHA.upper()}, True),
        ({"rows": 1}, True),
        ({"bytes": 5}, False),
        ({"bytes": 4, "sha256": "0" * 64}, False),
    ],
)
def test_a_promise_is_kept_by_exactly_the_promised_bytes(said, kept):
    assert (promise(json.dumps(said)).broken_by(4, SHA) is None) is kept


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"bytes": "4"}', '{"rows": true}', '{"bytes": 4', '{"sha256": 1}'])
def test_a_manifest_that_promises_nothing_is_refused(text):
    with pytest.raises(ValueError, match=r"\w"):
        promise(text)


def test_a_manifest_may_promise_only_rows():
    assert promise('{"rows": 3}') == Promise(rows=3)


def delivered(*digests):
    files = tuple(DeliveredFile(name=f"{n}.csv", sha256=sha, bytes=n, modified=NOW) for n, sha in enumerate(digests))
    return Delivery(model="toy", partition="a", files=files)


@given(digests=st.lists(st.sampled_from("abcdef"), min_size=1))
def test_the_version_is_that_of_the_bytes_whatever_the_files_are_called(digests):
    assert delivered(*digests).version == delivered(*sorted(set(digests), reverse=True)).version
    assert delivered(*digests, "other").version != delivered(*digests).version


def test_a_few_of_many_reasons_are_shown():
    reasons = dict.fromkeys("abcde", "late")
    assert several(reasons, 2) == "a: late; b: late; and 3 more"
    assert several({"a": "late"}) == "a: late"
