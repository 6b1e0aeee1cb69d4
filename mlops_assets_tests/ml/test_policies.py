"""The policies of retraining: what each decides, why, and what would have made it decide otherwise."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.ml.evaluation import Estimate
from mlops_assets.ml.policies import POLICIES, policy
from mlops_assets.ml.retraining import Evidence
from mlops_assets.ml.spec import Retraining
from mlops_assets_tests.ml.decided import UPSTREAM, WORLD, about, decided, evidence, key, partition, training

TRAINS = {"always": [10.0], "every_n": [10.0] * 3, "on_drift": None, "gain": [11.0, 12.0, 13.5, 15.0]}

STEADY, AGEING = [10.0] * 8, [11.0, 12.0, 13.5, 15.0]
anything = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.just(10.0))


def verdicts(found, **rule):
    return decided(found, rule).verdict


def drifted(count, place=4):
    return [partition(place + each, drift="drifted") for each in range(count)]


def test_the_registry_names_every_policy_that_a_declaration_may():
    declarable = Retraining.model_fields["policy"].annotation.__args__
    assert set(POLICIES) == set(declarable)
    assert [policy(Retraining(policy=name)).name for name in declarable] == list(declarable)


@pytest.mark.parametrize("name", POLICIES)
def test_every_decision_says_who_decided_what_about_which_partition_and_why(name):
    decision = decided(evidence(AGEING), {"policy": name})
    assert (decision.model, decision.partition, decision.policy) == ("toy", key(7), name)
    assert decision.sentence.startswith(f"{decision.verdict}: ")
    assert decision.would_change.endswith(".")


@pytest.mark.parametrize("name", POLICIES)
def test_without_a_version_there_is_nothing_to_decide(name):
    assert verdicts(evidence(STEADY, []), policy=name) == "WAIT"


@pytest.mark.parametrize("name", POLICIES)
def test_a_training_does_not_ask_for_the_next(name):
    found = evidence(drifted(3), [training(3), training(6, 9.0, gain=1.0)])
    assert verdicts(found, policy=name, every=1, cooldown=0) == "WAIT"


def test_never_waits_and_always_trains():
    assert verdicts(evidence(AGEING), policy="never") == "WAIT"
    assert verdicts(evidence([10.0]), policy="always") == "RETRAIN"


@pytest.mark.parametrize(("passed", "verdict"), [(2, "WAIT"), (3, "RETRAIN"), (4, "RETRAIN")])
def test_every_n_counts_from_the_last_training(passed, verdict):
    decision = decided(evidence(STEADY[:passed]), {"policy": "every_n", "every": 3})
    assert decision.verdict == verdict
    if verdict == "WAIT":
        assert decision.would_change == "1 partition later it is RETRAIN."


@pytest.mark.parametrize(
    ("drift", "verdict"),
    [
        (["drifted", "drifted"], "RETRAIN"),
        (["drifted", "stable", "drifted"], "RETRAIN"),
        (["drifted"], "WAIT"),
        (["drifted", "drifted", "stable"], "WAIT"),
        (["drifted", "drifted", None], "RETRAIN"),
        (["watch", "watch"], "WAIT"),
    ],
)
def test_on_drift_trains_when_k_of_the_last_n_have_drifted_the_newest_among_them(drift, verdict):
    found = evidence([partition(4 + place, drift=each) for place, each in enumerate(drift)])
    assert verdicts(found, policy="on_drift", cooldown=0) == verdict


def test_on_drift_does_not_count_what_drifted_before_the_last_training():
    found = evidence(drifted(3), [training(3), training(5, 9.0, gain=1.0)])
    assert verdicts(found, policy="on_drift", cooldown=0) == "WAIT"


def test_what_on_drift_says_would_change_it_does():
    held = evidence([*drifted(1), partition(5)])
    assert decided(held, {"policy": "on_drift"}).would_change == f"Had {key(5)} drifted, it would be RETRAIN."
    assert verdicts(evidence(drifted(2)), policy="on_drift") == "RETRAIN"
    assert decided(evidence(drifted(2)), {"policy": "on_drift"}).would_change == (
        f"Had {key(5)} not drifted, it would be WAIT."
    )


@pytest.mark.parametrize(("after", "verdict"), [(1, "WAIT"), (2, "RETRAIN")])
def test_nothing_is_decided_within_the_cooldown(after, verdict):
    found = evidence(AGEING[:after])
    assert verdicts(found, cooldown=1) == verdict
    assert ("cooldown" in decided(found, {"cooldown": 1}).sentence) == (verdict == "WAIT")


def test_a_model_whose_error_grows_is_trained_anew_and_one_that_holds_is_not():
    ageing, steady = decided(evidence(AGEING)), decided(evidence(STEADY))
    assert (ageing.verdict, steady.verdict) == ("RETRAIN", "WAIT")
    assert ageing.expected_gain.low > 0
    assert steady.expected_gain.low < 0 < steady.expected_gain.high
    assert "4 partitions old" in ageing.sentence


def test_lasting_drift_alone_is_no_reason_to_train_and_is_told():
    found = evidence([partition(4 + place, drift="drifted") for place in range(8)])
    decision = decided(found)
    assert decision.verdict == "WAIT"
    assert "The data have drifted." in decision.sentence


def test_trainings_that_gained_nothing_make_the_next_unlikely():
    gained = [training(3), training(7, 7.0, gain=3.0)]
    in_vain = [training(3), training(7, 10.5, gain=-0.5)]
    after = [*AGEING, 10.0, 10.0, 11.0]
    assert decided(evidence(after, gained)).expected_gain.value > decided(evidence(after, in_vain)).expected_gain.value


def test_an_error_that_the_naive_guess_shares_is_no_age():
    harder = [partition(4 + place, 10.0 * times, baseline=20.0 * times) for place, times in enumerate((1.1, 1.3, 1.5))]
    beside = decided(evidence(harder, [training(3, baseline=20.0)]))
    alone = decided(evidence(harder, [training(3)]))
    assert (beside.verdict, alone.verdict) == ("WAIT", "RETRAIN")


def test_broken_data_are_to_be_repaired_and_not_learned_from():
    broken = evidence([*AGEING[:3], partition(7, 15.0, drift="drifted", cause=UPSTREAM)])
    decision = decided(broken)
    assert decision.verdict == "FIX_UPSTREAM"
    assert "temp stands in other units." in decision.sentence
    assert verdicts(evidence([*AGEING[:3], partition(7, 15.0, drift="drifted", cause=WORLD)])) == "RETRAIN"


def test_broken_data_of_the_past_do_not_hold_up_the_present():
    mended = evidence(
        [partition(4, 11.0, drift="drifted", cause=UPSTREAM), *[partition(5 + i, 12.0 + i) for i in range(3)]]
    )
    assert verdicts(mended) == "RETRAIN"


def test_drift_without_a_mature_label_needs_labels_and_one_label_is_enough_to_decide():
    unlabelled = [partition(4 + place, None, drift="drifted") for place in range(4)]
    decision = decided(evidence(unlabelled))
    assert decision.verdict == "NEED_LABELS"
    assert "4 partitions since the last training" in decision.sentence
    assert verdicts(evidence([partition(4, 10.0), *unlabelled[1:]])) != "NEED_LABELS"


def test_figures_that_are_not_mature_count_for_nothing():
    immature = [partition(4 + place, 99.0, mature=False) for place in range(3)]
    assert decided(evidence(immature)).expected_gain == decided(evidence([None] * 3)).expected_gain


def test_no_more_trainings_than_declared_fall_into_a_horizon():
    done = [training(3), training(5, 9.0, gain=2.0), training(7, 9.0, gain=2.0)]
    found = evidence([11.0, 12.0, 11.0, 12.0, 13.0, 18.0], done)
    assert verdicts(found, most=2, horizon=6) == "WAIT"
    assert verdicts(found, most=3, horizon=6) == "RETRAIN"


def test_the_cost_is_that_of_the_last_training_at_the_declared_prices():
    found = evidence(AGEING, [training(3, cpu_seconds=7200.0, gpu_seconds=1800.0)])
    assert decided(found, {"cpu_hour": 0.1, "gpu_hour": 3.0}).cost == pytest.approx(0.2 + 1.5)


def test_a_gain_in_money_pays_back_after_as_many_partitions_as_it_takes():
    found = evidence(AGEING, [training(3, cpu_seconds=36_000.0)])
    decision = decided(found, {"value": 0.1, "cpu_hour": 0.1})
    partitions = math.ceil(1.0 / (decision.expected_gain.value * 0.1))
    assert (decision.pays_back - found.partitions[-1].first.date()).days == 7 * (1 + partitions)
    assert decided(found).pays_back is None


@pytest.mark.parametrize(("cpu_hour", "verdict"), [(0.01, "RETRAIN"), (100.0, "WAIT")])
def test_a_training_that_costs_more_than_waiting_has_lost_is_put_off(cpu_hour, verdict):
    assert verdicts(evidence(AGEING), value=1.0, cpu_hour=cpu_hour) == verdict


def test_what_waits_says_after_how_many_partitions_it_will_not():
    slowly = [10.4, 10.8, 11.2]
    decision = decided(evidence(slowly), {"worth": 0.5})
    assert decision.verdict == "WAIT"
    assert "more like these it would be RETRAIN" in decision.would_change


def test_corrected_rows_are_learned_again_at_once():
    decision = decided(evidence([10.0], stale=(key(2),)))
    assert decision.verdict == "RETRAIN"
    assert key(2) in decision.sentence


def test_whether_more_or_less_is_better_makes_no_difference():
    higher = evidence(
        [0.7 - 0.03 * place for place in range(5)], [training(3, 0.75)], better="higher", metric="roc_auc"
    )
    lower = evidence([0.3 + 0.03 * place for place in range(5)], [training(3, 0.25)])
    assert decided(higher).verdict == decided(lower).verdict == "RETRAIN"
    assert decided(higher).expected_gain.value == pytest.approx(decided(lower).expected_gain.value)


@given(scale=st.floats(1e-6, 1e6), after=st.lists(st.floats(1, 100), min_size=2, max_size=8))
def test_the_unit_of_the_metric_decides_nothing(scale, after):
    one = decided(evidence(after))
    other = decided(evidence([value * scale for value in after], [training(3, 10.0 * scale)]))
    assert one.expected_gain.value == pytest.approx(other.expected_gain.value / scale, rel=1e-6, abs=1e-9)


@given(after=st.lists(anything, min_size=1, max_size=6), holdout=anything, gain=st.none() | anything, baseline=anything)
def test_figures_that_are_no_numbers_never_lead_to_a_training(after, holdout, gain, baseline):
    bad = [each for each in (*after, holdout) if not math.isfinite(each)]
    trained = [training(3, holdout, baseline=baseline), training(4, holdout, gain=gain)]
    decision = decided(evidence(after, trained), {"cooldown": 0})
    if len(bad) == len(after) + 1:
        assert decision.verdict != "RETRAIN"
    if decision.verdict == "RETRAIN":
        assert decision.expected_gain.value > 0


@settings(max_examples=30)
@given(
    swings=st.lists(st.floats(0.5, 500), min_size=20, max_size=40),
    gains=st.lists(st.floats(-5, 5), min_size=40, max_size=40),
    cooldown=st.integers(0, 3),
    most=st.integers(1, 3),
)
def test_however_the_figures_swing_trainings_stay_within_their_bound(swings, gains, cooldown, most):
    rule = Retraining(cooldown=cooldown, most=most, horizon=6)
    trained = lived(swings, gains, rule)
    for first in range(4, 4 + len(swings)):
        assert sum(first <= place < first + 6 for place in trained) <= most
    assert all(later - earlier > cooldown for earlier, later in pairwise(trained))


def lived(swings, gains, rule):
    """At which places the policy trained when every training gained what chance would have it."""
    known: Evidence = evidence([])
    trained = []
    for step, figure in enumerate(swings):
        seen = (*known.partitions, partition(4 + step, figure))
        known = known.model_copy(update={"partitions": seen})
        if decided(known, rule).verdict == "RETRAIN":
            trained.append(4 + step)
            gain = Estimate(value=gains[step], low=gains[step] - 1, high=gains[step] + 1)
            new = training(4 + step, figure, became_champion=gains[step] > 0).model_copy(update={"gain": gain})
            known = known.model_copy(update={"trainings": (*known.trainings, new)})
    return trained


def unchanging(seed, scatter, growth):
    """How often 24 partitions are trained on of a world that stands still, where more data help by a power of them."""
    random = np.random.default_rng(seed)
    known, learned = evidence([], [training(3, 10.0 * random.lognormal(0, scatter), baseline=20.0)]), 4
    trained = 0
    for place in range(4, 28):
        error = 10.0 * (learned / 4) ** -growth * random.lognormal(0, scatter)
        seen = (*known.partitions, partition(place, error, baseline=20.0))
        known = known.model_copy(update={"partitions": seen, "fresh": (key(place),)})
        if decided(known).verdict == "RETRAIN":
            trained += 1
            after = error * ((place + 1) / learned) ** -growth * random.lognormal(0, 0.05)
            gain = Estimate(value=error - after, low=error - after - 0.1 * error, high=error - after + 0.1 * error)
            new = training(place, after, became_champion=after < error, baseline=20.0).model_copy(update={"gain": gain})
            known = known.model_copy(update={"trainings": (*known.trainings, new)})
            learned = place + 1 if after < error else learned
    return trained


@pytest.mark.parametrize("growth", [0.0, 0.1])
@pytest.mark.parametrize(("scatter", "lives"), [(0.02, 10), (0.05, 10), (0.1, 9)])
def test_where_nothing_changes_hardly_any_life_is_trained_on_twice_though_more_data_help_a_little(
    scatter, lives, growth
):
    assert sum(unchanging(seed, scatter, growth) <= 1 for seed in range(10)) >= lives


def test_a_training_that_gained_what_chance_gives_must_be_outweighed_before_the_next():
    after = [10.0, 10.5, 10.0, 10.5, 11.0, 11.5]
    chance = training(5, 10.0, gain=0.05, became_champion=False)
    told = decided(evidence(after, [training(3, 9.0), chance])).sentence
    assert verdicts(evidence(after, [training(3, 9.0)])) == "RETRAIN"
    assert told.startswith("WAIT")
    assert "That nothing changes is " in told


def test_a_champion_older_than_all_that_is_looked_at_is_still_known_by_its_course():
    old = [training(3)]
    steady, ageing = ([partition(40 + place, 10.0 + step * place) for place in range(36)] for step in (0.0, 1.0))
    assert verdicts(evidence([], old, partitions=tuple(steady), before=40)) == "WAIT"
    assert decided(evidence([], old, partitions=tuple(steady), before=40)).expected_gain.value < 0.1
    assert verdicts(evidence([], old, partitions=tuple(ageing), before=40)) == "RETRAIN"


@pytest.mark.parametrize(
    "impossible",
    [
        {"worth": 0},
        {"worth": math.nan},
        {"worth": math.inf},
        {"most": 0},
        {"horizon": 0},
        {"cooldown": -1},
        {"every": 0},
        {"value": -1},
        {"value": math.nan},
        {"cpu_hour": math.inf},
        {"gpu_hour": -0.1},
        {"policy": "sometimes"},
        {"currency": "euro"},
    ],
)
def test_a_rule_with_impossible_numbers_is_refused(impossible):
    with pytest.raises(ValueError, match=next(iter(impossible))):
        Retraining(**impossible)


def test_a_decision_reads_back_as_it_was_written():
    decision = decided(evidence(AGEING))
    assert type(decision).model_validate_json(decision.model_dump_json()) == decision


def test_an_estimate_is_carried_with_its_interval():
    assert decided(evidence(AGEING, [training(3, 10.0)])).evidence.trainings[0].holdout == about(10.0)


@pytest.mark.parametrize("name", TRAINS)
def test_nothing_is_trained_when_nothing_has_come_to_learn_from(name):
    after = TRAINS[name] or drifted(2)
    rule = {"policy": name, "cooldown": 0}
    assert decided(evidence(after), rule).verdict == "RETRAIN"
    in_vain = decided(evidence(after, fresh=()), rule)
    assert in_vain.verdict == "WAIT"
    assert f"nothing has come to learn from since the last training, at {key(3)}" in in_vain.sentence
    assert in_vain.would_change == "With a partition more to learn from it would be RETRAIN."
    assert decided(evidence(after, fresh=(), stale=(key(2),)), rule).verdict == "RETRAIN"


@pytest.mark.parametrize(("policy", "verdict"), [("always", "WAIT"), ("every_n", "WAIT"), ("gain", "FIX_UPSTREAM")])
def test_a_partition_of_a_broken_feed_alone_is_nothing_to_learn_from(policy, verdict):
    found = evidence([partition(4, drift="drifted", cause=UPSTREAM)])
    decision = decided(found, {"policy": policy, "every": 1, "cooldown": 0})
    assert decision.verdict == verdict
    assert key(4) in decision.sentence


def test_a_partition_that_was_left_out_and_counts_again_is_something_to_learn_from():
    trained = [training(3), training(6, 9.0, gain=1.0)]
    corrected = evidence([10.0] * 3, trained, fresh=(key(5),))
    assert verdicts(corrected, policy="always") == "RETRAIN"
    assert verdicts(corrected, policy="gain", cooldown=0) == "WAIT"


def test_a_broken_feed_is_to_be_repaired_also_when_a_training_has_left_it_out_already():
    left_out = evidence([10.0, partition(5, cause=UPSTREAM)], [training(3), training(5, 9.0, gain=1.0)])
    assert verdicts(left_out) == "FIX_UPSTREAM"
    assert "drift.world_changed" in decided(left_out).would_change


def test_figures_on_rows_of_a_broken_feed_say_nothing_of_the_champion():
    spoiled = [10.0, partition(5, 90.0, cause=UPSTREAM), 10.0, 10.0]
    unknown = [10.0, partition(5, None, rows=0), 10.0, 10.0]
    assert decided(evidence(spoiled)).expected_gain == decided(evidence(unknown)).expected_gain


def estimated(place, value, width=0.2, held=(0, 0), **changes):
    """A partition without labels, of which a figure is estimated."""
    return partition(place, None, estimated=about(value, width), held=held, **changes)


ESTIMATES = [12.0, 14.0, 17.0, 20.0]


def expecting(**changes):
    """Two partitions with labels, and four more of which errors are only estimated, which grow."""
    return evidence([10.0, 10.5, *[estimated(6 + i, value, **changes) for i, value in enumerate(ESTIMATES)]])


def test_before_labels_the_estimated_error_counts_and_the_sentence_says_so():
    decision, without = decided(expecting()), decided(evidence([10.0, 10.5, *[None] * 4]))
    assert decision.expected_gain.value > without.expected_gain.value
    assert "the figures of 7 partitions (4 of them by its estimated error, labels not yet there)" in decision.sentence
    assert "estimated" not in without.sentence


def test_an_estimate_never_counts_as_much_as_a_measurement():
    measured = decided(evidence([10.0, 10.5, *ESTIMATES])).expected_gain
    for width in (1e-9, 0.2, 1.0):
        found = decided(expecting(width=width)).expected_gain
        assert found.value < measured.value
    none = decided(evidence([10.0, 10.5, *[None] * 4])).expected_gain
    assert decided(expecting(width=50.0)).expected_gain.value == pytest.approx(none.value, rel=0.05)


@given(widths=st.tuples(st.floats(0.01, 3), st.floats(0.01, 3)))
def test_the_wider_its_interval_the_less_an_estimate_counts(widths):
    narrow, wide = (decided(expecting(width=width)).expected_gain.value for width in sorted(widths))
    assert wide <= narrow + 1e-9


@pytest.mark.parametrize(("held", "counts"), [((19, 20), True), ((10, 20), True), ((9, 20), False), ((0, 2), False)])
def test_an_estimator_that_was_wrong_more_often_than_right_counts_for_nothing(held, counts):
    decision, without = decided(expecting(held=held)), decided(evidence([10.0, 10.5, *[None] * 4]))
    assert (decision.expected_gain == without.expected_gain) != counts
    told = f"counts for nothing: the truth fell into {held[0]} of the last {held[1]} estimates."
    assert (told in decision.sentence) != counts


def test_an_estimator_that_was_often_wrong_counts_for_less():
    gains = [decided(expecting(width=0.5, held=held)).expected_gain.value for held in ((20, 20), (15, 20), (11, 20))]
    assert gains == sorted(gains, reverse=True)
    assert len(set(gains)) == 3


def test_a_mature_figure_stands_instead_of_what_was_estimated():
    both = [partition(4 + i, 10.0, estimated=about(50.0)) for i in range(4)]
    assert decided(evidence(both)).expected_gain == decided(evidence([10.0] * 4)).expected_gain


def test_an_estimate_does_not_take_the_naive_guess_from_beside_what_was_measured():
    harder = [partition(4 + i, 10.0 * times, baseline=20.0 * times) for i, times in enumerate((1.1, 1.3, 1.5))]
    first = [training(3, baseline=20.0)]
    alone = decided(evidence(harder, first)).expected_gain
    beside = decided(evidence([*harder, estimated(7, 15.0)], first)).expected_gain
    assert beside.value == pytest.approx(alone.value, rel=0.5)
    assert verdicts(evidence([*harder, estimated(7, 15.0)], first)) == "WAIT"


def test_estimates_alone_train_nothing_as_there_is_nothing_to_learn_from():
    found = evidence([estimated(4 + i, value) for i, value in enumerate((15.0, 20.0, 25.0, 30.0))])
    assert verdicts(found) == "NEED_LABELS"


def grown(rows, **changes):
    """What a training gains where more data made each champion better, none aged, and two partitions of `rows` came."""
    steady = [10.0, 10.0, 7.0, 7.0, 5.0, 5.0]
    seen = [partition(4 + place, value) for place, value in enumerate(steady)]
    newest = [partition(10 + place, 4.0, rows=rows, **changes) for place in range(2)]
    trained = [training(3), training(5, 7.0, gain=3.0), training(7, 5.0, gain=2.0), training(9, 4.0, gain=1.0)]
    return decided(evidence([*seen, *newest], trained), {"most": 9}).expected_gain.value


def test_what_there_is_more_to_learn_from_is_counted_in_rows():
    assert grown(10) < grown(100) < grown(1000)


@pytest.mark.parametrize(("cause", "counts"), [(UPSTREAM, False), (WORLD, True)])
def test_rows_of_a_broken_feed_are_nothing_more_to_learn_from(cause, counts):
    few, many = (evidence([10.0, partition(5, None, rows=rows, cause=cause), 10.0]) for rows in (10, 1000))
    assert (decided(few).expected_gain != decided(many).expected_gain) == counts
