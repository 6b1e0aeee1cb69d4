"""Profiles over all rows, and effect sizes between them."""

from __future__ import annotations

import json
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlops_assets.ml.profiles import (
    CATEGORIES,
    EPSILON,
    Profile,
    effect_sizes,
    jensen_shannon,
    profile,
    psi,
)

FLOATS = st.floats(allow_nan=True, allow_infinity=True, width=64)
COLUMNS = arrays(np.float64, st.integers(1, 80), elements=FLOATS)
TEXTS = st.lists(st.one_of(st.none(), st.text(max_size=3)), min_size=1, max_size=60)


def normal(seed, rows=2000, mean=0.0):
    return pd.DataFrame({"x": np.random.default_rng(seed).normal(mean, 1, rows)})


def effect(before, now, method="psi"):
    name = before.columns[0]
    return effect_sizes(profile(before), now, {name: method})[name].effect


@given(COLUMNS)
def test_the_shares_of_any_numbers_sum_to_one_and_survive_json(values):
    found = profile(pd.DataFrame({"x": values}))
    column = found.columns["x"]
    assert sum(column.shares) + column.nulls == pytest.approx(1)
    assert list(column.edges) == sorted(set(column.edges))
    assert len(column.shares) == len(column.edges) + 1
    assert Profile.model_validate(json.loads(json.dumps(found.model_dump(mode="json"), allow_nan=False))) == found


@given(COLUMNS, st.sampled_from(["psi", "js"]))
def test_numbers_have_not_moved_from_themselves(values, method):
    frame = pd.DataFrame({"x": values})
    assert effect(frame, frame, method) == 0


@given(TEXTS, st.sampled_from(["psi", "js"]))
def test_categories_have_not_moved_from_themselves(values, method):
    frame = pd.DataFrame({"x": pd.Series(values, dtype=object)})
    assert effect(frame, frame, method) == 0
    assert effect(frame, frame.astype("category"), method) == 0


@given(COLUMNS, COLUMNS, st.randoms(use_true_random=False))
def test_the_order_of_rows_and_columns_changes_nothing(before, now, random):
    frame = pd.DataFrame({"x": now, "y": now[::-1]})
    reference = profile(pd.DataFrame({"x": before, "y": before}))
    order = random.sample(range(len(frame)), len(frame))
    shuffled = frame.iloc[order][["y", "x"]]
    assert profile(shuffled) == profile(frame)
    assert effect_sizes(reference, shuffled) == effect_sizes(reference, frame)


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_the_effect_grows_with_the_shift(seed):
    before = normal(seed)
    for method in ("psi", "js"):
        effects = [effect(before, before + shift, method) for shift in (0, 0.25, 0.5, 1, 2)]
        assert effects == sorted(effects)
        assert effects[0] == 0 < effects[1]


