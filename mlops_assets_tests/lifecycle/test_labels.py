from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from mlops_assets.ml.labels import LabelledPartition
from mlops_assets.ml.performance import PerformanceReport
from mlops_assets.ml.training import Candidate
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets_tests import late, toy
from mlops_assets_tests.lifecycle.stages import checks, failure, metadata, run, validate
from mlops_assets_tests.toy import Workshop

JANUARY = "2024-01"
LABELLING = ("raw_labels", "labels")
DELIVERED = datetime(2024, 3, 1, tzinfo=UTC)


def labelled(shop, month=JANUARY) -> LabelledPartition:
    return shop.resources["records"].get(LabelledPartition, "toy", "labels", f"{month}-01")


def stored(shop, month=JANUARY) -> pd.DataFrame:
    return shop.resources["tables"].read("toy", "labels", labelled(shop, month).files)


def aside(shop) -> pd.DataFrame:
    tables = shop.resources["tables"]
    from deltalake import DeltaTable

    return DeltaTable(tables.uri("toy", "labels_set_aside")).to_pandas()


def join(shop, frame: pd.DataFrame | None = None, month: str = JANUARY, **named):
    """Deliver labels, and run what keeps and joins them."""
    if frame is not None:
        late.deliver_labels(shop, month, frame, **named)
    return shop.run([month], LABELLING)


@pytest.fixture
def shop(workshop, tmp_path):
    """January's rows, validated, and no label yet."""
    opened = late.open_shop(workshop, tmp_path)
    validate(opened, JANUARY, late.rows(JANUARY).drop(columns="sales"))
    (opened.home / "labels").mkdir(parents=True)
    return opened


def test_each_row_has_its_label_in_the_order_of_the_rows(shop):
    frame = late.labels(JANUARY).sample(frac=1, random_state=0)
    result = join(shop, frame)
    assert result.success
    part = shop.resources["records"].get(ValidatedPartition, "toy", "validated_features", "2024-01-01")
    rows = shop.resources["tables"].read("toy", "validated_features", part.files)
    truth = frame.set_index("sale")["sales"].loc[rows["sale"]]
    assert np.array_equal(stored(shop)["label"], truth)
    assert checks(result)["labels_fit_their_rows"].passed
    entries = metadata(result, "labels")
    assert entries["summary"] == "300 of 300 rows of 2024-01-01 have a label, matured."
    assert (entries["labelled_share"], entries["mature"], entries["unknown"]) == (1.0, True, 0)


def test_without_a_delivery_no_row_has_a_label_and_that_is_said(shop):
    result = shop.run([JANUARY], ("labels",))
    assert result.success
    assert (labelled(shop).labelled, labelled(shop).files, labelled(shop).delivery) == (0, {}, None)
    assert metadata(result, "labels")["summary"] == "No label has been delivered for the 300 rows of 2024-01-01."


def test_labels_of_rows_that_nobody_knows_are_counted_and_warned_of(shop):
    frame = late.labels(JANUARY)
    stranger = frame.head(4).assign(sale=range(900, 904))
    result = join(shop, pd.concat([frame, stranger]))
    assert result.success
    assert (labelled(shop).labelled, labelled(shop).unknown) == (300, 4)
    assert not checks(result)["labels_fit_their_rows"].passed
    assert "4 labels have no row" in metadata(result, "labels")["summary"]


@pytest.mark.parametrize(("strangers", "passed"), [(0, True), (1, False)])
def test_labels_of_rows_that_were_quarantined_are_counted_and_no_reason_to_warn(shop, strangers, passed):
    broken = late.rows(JANUARY).drop(columns="sales")
    broken.loc[:2, "price"] = -1
    toy.deliver(shop.landing, JANUARY, broken)
    shop.run([JANUARY], ("raw_data", "validated_features", "quarantined_rows"))
    frame = late.labels(JANUARY)
    stranger = frame.head(strangers).assign(sale=range(900, 900 + strangers))
    result = join(shop, pd.concat([frame, stranger]))
    assert (labelled(shop).unknown, labelled(shop).quarantined) == (3 + strangers, 3)
    assert checks(result)["labels_fit_their_rows"].passed == passed
    said = f"{3 + strangers} labels have no row (3 rows were quarantined)."
    assert metadata(result, "labels")["summary"].endswith(said)


def test_what_was_set_aside_is_told_in_numbers_that_a_person_reads(shop):
    frame = late.labels(JANUARY)
    late.arrived(late.deliver_labels(shop, JANUARY, frame.iloc[1:], "first"), DELIVERED)
    other = pd.concat([frame.iloc[1:2], frame.iloc[2:3], frame.iloc[2:3]]).assign(sales=[900, 901, 902])
    late.arrived(late.deliver_labels(shop, JANUARY, other, "second"), DELIVERED + timedelta(days=1))
    assert metadata(join(shop), "labels")["summary"] == (
        "298 of 300 rows of 2024-01-01 have a label, matured; 1 label gave way to a later one; "
        "1 row has labels that contradict each other."
    )


