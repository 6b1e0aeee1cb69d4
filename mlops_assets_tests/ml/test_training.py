"""Fitting: what is learned from, what is refused, and that the same manifest is the same model."""

import hashlib
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.ml import training
from mlops_assets.ml.monitoring import PREDICTION
from mlops_assets.ml.profiles import Profile
from mlops_assets.ml.training import (
    LeftOut,
    TrainingError,
    choose,
    code_digest,
    environment,
    fit,
    lock_digest,
    manifest,
    splits,
    summary,
)
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets_tests import toy
from mlops_assets_tests.ml.test_features import rows

INPUTS = ("event_time", "kind", "price", "wind")
CLASSIFIED = {"task": "binary", "evaluation": {"metric": "log_loss"}, "gates": []}
CLASSIFIER = {"path": "sklearn.ensemble.HistGradientBoostingClassifier", "params": {"max_iter": 5}}


def declared(**changes):
    return toy.spec("/nowhere", **changes)


def classified(**changes):
    return declared(**{**CLASSIFIED, "estimator": CLASSIFIER, **changes})


def partition(key, day, rows_out=10):
    moment = datetime(2024, 1, day, tzinfo=UTC)
    return ValidatedPartition(
        model="toy",
        partition=key,
        delivery=f"delivery-{key}",
        delivered=moment,
        rows_in=rows_out,
        rows_out=rows_out,
        rows_quarantined=0,
        broken_rules=(),
        first=moment,
        last=moment,
        table_version=day,
        files={f"{key}.parquet": f"sha-{key}"},
        content=f"content-{key}",
        profile=Profile(rows=rows_out, columns={}),
    )


def validated(*days):
    return {f"p{day:02}": partition(f"p{day:02}", day) for day in days}


def names(parts):
    return [[part.partition for part in side] for side in parts]


def test_the_newest_partitions_by_time_judge_whatever_their_names():
    parts = {"a": partition("a", 9), "b": partition("b", 2), "c": partition("c", 5), "d": partition("d", 7)}
    spec = declared(evaluation={"metric": "mae", "holdout": 2})
    assert names(splits(parts, spec)[0]) == [["b", "c"], ["d", "a"]]


@pytest.mark.parametrize(("window", "fitted"), [(None, ["p01", "p02", "p03", "p04"]), (4, ["p02", "p03", "p04"])])
def test_the_window_counts_the_hold_out(window, fitted):
    spec = declared(training={"window": window, "min_partitions": 3})
    assert names(splits(validated(1, 2, 3, 4, 5), spec)[0]) == [fitted, ["p05"]]


@pytest.mark.parametrize(("count", "enough"), [(2, False), (3, True)])
def test_too_few_partitions_are_refused_with_the_numbers(count, enough):
    parts = validated(*range(1, count + 1))
    if enough:
        assert len(splits(parts, declared())[0].fitted) == count - 1
    else:
        with pytest.raises(TrainingError, match=r"toy: 2 partitions are validated, training.min_partitions asks for 3"):
            splits(parts, declared())[0]


def test_a_partition_of_which_everything_was_quarantined_is_not_counted():
    parts = {**validated(1, 2, 3), "empty": partition("empty", 9, rows_out=0)}
    assert names(splits(parts, declared())[0])[1] == ["p03"]


@given(days=st.lists(st.integers(1, 28), unique=True, min_size=3, max_size=20), holdout=st.integers(1, 2))
def test_no_partition_is_on_both_sides_and_no_judge_is_older_than_what_was_learned(days, holdout):
    fitted, judging = splits(validated(*days), declared(evaluation={"metric": "mae", "holdout": holdout}))[0]
    assert len(judging) == holdout
    assert max(part.first for part in fitted) < min(part.first for part in judging)
    assert len(fitted) + len(judging) == len(days)


@pytest.fixture(scope="module")
def fitted():
    """The toy's model on 600 rows, of which a tenth have no label, with the wind as personal data."""
    frame = rows(600)
    frame.loc[frame.index[::10], "sales"] = np.nan
    return fit(frame, declared(drift={"report_rows": 100}), INPUTS, personal=("wind",))


def test_rows_without_a_label_are_not_learned_from(fitted):
    assert fitted.rows == 540


def test_importance_is_a_share_and_is_where_the_world_put_it(fitted):
    assert set(fitted.importance) == set(INPUTS)
    assert sum(fitted.importance.values()) == pytest.approx(1)
    assert min(fitted.importance.values()) >= 0
    assert max(fitted.importance, key=fitted.importance.get) == "event_time"
    assert fitted.importance["wind"] < 0.05


def test_the_reference_describes_inputs_and_prediction_without_personal_data(fitted):
    assert set(fitted.reference.columns) == {"kind", "price", PREDICTION}
    assert fitted.reference.rows == 540
    assert list(fitted.sample.columns) == ["event_time", "kind", "price"]
    assert len(fitted.sample) == 100


def test_the_inputs_carry_their_types(fitted):
    assert fitted.inputs["kind"] == "category"
    assert fitted.inputs["price"] == "float64"


