from __future__ import annotations

import json
from urllib.parse import unquote

import dagster as dg
import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pytest
from pandera.typing import Series

from mlops_assets.ml.contracts import load_contract, pii_columns
from mlops_assets.ml.performance import PerformanceReport, PredictedPartition
from mlops_assets.ml.training import Candidate
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets_tests import toy
from mlops_assets_tests.lifecycle.stages import LIFE, failure, metadata, run, validate
from mlops_assets_tests.toy import Workshop

WATCHING = ("predictions", "performance_report")
APRIL, MAY = "2024-04", "2024-05"


def record(shop, kind, asset, month):
    return shop.resources["records"].get(kind, "toy", asset, f"{month}-01")


def report(shop, month=APRIL):
    return record(shop, PerformanceReport, "performance_report", month)


def go_on(shop):
    for month in (APRIL, MAY):
        validate(shop, month)


@pytest.fixture
def shop(lives):
    """A champion of January and February, and April and May validated after it."""
    with lives.begun(*LIFE, go_on) as shop:
        yield shop


def test_every_row_is_predicted_by_the_champion_and_measured_by_its_label(shop):
    result = shop.run([APRIL], WATCHING)
    assert result.success
    made, part = (
        record(shop, PredictedPartition, *("predictions", APRIL)),
        record(shop, ValidatedPartition, "validated_features", APRIL),
    )
    tables, records = shop.resources["tables"], shop.resources["records"]
    candidate = records.get(Candidate, "toy", "trained_model")
    rows = tables.read("toy", "validated_features", part.files)
    scores = tables.read("toy", "predictions", made.files)
    said = shop.resources["tracking"].load(candidate).predict(rows[list(candidate.inputs)])
    assert np.array_equal(scores["score"], said)
    assert (made.version, made.candidate, made.rows_of) == (1, candidate.model_sha256, part.content)
    assert set(scores["version"]) == {1}
    assert report(shop).measured.value == pytest.approx(np.abs(said - rows["sales"]).mean())
    assert (report(shop).labelled, report(shop).mature, report(shop).labels) == (300, True, None)
    assert report(shop).baseline > report(shop).measured.value


def test_only_scores_are_stored_and_no_column_of_the_rows(shop):
    shop.run([APRIL], ("predictions",))
    made = record(shop, PredictedPartition, "predictions", APRIL)
    stored = set(shop.resources["tables"].read("toy", "predictions", made.files).columns)
    assert stored - {"partition"} == {"score", "version", "candidate"}
    assert not stored & {*pii_columns(load_contract(shop.spec.contract)), "price", "wind"}


def test_the_metadata_say_it_and_show_it(shop):
    result = shop.run([APRIL], WATCHING)
    entries = metadata(result, "performance_report")
    found = report(shop)
    assert entries["summary"] == found.sentence
    assert (entries["labelled_share"], entries["mature"], entries["predicted_by_version"]) == (1.0, True, 1)
    assert entries["mae"] == found.measured.value
    assert entries["at_registration"] == str(found.at_registration)
    assert entries["mae_over_partitions"].startswith("![")
    assert "label_arrival" not in entries
    base = shop.resources["reports"].ui
    saved = shop.home / "reports" / unquote(entries["report_json"].removeprefix(f"{base}/"))
    assert json.loads(saved.read_text()) == found.model_dump(mode="json")
    assert metadata(result, "predictions")["summary"] == "All 300 rows by v1."


@pytest.mark.parametrize(("shift", "passed"), [(0.0, True), (40.0, False)])
def test_the_check_warns_where_the_champion_does_worse_than_when_it_was_registered(shop, shift, passed):
    rows = toy.rows(APRIL)
    validate(shop, APRIL, rows.assign(sales=rows["sales"] + shift))
    result = shop.run([APRIL], WATCHING)
    assert result.success
    [check] = [each for each in result.get_asset_check_evaluations() if each.check_name == "performs_as_registered"]
    assert (check.passed, check.severity) == (passed, dg.AssetCheckSeverity.WARN)
    assert check.metadata["compared"].value == 1


def test_several_months_in_one_run_each_have_a_report_of_their_own(shop):
    assert shop.run([APRIL, MAY], WATCHING).success
    assert report(shop).partition != report(shop, MAY).partition
    assert report(shop).sentence != report(shop, MAY).sentence


