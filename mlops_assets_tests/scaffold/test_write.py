"""What `new` writes: files that load, that the linter likes, and whose contract takes the sample."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.ml import contracts, validation
from mlops_assets.ml.features import pipeline
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.scaffold.proposal import Wish, propose
from mlops_assets.scaffold.sample import ScaffoldError, read_sample
from mlops_assets.scaffold.times import find_time
from mlops_assets.scaffold.write import _python, contract_path, declaration_text, write

ROOT = Path(__file__).parents[2]
AWKWARD = ["class", "PT08.S1(CO)", "with space", "2nd", "Größe", "it's", 'say "so"', "a,b", "def", "__x", "validate"]


@pytest.fixture
def new(tmp_path, monkeypatch):
    """Write the model for a sample, and return its folder, its declaration (with the sample's folder), the sample."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(name, path, target, *columns):
        sample = read_sample(path)
        found = find_time(sample, columns)
        folder = write(propose(sample, found, Wish(name, target), contract_path(name, tmp_path)), tmp_path)
        attributes = yaml.safe_load((folder / "defs.yaml").read_text())["attributes"]
        attributes["source"]["uri"] = str(path.parent)
        return folder, ModelSpec.model_validate(attributes), sample

    return make


def awkward(folder):
    random = np.random.default_rng(3)
    rows = pd.DataFrame({name: random.normal(size=900).round(3) for name in AWKWARD})
    rows.insert(0, "when it was", pd.date_range("2024-02-10", periods=900, freq="h").strftime("%d.%m.%Y %H:%M"))
    rows["shop no."] = random.choice(["Nord", 'the "old" one', "Su\u0308d, Ost", "yes"], 900)
    rows["result"] = random.choice(["no", "yes"], 900)
    rows["nothing"] = None
    path = folder / "my sample (1).csv"
    rows.to_csv(path, index=False)
    return path


SAMPLES = {
    "air": ("air_quality_uci/AirQualityUCI.csv", "CO(GT)"),
    "weather": ("weather_australia/weatherAUS.zip", "RainTomorrow"),
    "bikes": ("bike_sharing_hourly/hour.csv", "cnt"),
    "market": ("elec2_nsw/elec2_with_ts_derived.parquet", "class"),
}


@pytest.mark.parametrize("name", [*SAMPLES, "awkward"])
def test_the_folder_loads_and_its_contract_takes_the_sample(new, name, request, tmp_path):
    if name == "awkward":
        path, target = awkward(tmp_path), "result"
    else:
        file, target = SAMPLES[name]
        path = request.getfixturevalue("real_data") / file
    folder, spec, sample = new(f"new_{name}", path, target)
    contract = contracts.load_contract(spec.contract)
    contracts.refuse_impossible(contract, spec)
    pipeline(spec)
    judged = validation.judge({path.name: sample.table}, spec, contract)
    broken = {(rule.column, rule.rule) for rule in judged.broken}
    assert broken <= {(target, "is not missing")}
    assert judged.bad_share < spec.quality.max_bad_share
    style = [sys.executable, "-m", "ruff", "format", "--check", "--config", ROOT / "pyproject.toml", folder]
    assert subprocess.run(style, capture_output=True, check=False).returncode == 0


def test_an_existing_folder_is_left_alone(new, tmp_path):
    path = awkward(tmp_path)
    folder, _, _ = new("twice", path, "result")
    (folder / "defs.yaml").write_text("mine")
    with pytest.raises(ScaffoldError, match="exists already"):
        new("twice", path, "result")
    assert (folder / "defs.yaml").read_text() == "mine"


@pytest.mark.parametrize("name", ["Air", "2nd", "class", "a-b", "", "x" * 64, "../x"])
def test_a_name_that_cannot_name_a_model_is_refused(name, tmp_path):
    with pytest.raises(ScaffoldError, match="cannot name a model"):
        contract_path(name, tmp_path)


def test_the_contract_is_imported_from_the_package_that_holds_the_folder(tmp_path):
    folder = tmp_path / "project" / "defs"
    folder.mkdir(parents=True)
    for package in (folder, folder.parent):
        (package / "__init__.py").touch()
    assert contract_path("air_quality", folder) == "project.defs.air_quality.contract.AirQualityRow"


VALUES = st.recursive(
    st.text() | st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False), st.lists, max_leaves=8
)


@given(VALUES)
def test_values_survive_being_written_as_python(value):
    assert ast.literal_eval(_python(value)) == value


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES, min_size=1))
def test_values_survive_being_written_as_yaml(value):
    written = yaml.safe_load(declaration_text({"name": "m", "value": value}))
    assert written["attributes"] == {"name": "m", "value": value}
