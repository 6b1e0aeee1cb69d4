"""Golden rows: bounded, seeded and without personal data; and when what is said of them counts as the same."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.ml.golden import ROWS, WITHHELD, Golden, changes, different, golden_rows, said
from mlops_assets.ml.training import fit, serving_surroundings
from mlops_assets_tests.ml.test_features import rows
from mlops_assets_tests.ml.test_training import INPUTS, declared

HERE = {"numpy": "2.4.6", "lock": "a" * 64, "kernels": "Haswell"}
ELSEWHERE = {**HERE, "numpy": "2.4.7"}
RIDGE = declared(estimator={"path": "sklearn.linear_model.Ridge"})


def golden(*answers):
    return Golden(rows="0" * 64, answers=tuple((each,) for each in answers), made_in=HERE)


def now(*answers):
    return tuple((each,) for each in answers)


def test_golden_rows_are_bounded_and_drawn_by_the_seed_alone():
    frame = rows(300)
    drawn = golden_rows(frame, INPUTS, (), 7)
    assert len(drawn) == ROWS
    assert list(drawn.columns) == list(INPUTS)
    pd.testing.assert_frame_equal(drawn, golden_rows(frame, INPUTS, (), 7))
    assert not drawn.equals(golden_rows(frame, INPUTS, (), 8))
    assert len(golden_rows(frame.head(3), INPUTS, (), 7)) == 3


def test_no_personal_value_is_kept_and_the_model_answers_all_the_same(tmp_path):
    frame = rows(300)
    fitted = fit(frame, RIDGE, INPUTS, personal=("kind", "price"))
    assert fitted.golden["kind"].tolist() == [WITHHELD] * ROWS
    assert fitted.golden["price"].tolist() == [frame["price"].median()] * ROWS
    assert fitted.golden["wind"].nunique() > 1
    assert len(fitted.answers) == ROWS
    assert not set(frame["kind"].cat.categories) & set(fitted.golden["kind"].cat.categories)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pd.Series([True, False, True]), False),
        (pd.Series([1, 2, 4]), 2),
        (pd.Series([1, None, 4], dtype="Int64"), 2),
        (pd.Series([1.5, np.nan, 2.5]), 2.0),
        (pd.Series(pd.to_datetime(["2024-01-01", "2024-01-03"], utc=True)), pd.Timestamp("2024-01-02", tz="UTC")),
        (pd.Series(["ada", "grace"]), WITHHELD),
    ],
    ids=["truth", "integer", "nullable", "number", "moment", "text"],
)
def test_a_stand_in_has_the_type_of_what_it_stands_for(column, expected):
    drawn = golden_rows(column.to_frame("x"), ["x"], ["x"], 0)["x"]
    assert set(drawn) == {expected}
    assert drawn.dtype == column.dtype or drawn.dtype == "category"


def test_rows_and_answers_come_back_from_their_files_as_they_were(tmp_path):
    fitted = fit(rows(300), RIDGE, INPUTS)
    fitted.golden.to_parquet(tmp_path / "rows.parquet")
    again = said("regression", fitted.pipeline, pd.read_parquet(tmp_path / "rows.parquet"), INPUTS)
    kept = Golden(rows="0" * 64, answers=fitted.answers, made_in=serving_surroundings(RIDGE))
    assert different(Golden.model_validate_json(kept.model_dump_json()), again, serving_surroundings(RIDGE)) is None


@given(numbers=st.lists(st.floats(), min_size=1, max_size=9))
def test_every_number_survives_being_kept(numbers):
    kept = Golden.model_validate_json(golden(*numbers).model_dump_json())
    assert np.array(kept.answers).tobytes() == np.array(now(*numbers)).tobytes() or np.isnan(numbers).any()
    assert different(kept, now(*numbers), HERE) is None


def test_in_the_same_surroundings_one_bit_is_a_difference():
    kept = golden(1.0, 2.0)
    assert different(kept, now(1.0, 2.0), HERE) is None
    wrong = different(kept, now(1.0, np.nextafter(2.0, 3.0)), HERE)
    assert wrong.startswith("1 of 2 golden rows are answered otherwise, by up to 4.44e-16: they have to be equal")


@pytest.mark.parametrize(("moved", "same"), [(0.0, True), (0.9e-4, True), (1.1e-4, False)])
def test_in_other_surroundings_a_millionth_of_the_largest_answer_is_allowed(moved, same):
    wrong = different(golden(1.0, 100.0), now(1.0 + moved, 100.0), ELSEWHERE)
    assert (wrong is None) == same
    if wrong:
        assert "more than 0.0001 is too much, where numpy was 2.4.6 and is 2.4.7" in wrong


@pytest.mark.parametrize("answers", [now(1.0), ((1.0, 2.0), (3.0, 4.0)), ()])
def test_another_number_of_answers_is_a_difference(answers):
    assert "it answered (2, 1)" in different(golden(1.0, 2.0), answers, HERE)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_not_a_number_any_more_is_a_difference_here_and_elsewhere(wrong):
    for where in (HERE, ELSEWHERE):
        assert "1 of 2 golden rows" in different(golden(1.0, 2.0), now(1.0, wrong), where)


def test_what_changed_around_a_model_is_told_in_words():
    assert changes(golden(1.0), HERE) == ""
    told = changes(golden(1.0), {"numpy": "2.4.6", "lock": "b" * 64, "machine": "arm64"})
    assert told == (
        "kernels was Haswell and is absent, lock was aaaaaaaaaaaa and is bbbbbbbbbbbb, machine was absent and is arm64"
    )


def test_the_surroundings_name_what_serving_needs_and_nothing_else():
    named = set(serving_surroundings(RIDGE))
    assert named == {"python", "machine", "kernels", "lock", "numpy", "pandas", "scikit-learn", "skops"}
    assert json.dumps(serving_surroundings(RIDGE)) == json.dumps(serving_surroundings(RIDGE))
