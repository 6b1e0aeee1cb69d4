"""Worst slice, fairness and calibration: against figures made by hand, by fairlearn itself, and on too few rows."""

import numpy as np
import pandas as pd
import pytest
from fairlearn import metrics as fair

from mlops_assets.ml.gates import GateResult, cleared
from mlops_assets.ml.holdout import HoldOut, Trial
from mlops_assets.ml.measuring import measured
from mlops_assets_tests import toy

ROWS = 240
PARITIES = [
    f"{family}_{kind}"
    for family in ("demographic_parity", "equalized_odds", "equal_opportunity")
    for kind in ("difference", "ratio")
]


def frame(target, **columns):
    times = pd.date_range("2024-03-01", periods=len(target), freq="h", tz="UTC")
    return pd.DataFrame({"event_time": times, "sales": target, **columns})


def found(gate, rows, predicted, classes=(), personal=(), **changes):
    """The finding of one gate, and whether it clears it."""
    spec = toy.spec("nowhere", gates=[gate], **changes)
    trial = Trial.of(spec, HoldOut.of(spec, rows, {"2024-03-01": len(rows)}), classes)
    [finding] = measured(trial, np.asarray(predicted, float), personal).values()
    assert finding.of
    return finding, cleared(spec.gates[0], finding)


def binary(gate, rows, probability, **changes):
    """The same of a binary model that says these probabilities of 1."""
    evaluation = {"metric": "roc_auc", "replicates": 100, "slices": ["kind"]}
    said = np.column_stack([1 - np.asarray(probability), probability])
    return found(gate, rows, said, (0, 1), **{"task": "binary", "evaluation": evaluation, **changes})


def kinds(*counts):
    return np.repeat(list("abcdefgh")[: len(counts)], counts)


def off(*errors):
    """Rows of kinds a, b, ... whose answers are off by so much each, and the answers."""
    each = ROWS // len(errors)
    rows = frame(np.full(each * len(errors), 50.0), kind=kinds(*[each] * len(errors)))
    return rows, rows["sales"] + np.repeat(errors, each)


