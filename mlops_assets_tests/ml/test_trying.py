"""What gates find out by using the candidate: its speed by a clock that is passed in, its size, its behaviour."""

import numpy as np
import pandas as pd
import pytest

from mlops_assets.ml.behaviour import BehaviourError, Subject, changed, moved, unmoved, within
from mlops_assets.ml.gates import GateResult, cleared
from mlops_assets.ml.holdout import HoldOut
from mlops_assets.ml.spec import BehaviourGate, LatencyGate
from mlops_assets.ml.trying import TRIED_ROWS, behaviour, latency, spread, tried
from mlops_assets_tests import toy
from mlops_assets_tests.evidence import candidate

HERE = "mlops_assets_tests.ml.test_trying"
ROWS = pd.DataFrame({"price": [1.0, 2.0, 3.0, 4.0], "kind": pd.Categorical(["a", "b", "a", "b"]), "wind": [0.0] * 4})
MODEL = Subject(ROWS, lambda rows: 10 - rows["price"].to_numpy() + 5 * (rows["kind"] == "c").to_numpy())
MILLISECOND = 1_000_000


def all_is_well(model):
    """Every case behaves."""
    return [True] * len(model.rows)


def three_of_four(model):
    """One case does not behave."""
    return np.array([True, True, True, False])


def alone(model, answer=True):
    """One answer for all."""
    return answer


def says_nothing(model):
    """Forgets to return."""


def scores(model):
    """Returns numbers."""
    return np.array([1.0, np.nan])


def no_case(model):
    """Tries nothing."""
    return np.array([], bool)


def breaks(model):
    """Raises with a row in its text."""
    return {}["secret of a customer"]


def asserts(model):
    """Asserts."""
    assert not model.rows.empty
    raise AssertionError("secret of a customer")


def tries_too_little(model):
    """Names no such input."""
    return moved(model, "up", rain=1)


NOT_A_FUNCTION = 3


def test_a_direction_is_kept_up_to_the_tolerance():
    assert moved(MODEL, "down", price=lambda price: price + 1).tolist() == [True] * 4
    assert moved(MODEL, "up", price=lambda price: price + 1).tolist() == [False] * 4
    assert moved(MODEL, "up", tolerance=1.0, price=lambda price: price + 1).tolist() == [True] * 4
    assert moved(MODEL, "up", tolerance=0.999, price=lambda price: price + 1).tolist() == [False] * 4


def test_what_must_not_move_the_answer_may_move_it_by_the_tolerance():
    assert unmoved(MODEL, 0, wind=9.0).tolist() == [True] * 4
    assert unmoved(MODEL, 5.0, kind="c").tolist() == [True] * 4
    assert unmoved(MODEL, 4.999, kind="c").tolist() == [False] * 4


def test_minimum_examples_are_held_at_both_ends():
    examples = [({"price": 3.0}, 7, 7), ({"price": 3.0}, 7.001, 9), ({"price": 3.0}, 0, 6.999), ({}, 9, 9)]
    assert within(MODEL, examples).tolist() == [True, False, False, True]


def test_an_answer_that_is_not_a_number_behaves_in_no_way():
    silent = Subject(ROWS, lambda rows: np.full(len(rows), np.nan))
    assert not moved(silent, "up", tolerance=9, wind=1.0).any()
    assert not unmoved(silent, 9, wind=1.0).any()
    assert not within(silent, [({}, -9, 9)]).any()


def test_of_classes_the_second_of_two_is_meant_and_of_more_one_has_to_be_named():
    def ask(rows):
        return np.tile([0.2, 0.3, 0.5], (len(rows), 1))

    assert Subject(ROWS, lambda rows: ask(rows)[:, :2], ("no", "yes")).says(ROWS).tolist() == [0.3] * 4
    several = Subject(ROWS, ask, ("x", "y", "z"))
    assert several.says(ROWS, of="z").tolist() == [0.5] * 4
    with pytest.raises(BehaviourError, match="say which class: of='x'"):
        several.says(ROWS)


def test_rows_are_changed_in_a_copy_and_a_category_stays_one():
    new = changed(ROWS, kind="z", price=lambda price: price * 2)
    assert new["kind"].tolist() == ["z"] * 4
    assert isinstance(new["kind"].dtype, pd.CategoricalDtype)
    assert (new["price"].iloc[0], ROWS["price"].iloc[0]) == (2.0, 1.0)


