"""The drift verdict: its borders, what it says of itself, and when it asks for retraining."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.ml.causes import Cause
from mlops_assets.ml.monitoring import (
    PREDICTION,
    Subject,
    broken_feed,
    in_force,
    judge,
    needs_retraining,
    predictions,
    reference_profile,
)
from mlops_assets.ml.spec import Drift
from mlops_assets_tests import evidence, toy

ROWS = 1000
FIRST = datetime(2024, 5, 1, tzinfo=UTC)
SUBJECT = Subject(partition="2024-05-01", first=FIRST, delivery="d5", version=3, usual_rows=ROWS)
WEIGHTS = {"price": 0.6, "wind": 0.3, "kind": 0.1, "event_time": 5.0}


def world(rows=ROWS, seed=0):
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "event_time": pd.date_range("2024-01-01", periods=rows, freq="h", tz="UTC"),
            "price": random.normal(20, 4, rows),
            "wind": random.normal(0, 5, rows),
            "kind": random.choice(["a", "b", "c"], rows),
        }
    )


def said(frame):
    return 2 * frame["price"] + 5


def spec(**changes):
    drift = {"watch_share": 0.1, "drifted_share": 0.5, **changes.pop("drift", {})}
    return toy.spec("landing", drift=drift, **changes)


def report(now, declared=None, reference=None, predicted=None, weights=None, subject=SUBJECT, personal=()):
    reference = world() if reference is None else reference
    return judge(
        declared or spec(),
        subject,
        reference_profile(reference, said(reference)),
        now,
        said(world()) if predicted is None else predicted,
        WEIGHTS if weights is None else weights,
        personal,
    )


def moved(*columns):
    frame = world()
    for column in columns:
        frame[column] = "c" if column == "kind" else frame[column] + 20
    return frame


def test_the_same_world_is_stable_and_says_what_would_make_it_otherwise():
    found = report(world())
    assert (found.verdict, found.weighted_share) == ("stable", 0)
    assert all(effect.effect == 0 for effect in (*found.columns, found.prediction))
    assert "None of 3 columns moved" in found.sentence
    assert found.sentence.endswith("Had price moved beyond the limit, it would be drifted.")


def test_another_draw_of_the_same_world_is_stable():
    assert report(world(seed=1), predicted=said(world(seed=1))).verdict == "stable"


@pytest.mark.parametrize(
    ("columns", "share", "verdict"),
    [((), 0, "stable"), (("kind",), 0.1, "stable"), (("wind",), 0.3, "watch"), (("price",), 0.6, "drifted")],
)
def test_the_verdict_follows_the_importance_of_what_moved(columns, share, verdict):
    found = report(moved(*columns))
    assert found.weighted_share == pytest.approx(share)
    assert found.verdict == verdict
    assert [effect.column for effect in found.columns if effect.beyond] == list(columns)


@pytest.mark.parametrize(
    ("limits", "verdict"),
    [
        ({"watch_share": 0.3, "drifted_share": 0.3}, "stable"),
        ({"watch_share": 0.299, "drifted_share": 0.3}, "watch"),
        ({"watch_share": 0.1, "drifted_share": 0.299}, "drifted"),
        ({"watch_share": 0, "drifted_share": 1}, "watch"),
    ],
)
def test_a_share_at_its_limit_is_not_above_it(limits, verdict):
    assert report(moved("wind"), spec(drift=limits)).verdict == verdict


@pytest.mark.parametrize(("above", "beyond"), [(0, False), (-1e-9, True)])
def test_an_effect_at_its_threshold_is_not_beyond_it(above, beyond):
    now = world()
    now["wind"] += 1
    effect = next(effect for effect in report(now).columns if effect.column == "wind")
    pinned = {"columns": {"wind": {"method": "psi", "threshold": effect.effect + above}}}
    found = report(now, spec(drift=pinned))
    assert [effect.column for effect in found.columns if effect.beyond] == ["wind"] * beyond


def test_method_and_threshold_are_pinned_per_column():
    pinned = {"method": "psi", "threshold": 0.4, "columns": {"wind": {"method": "js", "threshold": 0.8}}}
    effects = {effect.column: effect for effect in report(moved("wind"), spec(drift=pinned)).columns}
    assert (effects["wind"].method, effects["wind"].threshold) == ("js", 0.8)
    assert (effects["price"].method, effects["price"].threshold) == ("psi", 0.4)
    assert 0.8 < effects["wind"].effect <= 1


@pytest.mark.parametrize(
    ("columns", "verdict"), [((), "watch"), (("kind",), "watch"), (("wind",), "drifted"), (("price",), "drifted")]
)
def test_predictions_that_moved_raise_the_verdict(columns, verdict):
    found = report(moved(*columns), predicted=said(world()) + 40)
    assert found.prediction.beyond
    assert found.verdict == verdict
    assert "The predictions moved" in found.sentence


def test_the_sentence_names_columns_with_numbers_and_the_smallest_change_to_another_verdict():
    found = report(moved("price", "wind", "kind"), spec(drift={"drifted_share": 0.8}))
    price = next(effect for effect in found.columns if effect.column == "price")
    assert found.sentence.startswith("drifted: 3 of 3 columns, with 100% of the importance (watch above 10%, drifted")
    assert f"price (psi {price.effect:.3g}, limit 0.2, weight 60%)" in found.sentence
    assert "Had price held, it would be watch." in found.sentence
    only = report(moved("kind"), predicted=said(world()) + 40)
    assert only.sentence.endswith("Had the predictions held, it would be stable.")


@given(st.sets(st.sampled_from(["price", "wind", "kind"])), st.booleans())
def test_what_the_sentence_says_would_have_made_it_otherwise_does(columns, predicts):
    order = ["price", "wind", "kind"]
    found = report(moved(*columns), predicted=said(world()) + 40 * predicts)
    says, _, other = found.sentence.rpartition(", it would be ")
    named = {name for name in order if name in says.rpartition("Had ")[2]}
    answer = predicts and "the predictions" not in says.rpartition("Had ")[2]
    changed = columns - named if "held" in says.rpartition("Had ")[2] else columns | named
    assert report(moved(*changed), predicted=said(world()) + 40 * answer).verdict == other.rstrip(".")
    assert other.rstrip(".") != found.verdict


@pytest.mark.parametrize(("rows", "verdict"), [(99, "watch"), (100, "drifted")])
def test_too_few_rows_are_neither_cleared_nor_alarmed(rows, verdict):
    subject = SUBJECT.model_copy(update={"usual_rows": rows})
    found = report(moved("price").head(rows), subject=subject)
    assert found.verdict == verdict
    assert ("too few to tell" in found.sentence) == (rows < 100)


def test_no_rows_at_all_are_watched():
    found = judge(spec(), SUBJECT, reference_profile(world(), said(world())), world().head(0), None, WEIGHTS)
    assert (found.verdict, found.prediction, found.rows) == ("watch", None, 0)
    assert found.left_out[PREDICTION] == "nothing was predicted for both sides"


def test_a_reference_of_too_few_rows_is_watched():
    found = report(world(), reference=world(50), subject=SUBJECT.model_copy(update={"usual_rows": ROWS}))
    assert found.verdict == "watch"
    assert "against 50 in the reference" in found.sentence


@pytest.mark.parametrize(
    ("usual", "verdict"), [(ROWS * 2, "stable"), (ROWS * 2 + 1, "watch"), (ROWS / 2, "stable"), (ROWS / 2 - 1, "watch")]
)
def test_an_unusual_number_of_rows_is_watched(usual, verdict):
    found = report(world(), subject=SUBJECT.model_copy(update={"usual_rows": usual}))
    assert found.verdict == verdict
    assert found.sentence.endswith("usual number of rows it would be stable.") == (verdict == "watch")


def test_what_is_not_judged_is_named_with_the_reason():
    declared = spec(calendar=("wind",), exclude=("spare",))
    reference = world().assign(spare=1.0, sales=2.0, gone=3.0, odd=4.0, name="Ada")
    now = world().assign(spare=1.0, sales=2.0, odd="text", name="Ada")
    found = report(now, declared, reference, weights={**WEIGHTS, "nested": 1.0}, personal=("name",))
    assert found.left_out == {
        "event_time": "the time column",
        "gone": "not in this partition",
        "name": "personal data",
        "nested": "not in this partition",
        "odd": "no numbers or categories to compare",
        "sales": "the target",
        "spare": "declared excluded",
        "wind": "declared calendar: it moves with every window",
    }
    assert {effect.column for effect in found.columns} == {"price", "kind"}


def test_weights_are_importance_without_its_negative_part_and_sum_to_one():
    weights = {"price": 3.0, "wind": -2.0, "kind": 1.0, "event_time": 7.0}
    found = {effect.column: effect.weight for effect in report(world(), weights=weights).columns}
    assert found == {"price": 0.75, "kind": 0.25, "wind": 0}


@pytest.mark.parametrize("importance", [0.0, -1.0, float("nan"), float("inf")])
def test_columns_weigh_alike_where_no_importance_is_known(importance):
    found = report(world(), weights=dict.fromkeys(["price", "wind", "kind"], importance))
    assert [effect.weight for effect in found.columns] == [pytest.approx(1 / 3)] * 3


def test_a_column_that_never_varied_in_training_weighs_as_much_as_the_average_column():
    reference = world().assign(price=3.0, kind="a")
    found = {effect.column: effect for effect in report(world(), reference=reference).columns}
    assert {name: round(effect.weight, 9) for name, effect in found.items()} == dict.fromkeys(
        ("price", "wind", "kind"), round(1 / 3, 9)
    )
    assert report(world(), reference=reference).verdict == "drifted"
    assert report(reference, reference=reference).weighted_share == 0


def test_nothing_to_compare_is_watched():
    found = report(world(), spec(calendar=("price", "wind", "kind")))
    assert (found.verdict, found.columns) == ("watch", ())
    assert "There was no column to compare" in found.sentence


def test_rows_and_columns_in_another_order_are_judged_alike():
    now = moved("wind")
    shuffled = now.sample(frac=1, random_state=1)[now.columns[::-1]]
    assert report(shuffled) == report(now)


VERDICTS = st.lists(st.sampled_from(["stable", "watch", "drifted"]), max_size=6)


@pytest.mark.parametrize(
    ("verdicts", "k", "n", "asks"),
    [
        ([], 1, 1, False),
        (["drifted"], 1, 1, True),
        (["drifted"], 2, 3, False),
        (["drifted", "stable", "drifted"], 2, 3, True),
        (["drifted", "stable", "watch", "drifted"], 2, 3, False),
        (["stable", "drifted", "drifted"], 2, 3, False),
        (["watch", "drifted", "drifted"], 2, 3, False),
        (["drifted", "drifted", "drifted"], 3, 3, True),
        (["drifted", "drifted", "watch"], 3, 3, False),
    ],
)
def test_retraining_takes_k_drifted_of_the_last_n_with_the_newest_among_them(verdicts, k, n, asks):
    assert needs_retraining(verdicts, k, n) is asks


@given(VERDICTS, st.integers(1, 4), st.integers(1, 4))
def test_what_is_older_than_n_reports_does_not_count(verdicts, k, n):
    assert needs_retraining(verdicts, k, n) == needs_retraining(verdicts[:n], k, n)


class Fixed:
    """A pipeline that gives the answers it was made with."""

    def __init__(self, labels, probabilities=None):
        self.labels, self.probabilities = labels, probabilities

    def predict(self, rows):
        return np.array(self.labels)

    def predict_proba(self, rows):
        return np.array(self.probabilities)


def test_predictions_are_values_the_probability_of_the_last_class_or_classes():
    rows = pd.DataFrame({"x": [1, 2]})
    assert predictions(Fixed([1.5, 2.5]), rows, "regression").tolist() == [1.5, 2.5]
    assert predictions(Fixed(["no", "yes"], [[0.9, 0.1], [0.3, 0.7]]), rows, "binary").tolist() == [0.1, 0.7]
    assert predictions(Fixed(["a", "c"]), rows, "multiclass").tolist() == ["a", "c"]


@pytest.mark.parametrize(("share", "verdict"), [(0.34, "stable"), (0.9, "watch")])
def test_predicted_classes_that_change_their_shares_are_seen(share, verdict):
    reference = world()
    before = pd.Series(pd.Categorical(np.where(np.arange(ROWS) % 3 == 0, "a", "b")))
    now = pd.Series(pd.Categorical(np.where(np.arange(ROWS) < share * ROWS, "a", "b")))
    declared = toy.spec("landing", task="multiclass", evaluation={"metric": "accuracy"}, gates=[])
    found = judge(declared, SUBJECT, reference_profile(reference, before), reference, now, WEIGHTS)
    assert found.verdict == verdict


def blamed(likely="upstream"):
    return evidence.drift("2024-05", "drifted", cause=Cause(likely=likely, findings=(), sentence="In other units."))


@pytest.mark.parametrize("likely", ["upstream", "world", "unknown"])
def test_only_a_delivery_whose_feed_is_blamed_is_not_to_be_learned_from(likely):
    reason = broken_feed(blamed(likely), "bytes of 2024-05")
    assert reason == ("In other units." if likely == "upstream" else None)


def test_what_was_said_of_another_delivery_or_not_at_all_blames_nothing():
    assert broken_feed(blamed(), "corrected bytes") is None
    assert broken_feed(None, "bytes of 2024-05") is None
    assert broken_feed(evidence.drift("2024-05", "drifted"), "bytes of 2024-05") is None


@pytest.mark.parametrize(("delivery", "likely"), [("bytes of 2024-05", "world"), ("corrected bytes", "upstream")])
def test_what_a_later_partition_accepts_counts_as_long_as_it_is_that_delivery(delivery, likely):
    later = evidence.drift("2024-11", "stable").model_copy(update={"accepts": {"2024-05-01": delivery}})
    found = in_force({"2024-05-01": blamed(), "2024-11-01": later}, Drift())
    assert found["2024-05-01"].cause.likely == likely
    told = "It was the world, since 2024-11-01 is like it. What was found: In other units."
    assert (found["2024-05-01"].cause.sentence == told) == (likely == "world")
    assert found["2024-11-01"] == later


@pytest.mark.parametrize(("declared", "likely"), [("2024-05-01", "world"), ("2024-04-01", "upstream")])
def test_that_it_was_the_world_is_for_a_person_to_say_of_each_partition(declared, likely):
    rule = Drift(world_changed=(declared,))
    found = blamed().as_declared(rule)
    assert found.cause.likely == likely
    assert "In other units." in found.cause.sentence
    assert ("drift.world_changed" in found.cause.sentence) == (likely == "world")
    assert (broken_feed(found, "bytes of 2024-05") is None) == (likely == "world")
    assert found.as_declared(rule) == found
