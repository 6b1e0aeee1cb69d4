"""A model whose labels come late says what it expects of its rows before them, once, and how that came out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import dagster as dg
import pytest

from mlops_assets.ml.estimation import BLIND
from mlops_assets.ml.performance import PerformanceReport
from mlops_assets.ml.relations import Relations
from mlops_assets.ml.training import Candidate
from mlops_assets.resources.records import Records
from mlops_assets_tests import late, toy
from mlops_assets_tests.homes import instance_at
from mlops_assets_tests.lifecycle.stages import validate
from mlops_assets_tests.toy import Workshop

ROWS = ["raw_data", "validated_features", "quarantined_rows", "raw_labels", "labels"]
MODEL = ["trained_model", "evaluation_report", "registered_version", "champion"]
REPORT = ["predictions", "performance_report"]
LATER = ("2024-04", "2024-05", "2024-06")


@dataclass
class Life:
    """A workshop, and the report of each month at each of two times: before its labels and after."""

    shop: Workshop
    before: dict[str, PerformanceReport] = field(default_factory=dict)
    after: dict[str, PerformanceReport] = field(default_factory=dict)

    @property
    def records(self) -> Records:
        return self.shop.resources["records"]

    def report(self, month: str) -> PerformanceReport:
        return self.records.get(PerformanceReport, "toy", "performance_report", f"{month}-01")

    def metadata(self, month: str) -> dict[str, object]:
        """What the page of the newest report of a month shows."""
        found = self.shop.instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey(["toy", "performance_report"]), asset_partitions=[f"{month}-01"]), limit=1
        )
        entries = found.records[0].asset_materialization.metadata
        return {name: getattr(entry, "value", None) for name, entry in entries.items()}


@pytest.fixture(scope="module")
def life(tmp_path_factory) -> Iterator[Life]:
    folder = tmp_path_factory.mktemp("estimates")
    with instance_at(folder) as instance:
        found = Life(Workshop(folder / "home", instance, late.declared(folder / "home" / "labels", known="known")))
        live(found)
        yield found


def live(life: Life) -> None:
    shop = life.shop
    late.deliver_rows(shop, *toy.MONTHS[:3])
    for month in toy.MONTHS[:3]:
        late.deliver_labels(shop, month)
    assert shop.run(toy.MONTHS[:3], [*ROWS, *MODEL]).success
    for month in LATER:
        late.deliver_rows(shop, month)
        assert shop.run([month], [each for each in ROWS if each != "raw_labels"] + REPORT).success
        life.before[month] = life.report(month)
        late.deliver_labels(shop, month)
        assert shop.run([month], ["raw_labels", "labels", "performance_report"]).success
        life.after[month] = life.report(month)


def test_what_a_versions_errors_were_like_is_kept_with_its_evaluation(life):
    candidate = life.records.get(Candidate, "toy", "trained_model")
    kept = life.records.get(Relations, "toy", "error_relations", candidate.model_sha256)
    assert (kept.rows, kept.partitions, kept.absent) == (300, ("2024-03-01",), None)


def test_before_its_labels_a_month_has_an_estimate_and_says_what_it_cannot_see(life):
    for report in life.before.values():
        assert (report.labelled, report.measured, report.inside) == (0, None, None)
        assert report.estimated.low < report.estimated.value < report.estimated.high
        assert set(report.expected) == {"mae", "rmse", "r2", "wape", "bias"}
        assert f"Estimated without labels: mae {report.estimated}; {BLIND}." in report.sentence


def test_the_estimate_stands_when_the_labels_come_and_is_held_against_them(life):
    for month, report in life.after.items():
        assert report.mature
        assert report.estimated == life.before[month].estimated
        assert report.inside is (report.estimated.low <= report.measured.value <= report.estimated.high)
    assert [report.held[1] for report in life.after.values()] == [1, 2, 3]
    assert sum(report.inside for report in life.after.values()) >= 2


def test_a_later_estimate_goes_by_how_the_earlier_ones_came_out(life):
    first, later = life.before["2024-04"], life.before["2024-06"]
    assert first.estimated.value == first.expected["mae"].value
    assert later.estimated.value != later.expected["mae"].value
    assert later.held == (sum(life.after[month].inside for month in LATER[:2]), 2)


def test_the_page_of_a_report_shows_the_estimate_how_it_came_out_and_how_often_estimates_held(life):
    report, shown = life.after["2024-06"], life.metadata("2024-06")
    inside, of = report.held
    assert shown["estimated_without_labels"] == str(report.estimated)
    assert shown["truth_inside_estimate"] is report.inside
    assert shown["truth_inside_the_last_estimates"] == f"{inside} of {of}"
    assert shown["an_estimate_is_blind_to"] == BLIND
    assert f"The truth fell into {inside} of the last {of} estimates." in shown["summary"]


def test_what_is_kept_for_estimates_holds_no_input_of_a_row(life):
    [path] = (life.shop.home / "records" / "toy" / "error_relations").iterdir()
    kept = json.loads(path.read_text())["value"]
    assert set(kept["columns"][0]["sums"]) == {"error", "absolute_error", "squared_error", "larger"}
    assert "price" not in path.read_text()


def test_the_hold_out_of_a_version_is_not_estimated_by_what_was_learned_from_it(life):
    assert life.shop.run(["2024-03"], REPORT).success
    report = life.report("2024-03")
    assert (report.estimated, report.inside) == (None, None)
    assert "nothing is estimated: they are what its errors were learned from" in report.sentence
    assert "not_estimated" in life.metadata("2024-03")


def test_a_model_whose_labels_stand_in_its_rows_estimates_nothing_and_keeps_nothing(released):
    validate(released, "2024-04")
    assert released.run(["2024-04"], REPORT).success
    report = released.resources["records"].get(PerformanceReport, "toy", "performance_report", "2024-04-01")
    assert (report.estimated, report.unestimated, report.expected) == (None, None, {})
    assert "stimate" not in report.sentence
    assert not (released.home / "records" / "toy" / "error_relations").exists()
