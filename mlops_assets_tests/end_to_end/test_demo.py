"""`mlops-assets demo` as a newcomer types it: promotions, a refused delivery, its correction, and a table of it all."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(600)
def test_the_demo_plays_months_of_both_models_and_everything_that_should_work_does(tmp_path):
    home = tmp_path / "home"
    variables = os.environ | {"MLOPS_HOME": str(home)}
    for name in ("DAGSTER_HOME", "MLOPS_LANDING", "MLFLOW_TRACKING_URI"):
        variables.pop(name, None)
    played = subprocess.run(
        [sys.executable, "-m", "mlops_assets.cli", "demo", "--months", "4"],
        env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=550, check=False,
    )  # fmt: skip
    said = played.stdout
    assert played.returncode == 0, said + played.stderr
    assert "9 from 2011-01-01" in said
    assert "46 from 1996-05-06" in said
    assert re.search(r"2011-12-01 +7\d\d +\d+ *\n", said), "the dirty month is refused"
    assert re.search(r"2011-12-01, corrected +\d+ +\d+ +(stable|watch) .* WAIT", said)
    assert "quality.max_bad_share is 5.00%" in said
    assert re.search(r"1997-04-14, corrected +\d+ +\d+ +stable", said)
    assert re.search(r"1997-05-05 .*drifted .* WAIT", said)
    assert re.search(r"1997-05-12 .*drifted .* RETRAIN", said)
    assert re.search(r"1997-05-12, retrained .* v2, champion", said)
    assert "1997-05-12: RETRAIN: 2 of the newest 3 drift reports since the last training are drifted" in said
    assert "http://127.0.0.1:3000/assets/bike_demand/retraining_decision" in said
    assert (home / "demo.log").stat().st_size > 0
    assert "DEBUG" not in said + played.stderr
    assert sorted(Path(home / "reports").iterdir())
