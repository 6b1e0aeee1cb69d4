"""The demo's last words: each delivery in its row, failures told, and links that lead to the Dagster that is there."""

import re
from io import StringIO

import pytest
from rich.console import Console

from mlops_assets.demo.play import Line
from mlops_assets.demo.table import print_lines


@pytest.fixture
def printed(tmp_path):
    def show(*lines, simulated=True):
        console = Console(file=StringIO(), width=120)
        print_lines(console, lines, tmp_path, simulated)
        return console.file.getvalue()

    return show


@pytest.mark.parametrize(
    ("named", "address"), [("", "http://127.0.0.1:3000"), ("http://127.0.0.1:4000/", "http://127.0.0.1:4000")]
)
def test_links_lead_to_the_dagster_that_the_setting_names(printed, monkeypatch, named, address):
    monkeypatch.setenv("MLOPS_DAGSTER_UI", named)
    said = printed(Line("toy", "2024-01"))
    assert f"  {address}/assets/toy/registered_version\n" in said
    assert f"  {address}/assets/toy/drift_report\n" in said
    assert f"  {address}/assets/toy/performance_report\n" in said
    assert f"  {address}/assets/toy/retraining_decision\n" in said


def test_a_delivery_has_a_row_and_its_notes_below(printed):
    said = printed(Line("toy", "2024-01", rows_in=1200, quarantined=10, notes=["late [again]"]))
    assert ["2024-01", "1,200", "10"] in [line.split() for line in said.splitlines()]
    assert "2024-01: late [again]" in said


def test_what_was_measured_and_decided_stands_beside_what_was_trained_and_the_metric_above(printed):
    judged = Line("toy", "2024-01-01, corrected", drift="drifted (70%)", metric="mae", measured="35.5")
    judged.decision = "FIX_UPSTREAM"
    trained = Line("toy", "2024-01-01, retrained", candidate="19.0632", champion="0.7661 (undecided)")
    trained.version = "v2, challenger"
    rows = [re.split(r" {2,}", line.strip()) for line in printed(judged, trained).splitlines()]
    assert ["toy, mae"] in rows
    assert ["2024-01-01, corrected", "drifted (70%)", "35.5", "FIX_UPSTREAM"] in rows
    assert ["2024-01-01, retrained", "19.0632", "0.7661 (undecided)", "v2, challenger"] in rows


@pytest.mark.parametrize(("measured", "said"), [("~0.88", True), ("0.88", False)])
def test_what_is_only_estimated_is_marked_and_the_mark_is_explained(printed, measured, said):
    shown = printed(Line("toy", "2024-01", metric="mae", measured=measured))
    assert re.search(rf"2024-01 +{measured}", shown)
    assert ("toy, mae (~ estimated, before labels came)" in shown) == said


def test_it_says_where_alerts_are_seen(printed):
    assert "mlops-assets alerts\n" in printed(Line("toy", "2024-01"))


def test_a_home_that_has_played_everything_says_how_to_begin_again(printed):
    assert "remove it to begin again" in printed()


@pytest.mark.parametrize(("simulated", "times"), [(True, 1), (False, 0)])
def test_only_a_simulated_world_has_another_delivery_to_send(printed, simulated, times):
    assert printed(Line("toy", "2024-01"), simulated=simulated).count("deliver bike_demand") == times
