"""A real webserver, daemon and code server: a file is dropped, and the sensor does the rest."""

import os
import subprocess
import sys

import pytest

from mlops_assets_tests.end_to_end.server import dev_server


def deliver(home, model, count):
    subprocess.run(
        [sys.executable, "-m", "mlops_assets.cli", "deliver", model, "--count", str(count)],
        env=os.environ | {"MLOPS_HOME": str(home)}, check=True, capture_output=True,
    )  # fmt: skip


@pytest.mark.timeout(600)
def test_a_dropped_file_becomes_a_registered_version_and_a_drift_report_by_itself(tmp_path):
    home = tmp_path / "home"
    deliver(home, "bike_demand", 5)
    with dev_server(home, tmp_path / "dev.log") as server:
        first = server.wait_for_runs(1)
        assert [run["status"] for run in first] == ["SUCCESS"]
        assert first[0]["tags"]["dagster/asset_partition_range_start"] == "2011-01-01"
        assert first[0]["tags"]["dagster/asset_partition_range_end"] == "2011-05-01"

        deliver(home, "bike_demand", 1)
        second = server.wait_for_runs(2)
        assert [run["status"] for run in second] == ["SUCCESS", "SUCCESS"]
        assert second[0]["tags"]["dagster/partition"] == "2011-06-01"
        assert {asset["path"][1] for asset in second[0]["assetSelection"]} >= {
            "raw_data",
            "validated_features",
            "trained_model",
            "evaluation_report",
            "registered_version",
            "drift_report",
        }
    assert sorted(path.name for path in (home / "reports" / "bike_demand" / "drift").glob("2011-06-01*.html"))