def test_the_time_is_an_input_only_where_features_are_derived_from_it():
    made = fit(rows(300), declared(features=[]), INPUTS)
    assert "event_time" not in made.inputs


def test_what_is_measured_is_what_reads_back(fitted):
    again = training.load_model(
        fitted.content, fitted.sha256, training.trusted_types(declared().model_dump(mode="json"))
    )
    frame = rows(50, seed=4)
    np.testing.assert_array_equal(again.predict(frame), fitted.pipeline.predict(frame))


def test_the_same_rows_and_declaration_are_the_same_model_reference_and_importance():
    one, other = (fit(rows(300), declared(), INPUTS) for _ in range(2))
    assert (one.content, one.reference, one.importance) == (other.content, other.reference, other.importance)
    pd.testing.assert_frame_equal(one.sample, other.sample)


def test_classes_are_in_the_order_of_the_probabilities():
    frame = rows(300)
    frame["sales"] = pd.Categorical(np.where(frame["sales"] > 20, "busy", "quiet"))
    made = fit(frame, classified(), INPUTS)
    assert made.classes == ("busy", "quiet")
    assert tuple(made.pipeline.classes_) == made.classes


@pytest.mark.parametrize("dtype", ["int8", "Int64", "bool", "boolean", "category", "float64"])
def test_a_binary_target_may_be_stored_in_any_way(dtype):
    frame = rows(300)
    frame["sales"] = (frame["sales"] > 20).astype(int).astype(dtype)
    assert fit(frame, classified(), INPUTS).classes == (0, 1)


@pytest.mark.parametrize(
    ("values", "spec", "reason"),
    [
        ([np.nan] * 300, declared(), "no row of the fitted partitions has a sales"),
        ([1.0] * 300, classified(), "sales has the same value in all 300 rows"),
        ([1.0] * 299 + [np.nan], declared(), "sales has the same value in all 299 rows"),
        ([0.0, 1.0, 2.0] * 100, classified(), "sales has 3 classes; declare the task multiclass"),
    ],
)
def test_a_target_that_teaches_nothing_is_refused(values, spec, reason):
    with pytest.raises(TrainingError, match=reason):
        fit(rows(300).assign(sales=values), spec, INPUTS)


def test_what_the_estimator_refuses_is_said_with_the_models_name():
    spec = declared(estimator={"path": "sklearn.linear_model.Ridge", "params": {"alpha": -1}})
    with pytest.raises(TrainingError, match=r"toy: the pipeline cannot be fitted: .*alpha"):
        fit(rows(300), spec, INPUTS)


def test_what_has_no_value_in_all_learned_rows_is_named_where_it_stops_the_fit():
    given = toy.rows("2024-01").rename(columns={"ts": "event_time"}).astype({"kind": "category"})
    given["event_time"] = pd.to_datetime(given["event_time"], utc=True)
    asked = ("event_time", "kind", "price", "wind")
    boosted = toy.spec("/nowhere")
    with pytest.raises(TrainingError, match=r"No value in all 300 learned rows: 'wind'\. Name it in exclude, or widen"):
        fit(given.assign(wind=np.nan), boosted, asked)
    assert fit(given.assign(wind=given["wind"].where(given.index == 7)), boosted, asked).rows == 300
    linear = toy.spec("/nowhere", estimator={"path": "sklearn.linear_model.Ridge"})
    assert fit(given.assign(wind=np.nan), linear, asked).importance["wind"] == 0


def test_the_manifest_names_every_delivery_and_what_was_kept_for_judging():
    parts = splits(validated(1, 2, 3), declared())[0]
    made = manifest(declared(), parts)
    assert made.deliveries == {"p01": "delivery-p01", "p02": "delivery-p02", "p03": "delivery-p03"}
    assert (made.fitted_partitions, made.holdout_partitions) == (("p01", "p02"), ("p03",))
    assert made.table_version == 3
    assert set(made.contents) == {"p01", "p02", "p03"}
    assert made == manifest(declared(), parts)


@pytest.mark.parametrize(
    "changes", [{"seed": 8}, {"estimator": CLASSIFIER}, {"training": {"window": 3, "min_partitions": 3}}]
)
def test_another_declaration_is_another_manifest(changes):
    parts = splits(validated(1, 2, 3), declared())[0]
    assert manifest(declared(**changes), parts).digest() != manifest(declared(), parts).digest()


def test_changed_content_is_another_manifest_though_the_delivery_is_the_same():
    parts = validated(1, 2, 3)
    changed = parts | {"p02": parts["p02"].model_copy(update={"files": {"p02.parquet": "other"}})}
    assert manifest(declared(), splits(parts, declared())[0]) != manifest(declared(), splits(changed, declared())[0])


def test_the_code_digest_covers_the_contract_and_the_functions_that_are_declared():
    steps = [{"path": "mlops_assets_tests.ml.test_features.ratio"}]
    assert code_digest(declared()) == code_digest(declared(seed=99))
    assert code_digest(declared()) != code_digest(declared(features=steps))
    assert code_digest(declared()) != code_digest(declared(contract="mlops_assets_tests.ml.test_training.partition"))


