"""drift_report on real storage and a real registry."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from urllib.parse import unquote

import dagster as dg
import pytest

from mlops_assets.lifecycle.sensors.alerting import raise_alerts
from mlops_assets.ml.monitoring import DriftReport
from mlops_assets_tests import toy
from mlops_assets_tests.lifecycle.stages import LIFE

FITTED = ("2024-01", "2024-02", "2024-03")
KEY = dg.AssetKey(["toy", "drift_report"])


@pytest.fixture(scope="module")
def shop(lives):
    """A workshop whose champion was fitted on January and February; of what came later May is another world."""
    with lives.begun(*LIFE) as shop:
        arrive(shop, {"2024-04": toy.rows("2024-04"), "2024-05": moved("2024-05"), "2024-06": toy.rows("2024-06")})
        yield shop


def moved(month):
    return toy.rows(month, shift=25).assign(kind="b")


def arrive(shop, delivered):
    """Months' rows delivered and validated."""
    for month, rows in delivered.items():
        toy.deliver(shop.landing, month, rows)
    assert shop.run(list(delivered), ("raw_data", "quarantined_rows", "validated_features")).success


def judge(shop, *months):
    return shop.run(months, ("drift_report",))


def reported(shop, month: str) -> DriftReport | None:
    return shop.resources["records"].get(DriftReport, "toy", "drift_report", f"{month}-01")


def metadata(shop, month: str) -> dict:
    wanted = dg.AssetRecordsFilter(asset_key=KEY, asset_partitions=[f"{month}-01"])
    return shop.instance.fetch_materializations(wanted, limit=1).records[0].asset_materialization.metadata


def saved(shop, url: str) -> str:
    base = shop.resources["reports"].ui
    return (shop.home / "reports" / unquote(url.removeprefix(f"{base}/"))).read_text()


def failure(result) -> dg.Failure | str:
    return result.failure_data_for_node("toy__drift_report").error.message if result.all_events else ""


@pytest.mark.parametrize(("month", "verdict"), [("2024-04", "stable"), ("2024-05", "drifted")])
def test_a_month_like_those_before_is_stable_and_another_world_is_drifted(shop, month, verdict):
    result = judge(shop, month)
    assert result.success
    found = reported(shop, month)
    assert (found.verdict, found.version, found.rows, found.usual_rows) == (verdict, 1, 300, 300)
    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert {name: check.passed for name, check in checks.items()} == {
        "has_not_drifted": verdict == "stable",
        "moved_with_the_world": True,
    }
    assert {check.severity for check in checks.values()} == {dg.AssetCheckSeverity.WARN}


def test_the_metadata_tell_the_whole_story_and_lead_to_the_page(shop):
    judge(shop, "2024-05")
    report, entries = reported(shop, "2024-05"), metadata(shop, "2024-05")
    assert entries["verdict"].value == "drifted"
    assert entries["summary"].value == report.sentence
    assert "kind (psi" in report.sentence
    assert entries["judged_against_version"].value == 1
    assert entries["drift_per_column"].value.startswith("![")
    assert {row.data["column"] for row in entries["effects"].records} == {"price", "wind", "kind", "(prediction)"}
    assert report.left_out == {"event_time": "the time column"}
    page = saved(shop, entries["report_html"].value)
    assert "toy, 2024-05-01: drifted" in page
    assert "Drift in column" in page
    assert json.loads(saved(shop, entries["report_json"].value)) == report.model_dump(mode="json")


def test_a_run_over_several_months_judges_each_and_draws_the_newest(shop):
    assert judge(shop, "2024-04", "2024-05", "2024-06").success
    verdicts = {month: reported(shop, month).verdict for month in ("2024-04", "2024-05", "2024-06")}
    assert verdicts == {"2024-04": "stable", "2024-05": "drifted", "2024-06": "stable"}
    assert len({metadata(shop, month)["summary"].value for month in verdicts}) == 3
    drawn = [month for month in verdicts if metadata(shop, month)["report_html"].value.startswith("http")]
    assert drawn == ["2024-06"]
    assert "materialize this one by itself" in metadata(shop, "2024-04")["report_html"].value


def test_without_a_champion_nothing_is_judged_and_it_is_said(workshop):
    empty = workshop()
    arrive(empty, {"2024-01": toy.rows("2024-01")})
    result = judge(empty, "2024-01")
    assert result.success
    told = metadata(empty, "2024-01")
    assert told["verdict"].value == "not judged"
    assert "no version that has been champion was fitted without these rows" in told["summary"].value
    assert {check.metadata["judged"].value for check in result.get_asset_check_evaluations()} == {0}
    assert reported(empty, "2024-01") is None


def test_a_first_run_of_everything_trains_though_no_drift_can_be_judged_yet(workshop):
    first = workshop()
    arrive(first, {month: toy.rows(month) for month in FITTED})
    learned = ("drift_report", "trained_model", "evaluation_report", "registered_version", "champion")
    assert first.run(FITTED, learned).success


def test_no_partition_is_judged_by_a_version_that_was_fitted_on_it_and_the_good_ones_are_kept(shop):
    assert judge(shop, "2024-02", "2024-03").success
    assert metadata(shop, "2024-02")["summary"].value.startswith("2024-02-01 is not judged: no version")
    assert reported(shop, "2024-02") is None
    assert reported(shop, "2024-03").verdict == "stable"
    assert metadata(shop, "2024-03")["verdict"].value == "stable"


def test_rows_that_were_not_validated_are_refused_by_name(shop):
    result = judge(shop, "2024-06", "2024-07")
    assert not result.success
    assert "toy/drift_report[2024-07-01]: there are no validated rows" in failure(result)
    assert reported(shop, "2024-06").verdict == "stable"


def test_what_drifted_is_told_by_its_check_although_another_month_is_refused(shop):
    result = judge(shop, "2024-05", "2024-07")
    assert not result.success
    told = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert not told["has_not_drifted"].passed
    assert set(told["has_not_drifted"].metadata["drifted"].value) == {"2024-05-01"}


def test_drift_raises_one_alert_and_a_stable_month_ends_it(shop):
    alerts, now = shop.resources["alerts"], lambda: datetime.now(UTC)

    def kinds():
        sensor = raise_alerts([shop.spec], now)
        with dg.build_sensor_context(instance=shop.instance, resources={"alerts": alerts}) as context:
            sensor.evaluate_tick(context)
        return [known.alert.kind for known in alerts.open() if known.alert.about.endswith("has_not_drifted")]

    judge(shop, "2024-05")
    judge(shop, "2024-05")
    assert kinds() == ["drift"]
    judge(shop, "2024-06")
    assert kinds() == []


def test_the_same_rows_judged_twice_give_the_same_report(shop):
    judge(shop, "2024-04")
    once = reported(shop, "2024-04")
    judge(shop, "2024-04")
    assert reported(shop, "2024-04") == once


def test_a_champion_whose_artifact_was_changed_judges_nothing(shop):
    [artifact] = shop.home.rglob("*.skops")
    content = artifact.read_bytes()
    artifact.write_bytes(content[:-1] + b"x")
    result = judge(shop, "2024-04")
    artifact.write_bytes(content)
    assert not result.success
    assert "toy/drift_report[2024-04-01]" in failure(result)


def test_what_retraining_runs_needs_no_partition(shop):
    assert shop.run((), ("evaluation_report",)).success