@pytest.mark.parametrize(
    ("test", "value", "said"),
    [
        ("all_is_well", 1.0, ""),
        ("three_of_four", 0.75, ""),
        ("alone", 1.0, ""),
        ("says_nothing", None, "returns true or false for each case"),
        ("scores", None, "returns true or false for each case"),
        ("no_case", None, "0 cases are fewer than the 1 that it takes"),
        ("breaks", None, f"{HERE}.breaks raised KeyError in line"),
        ("asserts", None, f"{HERE}.asserts raised AssertionError in line"),
        ("tries_too_little", None, "there is no input 'rain': price, kind, wind"),
        ("nowhere", None, "cannot be imported"),
        ("NOT_A_FUNCTION", None, "is not a function"),
    ],
)
def test_a_test_of_behaviour_gives_a_share_of_cases_or_says_why_it_gives_none(test, value, said):
    gate = BehaviourGate(behaviour=f"{HERE}.{test}")
    found = behaviour(gate, MODEL)
    assert found.value == value
    assert said in found.missing
    assert "secret" not in found.missing
    assert cleared(gate, found) is (value == 1.0)


def test_a_module_of_tests_that_is_not_there_clears_nothing():
    gate = BehaviourGate(behaviour="nowhere.at_all")
    assert "nowhere.at_all cannot be imported" in behaviour(gate, MODEL).missing


@pytest.mark.parametrize(("fewest", "passed"), [(4, True), (5, False)])
def test_a_test_of_behaviour_needs_its_cases_and_gets_its_parameters(fewest, passed):
    gate = BehaviourGate(behaviour=f"{HERE}.three_of_four", share=0.75, min_cases=fewest)
    assert cleared(gate, behaviour(gate, MODEL)) is passed
    assert behaviour(BehaviourGate(behaviour=f"{HERE}.alone", params={"answer": False}), MODEL).value == 0


def ticking(*spent):
    """A clock under which each prediction takes what is said, in milliseconds."""
    moments = iter(np.cumsum([part for each in spent for part in (0, each * MILLISECOND)]).tolist())
    return lambda: int(next(moments))


def test_latency_is_a_quantile_of_the_predictions_after_the_warm_up():
    asked = []
    gate = LatencyGate(latency="median", at_most_ms=11, repeats=21, warm_up=3)
    found = latency(gate, asked.append, ROWS, ticking(*range(1, 22)), 0.95)
    assert (found.value, found.rows) == (11.0, 21)
    assert found.low < 11 < found.high
    assert found.parts["p95"] == pytest.approx(20)
    assert len(asked) == 24
    assert {len(row) for row in asked} == {1}
    assert cleared(gate, found)
    assert not cleared(gate.model_copy(update={"at_most_ms": 10.999}), found)


@pytest.mark.parametrize("spent", [0, -1])
def test_a_clock_that_does_not_go_forward_measures_nothing(spent):
    gate = LatencyGate(latency="p99", at_most_ms=1, repeats=20, warm_up=1)
    found = latency(gate, len, ROWS, ticking(*[spent] * 20), 0.95)
    assert (found.value, found.missing) == (None, "the clock did not go forward")
    assert not cleared(gate, found)


class Flat:
    """A pipeline that answers 1."""

    def predict(self, rows):
        return np.ones(len(rows))


@pytest.mark.parametrize(("size", "passed"), [(1000, True), (1001, False)])
def test_the_artifact_is_weighed_only_where_a_gate_wants_to_know(size, passed):
    def never():
        raise AssertionError("nobody asked")

    frame = toy.rows("2024-03").rename(columns={"ts": "event_time"})
    frame["event_time"] = pd.to_datetime(frame["event_time"], utc=True)
    spec = toy.spec("nowhere", gates=[{"size": "artifact", "at_most_bytes": 1000}])
    holdout = HoldOut.of(spec, frame, {"2024-03-01": len(frame)})
    found = tried(spec, candidate(), Flat(), holdout, lambda: size, lambda: 0)
    result = GateResult.of_finding(spec.gates[0], found["artifact_is_small_enough"])
    assert result.passed is passed
    assert str(result).startswith(f"the stored artifact is {size:,} bytes, the gate asks for at most 1,000 bytes")
    assert tried(toy.spec("nowhere"), candidate(), Flat(), holdout, never, never) == {}


@pytest.mark.parametrize("rows", [1, TRIED_ROWS, TRIED_ROWS + 1, 3 * TRIED_ROWS])
def test_tried_rows_are_spread_over_all_of_them(rows):
    tried_rows = spread(pd.DataFrame({"x": range(rows)}), TRIED_ROWS)["x"].tolist()
    assert len(tried_rows) == min(rows, TRIED_ROWS)
    assert (tried_rows[0], tried_rows[-1]) == (0, rows - 1)
    assert len(set(tried_rows)) == len(tried_rows)
