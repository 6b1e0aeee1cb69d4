"""What a decision looks at: facts of the delivery that is validated now, and every training once."""

from __future__ import annotations

import pytest

from mlops_assets.ml.causes import Cause
from mlops_assets.ml.evidence import PARTITIONS, TRAININGS, Learned, Watched, depth, fresh, gather, remembered, stale
from mlops_assets.ml.labels import LabelledPartition
from mlops_assets.ml.policies import policy
from mlops_assets.ml.training import LeftOut
from mlops_assets_tests import evidence, toy
from mlops_assets_tests.ml import decided


def facts(*months, drift=(), performance=()):
    """The facts of some months, by month, given reports about some of them."""
    watched = Watched(
        {each.partition: each for each in (evidence.validated(month) for month in months)},
        {each.partition: each for each in drift},
        {each.partition: each for each in performance},
    )
    return {each.partition[:7]: each for each in watched.facts()}


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
    candidate = evidence.candidate(cpu_seconds=2.5, gpu_seconds=4.0)
    report = evidence.report(candidate, champion=evidence.comparison(0.5))
    found = Learned(candidate, report, "run-1" if became else "run-0").facts()
    assert (found.partition, found.fitted, found.cpu_seconds, found.gpu_seconds) == ("2024-03-01", 2, 2.5, 4.0)
    assert (found.gain.value, found.holdout.value, found.became_champion) == (0.5, 3.0, became)


def test_a_candidate_whose_gates_kept_it_out_was_trained_all_the_same():
    candidate = evidence.candidate(run="run-2")
    found = Learned(candidate, evidence.report(candidate), "run-1").facts()
    assert (found.candidate, found.became_champion) == ("run-2", False)


def test_a_candidate_that_was_not_judged_is_no_training_yet():
    candidate = evidence.candidate(run="run-2")
    earlier = evidence.report(evidence.candidate(run="run-1"))
    assert Learned(candidate, earlier, "run-2").facts() is None
    assert Learned(candidate, evidence.report(candidate, metrics={})).facts() is None
    assert Learned().facts() is None


def test_a_training_is_remembered_once_as_it_was_known_last():
    candidate = evidence.candidate()
    before = Learned(candidate, evidence.report(candidate)).facts()
    after = Learned(candidate, evidence.report(candidate), "run-1").facts()
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


MONTHS = [f"{year}-{month:02}" for year in (2022, 2023) for month in range(1, 13)]
LABELS = {"source": {"uri": "labels", "files": ["{partition:%Y-%m}.csv"]}, "key": ["sale"], "delay_days": 300}
LATE = 10


def trained(place, run="run-1", holdout=None):
    """A training on which the labels of ten months back were the newest, which became champion."""
    last = MONTHS[place - LATE if holdout is None else holdout]
    candidate = evidence.candidate(run=run, holdout=(f"{last}-01",))
    return Learned(candidate, evidence.report(candidate, champion=evidence.comparison(0.5)), run)


def seen(spec, place, learned, before, at_hand):
    """The evidence of a month: all have drifted, and those have mature labels that are ten months old."""
    months = MONTHS[: place + 1]
    watched = Watched(
        {f"{month}-01": evidence.validated(month) for month in months},
        {f"{month}-01": evidence.drift(month, "drifted") for month in months},
        {f"{month}-01": evidence.performance(month) for month in months[:-LATE]},
    )
    return gather(spec, watched, learned, before, (), at_hand and f"{MONTHS[at_hand]}-01")


def life(spec, first=12):
    """At which months the rule trains when the first training was seen with none before it, and each is done at once.

    The evidence of the last decision comes with it.
    """
    places, learned, before, at_hand = [], trained(first, "run-first"), (), None
    for place in range(first, len(MONTHS)):
        found = seen(spec, place, learned, before, at_hand)
        if policy(spec.retraining).decide(found, spec.retraining).verdict == "RETRAIN":
            places.append(place)
            learned = trained(place, f"run-{place}")
        before, at_hand = found.trainings, place
    return places, found


