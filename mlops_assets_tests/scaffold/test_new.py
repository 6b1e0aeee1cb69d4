"""`new`, end to end: what it writes is loaded unedited, and lives its whole life."""

from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from dagster.components.testing import create_defs_folder_sandbox

from mlops_assets.defs.resources import resources
from mlops_assets.demo.player import Player
from mlops_assets.ml.registration import RegisteredVersion
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.resources.records import Records
from mlops_assets.scaffold.new import new_model
from mlops_assets.scaffold.proposal import Wish
from mlops_assets.scaffold.sample import ScaffoldError
from mlops_assets.simulation.delivery import backdate
from mlops_assets_tests.homes import instance_at


def silent(question):
    return None


def shop(folder):
    random = np.random.default_rng(5)
    times = pd.date_range("2024-02-01", periods=24 * 70, freq="h")
    price, kind = random.normal(20, 4, len(times)).round(2), random.choice(["old (a)", "new [b]"], len(times))
    busy = np.where((times.hour > 8) & (times.hour < 18), 30, 5) + 10 * (kind == "new [b]")
    rows = pd.DataFrame(
        {
            "Day": times.strftime("%d.%m.%y"),
            "clock": times.strftime("%H:%M"),
            "price in €": np.where(random.random(len(times)) < 0.1, -999, price),
            "kind.of": kind,
            "hour of it": times.hour,
            "e-mail": [f"p{number % 40}@example.org" for number in range(len(times))],
            "Sold (pcs)": busy + random.poisson(3, len(times)),
        }
    )
    path = folder / "shop sales.csv"
    rows.to_csv(path, index=False, sep=";")
    backdate(path, times[-1].date())
    return path


def lived(name, path, target, folder):
    """Write, load and run a model in `folder`; its definitions' folder is a project of its own."""
    home = folder / "home"
    with (
        create_defs_folder_sandbox() as sandbox,
        instance_at(folder) as instance,
    ):
        defs = Path(sandbox.defs_folder_path)
        for package in (defs, defs.parent):
            (package / "__init__.py").touch()
        new_model(path, Wish(name, target), defs, silent)
        with sandbox.build_all_defs() as loaded:
            wiring = dg.Definitions(
                resources=resources(str(home), f"sqlite:///{home}/mlflow.db"), executor=dg.in_process_executor
            )
            return Player(dg.Definitions.merge(loaded, wiring), instance).tick(f"{name}_new_data")


@pytest.mark.parametrize("name", ["shop", "air"])
def test_what_is_written_runs_unedited_to_a_registered_version(name, tmp_path, request):
    if name == "shop":
        path, target = shop(tmp_path), "Sold (pcs)"
    else:
        path, target = request.getfixturevalue("real_data") / "air_quality_uci" / "AirQualityUCI.csv", "CO(GT)"
    (ran,) = lived(name, path, target, tmp_path)
    assert ran.failed == {}
    records = Records(root=str(tmp_path / "home"))
    assert records.get(RegisteredVersion, name, "registered_version").version == 1
    parts = records.all(ValidatedPartition, name, "validated_features").values()
    assert sum(part.rows_in for part in parts) == {"shop": 24 * 70, "air": 9357}[name]


def test_what_is_missing_is_asked_for(tmp_path):
    rows = pd.DataFrame({"made": pd.date_range("2024-01-01", periods=99).astype(str), "x": [1.5, 2.5, 3.5] * 33})
    rows["sold"] = pd.date_range("2024-03-01", periods=99).astype(str)
    rows.to_csv(tmp_path / "s.csv", index=False)
    answers = {"Time": "sold", "Target": "x"}
    folder, notes = new_model(
        tmp_path / "s.csv", Wish("m", ""), tmp_path, lambda asked: answers[asked.rpartition("\n")[2].split()[0]]
    )
    assert (folder / "defs.yaml").exists()
    assert any("sold" in note for note in notes)
    with pytest.raises(ScaffoldError, match="made, sold"):
        new_model(tmp_path / "s.csv", Wish("n", ""), tmp_path, silent)
