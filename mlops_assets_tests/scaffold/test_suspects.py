"""Columns that a model should not learn from, on both sides of every border."""

import numpy as np
import pandas as pd

from mlops_assets.scaffold.suspects import suspects
from mlops_assets_tests import toy


def rows(count=400):
    random = np.random.default_rng(1)
    frame = pd.DataFrame({"a": random.integers(0, 50, count), "b": random.integers(0, 50, count)})
    return frame.assign(sales=(frame["a"] + frame["b"]).astype(float), wind=random.normal(size=count))


def found(frame):
    names = [name for name in frame if name != "sales"]
    return suspects(frame, toy.spec("x"), names, len(frame))


def test_two_columns_that_add_up_to_the_target_are_both_found():
    assert set(found(rows())) == {"a", "b"}


def test_two_columns_that_nearly_add_up_are_not_found():
    frame = rows()
    frame.loc[7, "sales"] += 1
    assert set(found(frame)) == set()


def test_a_copy_of_the_target_is_found_and_noise_is_not():
    frame = rows().assign(a=1, copy=lambda frame: 3 * frame["sales"] - 1)
    assert set(found(frame)) == {"copy"}


def test_a_counter_is_found_unless_it_ever_repeats():
    frame = rows().assign(a=1, counter=range(400))
    assert found(frame) == {"counter": "it only counts the rows"}
    frame.loc[5, "counter"] = 4
    assert found(frame) == {}