def test_labels_of_unknown_rows_join_them_when_they_come(shop):
    validate(shop, JANUARY, late.rows(JANUARY).drop(columns="sales").head(200))
    join(shop, late.labels(JANUARY))
    assert (labelled(shop).labelled, labelled(shop).rows, labelled(shop).unknown) == (200, 200, 100)
    validate(shop, JANUARY, late.rows(JANUARY).drop(columns="sales"))
    shop.run([JANUARY], ("labels",))
    assert (labelled(shop).labelled, labelled(shop).rows, labelled(shop).unknown) == (300, 300, 0)


def test_two_labels_of_a_row_that_differ_and_came_together_are_both_set_aside_and_counted(shop):
    frame = late.labels(JANUARY)
    other = frame.head(3).assign(sales=frame["sales"] + 1)
    result = join(shop, pd.concat([frame, other]))
    assert (labelled(shop).labelled, labelled(shop).conflicting, labelled(shop).broken) == (297, 3, 0)
    assert not checks(result)["labels_fit_their_rows"].passed
    assert len(aside(shop)) == 6
    assert stored(shop)["label"].isna().sum() == 3


def test_of_two_labels_of_a_row_the_one_from_the_later_file_counts(shop):
    frame = late.labels(JANUARY)
    late.arrived(late.deliver_labels(shop, JANUARY, frame, "first"), DELIVERED)
    other = frame.head(3).assign(sales=frame["sales"] + 1)
    late.arrived(late.deliver_labels(shop, JANUARY, other, "second"), DELIVERED + timedelta(days=1))
    result = join(shop)
    assert (labelled(shop).labelled, labelled(shop).conflicting, labelled(shop).superseded) == (300, 0, 3)
    assert checks(result)["labels_fit_their_rows"].passed
    known = stored(shop)["known"].value_counts().to_dict()
    assert known == {pd.Timestamp(DELIVERED): 297, pd.Timestamp(DELIVERED + timedelta(days=1)): 3}


def test_a_label_is_known_since_the_first_delivery_that_held_it_however_often_the_file_grows(shop):
    frame = late.labels(JANUARY)
    late.arrived(late.deliver_labels(shop, JANUARY, frame.head(100)), DELIVERED)
    join(shop)
    late.arrived(late.deliver_labels(shop, JANUARY, frame), DELIVERED + timedelta(days=5))
    join(shop)
    known = stored(shop)["known"].value_counts().to_dict()
    assert known == {pd.Timestamp(DELIVERED): 100, pd.Timestamp(DELIVERED + timedelta(days=5)): 200}


def test_a_label_that_is_corrected_is_known_since_the_correction(shop):
    frame = late.labels(JANUARY)
    late.arrived(late.deliver_labels(shop, JANUARY, frame), DELIVERED)
    join(shop)
    frame.loc[0, "sales"] += 1
    late.arrived(late.deliver_labels(shop, JANUARY, frame), DELIVERED + timedelta(days=5))
    join(shop)
    assert stored(shop)["known"].value_counts().to_dict()[pd.Timestamp(DELIVERED + timedelta(days=5))] == 1


def test_labels_whose_columns_are_wrong_are_refused_by_name_and_the_earlier_ones_stay(shop):
    join(shop, late.labels(JANUARY))
    before = labelled(shop)
    result = join(shop, late.labels(JANUARY).rename(columns={"sales": "amount"}))
    assert not result.success
    assert "toy/labels[2024-01-01]: labels-2024-01-all.csv: missing columns: 'sales'." in failure(result)
    assert labelled(shop) == before


@pytest.mark.parametrize(("broken", "refused"), [(15, False), (16, True)])
def test_too_many_labels_that_cannot_be_read_are_refused_and_a_few_are_set_aside(shop, broken, refused):
    frame = late.labels(JANUARY).astype({"sales": object})
    frame.loc[: broken - 1, "sales"] = "many"
    result = join(shop, frame)
    assert result.success != refused
    assert len(aside(shop)) == broken
    if refused:
        assert f"{broken} of 300 labels" in failure(result)
        assert "quality.max_bad_share is 5.00%" in failure(result)
    else:
        assert (labelled(shop).labelled, labelled(shop).broken) == (300 - broken, broken)


def test_a_damaged_file_of_labels_is_refused(shop):
    path = late.deliver_labels(shop, JANUARY)
    path.write_text(path.read_text()[:-30] + '"')
    result = join(shop)
    assert not result.success
    assert "labels-2024-01-all.csv" in failure(result)


def test_labels_without_rows_wait_for_them(shop):
    result = join(shop, late.labels("2024-02"), "2024-02")
    assert not result.success
    assert "toy/labels[2024-02-01]: its rows have not come" in failure(result)


def teach(shop):
    opened = Workshop(shop.home, shop.instance, late.declared(shop.home / "labels"))
    for month in toy.MONTHS[:3]:
        validate(opened, month, late.rows(month).drop(columns="sales"))
        late.deliver_labels(opened, month)
    assert opened.run(toy.MONTHS[:3], LABELLING).success


