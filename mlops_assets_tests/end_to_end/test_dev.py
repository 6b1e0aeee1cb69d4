"""A real webserver, daemon and code server: a file is dropped, and the sensor does the rest."""

import os
import shutil

import pytest

from mlops_assets.ml.planning import DECISION, MONITORING, VALIDATION
from mlops_assets.ml.retraining import RetrainingDecision
from mlops_assets.resources.records import Records
from mlops_assets_tests.end_to_end.server import deliver, dev_server

SENSOR = "bike_demand_new_data"
ELSEWHERE = "https://mlflow.example"  # not started here: test_demo has it beside


@pytest.mark.timeout(600)
def test_dropped_files_become_a_registered_version_and_then_a_decision_by_themselves(tmp_path):
    home = tmp_path / "home"
    deliver(home, "bike_demand", 5)
    with dev_server(home, tmp_path / "dev.log", MLOPS_MLFLOW_UI=ELSEWHERE) as server:
        first = server.wait_for_runs(1)
        assert [run["status"] for run in first] == ["SUCCESS"]
        assert first[0]["tags"]["dagster/asset_partition_range_start"] == "2011-01-01"
        assert first[0]["tags"]["dagster/asset_partition_range_end"] == "2011-05-01"
        said = server.wait_for_ticks(SENSOR, 1)[0]
        assert said["status"] == "SKIPPED"
        assert f"Nothing new among 5 deliveries in {home}/landing/bike_demand" in said["skipReason"]

        deliver(home, "bike_demand", 1)
        second = server.wait_for_runs(2)
        assert [run["status"] for run in second] == ["SUCCESS", "SUCCESS"]
        assert second[0]["tags"]["dagster/partition"] == "2011-06-01"
        made = {asset["path"][1] for asset in second[0]["assetSelection"]}
        assert made == {*VALIDATION, *MONITORING}
        decision = Records(root=str(home)).get(RetrainingDecision, "bike_demand", DECISION)
        assert (decision.partition, decision.verdict) == ("2011-06-01", "WAIT")
        [told] = {tick["skipReason"] for tick in server.wait_for_ticks("retrain_on_decision", 1)}
        assert f"bike_demand: 2011-06-01: {decision.sentence}" in told
        no_new_run_for_what_is_known(server)
    assert sorted(path.name for path in (home / "reports" / "bike_demand" / "drift").glob("2011-06-01*.html"))


def no_new_run_for_what_is_known(server):
    """The same bytes once more under another name, renamed, or only touched."""
    landing = server.home / "landing" / "bike_demand"
    shutil.copy2(landing / "bike-2011-06.csv", landing / "bike-2011-07.csv")
    (landing / "bike-2011-05.csv").rename(landing / "bike-2011-08.csv")
    os.utime(landing / "bike-2011-04.csv", (0, 0))
    newest, before = server.wait_for_ticks(SENSOR, 2)[:2]
    assert {newest["status"], before["status"]} == {"SKIPPED"}
    assert "Nothing new among 7 deliveries" in newest["skipReason"]
    for copy, original in (("2011-07-01", "2011-06-01"), ("2011-08-01", "2011-05-01")):
        assert f"{copy}: holds the same bytes as {original}: delivered twice, counted once" in newest["skipReason"]
    assert len(server.runs()) == 2
