"""The cause of drift on real records: what a run of drift_report finds, says, remembers and keeps to itself."""

from __future__ import annotations

from urllib.parse import unquote

import dagster as dg
import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest
from pandera.typing import Series

from mlops_assets.lifecycle.labelled import learnable
from mlops_assets.lifecycle.upstream import Upstream
from mlops_assets.ml.monitoring import DriftReport, in_force
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets_tests import toy
from mlops_assets_tests.homes import instance_at
from mlops_assets_tests.html import Seen
from mlops_assets_tests.lifecycle.stages import validate
from mlops_assets_tests.toy import Workshop

FITTED = ("2024-01", "2024-02", "2024-03", "2024-04")
ROWS = 300


class Anonymous(toy.Contract):
    """The shop, where the kind of a sale tells of a person."""

    kind: Series[pd.CategoricalDtype] = pa.Field(isin=["a", "b", "c", "B"], metadata={"pii": "quasi"})


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A workshop whose champion was fitted on the first four months."""
    folder = tmp_path_factory.mktemp("shop")
    with instance_at(folder) as instance:
        shop = Workshop(folder / "home", instance, {})
        arrive(shop, {month: toy.rows(month) for month in FITTED})
        assert shop.run(FITTED, ("trained_model", "evaluation_report", "registered_version", "champion")).success
        yield shop


def arrive(shop, delivered):
    for month, rows in delivered.items():
        toy.deliver(shop.landing, month, rows)
    assert shop.run(list(delivered), ("raw_data", "quarantined_rows", "validated_features")).success


def judge(shop, *months):
    result = shop.run(months, ("drift_report",))
    assert result.success
    return {check.check_name: check for check in result.get_asset_check_evaluations()}


def reported(shop, month) -> DriftReport:
    return shop.resources["records"].get(DriftReport, "toy", "drift_report", f"{month}-01")


def metadata(shop, month):
    wanted = dg.AssetRecordsFilter(dg.AssetKey(["toy", "drift_report"]), asset_partitions=[f"{month}-01"])
    return shop.instance.fetch_materializations(wanted, limit=1).records[0].asset_materialization.metadata


def without_wind(month):
    return toy.rows(month).assign(wind=lambda rows: rows["wind"].where(np.arange(ROWS) >= 0.7 * ROWS))


def test_a_burst_of_missing_values_warns_with_its_evidence_in_the_check_the_metadata_and_the_page(shop):
    arrive(shop, {"2024-05": without_wind("2024-05")})
    check = judge(shop, "2024-05")["moved_with_the_world"]
    cause = reported(shop, "2024-05").cause
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert cause.likely == "upstream"
    assert cause.sentence == (
        "Likely a broken feed: wind is missing in 70.0% of the rows, and was in at most 0.0% before."
    )
    assert check.description == cause.sentence
    assert check.metadata["broken"].value == {"2024-05-01": cause.sentence}
    shown = metadata(shop, "2024-05")
    assert (shown["likely_cause"].value, shown["because"].value) == ("upstream", cause.sentence)
    assert [row.data["kind"] for row in shown["evidence_of_the_cause"].records] == ["missing"]
    page = shop.home / "reports" / unquote(shown["report_html"].value.removeprefix(f"{shop.resources['reports'].ui}/"))
    assert cause.findings[0].sentence in Seen(page.read_text()).cells


def test_a_feed_that_lost_most_of_its_rows_is_told_though_no_column_moved(shop):
    arrive(shop, {"2024-05": toy.rows("2024-05").head(100)})
    assert not judge(shop, "2024-05")["moved_with_the_world"].passed
    found = reported(shop, "2024-05")
    assert found.verdict != "drifted"
    assert "100 rows came, where 300 are usual" in found.cause.sentence


def test_a_fault_that_lasts_is_told_of_each_month_in_one_run_or_in_several(shop):
    arrive(shop, {month: without_wind(month) for month in ("2024-05", "2024-06")})
    judge(shop, "2024-05", "2024-06")
    assert [reported(shop, month).cause.likely for month in ("2024-05", "2024-06")] == ["upstream", "upstream"]
    once = reported(shop, "2024-06")
    judge(shop, "2024-06")
    assert reported(shop, "2024-06") == once


def test_a_corrected_delivery_is_no_fault_for_those_after_it_to_be_held_against(shop):
    arrive(shop, {"2024-05": without_wind("2024-05")})
    judge(shop, "2024-05")
    arrive(shop, {"2024-05": toy.rows("2024-05"), "2024-06": without_wind("2024-06")})
    assert judge(shop, "2024-06")["moved_with_the_world"].passed is False
    assert judge(shop, "2024-05")["moved_with_the_world"].passed is True


def test_a_leap_under_new_code_is_upstream_and_the_asset_is_named(shop):
    arrive(shop, {"2024-07": toy.rows("2024-07", shift=25)})
    assert judge(shop, "2024-07")["moved_with_the_world"].passed
    assert reported(shop, "2024-07").cause.likely == "unknown"
    changed = Workshop(shop.home, shop.instance, {"quality": {"max_bad_share": 0.04}})
    assert changed.run(["2024-07"], ("quarantined_rows", "validated_features")).success
    assert not judge(changed, "2024-07")["moved_with_the_world"].passed
    [code, leap] = reported(shop, "2024-07").cause.findings
    assert (code.kind, leap.kind, leap.columns) == ("code", "leap", ("price",))
    assert code.sentence.startswith("validated_features was made by other code (version ")


def test_each_partition_of_a_run_over_several_knows_the_code_that_made_it(shop):
    part = shop.resources["records"].get(ValidatedPartition, "toy", "validated_features", "2024-04-01")
    known = Upstream(shop.spec, shop.resources["records"], shop.instance)
    versions = known._code_versions("validated_features", [f"{month}-01" for month in FITTED])
    assert set(versions) == {f"{month}-01" for month in FITTED}
    assert len(set(versions.values())) == 1
    assert part.layout[:2] == ("ts: string", "kind: dictionary<values=string, indices=int32, ordered=0>")


def test_personal_data_are_no_evidence(workshop):
    private = workshop(contract="mlops_assets_tests.lifecycle.test_upstream.Anonymous")
    arrive(private, {month: toy.rows(month) for month in FITTED})
    assert private.run(FITTED, ("trained_model", "evaluation_report", "registered_version", "champion")).success
    arrive(private, {"2024-05": without_wind("2024-05").assign(kind="B")})
    judge(private, "2024-05")
    cause = reported(private, "2024-05").cause
    assert [each.columns for each in cause.findings] == [("wind",)]
    assert "kind" not in cause.model_dump_json().replace('"kind":"missing"', "")


def test_batches_are_held_against_those_whose_rows_came_before_theirs_whatever_their_names(workshop):
    batches = workshop(
        source={"uri": "landing", "files": ["{partition}.csv"], "settle_seconds": 0}, partitions={"every": "batch"}
    )
    records = batches.resources["records"]
    months = dict(zip(("b-9", "b-10", "a-11", "a-12"), toy.MONTHS, strict=False))
    for name, month in months.items():
        record = validate(batches, month)
        records.put("toy", "validated_features", record.model_copy(update={"partition": name}), name)
    known = Upstream(batches.spec, records, batches.instance)
    last = records.get(ValidatedPartition, "toy", "validated_features", "a-12")
    recent, likewise = known._before(last)
    named = [part.partition for part in recent if not part.partition.startswith("2024")]
    assert (named, likewise) == (["b-9", "b-10", "a-11"], ())


def test_a_month_that_a_person_says_was_the_world_warns_of_nothing_and_the_others_still_do(shop):
    arrive(shop, {month: without_wind(month) for month in ("2024-05", "2024-06")})
    declared = Workshop(shop.home, shop.instance, {"drift": {"world_changed": ["2024-05-01"]}})
    check = judge(declared, "2024-05")["moved_with_the_world"]
    assert (check.passed, check.metadata["broken"].value) == (True, {})
    assert reported(declared, "2024-05").cause.likely == "upstream"
    shown = metadata(declared, "2024-05")
    assert shown["likely_cause"].value == "world"
    assert shown["because"].value.startswith("It was the world, as drift.world_changed declares. What was found: ")
    assert not judge(shop, "2024-05")["moved_with_the_world"].passed


def test_a_month_that_was_the_world_is_what_later_ones_are_held_against(shop):
    arrive(shop, {month: without_wind(month) for month in ("2024-05", "2024-06")})
    judge(shop, "2024-05")
    assert not judge(shop, "2024-06")["moved_with_the_world"].passed
    declared = Workshop(shop.home, shop.instance, {"drift": {"world_changed": ["2024-05-01"]}})
    assert judge(declared, "2024-06")["moved_with_the_world"].passed


LASTING = [f"2024-{month:02}" for month in range(5, 11)]


@pytest.fixture(scope="module")
def lasting(shop):
    """The shop after six months in which most of the wind was missing."""
    arrive(shop, {month: without_wind(month) for month in LASTING})
    assert not judge(shop, *LASTING)["moved_with_the_world"].passed
    return shop


def counts(shop):
    found = learnable(shop.spec, shop.resources["records"], None)
    return sorted(set(found.parts) & set(keys(LASTING))), sorted(found.left_out), sorted(found.let_in)


def keys(months):
    return [f"{month}-01" for month in months]


def test_six_blamed_months_stay_out_when_the_feed_is_repaired(lasting):
    arrive(lasting, {"2024-11": toy.rows("2024-11")})
    judge(lasting, "2024-11")
    assert reported(lasting, "2024-11").accepts == {}
    assert counts(lasting) == ([], keys(LASTING), [])


def test_six_blamed_months_count_again_once_the_next_is_like_them_and_it_is_said(lasting):
    arrive(lasting, {"2024-11": without_wind("2024-11")})
    assert judge(lasting, "2024-11")["moved_with_the_world"].passed
    once = reported(lasting, "2024-11")
    assert list(once.accepts) == keys(LASTING)
    assert metadata(lasting, "2024-11")["counts_again"].value == keys(LASTING)
    assert counts(lasting) == (keys(LASTING), [], keys(LASTING))
    judge(lasting, "2024-11")
    assert reported(lasting, "2024-11") == once
    assert in_force(lasting.resources["records"].all(DriftReport, "toy", "drift_report"), lasting.spec.drift)[
        keys(LASTING)[0]
    ].cause.sentence.startswith("It was the world, since 2024-11-01 is like it.")


def test_what_is_trained_with_months_that_count_again_names_them_and_why(lasting):
    arrive(lasting, {"2024-11": without_wind("2024-11")})
    judge(lasting, "2024-11")
    assert lasting.run((), ("trained_model",)).success
    [event] = lasting.instance.fetch_materializations(dg.AssetKey(["toy", "trained_model"]), limit=1).records
    shown = event.asset_materialization.metadata
    assert list(shown["counted_again"].value) == keys(LASTING)
    assert shown["left_out"].value == {}