@pytest.fixture
def taught(lives):
    """Three months with labels that were known ten days after the rows."""
    with lives.begun(teach) as shop:
        yield Workshop(shop.home, shop.instance, late.declared(shop.home / "labels"))


def candidate(shop) -> Candidate:
    return shop.resources["records"].get(Candidate, "toy", "trained_model")


def test_training_again_on_the_same_rows_and_labels_makes_the_same_bytes(taught):
    assert run(taught, "trained_model").success
    first = candidate(taught)
    taught.run(toy.MONTHS[:3], LABELLING)
    assert run(taught, "trained_model").success
    assert candidate(taught).model_sha256 == first.model_sha256
    assert candidate(taught).manifest.contents == first.manifest.contents


def test_a_model_on_late_labels_is_the_one_that_the_same_labels_in_the_rows_make(taught, tmp_path):
    run(taught, "trained_model")
    from mlops_assets.ml.training import fit

    rows = pd.concat([late.rows(month) for month in toy.MONTHS[:2]], ignore_index=True)
    rows = rows.rename(columns={"ts": "event_time"}).astype({"kind": "category"})
    rows["event_time"] = pd.to_datetime(rows["event_time"], utc=True).astype("datetime64[us, UTC]")
    assert fit(rows, taught.spec, ["event_time", "kind", "price", "wind"]).sha256 == candidate(taught).model_sha256


def test_a_model_whose_labels_were_corrected_after_training_is_not_judged_on_others(taught):
    run(taught, "trained_model")
    frame = late.labels(toy.MONTHS[2])
    join(taught, frame.assign(sales=frame["sales"] + 1), toy.MONTHS[2])
    result = run(taught, "evaluation_report")
    assert not result.success
    assert "2024-03-01 of validated_features or labels changed after the candidate was trained" in failure(result)


@pytest.mark.parametrize(("labels", "learned"), [(269, False), (270, True)])
def test_a_month_is_learned_from_when_its_labels_have_matured(taught, labels, learned):
    join(taught, late.labels(toy.MONTHS[2]).head(labels), toy.MONTHS[2])
    result = run(taught, "trained_model")
    assert result.success == learned
    if learned:
        assert candidate(taught).manifest.holdout_partitions == ("2024-03-01",)
    else:
        assert "2 partitions have matured labels, training.min_partitions asks for 3" in failure(result)


def test_rows_without_a_label_are_left_out_of_training_and_counted(taught):
    join(taught, late.labels(JANUARY).head(280), JANUARY)
    result = run(taught, "trained_model")
    assert result.success
    assert (candidate(taught).fitted_rows, metadata(result, "trained_model")["unlabelled_rows"]) == (580, 20)


def test_training_never_sees_a_label_that_was_not_known_when_it_was_delivered(workshop, tmp_path):
    shop = late.open_shop(workshop, tmp_path, **late.declared(tmp_path / "home" / "labels", known="known"))
    validate(shop, JANUARY, late.rows(JANUARY).drop(columns="sales"))
    frame = late.labels(JANUARY)
    known = pd.to_datetime(frame["known"], utc=True)
    moment = known.sort_values().iloc[199]
    late.arrived(late.deliver_labels(shop, JANUARY, frame), moment.to_pydatetime())
    result = shop.run([JANUARY], LABELLING)
    assert not result.success
    shop.changes["quality"] = {"max_bad_share": 0.5}
    opened = type(shop)(shop.home, shop.instance, shop.changes)
    assert opened.run([JANUARY], LABELLING).success
    table = stored(opened)
    assert table["known"].max() <= moment
    assert labelled(opened).labelled == (known <= moment).sum()
    assert set(aside(opened)["rule"]) == {"is not later than its delivery"}


@pytest.mark.parametrize("values", [(0, 1), ("few", "many"), (False, True)])
def test_classes_that_come_late_are_learned_and_judged_as_what_they_are(workshop, tmp_path, values):
    changes = {
        "task": "binary",
        "estimator": {"path": "sklearn.ensemble.HistGradientBoostingClassifier", "params": {"max_iter": 5}},
        "evaluation": {"metric": "roc_auc", "replicates": 50},
        "gates": [],
    }
    shop = late.open_shop(workshop, tmp_path, **changes)
    for month in toy.MONTHS[:4]:
        validate(shop, month, late.rows(month).drop(columns="sales"))
        frame = late.labels(month)
        classes = np.array(values, dtype=object)[(frame["sales"] > 20).astype(int)]
        late.deliver_labels(shop, month, frame.assign(sales=classes).head(290))
    assert shop.run(toy.MONTHS[:3], LABELLING).success
    assert run(shop).success
    assert candidate(shop).classes == values
    assert candidate(shop).fitted_rows == 580
    assert shop.run(toy.MONTHS[3:4], (*LABELLING, "predictions", "performance_report")).success
    report = shop.resources["records"].get(PerformanceReport, "toy", "performance_report", "2024-04-01")
    assert (report.labelled, report.mature) == (290, True)
    assert report.measured.value > 0.8
