"""Naive guesses know old labels and the clock, and nothing else."""

import numpy as np
import pandas as pd
import pytest

from mlops_assets.ml.baselines import History, guesses

HOURS = pd.date_range("2024-01-01", periods=24 * 28, freq="h").to_numpy()
VALUES = np.arange(len(HOURS), dtype=float) ** 2
PAST, NOW = slice(0, 24 * 14), slice(24 * 14, None)
WEEK = 24 * 7


def regression(metric="mae", times=HOURS[NOW], actual=VALUES[NOW]):
    return guesses("regression", metric, History(HOURS[PAST], VALUES[PAST]), times, actual, 0)


@pytest.mark.parametrize(("metric", "name", "constant"), [("mae", "median", np.median), ("rmse", "mean", np.mean)])
def test_the_constant_is_the_one_that_suits_the_metric(metric, name, constant):
    guess = regression(metric)[f"the training {name}"]
    assert (guess == constant(VALUES[PAST])).all()
    assert len(guess) == len(VALUES[NOW])


def test_the_label_of_one_week_earlier_comes_from_fitting_first_and_then_from_the_hold_out():
    guess = regression()["the label of one week earlier"]
    assert (guess == VALUES[24 * 7 : 24 * 21]).all()


def test_what_came_later_than_fitting_is_known_too_and_leaves_the_constant_as_it_was():
    fitted, later = slice(0, WEEK), slice(WEEK, 24 * 14)
    history = History(HOURS[fitted], VALUES[fitted], History(HOURS[later], VALUES[later]))
    found = guesses("regression", "mae", history, HOURS[NOW], VALUES[NOW], 0)
    assert (found["the label of one week earlier"] == VALUES[WEEK : 24 * 21]).all()
    assert (found["the training median"] == np.median(VALUES[fitted])).all()


def test_rows_without_a_label_of_one_week_earlier_take_the_constant():
    kept = np.r_[0 : 24 * 3, WEEK : len(VALUES[NOW])]
    found = regression(times=HOURS[NOW][kept], actual=VALUES[NOW][kept])
    late = found["the label of one week earlier"][kept >= WEEK + 72]
    assert (late == found["the training median"][0]).all()


def test_it_is_not_offered_where_most_rows_have_no_label_of_one_week_earlier():
    assert list(regression(times=HOURS[NOW] + np.timedelta64(1, "m"))) != ["the training median"]
    random = np.sort(np.random.default_rng(0).integers(0, 10**9, 100)).astype("timedelta64[s]")
    times = HOURS[-1] + random
    assert list(regression(times=times, actual=np.zeros(100))) == ["the training median"]


def test_rows_at_the_same_moment_share_their_mean():
    history = History(np.repeat(HOURS[:WEEK], 2), np.tile([1.0, 3.0], WEEK))
    guess = guesses("regression", "mae", history, HOURS[WEEK : 2 * WEEK], np.zeros(WEEK), 0)
    assert (guess["the label of one week earlier"] == 2.0).all()


def test_classes_are_guessed_by_their_shares_or_by_last_weeks_label():
    labels = np.array([0, 1, 1, 1] * 42)
    history = History(HOURS[:WEEK], labels)
    found = guesses("binary", "roc_auc", history, HOURS[WEEK : 2 * WEEK], labels, 2)
    assert (found["the classes' shares in training"] == [0.25, 0.75]).all()
    assert (found["the label of one week earlier"].argmax(axis=1) == labels).all()


def test_no_guess_uses_the_label_of_its_own_row():
    changed = VALUES[NOW].copy()
    changed[-WEEK:] = -1e9
    before, after = regression(), regression(actual=changed)
    assert all((before[name] == after[name]).all() for name in before)