@pytest.mark.parametrize(
    ("rule", "apart"),
    [({"policy": "every_n", "every": 3}, 3), ({"policy": "on_drift", "cooldown": 3}, 4)],
)
def test_where_labels_are_late_as_many_partitions_lie_between_trainings_as_declared(tmp_path, rule, apart):
    places, found = life(toy.spec(tmp_path, labels=LABELS, retraining=rule))
    assert places == list(range(places[0], len(MONTHS), apart))
    known = [(f"{MONTHS[place]}-01", f"{MONTHS[place - LATE]}-01") for place in places if MONTHS[place] < MONTHS[-1]]
    assert [(each.partition, each.judged) for each in found.trainings[1:]] == known


def test_where_labels_are_late_no_more_trainings_than_declared_fall_into_a_horizon(tmp_path):
    spec = toy.spec(tmp_path, labels=LABELS, retraining={"policy": "gain", "most": 2, "horizon": 6})
    known = [trained(place, f"run-{place}").facts() for place in (14, 19, 21)]
    known = [
        each.model_copy(update={"partition": f"{MONTHS[place]}-01"})
        for each, place in zip(known, (14, 19, 21), strict=True)
    ]
    decide = policy(spec.retraining).decide
    held = decide(seen(spec, 23, trained(21, "run-21"), known, 22), spec.retraining)
    assert "2 of the newest 6 partitions were trained with" in held.sentence
    before = decide(seen(spec, 23, trained(19, "run-19"), known[:2], 22), spec.retraining)
    assert "were trained with" not in before.sentence


def test_a_training_is_dated_once_by_what_was_at_hand_and_stays_so(tmp_path):
    spec = toy.spec(tmp_path, labels=LABELS)
    [first] = seen(spec, 15, trained(15), (), 14).trainings
    assert (first.partition, first.judged) == (f"{MONTHS[14]}-01", f"{MONTHS[5]}-01")
    assert seen(spec, 20, trained(15), (first,), 19).trainings == (first,)


@pytest.mark.parametrize(("at_hand", "dated"), [(None, 8), (7, 8), (8, 8), (9, 9), (20, 8)])
def test_a_training_is_never_older_than_what_it_was_judged_on(tmp_path, at_hand, dated):
    spec = toy.spec(tmp_path, labels=LABELS)
    [found] = seen(spec, 12, trained(0, holdout=8), (), at_hand).trainings
    assert found.partition == f"{MONTHS[dated]}-01"


@pytest.mark.parametrize(("mature", "verdict"), [(5, "NEED_LABELS"), (6, "RETRAIN")])
def test_labels_that_came_after_a_training_are_new_although_their_rows_were_there(mature, verdict):
    found = decided.evidence(
        [decided.partition(4 + place, 30.0, mature=place + 4 <= mature) for place in range(14)],
        [decided.training(3), decided.training(15, 10.0, gain=5.0, judged=decided.key(5), became_champion=False)],
    )
    assert decided.decided(found, {"cooldown": 0}).verdict == verdict


@pytest.mark.parametrize(
    ("every", "days", "reach"),
    [("hourly", 5, 120), ("daily", 40, 40), ("daily", 0.5, 1), ("weekly", 40, 6), ("monthly", 28, 1), ("batch", 40, 0)],
)
def test_evidence_reaches_back_to_partitions_whose_labels_have_come(tmp_path, every, days, reach):
    partitions = {"every": every, **({} if every == "batch" else {"start": "2024-01-01"})}
    spec = toy.spec(tmp_path, partitions=partitions, labels={**LABELS, "delay_days": days})
    assert depth(spec) == PARTITIONS + reach


UPSTREAM = Cause(likely="upstream", findings=(), sentence="In other units.")


def learner(*months, labels=None, **changes):
    """A candidate that learned from some months as they were delivered, or as is said."""
    had = {f"{month}-01": f"bytes of {month}" for month in months}
    manifest = evidence.candidate().manifest.model_copy(update={"deliveries": had, "labels": labels or {}, **changes})
    return evidence.candidate(manifest=manifest)


def watching(*months, **changes):
    parts = {f"{month}-01": evidence.validated(month) for month in months}
    return Watched(parts, **changes)


def labelled(month, delivery, extends=()):
    return LabelledPartition(
        model="toy",
        partition=f"{month}-01",
        delivery=delivery,
        rows_of=f"rows of {month}",
        rows_files={},
        rows=300,
        labelled=300,
        unknown=0,
        conflicting=0,
        superseded=0,
        broken=0,
        table_version=0,
        files={},
        content=f"labels {delivery}",
        extends=extends,
    )