def test_the_lock_is_digested_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "LOCKS", (tmp_path / "absent", tmp_path / "lock.txt"))
    assert lock_digest() == "unlocked"
    (tmp_path / "lock.txt").write_text("numpy==2.4.6\n")
    assert lock_digest() == hashlib.sha256(b"numpy==2.4.6\n").hexdigest()


def test_the_environment_holds_the_versions_that_decide():
    assert {"python", "machine", "scikit-learn", "numpy", "pandas", "skops"} <= set(environment(declared()))


def several(*windows, **changes):
    return declared(training={"window": windows, "min_partitions": 3}, **changes)


def world(change):
    """Rows by partition: what is sold is of another order from the day `change` on."""

    def read(parts):
        wanted = []
        for part in parts:
            seen.append(part.partition)
            frame = rows(part.rows_out, seed=part.table_version)
            wanted.append(frame.assign(sales=frame["sales"] + 500.0 * (part.table_version >= change)))
        return pd.concat(wanted, ignore_index=True)

    seen = []
    return read, seen


def long(*days):
    return {f"p{day:02}": partition(f"p{day:02}", day, rows_out=60) for day in days}


def test_each_window_is_offered_and_those_that_hold_the_same_only_once():
    offered = splits(validated(*range(1, 9)), several(4, None, 6))
    assert [len(parts.fitted) for parts in offered] == [3, 7, 5]
    assert [names(parts)[1] for parts in offered] == [["p08"]] * 3
    assert len(splits(validated(1, 2, 3, 4), several(4, None, 6))) == 1


@pytest.mark.parametrize(("change", "chosen"), [(5, 3), (99, 8)])
def test_the_window_that_does_best_on_the_newest_fitted_partition_is_taken(change, chosen):
    read, _ = world(change)
    offered = splits(long(*range(1, 10)), several(4, None))
    choice = choose(offered, several(4, None), INPUTS, read)
    assert len(choice.parts.fitted) == chosen
    assert set(choice.losses) == {3, 8}
    assert choice == choose(offered, several(4, None), INPUTS, read)


def test_the_hold_out_has_no_say_in_the_choice():
    read, seen = world(5)
    choose(splits(long(*range(1, 10)), several(4, None)), several(4, None), INPUTS, read)
    assert "p08" in seen
    assert "p09" not in seen


def test_a_single_window_is_taken_unseen():
    read, seen = world(5)
    choice = choose(splits(long(*range(1, 10)), declared()), declared(), INPUTS, read)
    assert (choice.losses, seen) == ({}, [])


def test_of_windows_of_which_none_can_be_tried_the_first_is_taken():
    def nothing(parts):
        return rows(60).assign(sales=1.0)

    choice = choose(splits(long(*range(1, 10)), several(4, None)), several(4, None), INPUTS, nothing)
    assert len(choice.parts.fitted) == 3
    assert set(choice.losses.values()) == {float("inf")}


@pytest.mark.parametrize("window", [(), (4, 4), (None, None), (2, None), (1, 5)])
def test_windows_that_are_none_or_the_same_or_too_small_are_refused(window):
    with pytest.raises(ValueError, match="window"):
        several(*window)


def test_one_window_is_declared_as_before():
    for window in (None, 6):
        assert declared(training={"window": window}).model_dump(mode="json")["training"]["window"] == window


def broken(*days):
    return {
        f"p{day:02}": LeftOut(delivery=f"d{day}", first=datetime(2024, 1, day, tzinfo=UTC), reason=f"{day} is broken.")
        for day in days
    }


def test_too_few_partitions_of_a_sound_feed_are_refused_with_what_is_left_out_why_and_what_to_do():
    with pytest.raises(TrainingError) as refused:
        splits(validated(1, 2), declared(), broken(3, 4))
    assert str(refused.value) == (
        "toy: 2 partitions are validated and come from a sound feed, training.min_partitions asks for 3. Left out: "
        "p03: 3 is broken.; p04: 4 is broken. Have the producer deliver them anew, or name them in drift.world_changed "
        "where it was the world that changed."
    )
    assert len(splits(validated(1, 2, 5), declared(), broken(3, 4))) == 1


def test_the_manifest_and_its_sentence_name_what_was_left_out_of_the_window_and_why():
    parts = splits(validated(2, 3, 5), declared())[0]
    made = manifest(declared(), parts, {}, broken(1, 4, 6))
    assert list(made.left_out) == ["p04", "p06"]
    assert made.left_out["p04"].reason == "4 is broken."
    assert made.digest() != manifest(declared(), parts).digest()
    assert summary(made) == (
        "Learned from p02, p03; p05 was kept back to judge it. Left out: p04: 4 is broken.; p06: 6 is broken."
    )
    assert summary(manifest(declared(), parts)) == "Learned from p02, p03; p05 was kept back to judge it."
