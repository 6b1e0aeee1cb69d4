"""What a decision looks at: facts of the delivery that is validated now, and every training once."""

from __future__ import annotations

import pytest

from mlops_assets.ml.evidence import TRAININGS, Learned, Watched, depth, gather, remembered, stale
from mlops_assets.ml.registration import RegisteredVersion
from mlops_assets_tests import evidence, toy


def facts(*months, drift=(), performance=()):
    """The facts of some months, by month, given reports about some of them."""
    watched = Watched(
        {each.partition: each for each in (evidence.validated(month) for month in months)},
        {each.partition: each for each in drift},
        {each.partition: each for each in performance},
    )
    return {each.partition[:7]: each for each in watched.facts()}


def registered(run="run-1", became_champion=True):
    return RegisteredVersion(
        model="toy",
        version=2,
        candidate="c" * 64,
        mlflow_run_id=run,
        became_champion=became_champion,
        previous_champion=1,
        sentence="By hand.",
    )


def test_a_partition_that_nothing_is_known_of_is_known_by_its_rows_only():
    found = facts("2024-01")["2024-01"]
    assert (found.rows, found.drift, found.measured, found.mature, found.labelled_share) == (300, None, None, False, 0)


def test_partitions_come_in_order_of_their_rows_and_those_without_rows_are_left_out():
    parts = {
        name: evidence.validated(month, partition=name, rows_out=rows)
        for name, month, rows in (("b-10", "2024-03", 1), ("b-9", "2024-01", 1), ("b-1", "2024-02", 0))
    }
    assert [each.partition for each in Watched(parts).facts()] == ["b-9", "b-10"]


def test_a_report_on_an_earlier_delivery_says_nothing_about_the_corrected_one():
    drift = [evidence.drift("2024-01", "drifted", delivery="other bytes"), evidence.drift("2024-02", "watch")]
    performance = [evidence.performance("2024-01"), evidence.performance("2024-02", delivery="other bytes")]
    found = facts("2024-01", "2024-02", drift=drift, performance=performance)
    assert [each.drift for each in found.values()] == [None, "watch"]
    assert [each.measured is None for each in found.values()] == [False, True]


def test_drift_from_what_an_earlier_champion_learned_from_does_not_count():
    drift = [evidence.drift("2024-01", "drifted"), evidence.drift("2024-02", "drifted", version=2)]
    found = facts("2024-01", "2024-02", drift=drift)
    assert [each.drift for each in found.values()] == [None, "drifted"]
    assert [each.drifted_share for each in found.values()] == [None, 0.7]


def test_how_good_it_was_comes_with_how_much_is_known():
    report = evidence.performance("2024-01", 4.0, labelled=150, mature=False, baseline=6.0)
    found = facts("2024-01", performance=[report])["2024-01"]
    assert (found.measured.value, found.labelled_share, found.mature, found.baseline) == (4.0, 0.5, False, 6.0)


@pytest.mark.parametrize("became", [True, False])
def test_a_training_is_known_by_what_it_cost_and_how_it_did(became):
    candidate = evidence.candidate(cpu_seconds=2.5)
    report = evidence.report(candidate, champion=evidence.comparison(0.5))
    found = Learned(candidate, report, registered(became_champion=became)).facts()
    assert (found.partition, found.fitted, found.cpu_seconds) == ("2024-03-01", 2, 2.5)
    assert (found.gain.value, found.holdout.value, found.became_champion) == (0.5, 3.0, became)


def test_a_candidate_whose_gates_kept_it_out_was_trained_all_the_same():
    candidate = evidence.candidate(run="run-2")
    found = Learned(candidate, evidence.report(candidate), registered(run="run-1")).facts()
    assert (found.candidate, found.became_champion) == ("run-2", False)


def test_a_candidate_that_was_not_judged_is_no_training_yet():
    candidate = evidence.candidate(run="run-2")
    earlier = evidence.report(evidence.candidate(run="run-1"))
    assert Learned(candidate, earlier, registered()).facts() is None
    assert Learned(candidate, evidence.report(candidate, metrics={})).facts() is None
    assert Learned().facts() is None


def test_a_training_is_remembered_once_as_it_was_known_last():
    candidate = evidence.candidate()
    before = Learned(candidate, evidence.report(candidate)).facts()
    after = Learned(candidate, evidence.report(candidate), registered()).facts()
    assert remembered([before], after) == (after,)
    assert remembered([after], None) == (after,)
    other = after.model_copy(update={"candidate": "run-2"})
    assert remembered([after], other) == (after, other)


def test_trainings_are_remembered_up_to_a_number():
    one = Learned(evidence.candidate(), evidence.report(evidence.candidate())).facts()
    many = [one.model_copy(update={"candidate": f"run-{number}"}) for number in range(TRAININGS + 5)]
    newest = one.model_copy(update={"candidate": "run-newest"})
    assert remembered(many, newest) == (*many[-TRAININGS + 1 :], newest)


def test_a_candidate_is_stale_where_another_version_is_validated_than_it_learned_from():
    made_of = evidence.candidate().manifest.model_copy(update={"deliveries": {"a": "v1", "b": "v1", "c": "v1"}})
    candidate = evidence.candidate(manifest=made_of)
    assert stale(candidate, {"a": "v1", "b": "v2", "d": "v9"}) == ("b",)


def test_evidence_names_the_rule_and_the_newest_candidate(tmp_path):
    spec = toy.spec(tmp_path, drift={"k": 2, "n": 4})
    found = gather(spec, Watched({}), Learned(evidence.candidate()), (), ["2024-01-01"])
    assert (found.model, found.metric, found.better, found.k, found.n) == ("toy", "mae", "lower", 2, 4)
    assert (found.latest, found.stale) == ("run-1", ("2024-01-01",))


def test_as_many_partitions_are_looked_at_as_the_rule_needs(tmp_path):
    assert depth(toy.spec(tmp_path)) == 36
    assert depth(toy.spec(tmp_path, retraining={"policy": "every_n", "every": 60})) == 61