def test_the_worst_slice_is_the_one_with_the_largest_loss_and_carries_its_interval_and_the_others():
    finding, passed = found({"worst_slice": "mae", "at_most": 4}, *off(1.0, -4.0, 2.0))
    assert passed
    assert (finding.value, finding.low, finding.high, finding.rows) == (4, 4, 4, ROWS // 3)
    assert finding.about == "kind = b, 80 rows"
    assert finding.parts == {"kind = a": 1, "kind = b": 4, "kind = c": 2}
    assert not found({"worst_slice": "mae", "at_most": 3.999}, *off(1.0, -4.0, 2.0))[1]


def test_where_more_is_better_the_worst_slice_has_the_least():
    rows = frame(np.tile([0, 1], ROWS // 2), kind=kinds(ROWS // 2, ROWS // 2))
    right = np.where(kinds(ROWS // 2, ROWS // 2) == "a", rows["sales"], 1 - rows["sales"])
    finding, passed = binary({"worst_slice": "accuracy", "at_least": 0.5}, rows, right)
    assert (finding.value, finding.about, passed) == (0, "kind = b, 120 rows", False)


@pytest.mark.parametrize(("fewest", "worst"), [(20, "b"), (21, "a")])
def test_slices_with_too_few_rows_are_not_the_worst(fewest, worst):
    rows = frame(np.full(120, 50.0), kind=kinds(100, 20))
    evaluation = {"metric": "mae", "slices": ["kind"], "replicates": 50, "min_slice_rows": fewest}
    said = rows["sales"] + np.where(rows["kind"] == "b", 9, 1)
    finding, _ = found({"worst_slice": "mae", "at_most": 99}, rows, said, evaluation=evaluation)
    assert finding.about.startswith(f"kind = {worst}")


def test_a_declared_column_without_a_large_slice_and_one_that_does_not_define_the_metric_clear_nothing():
    rows = frame(np.full(29, 50.0), kind=kinds(29))
    finding, passed = found({"worst_slice": "mae", "at_most": 99}, rows, rows["sales"])
    assert (finding.missing, passed) == ("no slice of kind has 30 rows", False)
    one_class = frame(np.where(kinds(120, 120) == "a", np.tile([0, 1], 120), 1), kind=kinds(120, 120))
    finding, passed = binary({"worst_slice": "roc_auc", "at_least": 0.0}, one_class, np.full(ROWS, 0.5))
    assert finding.missing == "roc_auc is not defined on the 120 rows where kind = b"
    assert not passed


def test_personal_values_of_slices_and_groups_are_not_shown():
    slices, _ = found({"worst_slice": "mae", "at_most": 9}, *off(1.0, 2.0), personal=["kind"])
    assert slices.about == "kind = group 2, 120 rows"
    groups, _ = found(
        {"fairness": "metric_ratio", "between": "kind", "groups": ["b", "a"], "at_least": 0},
        *off(1.0, 2.0),
        personal=["kind"],
    )
    assert groups.parts == {"group 1": 2, "group 2": 1}


def judged(seed=3):
    """Rows of two classes in two groups that are treated differently, with probabilities."""
    random = np.random.default_rng(seed)
    group = random.choice(["a", "b"], ROWS)
    actual = random.integers(0, 2, ROWS)
    probability = np.clip(0.5 * actual + 0.25 * (group == "a") + random.uniform(-0.2, 0.6, ROWS), 0, 1)
    return frame(actual, kind=group), probability


@pytest.mark.parametrize("measure", PARITIES)
def test_parities_are_those_of_fairlearn_and_the_interval_is_around_them(measure):
    rows, probability = judged()
    said = (probability > 0.5).astype(int)
    bar = {"at_least": 0.0} if measure.endswith("ratio") else {"at_most": 1.0}
    finding, passed = binary({"fairness": measure, "between": "kind", **bar}, rows, probability)
    assert finding.value == getattr(fair, measure)(rows["sales"], said, sensitive_features=rows["kind"])
    assert finding.low < finding.value < finding.high
    assert passed
    assert "2 groups of" in finding.about
    name = next(iter(bar))
    beyond = finding.value + (1e-6 if name == "at_least" else -1e-6)
    assert not binary({"fairness": measure, "between": "kind", name: beyond}, rows, probability)[1]


@pytest.mark.parametrize(
    ("measure", "bar", "value"),
    [("metric_difference", {"at_most": 3}, 3), ("metric_ratio", {"at_least": 0.25}, 0.25)],
)
def test_between_groups_of_a_regression_the_error_is_compared(measure, bar, value):
    finding, passed = found({"fairness": measure, "between": "kind", **bar}, *off(1.0, 4.0))
    assert (finding.value, finding.low, finding.high, passed) == (value, value, value, True)
    assert finding.parts == {"a": 1, "b": 4}
    worse = found({"fairness": measure, "between": "kind", **bar}, *off(1.0, 4.001))
    assert not worse[1]
    other, _ = found({"fairness": measure, "of": "bias", "between": "kind", **bar}, *off(-1.0, 4.0))
    assert other.parts == {"a": -1, "b": 4}


@pytest.mark.parametrize(("least", "passed"), [(20, True), (21, False)])
def test_each_group_needs_its_rows(least, passed):
    rows = frame(np.full(120, 50.0), kind=kinds(100, 20))
    gate = {"fairness": "metric_difference", "between": "kind", "at_most": 9, "min_rows": least}
    finding, cleared_it = found(gate, rows, rows["sales"] + 1)
    assert cleared_it is passed
    why = "kind = b: 20 rows are fewer than the 21 that it takes; name those to compare in `groups`"
    assert finding.missing == ("" if passed else why)


def test_named_groups_are_compared_and_no_others_and_one_without_rows_clears_nothing():
    gate = {"fairness": "metric_difference", "between": "kind", "groups": ["a", "b"], "at_most": 1}
    assert found(gate, *off(1.0, 2.0, 99.0))[1]
    finding, passed = found({**gate, "groups": ["a", "x"]}, *off(1.0, 2.0))
    assert finding.missing == "kind = x: 0 rows are fewer than the 30 that it takes"
    assert not passed


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (frame(np.full(60, 50.0), kind=kinds(60)), "kind has one group only"),
        (frame(np.full(60, 50.0)), "validated_features has no column kind"),
        (
            frame(np.full(21 * 40, 50.0), kind=np.repeat([f"k{n:02}" for n in range(21)], 40)),
            "kind has more than 20 groups: name those to compare in `groups`",
        ),
    ],
)
def test_what_are_no_groups_to_compare_says_so(rows, said):
    gate = {"fairness": "metric_difference", "between": "kind", "at_most": 9}
    finding, passed = found(gate, rows, rows["sales"], evaluation={"metric": "mae"})
    assert (finding.missing, passed) == (said, False)


@pytest.mark.parametrize(
    ("measure", "never", "missing"),
    [
        ("equal_opportunity_difference", 1, True),
        ("equal_opportunity_difference", 0, False),
        ("equalized_odds_difference", 1, True),
        ("equalized_odds_difference", 0, True),
        ("demographic_parity_difference", 1, False),
    ],
)
def test_a_group_in_which_a_rate_is_of_nothing_is_missing_and_not_nought(measure, never, missing):
    actual = np.where(kinds(120, 120) == "b", 1 - never, np.tile([0, 1], 120))
    rows = frame(actual, kind=kinds(120, 120))
    finding, passed = binary({"fairness": measure, "between": "kind", "at_most": 1}, rows, np.full(ROWS, 0.9))
    assert finding.missing == (f"no row where kind = b is {never}" if missing else "")
    assert passed is not missing


def test_a_ratio_of_nothing_to_nothing_is_no_figure():
    rows = frame(np.tile([0, 1], 120), kind=kinds(120, 120))
    gate = {"fairness": "demographic_parity_ratio", "between": "kind", "at_least": 0}
    finding, passed = binary(gate, rows, np.zeros(ROWS))
    assert finding.value is None
    assert not passed


def test_the_expected_calibration_error_is_the_gap_in_each_bin_weighted_by_its_rows():
    actual = np.tile([1, 0, 0, 0], 60)
    rows = frame(actual, kind="a")
    honest, _ = binary({"calibration": "expected_calibration_error", "at_most": 0.1}, rows, np.full(ROWS, 0.25))
    assert honest.value == pytest.approx(0)
    two_bins = np.where(np.arange(ROWS) < 120, 0.25, 0.75)
    finding, passed = binary({"calibration": "expected_calibration_error", "at_most": 0.26}, rows, two_bins)
    assert finding.value == pytest.approx(0.5 * 0 + 0.5 * 0.5)
    assert finding.low <= finding.value <= finding.high
    assert (passed, finding.rows) == (True, ROWS)
    assert not binary({"calibration": "expected_calibration_error", "at_most": 0.2499}, rows, two_bins)[1]
    sure = binary({"calibration": "expected_calibration_error", "at_most": 1}, rows, np.ones(ROWS))[0]
    assert sure.value == pytest.approx(0.75)


def test_of_several_classes_the_likeliest_is_calibrated_and_the_brier_score_is_summed():
    rows = frame(np.tile(["x", "y"], 120), kind="a")
    said = np.tile([0.6, 0.3, 0.1], (ROWS, 1))
    multi = {"task": "multiclass", "evaluation": {"metric": "accuracy", "replicates": 50}}
    finding, _ = found(
        {"calibration": "expected_calibration_error", "at_most": 1}, rows, said, ("x", "y", "z"), **multi
    )
    assert finding.value == pytest.approx(0.6 - 0.5)
    brier, _ = found({"calibration": "brier_score", "at_most": 2}, rows, said, ("x", "y", "z"), **multi)
    assert brier.value == pytest.approx(np.mean([0.4**2 + 0.3**2 + 0.1**2, 0.6**2 + 0.7**2 + 0.1**2]))


def test_the_brier_score_of_two_classes_is_the_metric_of_that_name():
    rows, probability = judged()
    finding, _ = binary({"calibration": "brier_score", "at_most": 1}, rows, probability)
    assert finding.value == pytest.approx(np.mean((probability - rows["sales"]) ** 2))


@pytest.mark.parametrize(("error", "about"), [(2.0, "the answers are too high"), (-2.0, "the answers are too low")])
def test_the_mean_bias_is_a_size_and_says_its_direction(error, about):
    finding, passed = found({"calibration": "mean_bias", "at_most": 2}, *off(error, error))
    assert (finding.value, finding.low, finding.high, finding.about, passed) == (2, 2, 2, about, True)
    assert not found({"calibration": "mean_bias", "at_most": 1.999}, *off(error, error))[1]
    assert found({"calibration": "mean_bias", "at_most": 0}, *off(error, -error))[1]


@pytest.mark.parametrize(("least", "passed"), [(ROWS, True), (ROWS + 1, False)])
def test_calibration_needs_its_rows(least, passed):
    finding, cleared_it = found({"calibration": "mean_bias", "at_most": 9, "min_rows": least}, *off(1.0, 1.0))
    assert cleared_it is passed
    assert passed or finding.missing == "240 rows are fewer than the 241 that it takes"


def test_a_finding_becomes_the_result_that_a_report_keeps():
    spec = toy.spec("nowhere", gates=[{"worst_slice": "mae", "at_most": 3}])
    finding, _ = found({"worst_slice": "mae", "at_most": 3}, *off(1.0, 4.0))
    result = GateResult.of_finding(spec.gates[0], finding)
    assert str(result) == "mae of the worst slice (kind = b, 120 rows) is 4, the gate asks for at most 3"
