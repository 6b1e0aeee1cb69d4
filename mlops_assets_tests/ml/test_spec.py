"""What a declaration may not say: values that are impossible, on both sides of every border, and secrets."""

import math
from datetime import date

import pytest
from pydantic import ValidationError

from mlops_assets_tests import toy


def refusal(**changes) -> str:
    with pytest.raises(ValidationError) as refused:
        toy.spec("landing", **changes)
    return str(refused.value)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Etc/GMT+5"])
def test_a_time_zone_that_exists_is_taken(zone):
    assert toy.spec("landing", time={"columns": ["ts"], "timezone": zone}).time.timezone == zone


@pytest.mark.parametrize("zone", ["Mars", "Europe", "", "../UTC", "/etc/localtime", "U\0TC"])
def test_a_time_zone_that_does_not_exist_is_refused_by_name(zone):
    assert f"there is no time zone {zone!r}" in refusal(time={"columns": ["ts"], "timezone": zone})


@pytest.mark.parametrize("ratio", [(0.5, 2.0), (1.0, 1.0), (0.0, 0.1), (0.0, 1e9)])
def test_row_counts_that_are_possible_are_taken(ratio):
    assert toy.spec("landing", quality={"row_count_ratio": ratio}).quality.row_count_ratio == ratio


@pytest.mark.parametrize(
    "ratio", [(2.0, 0.5), (1.0, math.nextafter(1.0, 0)), (-0.1, 2.0), (0.0, 0.0), (math.nan, 2.0), (0.5, math.nan)]
)
def test_row_counts_that_are_impossible_are_refused(ratio):
    assert "row_count_ratio" in refusal(quality={"row_count_ratio": ratio})


def test_row_counts_without_an_upper_bound_are_refused_because_json_cannot_hold_them():
    assert "row_count_ratio" in refusal(quality={"row_count_ratio": (0.5, math.inf)})


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_a_seed_that_every_generator_takes_is_taken(seed):
    assert toy.spec("landing", seed=seed).seed == seed


@pytest.mark.parametrize("seed", [True, False, -1, 2**32, 7.0, "7", None])
def test_a_seed_that_is_no_whole_number_in_range_is_refused(seed):
    assert "seed" in refusal(seed=seed)


NAMED = {
    "exclude": lambda names: {"exclude": names},
    "calendar": lambda names: {"calendar": names},
    "evaluation.slices": lambda names: {"evaluation": {"metric": "mae", "slices": names}},
    "training.known_in_advance": lambda names: {"training": {"known_in_advance": names}},
}


@pytest.mark.parametrize("field", NAMED)
def test_a_column_is_named_once(field):
    toy.spec("landing", **NAMED[field](["price", "wind"]))
    text = refusal(**NAMED[field](["price", "wind", "price"]))
    assert field in text
    assert "'price' stands here twice" in text


@pytest.mark.parametrize("kind", ["calendar", "cyclic"])
def test_a_part_of_the_calendar_is_named_once_in_a_step(kind):
    toy.spec("landing", features=[{kind: ["hour", "weekday"]}])
    assert "'hour' stands here twice" in refusal(features=[{kind: ["hour", "hour"]}])


@pytest.mark.parametrize("uri", ["s3://bucket/a", "s3://KEY@bucket/a", "s3://KEY:@bucket/a", "a:b@c", "/data/a:b@c"])
def test_a_uri_without_a_password_is_taken(uri):
    assert toy.spec(uri).source.uri == uri


@pytest.mark.parametrize("uri", ["s3://KEY:hunter2@bucket", "s3://:hunter2@bucket/a", "gs://KEY:hunter2@bucket/{x}"])
def test_a_uri_with_a_password_is_refused_without_telling_it(uri):
    text = refusal(source={"uri": uri, "files": ["a.csv"]})
    assert "uri holds a password" in text
    assert "hunter2" not in text


def test_a_mistake_beside_a_password_does_not_tell_it_either():
    assert "hunter2" not in refusal(source={"uri": "s3://KEY:hunter2@bucket", "files": ["a.csv"], "fils": 1})


@pytest.mark.parametrize("keys", [[], ["2024-02-01"], ["2024-02-01", "2024-12-01"], [date(2024, 2, 1)]])
def test_partitions_that_exist_may_be_declared_the_worlds_doing(keys):
    found = toy.spec("landing", drift={"world_changed": keys}).drift.world_changed
    assert found == tuple(str(key) for key in keys)


@pytest.mark.parametrize("key", ["2024-02", "2024-2-1", "2024-02-02", "2023-12-01", "2025-01-01", "February"])
def test_partitions_that_do_not_exist_are_refused_with_the_allowed_form(key):
    told = refusal(drift={"world_changed": [key]})
    assert f"drift.world_changed: {key!r} is no partition of toy" in told
    assert "named by when they begin, like '2024-01-01', the first until before 2025-01-01" in told


@pytest.mark.parametrize(("key", "taken"), [("north.2", True), ("../north", False), ("two words", False)])
def test_batches_are_named_by_what_files_may_be_called(key, taken):
    batches = {"source": {"uri": "landing", "files": ["{partition}.csv"]}, "partitions": {"every": "batch"}}
    if taken:
        assert toy.spec("landing", **batches, drift={"world_changed": [key]}).drift.world_changed == (key,)
    else:
        assert "batches are named by letters" in refusal(**batches, drift={"world_changed": [key]})


def test_a_partition_is_declared_the_worlds_doing_once():
    assert "stands here twice" in refusal(drift={"world_changed": ["2024-02-01", "2024-02-01"]})
