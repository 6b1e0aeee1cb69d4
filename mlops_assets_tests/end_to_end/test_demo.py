"""`mlops-assets demo` as a newcomer types it: promotions, a refused delivery, its correction, and a table of it all."""

import os
import re
import subprocess
import sys

import pytest

from mlops_assets.ml.performance import PerformanceReport
from mlops_assets.resources.records import Records
from mlops_assets_tests.end_to_end.server import deliver, dev_server


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Where the demo was played, and how it ended."""
    folder = tmp_path_factory.mktemp("demo")
    variables = os.environ | {"MLOPS_HOME": str(folder / "home")}
    for name in ("DAGSTER_HOME", "MLOPS_LANDING", "MLFLOW_TRACKING_URI"):
        variables.pop(name, None)
    ended = subprocess.run(
        [sys.executable, "-m", "mlops_assets.cli", "demo", "--months", "4"],
        env=variables, cwd=folder, capture_output=True, text=True, timeout=550, check=False,
    )  # fmt: skip
    return folder / "home", ended


@pytest.mark.timeout(600)
def test_the_demo_plays_months_of_both_models_and_everything_that_should_work_does(played):
    home, ended = played
    said = ended.stdout
    assert ended.returncode == 0, said + ended.stderr
    assert "9 from 2011-01-01" in said
    assert "48 from 1996-05-06" in said
    assert re.search(r"labels to 1997-03-24 +0\.\d+ +v1, champion", said), "the first model waits for labels"
    assert re.search(r"2011-12-01 +7\d\d +\d+ *\n", said), "the dirty month is refused"
    assert re.search(r"2011-12-01, corrected +\d+ +\d+ +(stable|watch) .* WAIT", said)
    assert "quality.max_bad_share is 5.00%" in said
    assert re.search(r"1997-04-14, corrected +\d+ +\d+ +stable", said)
    assert re.search(r"1997-04-28 +336 +2 +stable \(0%\) +~0\.\d+ +WAIT", said), "estimated before labels"
    assert re.search(r"labels to 1997-04-28 +0\.\d+ +WAIT", said), "measured by labels a week later"
    assert re.search(r"1997-05-12 .*drifted .* WAIT", said)
    assert re.search(r"1997-05-19 .*drifted .* RETRAIN", said)
    assert re.search(r"1997-05-19, retrained .* v2, champion", said)
    assert "1997-05-19: RETRAIN: 3 of the newest 3 drift reports since the last training are drifted" in said
    assert "http://127.0.0.1:3000/assets/bike_demand/retraining_decision" in said
    assert (home / "demo.log").stat().st_size > 0
    assert "DEBUG" not in said + ended.stderr
    assert sorted((home / "reports").iterdir())


def rows_and_the_labels_of_the_weeks_before_are_seen_to_by_themselves(server, before):
    """One more delivery: what was predicted for the newest week so far is measured, and the new one is estimated."""
    newest, coming = "1997-05-26", "1997-06-02"
    deliver(server.home, "electricity_price", 1)
    made = server.wait_for_runs(before + 2)[: -before or None]
    assert [run["status"] for run in made] == ["SUCCESS", "SUCCESS"]
    assert {run["tags"]["mlops/reason"] for run in made} == {"new_data", "new_labels"}
    records = Records(root=str(server.home))
    measured, estimated = (
        records.get(PerformanceReport, "electricity_price", "performance_report", week) for week in (newest, coming)
    )
    assert (measured.mature, measured.labelled > 300, measured.inside is not None) == (True, True, True)
    assert max(days for days, _ in measured.arrival) < 14 * 24
    assert (estimated.labelled, estimated.measured, estimated.estimated is not None) == (0, None, True)
    assert "nothing can be measured yet" in estimated.sentence


@pytest.mark.timeout(600)
def test_dev_opens_on_all_that_the_demo_did_and_does_none_of_it_again(played, tmp_path):
    home, _ = played
    with dev_server(home, tmp_path / "dev.log") as server:
        before = server.runs()
        for sensor in ("bike_demand_new_data", "electricity_price_new_data", "new_labels", "retrain_on_decision"):
            tick = server.wait_for_ticks(sensor, 1)[0]
            assert tick["status"] == "SKIPPED", tick
        assert server.runs() == before
        rows_and_the_labels_of_the_weeks_before_are_seen_to_by_themselves(server, len(before))
    assert {run["tags"]["mlops/model"] for run in before} == {"bike_demand", "electricity_price"}
    assert len(before) >= 16
