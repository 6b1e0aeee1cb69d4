"""Metrics equal scikit-learn's, intervals cover what they claim, and unusable predictions are refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from mlops_assets.ml import metrics
from mlops_assets.ml.metrics import METRICS, Resampling, UnusablePredictionsError, resampling, scores

HALVES = resampling(400, 1, 50, 0)


def regression(seed, rows=400):
    random = np.random.default_rng(seed)
    actual = random.gamma(2, 50, rows) + 1e6 * (seed % 2)
    return actual, actual + random.normal(3, 20, rows)


def classification(seed, classes, rows=400, decimals=2):
    random = np.random.default_rng(seed)
    actual = random.integers(0, classes, rows)
    raw = random.random((rows, classes)) + 0.8 * (np.arange(classes) == actual[:, None])
    rounded = np.round(raw / raw.sum(axis=1, keepdims=True), decimals)
    if classes == 2:
        rounded[:, 0] = 1 - rounded[:, 1]
    return actual, rounded / rounded.sum(axis=1, keepdims=True)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_regression_metrics_equal_scikit_learns(seed):
    actual, predicted = regression(seed)
    expected = {
        "mae": sk.mean_absolute_error(actual, predicted),
        "rmse": sk.root_mean_squared_error(actual, predicted),
        "r2": sk.r2_score(actual, predicted),
        "wape": np.abs(actual - predicted).sum() / np.abs(actual).sum(),
        "bias": np.mean(predicted - actual),
    }
    assert metrics.values("regression", actual, predicted) == pytest.approx(expected, rel=1e-9)
    assert scores("regression", actual, predicted, HALVES).values == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 1000), st.sampled_from([1, 2, 9]))
@settings(max_examples=30, deadline=None)
def test_binary_metrics_equal_scikit_learns_with_and_without_ties(seed, decimals):
    actual, predicted = classification(seed, 2, decimals=decimals)
    chance, called = predicted[:, 1], predicted.argmax(axis=1)
    expected = {
        "roc_auc": sk.roc_auc_score(actual, chance),
        "average_precision": sk.average_precision_score(actual, chance),
        "accuracy": sk.accuracy_score(actual, called),
        "balanced_accuracy": sk.balanced_accuracy_score(actual, called),
        "f1": sk.f1_score(actual, called),
        "precision": sk.precision_score(actual, called),
        "recall": sk.recall_score(actual, called),
        "log_loss": sk.log_loss(actual, predicted),
        "brier": sk.brier_score_loss(actual, chance),
    }
    assert metrics.values("binary", actual, predicted) == pytest.approx(expected, rel=1e-9)
    assert scores("binary", actual, predicted, HALVES).values == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 1000), st.integers(3, 6))
@settings(max_examples=20, deadline=None)
def test_multiclass_metrics_equal_scikit_learns(seed, classes):
    actual, predicted = classification(seed, classes, decimals=6)
    called = predicted.argmax(axis=1)
    expected = {
        "accuracy": sk.accuracy_score(actual, called),
        "balanced_accuracy": sk.balanced_accuracy_score(actual, called),
        "f1_macro": sk.f1_score(actual, called, average="macro"),
        "log_loss": sk.log_loss(actual, predicted),
    }
    assert metrics.values("multiclass", actual, predicted) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("task", METRICS)
def test_every_declared_metric_is_computed_and_explained(task):
    actual, predicted = regression(1) if task == "regression" else classification(1, 2 if task == "binary" else 3)
    found = scores(task, actual, predicted, HALVES)
    assert set(found.values) == set(found.replicates) == set(METRICS[task]) <= set(metrics.MEANING)
    assert all(np.isfinite(drawn).all() for drawn in found.replicates.values())


@pytest.mark.parametrize("task", METRICS)
def test_a_replicate_is_the_metric_of_the_rows_that_it_drew(task):
    actual, predicted = regression(3) if task == "regression" else classification(3, 2 if task == "binary" else 3)
    how = resampling(400, 20, 50, 5)
    found = scores(task, actual, predicted, how)
    for replicate in (0, 17):
        times = how.weights[replicate].astype(int)
        ends = np.append(how.starts[1:], 400)
        rows = np.concatenate([np.tile(np.arange(a, b), n) for a, b, n in zip(how.starts, ends, times, strict=True)])
        alone = metrics.values(task, actual[rows], predicted[rows])
        drawn = {name: drawn[replicate] for name, drawn in found.replicates.items()}
        assert drawn == pytest.approx(alone, abs=2e-3)


def test_rows_are_cut_into_blocks_of_neighbours_one_a_day_within_bounds():
    assert [len(resampling(*case, 50, 0).starts) for case in ((5, 1), (10_000, 7), (10_000, 31), (10_000, 5000))] == [
        5,
        20,
        31,
        1000,
    ]
    lengths = np.diff(resampling(1003, 31, 50, 0).starts, append=1003)
    assert set(lengths) <= {32, 33}
    assert lengths.sum() == 1003


def test_resampling_is_the_same_for_the_same_seed_and_draws_as_many_blocks_as_there_are():
    first, again, other = (resampling(500, 31, 80, seed).weights for seed in (7, 7, 8))
    assert (first == again).all()
    assert (first != other).any()
    assert (first.sum(axis=1) == 31).all()


def test_intervals_cover_the_truth_about_as_often_as_they_claim():
    covered = 0
    for trial in range(200):
        random = np.random.default_rng(trial)
        error = random.normal(0, 1, 2000)
        found = scores("regression", np.arange(2000.0), np.arange(2000.0) + error, resampling(2000, 80, 200, trial))
        low, high = metrics.interval(found.replicates["mae"], 0.9)
        covered += low <= math.sqrt(2 / math.pi) <= high
    assert 0.84 <= covered / 200 <= 0.95


def test_intervals_of_rows_that_resemble_their_neighbours_are_wider_than_row_by_row():
    random = np.random.default_rng(0)
    error = np.repeat(random.normal(0, 1, 100), 24)
    actual = np.zeros(2400)
    days = scores("regression", actual, error, resampling(2400, 100, 300, 0)).replicates["bias"]
    rows = scores("regression", actual, error, Resampling(np.arange(2400), _one_by_one(2400))).replicates["bias"]
    assert days.std() > 3 * rows.std()


def _one_by_one(rows):
    return np.random.default_rng(0).multinomial(rows, np.full(rows, 1 / rows), 300).astype(float)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_predictions_that_are_not_finite_are_refused_with_their_count_and_rows(bad):
    actual, predicted = regression(0)
    predicted[[3, 5]] = bad
    with pytest.raises(UnusablePredictionsError, match=r"2 of 400 predictions are not finite \(first at rows 3, 5\)"):
        scores("regression", actual, predicted, HALVES)


@pytest.mark.parametrize("bad", [math.nan, -0.01, 1.01])
def test_probabilities_out_of_range_are_refused(bad):
    actual, predicted = classification(0, 2)
    predicted[7] = [1 - bad, bad]
    with pytest.raises(UnusablePredictionsError, match="1 of 400 predictions are not probabilities"):
        metrics.values("binary", actual, predicted)


def test_too_few_predictions_and_no_rows_are_refused():
    with pytest.raises(UnusablePredictionsError, match="2 predictions for 3 rows"):
        metrics.values("regression", np.zeros(3), np.zeros(2))
    with pytest.raises(UnusablePredictionsError, match="no rows"):
        metrics.values("regression", np.zeros(0), np.zeros(0))


@pytest.mark.parametrize("only", [0, 1])
def test_metrics_that_need_two_classes_are_absent_when_there_is_one(only):
    actual, predicted = np.full(50, only), classification(0, 2, rows=50)[1]
    assert set(metrics.values("binary", actual, predicted)) == {"accuracy", "log_loss", "brier"}
    found = scores("binary", actual, predicted, resampling(50, 1, 50, 0)).values
    assert {name for name, value in found.items() if math.isnan(value)} == set(METRICS["binary"]) - {
        "accuracy",
        "log_loss",
        "brier",
    }


def test_a_constant_target_has_no_explained_variance():
    assert "r2" not in metrics.values("regression", np.full(20, 3.0), np.linspace(2, 4, 20))


@pytest.mark.parametrize(
    ("metric", "value", "baseline", "expected"),
    [("mae", 2, 8, 0.75), ("mae", 8, 8, 0), ("mae", 16, 8, -1), ("r2", 0.9, 0.5, 0.8), ("bias", -1, 4, 0.75)],
)
def test_skill_is_the_share_of_the_baselines_error_that_is_gone(metric, value, baseline, expected):
    assert metrics.skill("regression", metric, value, baseline) == pytest.approx(expected)


@pytest.mark.parametrize(("value", "baseline"), [(0.0, 0.0), (1.0, 0.0), (math.nan, 1.0), (1.0, math.nan)])
def test_skill_against_a_perfect_or_missing_baseline_is_undefined(value, baseline):
    assert math.isnan(metrics.skill("regression", "mae", value, baseline))
