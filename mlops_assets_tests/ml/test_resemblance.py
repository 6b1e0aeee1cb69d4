from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from mlops_assets.ml.profiles import profile
from mlops_assets.ml.resemblance import has_usual_row_count, is_fresh, resembles


def frame(shift=0.0, seed=0):
    random = np.random.default_rng(seed)
    return pd.DataFrame({"x": random.normal(shift, 1, 2000), "k": pd.Categorical(random.choice(["a", "b"], 2000))})


def test_the_same_distribution_resembles():
    found = resembles([profile(frame())], frame(seed=1), threshold=0.5)
    assert found.passed
    assert set(found.figures) == {"x", "k"}


def test_a_moved_distribution_does_not_and_is_named_with_its_effect():
    found = resembles([profile(frame())], frame(shift=3), threshold=0.5)
    assert not found.passed
    assert found.sentence.startswith("Unlike each of the last 1 partitions (limit: PSI 0.5): x (")


def test_one_like_partition_of_several_is_enough():
    assert resembles([profile(frame(shift=3)), profile(frame())], frame(shift=3, seed=1), threshold=0.5).passed


def test_the_threshold_itself_still_resembles():
    effect = resembles([profile(frame())], frame(shift=1), threshold=9).figures["x"]
    assert resembles([profile(frame())], frame(shift=1), threshold=effect).passed
    assert not resembles([profile(frame())], frame(shift=1), threshold=np.nextafter(effect, 0)).passed


def test_a_first_partition_is_compared_with_nothing():
    assert resembles([], frame(), 0.5).passed
    assert has_usual_row_count(5, [], (0.5, 2)).passed


@pytest.mark.parametrize(("rows", "passed"), [(49, False), (50, True), (100, True), (200, True), (201, False)])
def test_a_row_count_is_usual_up_to_both_borders(rows, passed):
    found = has_usual_row_count(rows, [90, 100, 5000], (0.5, 2))
    assert found.passed is passed
    assert found.sentence == f"{rows} rows; from 50 to 200 are usual."


DAY = timedelta(days=1)
LAST = datetime(2024, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("age", "usual", "passed"),
    [
        (2 * DAY, [], True),
        (20 * DAY, [DAY, DAY, 9 * DAY], True),
        (21 * DAY, [DAY, DAY, 9 * DAY], True),
        (21 * DAY + timedelta(seconds=1), [DAY, DAY, 9 * DAY], False),
        (300 * DAY, [330 * DAY], True),
    ],
)
def test_rows_are_fresh_until_they_are_two_partitions_later_than_usual(age, usual, passed):
    assert is_fresh(LAST, LAST + age, usual, length=10 * DAY, limit=2).passed is passed


def test_batches_that_cover_no_time_are_fresh():
    assert is_fresh(LAST, LAST + DAY, [DAY], length=timedelta(0), limit=2).passed
