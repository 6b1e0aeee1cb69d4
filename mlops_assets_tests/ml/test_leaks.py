"""Leaks: what is a leak and what is not, on both sides of the limit."""

import numpy as np
import pandas as pd
import pytest

from mlops_assets.ml.leaks import FEWEST_ROWS, LIMIT, LeakError, find_leaks, refuse_leaks
from mlops_assets_tests import toy

CLASSIFIED = {"evaluation": {"metric": "log_loss"}, "gates": []}


def world(count=2_000, seed=0):
    random = np.random.default_rng(seed)
    return pd.DataFrame({"clean": random.normal(size=count), "sales": random.normal(size=count)})


def declared(**changes):
    return toy.spec("/nowhere", **changes)


@pytest.mark.parametrize(("noise", "leaks"), [(0.15, True), (0.30, False)])
def test_a_noisy_copy_is_a_leak_until_the_noise_is_large(noise, leaks):
    frame = world()
    frame["copy"] = frame["sales"] + np.random.default_rng(1).normal(0, noise, len(frame))
    found = find_leaks(frame, declared(), ["clean", "copy"])
    assert [leak.column for leak in found] == (["copy"] if leaks else [])
    assert all(LIMIT < leak.score <= 1 for leak in found)


@pytest.mark.parametrize(("count", "leaks"), [(FEWEST_ROWS - 1, 0), (FEWEST_ROWS, 1)])
def test_few_rows_accuse_nobody(count, leaks):
    frame = world(count).assign(copy=lambda rows: rows["sales"])
    assert len(find_leaks(frame, declared(), ["copy"])) == leaks


def test_the_refusal_names_the_column_the_score_and_both_ways_out():
    frame = world().assign(copy=lambda rows: rows["sales"])
    with pytest.raises(LeakError) as refused:
        refuse_leaks(frame, declared(), ["clean", "copy"])
    assert "toy: 'copy' tells the target of its row (1.000); the limit is 0.98." in str(refused.value)
    assert "exclude" in str(refused.value)
    assert "training.known_in_advance" in str(refused.value)


def test_what_is_declared_as_known_in_advance_is_believed():
    frame = world().assign(copy=lambda rows: rows["sales"])
    refuse_leaks(frame, declared(training={"known_in_advance": ["copy"]}), ["clean", "copy"])


def test_time_itself_is_no_leak_however_steadily_the_target_grows():
    frame = pd.DataFrame({"event_time": pd.date_range("2024", periods=500, freq="h", tz="UTC")})
    frame["sales"] = np.arange(500.0)
    refuse_leaks(frame, declared(), ["event_time"])


def test_the_target_of_the_next_row_is_told_from_that_of_the_row_before():
    frame = world()
    frame["before"], frame["after"] = frame["sales"].shift(1), frame["sales"].shift(-1)
    (leak,) = find_leaks(frame, declared(), ["before", "after"])
    assert (leak.column, leak.ahead) == ("after", True)


@pytest.mark.parametrize("dtype", ["category", object, "string"])
def test_a_category_for_each_class_is_a_leak_whatever_it_is_stored_as(dtype):
    frame = world()
    frame["sales"] = pd.cut(frame["sales"], 3, labels=["low", "mid", "high"]).astype(str)
    frame["code"] = frame["sales"].map({"low": "A", "mid": "B", "high": "C"}).astype(dtype)
    frame["other"] = pd.Series(np.random.default_rng(2).choice(list("xyz"), len(frame))).astype(dtype)
    found = find_leaks(frame, declared(task="multiclass", **CLASSIFIED), ["code", "other"])
    assert [leak.column for leak in found] == ["code"]


def test_a_column_without_a_value_and_a_constant_accuse_nobody():
    frame = world().assign(empty=np.nan, constant=1.0, nothing=pd.Series([None] * 2_000, dtype="category"))
    assert find_leaks(frame, declared(), ["empty", "constant", "nothing"]) == []
