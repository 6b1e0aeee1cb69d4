"""Estimates without labels: corrected and widened by earlier ones, said once, held against the truth when it comes."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.ml import metrics
from mlops_assets.ml.estimation import BLIND, REMEMBERED, Missed, estimate, with_estimate
from mlops_assets.ml.evaluation import Estimate
from mlops_assets.ml.performance import Expected, PerformanceReport
from mlops_assets.ml.relations import learn
from mlops_assets_tests import toy
from mlops_assets_tests.ml.test_relations import rated, trial

JANUARY = datetime(2024, 1, 1, tzinfo=UTC)
LABELS = {
    "source": {"uri": "", "files": ["labels-{partition:%Y-%m}.csv"]},
    "key": ["event_time", "kind"],
    "delay_days": 20,
}


def spec(**changes):
    declared = {"task": "binary", "evaluation": {"metric": "roc_auc"}, "gates": [], "labels": LABELS}
    return toy.spec("", **{**declared, **changes})


def missed(distance=0.0, error=0.02, version=1):
    return Missed(version=version, distance=distance, error=error)


def told(value=0.8, error=0.02, past=(), metric="roc_auc", version=1, **changes):
    return estimate(spec(**changes), metric, Expected(value=value, error=error), version, past)


def width(found):
    return found.high - found.low


def test_a_first_estimate_is_what_the_scores_let_expect_with_an_error_of_the_same_size_beside_their_own():
    found = told()
    assert found.value == 0.8
    assert found.high - 0.8 == pytest.approx(4.3027 * 0.02 * math.sqrt(2), rel=1e-4)
    assert 0.8 - found.low == pytest.approx(found.high - 0.8)


@given(st.lists(st.floats(-0.1, 0.1), max_size=REMEMBERED), st.floats(0.01, 0.03), st.floats(1.1, 3))
def test_a_larger_error_is_a_wider_interval(distances, error, times):
    past = [missed(distance) for distance in distances]
    narrow, wide = (told(0.5, each, past) for each in (error, error * times))
    assert wide.value == narrow.value
    assert wide.low <= narrow.low
    assert narrow.high <= wide.high


@given(st.lists(st.floats(-0.01, 0.01), min_size=3, max_size=REMEMBERED))
def test_estimates_that_came_out_right_narrow_the_next_and_those_that_were_far_off_widen_it(distances):
    right = [missed(distance) for distance in distances]
    wrong = [missed(distance + (0.2 if place % 2 else -0.2)) for place, distance in enumerate(distances)]
    assert width(told(0.5, past=right)) < width(told(0.5)) < width(told(0.5, past=wrong))


@pytest.mark.parametrize(("times", "shift"), [(1, 0.05), (3, 0.1 * 2.44 / 3.44), (9, 0.1 * 4.32891136 / 5.32891136)])
def test_the_correction_is_the_mean_of_what_the_versions_own_estimates_were_off_and_one_that_was_right(times, shift):
    assert told(0.5, past=[missed(0.1)] * times).value == pytest.approx(0.5 + shift)


def test_a_newer_estimate_weighs_more_than_an_older_one():
    older, newer = ([missed(0.1), missed()], [missed(), missed(0.1)])
    assert told(0.5, past=older).value == pytest.approx(0.5 + 0.08 / 2.8)
    assert told(0.5, past=newer).value == pytest.approx(0.5 + 0.1 / 2.8)


def test_what_another_version_was_off_widens_and_does_not_correct():
    found = told(0.5, past=[missed(0.1, version=2)] * 3)
    assert found.value == 0.5
    assert width(found) > width(told(0.5))


def test_only_the_newest_estimates_count():
    old = [missed(0.4)] * 20
    assert told(0.5, past=[*old, *[missed()] * REMEMBERED]) == told(0.5, past=[missed()] * REMEMBERED)


@pytest.mark.parametrize(
    ("task", "metric", "value", "least", "most"),
    [
        ("binary", "roc_auc", 0.99, None, 1),
        ("binary", "brier", 0.01, 0, None),
        ("binary", "log_loss", 0.01, 0, None),
        ("regression", "mae", 0.01, 0, None),
        ("regression", "r2", 0.99, None, 1),
        ("regression", "r2", -0.01, None, None),
        ("regression", "bias", 0.0, None, None),
    ],
)
def test_an_interval_ends_where_no_metric_can_be(task, metric, value, least, most):
    found = told(value, 0.1, metric=metric, task=task, evaluation={"metric": metric})
    assert found.low == least if least is not None else found.low < value - 0.2
    assert found.high == most if most is not None else found.high > value + 0.2


@pytest.mark.parametrize("confidence", [0.6, 0.9, 0.99])
def test_a_higher_confidence_is_a_wider_interval(confidence):
    lower, higher = (told(0.5, evaluation={"metric": "roc_auc", "confidence": each}) for each in (confidence, 0.995))
    assert width(lower) < width(higher)


RELATIONS = learn(trial("binary", rated(0, 3_000)[0]), rated(0, 3_000)[1])


def report(month, truth=None, version=1, labelled=700, mature=True, **more):
    """The report of a month since January; without a truth no label has come."""
    figures = {} if truth is None else {"roc_auc": Estimate(value=truth, low=truth - 0.02, high=truth + 0.02)}
    first = JANUARY + timedelta(days=31 * month)
    return PerformanceReport(
        model="toy",
        partition=f"{first:%Y-%m}",
        first=first,
        version=version,
        delivery=f"delivery-{month}",
        labels=None,
        metric="roc_auc",
        rows=700,
        labelled=0 if truth is None else labelled,
        mature=truth is not None and mature,
        metrics=figures,
        sentence="Measured.",
        **more,
    )


def scores(seed=1):
    return rated(seed, 700)[1]


def estimated(month, known=(), truth=None, **more):
    return with_estimate(spec(), report(month, truth, **more), RELATIONS, scores(month), known)


def test_before_its_labels_a_partition_has_an_estimate_that_says_what_it_cannot_see():
    found = estimated(3)
    actual, predicted = rated(3, 700)
    assert found.estimated.low < metrics.values("binary", actual, predicted)["roc_auc"] < found.estimated.high
    assert found.inside is None
    assert found.held == (0, 0)
    assert found.sentence == f"Measured. Estimated without labels: roc_auc {found.estimated}; {BLIND}."


def test_the_estimate_is_said_once_and_held_against_the_truth_when_enough_labels_have_come():
    before = estimated(3)
    low = before.estimated.low
    history = [before]
    some = with_estimate(spec(), report(3, 0.1, mature=False), RELATIONS, scores(99), history)
    assert (some.estimated, some.inside) == (before.estimated, None)
    for truth, inside, word in [(low, True, "into"), (math.nextafter(low, 0), False, "outside")]:
        after = with_estimate(spec(), report(3, truth), RELATIONS, scores(99), [some])
        assert after.estimated == before.estimated
        assert after.inside is inside
        assert after.held == (int(inside), 1)
        assert f"the truth fell {word} that interval." in after.sentence
        assert after.sentence.endswith(f"The truth fell into {int(inside)} of the last 1 estimates.")


@pytest.mark.parametrize("change", [{"version": 2}, {"delivery": "corrected"}])
def test_other_rows_and_another_version_are_estimated_anew(change):
    before = estimated(3).model_copy(update={"estimated": Estimate(value=0.1, low=0.0, high=0.2)})
    again = with_estimate(spec(), report(3).model_copy(update=change), RELATIONS, scores(3), [before])
    assert again.estimated.value > 0.7


def test_an_estimate_goes_by_earlier_ones_whose_labels_had_come_when_it_was_made():
    lucky = estimated(0, truth=0.95)
    assert estimated(1, [lucky]).estimated.value > estimated(1).estimated.value
    late = spec(labels={**LABELS, "delay_days": 32})
    now = with_estimate(late, report(1), RELATIONS, scores(1), [lucky])
    assert now.estimated == estimated(1).estimated
    assert now.held == (int(lucky.inside), 1)


def test_an_estimate_does_not_go_by_later_or_immature_ones():
    later, immature = estimated(5, truth=0.2), estimated(0, truth=0.2, mature=False)
    assert estimated(2, [later, immature]).estimated == estimated(2).estimated


def test_how_often_the_truth_fell_inside_is_counted_over_the_last_twenty():
    known = []
    for month in range(25):
        known.append(estimated(month, known, truth=0.2 if month in {0, 22} else 0.83))
    assert known[3].held == (3, 4)
    assert known[-1].held == (19, 20)
    assert known[-1].sentence.endswith("The truth fell into 19 of the last 20 estimates.")


@pytest.mark.parametrize(
    ("relations", "given", "reason"),
    [
        (None, scores(), "evaluated before its labels were declared"),
        (RELATIONS.model_copy(update={"partitions": ("2024-04",)}), scores(), "what its errors were learned from"),
        (RELATIONS, scores()[:29], "29 rows are too few"),
        (RELATIONS, np.full((700, 2), np.nan), "not all finite"),
        (learn(trial("binary", rated(0, 50)[0]), rated(0, 50)[1]), scores(), "its hold-out has 50 rows with a label"),
    ],
)
def test_where_nothing_can_be_estimated_the_reason_is_said(relations, given, reason):
    found = with_estimate(spec(), report(3, 0.8), relations, given, [])
    assert found.estimated is None
    assert found.inside is None
    assert reason in found.unestimated
    assert found.sentence == f"Measured. Without labels nothing is estimated: {found.unestimated}."


def test_the_truth_falls_into_the_interval_about_as_often_as_is_declared_where_nothing_changes():
    inside = []
    for world in range(8):
        actual, predicted = rated(1_000 + world, 1_000)
        relations, known = learn(trial("binary", actual), predicted), []
        for month in range(12):
            actual, predicted = rated(100 * world + month, 700)
            truth = metrics.values("binary", actual, predicted)["roc_auc"]
            known.append(with_estimate(spec(), report(month, truth), relations, predicted, known))
        inside += [each.inside for each in known]
    assert 0.92 <= np.mean(inside) <= 0.995