def test_psi_and_jensen_shannon_are_what_their_papers_say():
    before, now = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    assert psi(before, now) == pytest.approx(2 * 0.3 * np.log(2.5))
    assert psi(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(2 * (1 - EPSILON) * np.log(1 / EPSILON))
    from scipy.spatial.distance import jensenshannon

    assert jensen_shannon(before, now) == pytest.approx(jensenshannon(before, now, base=2))
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1


def test_a_change_in_missing_values_alone_is_an_effect():
    before, now = normal(0), normal(0)
    now.loc[now.index[::2], "x"] = np.nan
    assert effect(before, now) > 0.5
    shift = effect_sizes(profile(before), now)["x"]
    assert (shift.nulls_before, shift.nulls_now) == (0, 0.5)


def test_equal_values_never_part_and_a_heavy_value_has_a_bin_of_its_own():
    rain = pd.DataFrame({"x": np.r_[np.zeros(700), np.linspace(0.1, 30, 300)]})
    drizzle = pd.DataFrame({"x": np.r_[np.full(700, 0.05), np.linspace(0.1, 30, 300)]})
    assert 0.7 in profile(rain).columns["x"].shares
    assert effect(rain, drizzle) > 1


@pytest.mark.parametrize("distinct", [2, 5, 20])
def test_few_distinct_numbers_have_a_bin_each(distinct):
    values = np.repeat(np.arange(distinct), 50)
    shares = [share for share in profile(pd.DataFrame({"x": values})).columns["x"].shares if share]
    assert shares == pytest.approx([1 / distinct] * distinct)


@pytest.mark.parametrize("moved", [-1.0, 3.0, 0.5, np.nan, np.inf, -np.inf, 1e300, 0.0])
def test_a_constant_that_changes_is_seen_whichever_way_it_goes(moved):
    assert effect(pd.DataFrame({"x": [1.0] * 100}), pd.DataFrame({"x": [moved] * 100})) > 5


def test_numbers_near_the_largest_float_are_binned_without_overflow():
    before = pd.DataFrame({"x": np.linspace(-1, 1, 1000) * 1e308})
    with np.errstate(all="raise"):
        assert effect(before, before) == 0
        assert effect(before, before / 2) > 0.5


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([True, False] * 10, "categorical"),
        (pd.array([True, None] * 10, dtype="boolean"), "categorical"),
        (pd.array([1, None] * 10, dtype="Int64"), "numeric"),
        (pd.array([1.5, None] * 10, dtype="double[pyarrow]"), "numeric"),
        ([Decimal("1.10"), None] * 10, "numeric"),
        ([np.inf, -np.inf] * 10, "numeric"),
        ([np.nan] * 20, "numeric"),
        ([None] * 20, "categorical"),
        (["a", None] * 10, "categorical"),
        (pd.array(["a", None] * 10, dtype="string[pyarrow]"), "categorical"),
        (pd.Categorical(["a", None] * 10, categories=["a", "never"]), "categorical"),
        ([1, "a"] * 10, "categorical"),
    ],
)
def test_every_kind_of_column_is_profiled_as_what_it_is(values, kind):
    frame = pd.DataFrame({"x": values})
    column = profile(frame).columns["x"]
    assert column.kind == kind
    assert sum(column.shares) + column.nulls == pytest.approx(1)
    assert effect(frame, frame) == 0


@pytest.mark.parametrize("values", [pd.date_range("2024", periods=3), pd.to_timedelta([1, 2, 3], "s"), [[1], [2], [3]]])
def test_moments_durations_and_nested_values_have_no_profile(values):
    assert profile(pd.DataFrame({"x": values})).columns == {}


def test_a_column_that_is_gone_or_of_another_kind_has_no_effect_size():
    reference = profile(pd.DataFrame({"x": [1.0, 2.0], "y": ["a", "b"]}))
    assert effect_sizes(reference, pd.DataFrame({"y": ["a", "b"]})).keys() == {"y"}
    assert effect_sizes(reference, pd.DataFrame({"x": ["one", "two"]})) == {}


def test_a_column_that_lost_all_its_values_is_compared_whatever_its_type_now():
    reference = profile(pd.DataFrame({"x": [1.0, 2.0], "y": ["a", "b"]}))
    shifts = effect_sizes(reference, pd.DataFrame({"x": [None, None], "y": [np.nan, np.nan]}))
    assert [shift.nulls_now for shift in shifts.values()] == [1, 1]
    assert min(shift.effect for shift in shifts.values()) > 5


def test_new_categories_are_counted_and_move_the_effect():
    before = pd.DataFrame({"x": ["a", "b"] * 500})
    now = pd.DataFrame({"x": ["a", "b"] * 475 + ["new"] * 50})
    shift = effect_sizes(profile(before), now)["x"]
    assert shift.new_category_share == pytest.approx(0.05)
    assert shift.effect > 0.2


def test_only_the_most_frequent_categories_are_named_and_ties_go_by_name():
    values = [f"c{number:04}" for number in range(CATEGORIES + 50)] + ["zzz", "zzz"]
    column = profile(pd.DataFrame({"x": values})).columns["x"]
    assert len(column.categories) == CATEGORIES
    assert "zzz" in column.categories
    assert f"c{CATEGORIES - 2:04}" in column.categories
    assert column.shares[-1] == pytest.approx(51 / len(values))


def test_no_rows_give_a_profile_of_no_shares():
    found = profile(pd.DataFrame({"x": np.array([], dtype=float), "y": np.array([], dtype=object)}))
    assert found.rows == 0
    assert {name: (column.shares, column.nulls) for name, column in found.columns.items()} == {
        "x": ((0.0,), 0),
        "y": ((0.0,), 0),
    }
