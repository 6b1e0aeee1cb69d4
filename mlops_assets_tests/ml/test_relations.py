"""What a hold-out says of a version's errors gives the metrics of other rows, and no number where it cannot."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from mlops_assets.ml import metrics
from mlops_assets.ml.holdout import HoldOut, Trial
from mlops_assets.ml.metrics import METRICS
from mlops_assets.ml.relations import _isotonic, expect, learn
from mlops_assets_tests import toy

METRIC = {"regression": "mae", "binary": "roc_auc", "multiclass": "log_loss"}


def spec(task="binary"):
    return toy.spec("", task=task, evaluation={"metric": METRIC[task]}, gates=[])


def trial(task, actual, days=30):
    """The judgement of a hold-out of rows with these labels, evenly spread over some days."""
    times = pd.date_range("2024-01-01", periods=len(actual), freq=f"{days * 86_400_000 // len(actual)}ms", tz="UTC")
    frame = pd.DataFrame({"event_time": times, "sales": actual})
    classes = () if task == "regression" else tuple(range(3 if task == "multiclass" else 2))
    return Trial.of(spec(task), HoldOut.of(spec(task), frame, {"2023-12": len(frame)}), classes)


def rated(seed, rows, low=0.0, high=1.0):
    """Probabilities that are true: of the rows that are given one, just that share is positive."""
    random = np.random.default_rng(seed)
    chance = random.uniform(low, high, rows)
    return (random.random(rows) < chance).astype(int), np.column_stack([1 - chance, chance])


def guessed(seed, rows, low=10.0, high=100.0):
    """Predictions that are off by a tenth of themselves."""
    random = np.random.default_rng(seed)
    predicted = random.uniform(low, high, rows)
    return predicted * (1 + 0.1 * random.normal(size=rows)), predicted


def chosen(seed, rows, power=1.0):
    """True probabilities of three classes; the higher the power, the surer."""
    random = np.random.default_rng(seed)
    chances = random.random((rows, 3)) ** (3 * power)
    chances /= chances.sum(axis=1, keepdims=True)
    return (random.random((rows, 1)) > chances.cumsum(axis=1)).sum(axis=1), chances


def values(task, learned, predicted):
    return {name: found.value for name, found in expect(spec(task), learned, predicted)[0].items()}


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.3, 0.7), (0.0, 0.4), (0.8, 1.0)])
def test_where_probabilities_are_true_the_expectation_is_what_comes_true(low, high):
    actual, predicted = rated(0, 40_000)
    learned = learn(trial("binary", actual), predicted)
    actual, predicted = rated(1, 40_000, low, high)
    assert values("binary", learned, predicted) == pytest.approx(metrics.values("binary", actual, predicted), abs=0.02)


def test_easier_rows_are_expected_to_go_better_and_harder_ones_worse_than_at_registration():
    actual, predicted = rated(0, 20_000)
    learned = learn(trial("binary", actual), predicted)
    at_registration = metrics.values("binary", actual, predicted)["accuracy"]
    harder = values("binary", learned, rated(1, 5_000, 0.4, 0.6)[1])["accuracy"]
    easier = values("binary", learned, rated(1, 5_000, 0.9, 1.0)[1])["accuracy"]
    assert harder == pytest.approx(0.55, abs=0.02)
    assert easier == pytest.approx(0.95, abs=0.02)
    assert harder < at_registration - 0.1 < easier - 0.2


def test_a_version_that_is_too_sure_is_not_believed():
    actual, predicted = rated(0, 40_000)
    learned = learn(trial("binary", actual), _surer(predicted))
    actual, predicted = rated(1, 40_000, 0.2, 0.9)
    expected = values("binary", learned, _surer(predicted))
    assert expected == pytest.approx(metrics.values("binary", actual, _surer(predicted)), abs=0.05)
    assert expected["log_loss"] > metrics.values("binary", *rated(1, 40_000, 0.2, 0.9))["log_loss"] + 0.1


def _surer(predicted):
    raised = predicted**4
    return raised / raised.sum(axis=1, keepdims=True)


def test_three_classes_are_expected_as_they_come_out():
    actual, predicted = chosen(0, 40_000)
    learned = learn(trial("multiclass", actual), predicted)
    actual, predicted = chosen(1, 40_000, 2)
    known = metrics.values("multiclass", actual, predicted)
    assert values("multiclass", learned, predicted) == pytest.approx(known, abs=0.03)


@pytest.mark.parametrize(("low", "high"), [(10, 100), (60, 100), (10, 20)])
def test_errors_that_grow_with_the_prediction_are_expected_to(low, high):
    actual, predicted = guessed(0, 40_000)
    learned = learn(trial("regression", actual), predicted)
    actual, predicted = guessed(1, 40_000, low, high)
    known, expected = metrics.values("regression", actual, predicted), values("regression", learned, predicted)
    assert expected["mae"] == pytest.approx(known["mae"], rel=0.05)
    assert expected["rmse"] == pytest.approx(known["rmse"], rel=0.08)
    assert expected["wape"] == pytest.approx(known["wape"], rel=0.05)
    assert expected["r2"] == pytest.approx(known["r2"], abs=0.1)
    assert expected["bias"] == pytest.approx(known["bias"], abs=0.3)


@pytest.mark.parametrize("task", METRICS)
def test_every_metric_is_expected_with_a_finite_error(task):
    made = {"regression": guessed, "binary": rated, "multiclass": chosen}[task]
    learned = learn(trial(task, made(0, 1_000)[0]), made(0, 1_000)[1])
    found, absent = expect(spec(task), learned, made(1, 300)[1])
    assert set(found) == set(METRICS[task])
    assert absent == {}
    assert all(np.isfinite([each.value, each.error]).all() and each.error > 0 for each in found.values())


@given(seed=st.integers(0, 1_000), rows=st.integers(30, 400), task=st.sampled_from(["regression", "binary"]))
@settings(max_examples=25, deadline=None)
def test_the_order_of_rows_does_not_matter(seed, rows, task):
    made = {"regression": guessed, "binary": rated}[task]
    learned = learn(trial(task, made(seed, 600)[0]), made(seed, 600)[1])
    predicted = made(seed + 1, rows)[1]
    shuffled = predicted[np.random.default_rng(seed).permutation(rows)]
    one, other = (expect(spec(task), learned, each)[0] for each in (predicted, shuffled))
    assert set(one) == set(other)
    for name, found in one.items():
        assert other[name].value == pytest.approx(found.value, rel=1e-9)
        assert other[name].error == pytest.approx(found.error, rel=1e-6, abs=1e-12)


@given(seed=st.integers(0, 1_000), task=st.sampled_from(["regression", "binary"]))
@settings(max_examples=25, deadline=None)
def test_fewer_rows_are_known_less_of(seed, task):
    made = {"regression": guessed, "binary": rated}[task]
    learned = learn(trial(task, made(seed, 2_000)[0]), made(seed, 2_000)[1])
    few = made(seed + 1, 60)[1]
    many = np.concatenate([few] * 16)
    one, other = (expect(spec(task), learned, each)[0][METRIC[task]] for each in (few, many))
    assert other.value == pytest.approx(one.value, abs=1e-6 if task == "regression" else 0.02)
    assert other.error < one.error


def test_a_small_hold_out_is_worth_less_than_a_large_one():
    small, large = (learn(trial("binary", rated(0, rows)[0]), rated(0, rows)[1]) for rows in (200, 20_000))
    predicted = rated(1, 5_000)[1]
    assert (
        expect(spec(), large, predicted)[0]["roc_auc"].error < expect(spec(), small, predicted)[0]["roc_auc"].error / 3
    )


def test_the_truth_falls_within_two_errors_about_as_often_as_that_should_be():
    inside = 0
    for seed in range(100):
        actual, predicted = rated(seed, 1_000)
        learned = learn(trial("binary", actual), predicted)
        actual, predicted = rated(seed + 1_000, 700, 0.1, 0.9)
        found = expect(spec(), learned, predicted)[0]["roc_auc"]
        inside += abs(metrics.values("binary", actual, predicted)["roc_auc"] - found.value) < 1.96 * found.error
    assert 0.88 <= inside / 100 <= 0.99


def test_a_changed_relation_is_not_seen():
    actual, predicted = rated(0, 5_000)
    learned = learn(trial("binary", actual), predicted)
    turned = 1 - rated(1, 5_000)[0]
    assert values("binary", learned, rated(1, 5_000)[1])["roc_auc"] > 0.8
    assert metrics.values("binary", turned, rated(1, 5_000)[1])["roc_auc"] < 0.2


@pytest.mark.parametrize(("rows", "known"), [(99, False), (100, True)])
def test_a_hold_out_of_too_few_rows_says_nothing(rows, known):
    actual, predicted = rated(0, rows)
    learned = learn(trial("binary", actual), predicted)
    found, absent = expect(spec(), learned, rated(1, 500)[1])
    assert bool(found) is known
    assert set(absent) == (set() if known else set(METRICS["binary"]))
    assert known or absent["roc_auc"] == "its hold-out has 99 rows with a label, at least 100 are needed"


@pytest.mark.parametrize(("rows", "known"), [(0, False), (29, False), (30, True)])
def test_of_too_few_rows_nothing_is_expected(rows, known):
    learned = learn(trial("binary", rated(0, 500)[0]), rated(0, 500)[1])
    found, absent = expect(spec(), learned, rated(1, rows)[1])
    assert ("roc_auc" in found) is known
    assert known or absent["roc_auc"] == f"{rows} rows are too few, at least 30 are needed"


def test_a_hold_out_of_one_class_says_nothing():
    learned = learn(trial("binary", np.zeros(500, int)), rated(0, 500)[1])
    assert expect(spec(), learned, rated(1, 500)[1])[1]["roc_auc"] == "its hold-out holds one class only"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("task", ["regression", "binary"])
def test_predictions_that_are_no_numbers_give_no_number(bad, task):
    made = {"regression": guessed, "binary": rated}[task]
    actual, predicted = made(0, 500)
    broken = predicted.copy()
    broken[3] = bad
    assert learn(trial(task, actual), broken).absent == "its predictions for the hold-out are not all finite"
    found, absent = expect(spec(task), learn(trial(task, actual), predicted), broken)
    assert found == {}
    assert absent == dict.fromkeys(METRICS[task], "its predictions are not all finite")


def test_predictions_of_other_classes_give_no_number():
    learned = learn(trial("binary", rated(0, 500)[0]), rated(0, 500)[1])
    assert "other classes" in expect(spec(), learned, chosen(0, 500)[1])[1]["log_loss"]


def test_a_version_that_gives_every_row_the_same_score_is_expected_to_rank_by_chance():
    actual = rated(0, 500)[0]
    learned = learn(trial("binary", actual), np.full((500, 2), 0.5))
    found = values("binary", learned, np.full((300, 2), 0.5))
    assert found["roc_auc"] == pytest.approx(0.5)
    assert found["brier"] == pytest.approx(0.25)


def test_what_is_kept_is_sums_and_counts_and_no_row():
    actual, predicted = guessed(0, 5_000)
    kept = json.loads(learn(trial("regression", actual), predicted).model_dump_json())
    assert set(kept) == {"rows", "partitions", "columns", "absent"}
    [column] = kept["columns"]
    assert set(column) == {"centres", "counts", "sums"}
    assert set(column["sums"]) == {"error", "absolute_error", "squared_error", "larger"}
    assert len(column["centres"]) == len(column["counts"][0]) == 15
    assert len(column["counts"]) == 30
    assert sum(map(sum, column["counts"])) == 5_000


def test_what_was_learned_is_the_same_each_time_and_so_is_what_is_expected():
    actual, predicted = rated(0, 500)
    one, other = (learn(trial("binary", actual), predicted) for _ in range(2))
    assert one.digest() == other.digest()
    assert expect(spec(), one, predicted) == expect(spec(), other, predicted)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 50)), min_size=1, max_size=15))
def test_the_rising_sequence_is_scikit_learns(cells):
    means, weights = map(np.array, zip(*cells, strict=True))
    expected = IsotonicRegression().fit_transform(np.arange(len(means)), means, sample_weight=weights)
    assert _isotonic(means, weights.astype(float)) == pytest.approx(expected, abs=1e-9)