def test_what_a_candidate_had_as_it_is_delivered_now_is_nothing_new():
    assert fresh(learner(*MONTHS[:3]), watching(*MONTHS[:3])) == ()
    assert fresh(learner(*MONTHS[:3]), watching(*MONTHS[:4])) == (f"{MONTHS[3]}-01",)


def test_another_delivery_of_what_a_candidate_had_is_new():
    other = {f"{MONTHS[1]}-01": "other bytes", f"{MONTHS[2]}-01": f"bytes of {MONTHS[2]}"}
    assert fresh(learner(deliveries=other), watching(*MONTHS[1:3])) == (f"{MONTHS[1]}-01",)


def test_what_lay_before_the_window_of_a_candidate_is_not_new():
    assert fresh(learner(*MONTHS[2:4]), watching(*MONTHS[:4])) == ()


def test_what_has_no_mature_labels_or_comes_from_a_broken_feed_is_not_new_until_that_is_over():
    broken = {f"{MONTHS[2]}-01": evidence.drift(MONTHS[2], "drifted", cause=UPSTREAM)}
    waiting = watching(*MONTHS[:4], drift=broken, unlabelled=[f"{MONTHS[3]}-01"])
    assert fresh(learner(*MONTHS[:2]), waiting) == ()
    assert fresh(learner(*MONTHS[:2]), watching(*MONTHS[:4])) == (f"{MONTHS[2]}-01", f"{MONTHS[3]}-01")


def test_a_partition_that_was_left_out_is_new_once_its_feed_is_sound():
    assert fresh(learner(MONTHS[0], MONTHS[2]), watching(*MONTHS[:3])) == (f"{MONTHS[1]}-01",)


def test_without_a_judged_candidate_everything_is_new(tmp_path):
    assert fresh(None, watching(*MONTHS[:2])) == (f"{MONTHS[0]}-01", f"{MONTHS[1]}-01")
    unjudged = gather(toy.spec(tmp_path), watching(MONTHS[0]), Learned(learner(MONTHS[0])), (), ())
    assert unjudged.fresh == (f"{MONTHS[0]}-01",)
    candidate = learner(MONTHS[0])
    judged = Learned(candidate, evidence.report(candidate))
    assert gather(toy.spec(tmp_path), watching(MONTHS[0]), judged, (), ()).fresh == ()


@pytest.mark.parametrize(
    ("now", "corrected"),
    [
        (labelled("2022-01", "first"), False),
        (labelled("2022-01", "second", extends=("first",)), False),
        (labelled("2022-01", "third", extends=("first", "second")), False),
        (labelled("2022-01", "second"), True),
        (labelled("2022-01", "third", extends=("second",)), True),
    ],
)
def test_labels_that_have_changed_since_are_a_correction_and_those_that_were_added_are_none(now, corrected):
    key = f"{MONTHS[0]}-01"
    candidate, found = learner(MONTHS[0], labels={key: "first"}), {key: now}
    assert stale(candidate, {}, found) == ((key,) if corrected else ())
    assert fresh(candidate, watching(MONTHS[0], labels=found)) == ((key,) if corrected else ())


def test_rows_and_labels_corrected_together_are_one_correction():
    key = f"{MONTHS[0]}-01"
    candidate = learner(MONTHS[0], labels={key: "first"})
    assert stale(candidate, {key: "other bytes"}, {key: labelled(MONTHS[0], "second")}) == (key,)


def test_a_training_is_dated_by_what_it_left_out_as_that_was_at_hand(tmp_path):
    out = LeftOut(delivery="d", first=evidence.validated(MONTHS[3]).first, reason="In other units.")
    candidate = learner(*MONTHS[:3], left_out={f"{MONTHS[3]}-01": out}, holdout_partitions=(f"{MONTHS[2]}-01",))
    learned = Learned(candidate, evidence.report(candidate))
    [training] = gather(toy.spec(tmp_path), watching(*MONTHS[:5]), learned, (), ()).trainings
    assert (training.partition, training.judged) == (f"{MONTHS[3]}-01", f"{MONTHS[2]}-01")
