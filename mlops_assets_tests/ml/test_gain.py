"""How fast a model ages, and what more data bring: what is believed before and after figures have been seen."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.ml.gain import PRIOR, Gained, Seen, belief, share

STEADY = [Seen(0, age, 0.0) for age in range(9)]


def ageing(rate, count=9, reign=0):
    return [Seen(reign, age, rate * age) for age in range(count)]


GAINED = st.builds(Gained, st.floats(1, 50), st.floats(0, 5), st.floats(-700, 700), st.floats(0.01, 5))


def test_without_figures_the_prior_is_believed():
    value, deviation = belief([], []).relief(3, 0.0)
    assert value == pytest.approx(3 * PRIOR.rate)
    assert deviation == pytest.approx(3 * PRIOR.rate_deviation)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3])
def test_a_course_without_noise_is_believed(rate):
    assert belief([], ageing(rate)).means[0] == pytest.approx(rate, abs=0.01)


def test_what_a_reign_starts_from_says_nothing_about_age():
    higher = [Seen(1, each.age, each.log_error + 5) for each in ageing(0.1)]
    both = belief([], [*ageing(0.1), *higher])
    assert both.means[0] == pytest.approx(0.1, abs=0.01)


def test_figures_that_scatter_convince_less_than_figures_that_do_not():
    wild = [Seen(0, each.age, 0.5 * (-1) ** each.age) for each in STEADY]
    assert belief([], wild).relief(1, 0)[1] > 2 * belief([], STEADY).relief(1, 0)[1]


def test_a_champion_that_holds_leaves_what_a_training_gained_to_the_data():
    gained = [Gained(4, math.log(2), 0.2, 0.02), Gained(8, math.log(2), 0.2, 0.02)]
    rate, growth = belief(gained, STEADY).means
    assert abs(rate) < 0.01
    assert growth > 0.02


def test_before_a_training_was_tried_nobody_doubts_that_something_changes():
    assert belief([], STEADY).changing == belief([], ageing(0.1)).changing == 1.0


@pytest.mark.parametrize("gain", [-0.02, 0.0, 0.03, 0.06])
def test_a_training_that_gains_what_chance_gives_makes_it_likely_that_nothing_changes(gain):
    tried = belief([Gained(4, 0.5, gain, 0.04)], STEADY)
    assert tried.changing < 0.5
    assert tried.chance(4, 0.5) < tried.changing
    assert belief([Gained(4, 0.5, gain, 0.04), Gained(4, 0.3, gain / 2, 0.04)], STEADY).changing < tried.changing


def test_a_gain_beyond_chance_shows_that_something_changes_and_so_does_an_error_that_grows():
    assert belief([Gained(4, 0.5, 1.0, 0.04)], STEADY).changing > 0.99
    assert belief([Gained(4, 0.5, 0.05, 0.04)], ageing(0.1)).changing > 0.99


def test_what_is_promised_counts_by_as_much_less_as_nothing_may_change():
    tried = belief([Gained(4, 0.5, 0.05, 0.04)], STEADY)
    certain = tried._replace(changing=1.0)
    assert tried.relief(4, 0.5)[0] == pytest.approx(tried.changing * certain.relief(4, 0.5)[0])
    assert tried.chance(4, 0.5) == pytest.approx(tried.changing * certain.chance(4, 0.5))


@given(st.floats(-3, 3), st.floats(0, 2))
def test_the_share_lies_in_its_interval_and_is_never_more_than_all(log_ratio, deviation):
    value, low, high = share(log_ratio, deviation)
    assert low <= value <= high <= 1


@given(
    gained=st.lists(GAINED, max_size=8),
    seen=st.lists(st.builds(Seen, st.integers(0, 3), st.floats(0, 50), st.floats(-700, 700)), max_size=8),
)
def test_whatever_was_seen_the_belief_is_a_number(gained, seen):
    found = belief(gained, seen)
    value, deviation = found.relief(5, 0.5)
    assert math.isfinite(value)
    assert deviation >= 0
    assert 0 <= found.chance(5, 0.5) <= found.changing <= 1


@given(doubt=st.floats(0, 100), rate=st.floats(0.01, 0.3))
def test_what_is_only_expected_convinces_less_than_what_was_measured(doubt, rate):
    expected = [each._replace(doubt=doubt) if each.age else each for each in ageing(rate)]
    measured, doubted = belief([], ageing(rate)), belief([], expected)
    assert doubted.relief(1, 0)[1] > measured.relief(1, 0)[1]
    assert abs(doubted.means[0] - PRIOR.rate) <= abs(measured.means[0] - PRIOR.rate) + 1e-9
