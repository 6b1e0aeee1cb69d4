"""What a sample's columns become: types, ranges with slack, categories, and names that Python can say."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.scaffold.columns import attribute, guess_columns, wide_range
from mlops_assets.scaffold.sample import ScaffoldError, read_sample


def guesses(folder, frame, target="y"):
    path = folder / "sample.parquet"
    frame.to_parquet(path)
    return {guess.name: guess for guess in guess_columns(read_sample(path), target, [])}


def guess(folder, values, name="x", target="y"):
    return guesses(folder, pd.DataFrame({name: values, "y": range(len(values))}), target)[name]


@pytest.mark.parametrize(
    ("values", "annotation", "rules"),
    [
        ([0, 10], "int", {"ge": 0, "le": 15}),
        ([-10, 10], "int", {"ge": -20, "le": 20}),
        ([0.5, None, 1.5], "float", {"nullable": True, "ge": 0.0, "le": 2.0}),
        ([0, 1, 1], "int", {"isin": [0, 1]}),
        ([1, 2, 2], "int", {"ge": 0, "le": 3}),
        ([True, False], "bool", {}),
        ([True, None], "pd.BooleanDtype", {"nullable": True}),
        (["a", "b", "a"], "pd.CategoricalDtype", {"isin": ["a", "b"]}),
        (["a", None, "a"], "pd.CategoricalDtype", {"nullable": True, "isin": ["a"]}),
        (["u\u0308", "\u00fc"], "pd.CategoricalDtype", {"isin": ["\u00fc"]}),
        ([7, 7, 7], "int", {"ge": 0, "le": 14}),
    ],
)
def test_a_column_is_typed_and_bounded_by_what_it_holds(tmp_path, values, annotation, rules):
    found = guess(tmp_path, values)
    assert (found.annotation, found.rules, found.unfit) == (annotation, rules, None)


def test_a_target_is_never_missing_and_two_numbers_are_its_classes(tmp_path):
    frame = pd.DataFrame({"y": [1, 2, 1], "x": [1, 2, 3]})
    assert guesses(tmp_path, frame)["y"].rules == {"isin": [1, 2]}
    frame = pd.DataFrame({"y": [1.5, None, 2.5], "x": [1, 2, 3]})
    assert "nullable" not in guesses(tmp_path, frame)["y"].rules


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([None] * 40, "empty"),
        ([f"row {number}" for number in range(40)], "of its own"),
        (list(pd.date_range("2024-01-01", periods=40)), "a time"),
    ],
)
def test_a_column_that_teaches_nothing_is_kept_in_the_contract_and_out_of_the_model(tmp_path, values, reason):
    assert reason in guess(tmp_path, values).unfit


@pytest.mark.parametrize("name", ["email", "E-Mail", "phone_number", "first name", "date_of_birth"])
def test_personal_data_are_marked_and_not_learned_from(tmp_path, name):
    found = guess(tmp_path, ["x@y.z", "a@b.c"] * 20, name)
    assert found.rules["metadata"] == {"pii": "direct"}
    assert "isin" not in found.rules
    assert found.unfit


@pytest.mark.parametrize(("distinct", "listed"), [(50, True), (51, False)])
def test_texts_are_categories_up_to_a_number(tmp_path, distinct, listed):
    found = guess(tmp_path, [f"c{number % distinct}" for number in range(1100)])
    assert ("isin" in found.rules) is listed


def test_a_nested_column_is_refused_by_name(tmp_path):
    with pytest.raises(ScaffoldError, match="'x' holds list"):
        guess(tmp_path, [[1], [2]])


@given(st.lists(st.floats(-1e12, 1e12, allow_subnormal=False), min_size=1))
def test_a_range_holds_every_value_of_the_sample(values):
    low, high = wide_range(np.array(values))
    assert low <= min(values) <= max(values) <= high
    assert low >= 0 or min(values) < 0 or min(values) - 0.5 * (max(values) - min(values)) >= 0 or low < min(values)


@given(st.lists(st.floats(0, 1e12, allow_subnormal=False), min_size=1))
def test_what_is_never_negative_stays_so(values):
    assert wide_range(np.array(values))[0] >= 0


@given(st.lists(st.text(min_size=1), unique=True))
def test_every_name_becomes_a_python_name_of_its_own(names):
    taken = set()
    found = [attribute(name, taken) for name in names]
    assert len(set(found)) == len(names)
    assert all(name.isidentifier() and not name.startswith("_") for name in found)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("temp", "temp"),
        ("CO(GT)", "co_gt"),
        ("PT08.S1 (CO)", "pt08_s1_co"),
        ("2nd", "c_2nd"),
        ("class", "class_"),
        ("validate", "validate_"),
        ("Straße", "stra_e"),
        ("°", "column"),
    ],
)
def test_names_stay_readable(name, said):
    assert attribute(name, set()) == said