def test_the_same_rows_and_version_give_the_same_scores_and_report(shop):
    shop.run([APRIL], WATCHING)
    once = report(shop), record(shop, PredictedPartition, "predictions", APRIL).files.values()
    shop.run([APRIL], WATCHING)
    again = report(shop), record(shop, PredictedPartition, "predictions", APRIL).files.values()
    assert once[0] == again[0]
    assert list(once[1]) == list(again[1])


def test_after_a_promotion_predictions_say_which_version_they_are_of_and_which_they_replace(shop):
    shop.run([MAY], WATCHING)
    validate(shop, "2024-06")
    before = shop.resources["registry"].champion("toy").number
    registry = shop.resources["registry"]
    run(shop)
    second = registry.versions("toy")[-1]
    if registry.champion("toy").number == before:
        registry.crown("toy", second.number, before)
    assert MAY + "-01" in registry.candidate(second).manifest.fitted_partitions
    assert shop.run(["2024-06"], WATCHING).success
    june = record(shop, PredictedPartition, "predictions", "2024-06")
    assert (june.version, june.replaces) == (second.number, None)
    assert shop.run([MAY], ("predictions",)).success
    may = record(shop, PredictedPartition, "predictions", MAY)
    assert (may.version, may.replaces) == (1, None)


def test_predictions_of_another_version_are_replaced_with_a_word(shop):
    shop.run([APRIL], WATCHING)
    made = record(shop, PredictedPartition, "predictions", APRIL)
    older = made.model_copy(update={"version": 9})
    shop.resources["records"].put("toy", "predictions", older, "2024-04-01")
    result = shop.run([APRIL], ("predictions",))
    entries = metadata(result, "predictions")
    assert entries["summary"] == "All 300 rows by v1. They replace those of v9."
    assert entries["replaces_predictions_of_version"] == 9
    assert record(shop, PredictedPartition, "predictions", APRIL).replaces == 9


def test_rows_that_changed_since_they_were_predicted_are_not_measured(shop):
    shop.run([APRIL], WATCHING)
    before = report(shop)
    validate(shop, APRIL, toy.rows(APRIL, seed=5))
    result = shop.run([APRIL], ("performance_report",))
    assert not result.success
    assert "its rows have changed since they were predicted: materialize predictions first." in failure(result)
    assert report(shop) == before


def test_no_row_is_predicted_by_a_version_that_was_fitted_on_it_and_the_good_ones_are_kept(shop):
    for month in toy.MONTHS[:3]:
        assert record(shop, ValidatedPartition, "validated_features", month)
    result = shop.run(["2024-02", "2024-03", APRIL], WATCHING)
    assert not result.success
    assert "toy/predictions[2024-02-01]: no version that has been champion was fitted without" in failure(result)
    assert record(shop, PredictedPartition, "predictions", "2024-02") is None
    assert record(shop, PredictedPartition, "predictions", APRIL).version == 1
    assert report(shop) is None


def test_without_predictions_nothing_is_measured(shop):
    result = shop.run([APRIL], ("performance_report",))
    assert not result.success
    assert "nothing was predicted for it: materialize predictions first." in failure(result)


class Narrow(pandera.DataFrameModel):
    """The toy's rows without the wind."""

    event_time: Series[pd.DatetimeTZDtype] = pandera.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})
    kind: Series[pd.CategoricalDtype]
    price: Series[float]
    sales: Series[float]

    class Config:
        """Nothing that is not declared."""

        strict = True


def test_a_champion_that_needs_a_column_which_is_gone_predicts_nothing(shop):
    contract = f"{Narrow.__module__}.{Narrow.__name__}"
    result = Workshop(shop.home, shop.instance, {"contract": contract}).run([APRIL], ("predictions",))
    assert not result.success
    assert "v1 needs columns that the rows do not have: wind." in failure(result)


def test_scores_that_were_changed_are_not_measured(shop):
    shop.run([APRIL], WATCHING)
    [path] = (shop.home / "tables" / "toy" / "predictions").rglob("*.parquet")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    result = shop.run([APRIL], ("performance_report",))
    assert not result.success
    assert "holds other bytes than were written" in failure(result)


def test_a_row_without_a_label_is_not_measured_and_counted(shop):
    rows = toy.rows(APRIL)
    rows.loc[:99, "sales"] = np.nan
    validate(shop, APRIL, pd.DataFrame(rows))
    assert shop.run([APRIL], WATCHING).success
    assert (report(shop).labelled, report(shop).rows, report(shop).mature) == (200, 300, True)
