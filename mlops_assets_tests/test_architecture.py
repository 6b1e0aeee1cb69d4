"""What holds over the whole graph and the whole source: who may import what, and that every asset can be found."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

import mlops_assets
from mlops_assets.components.declared import declared
from mlops_assets.definitions import defs

PACKAGE = Path(mlops_assets.__file__).parent
HEAVY = {
    "evidently",
    "fairlearn",
    "mlflow",
    "sklearn",
    "matplotlib",
    "plotly",
    "pandera",
    "kubernetes",
    "dagster_k8s",
    "dagster_mlflow",
    "cryptography",
}


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return defs()


def imported(path: Path) -> Iterator[str]:
    """Every package that a module imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def test_the_logic_imports_neither_dagster_nor_mlflow():
    modules = list((PACKAGE / "ml").rglob("*.py"))
    assert len(modules) > 10
    found = {path.name: {"dagster", "mlflow", "os"} & set(imported(path)) for path in modules}
    assert {name: names for name, names in found.items() if names} == {}


def test_loading_the_definitions_imports_nothing_heavy():
    program = (
        "import json, sys; from mlops_assets.definitions import defs; defs(); print(json.dumps(list(sys.modules)))"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = set(json.loads(finished.stdout.splitlines()[-1]))
    assert "dagster" in modules
    assert {name.partition(".")[0] for name in modules} & HEAVY == set()


def test_every_asset_says_whose_it_is_what_it_is_and_where_it_belongs(definitions):
    specs = list(definitions.resolve_all_asset_specs())
    assert specs
    silent = [
        spec.key.to_user_string()
        for spec in specs
        if not (spec.owners and spec.description and spec.kinds and "mlops/stage" in spec.tags)
    ]
    assert silent == []


def test_every_check_says_what_is_true_when_it_passes(definitions):
    graph = definitions.resolve_asset_graph()
    silent = [str(key) for key in graph.asset_check_keys if not graph.get_check_spec(key).description]
    assert silent == []


def test_each_model_has_sensors_for_what_arrives_and_all_else_looks_at_all_models_at_once(definitions):
    arrivals = {f"{spec.name}_new_data" for spec in declared()}
    sensors = {sensor.name: sensor for sensor in definitions.sensors}
    assert arrivals <= set(sensors)
    of_all = {
        "new_labels",
        "retrain_on_decision",
        "watch_champions",
        "performance_drop",
        "overdue",
        "raise_alerts",
        "deliver_alerts",
    }
    assert of_all <= set(sensors)
    assert not [name for name in set(sensors) - arrivals if any(spec.name in name for spec in declared())]
    assert {sensor.default_status for sensor in sensors.values()} == {dg.DefaultSensorStatus.RUNNING}


def test_new_labels_are_asked_for_of_the_models_whose_labels_come_later_and_of_no_others(definitions):
    [sensor] = [sensor for sensor in definitions.sensors if sensor.name == "new_labels"]
    asked = sensor.asset_selection.resolve(definitions.resolve_asset_graph())
    late = [spec.name for spec in declared() if spec.labels]
    assert "electricity_price" in late
    assets = ("raw_labels", "labels", "performance_report", "retraining_decision")
    assert asked == {dg.AssetKey([model, asset]) for model in late for asset in assets}


@pytest.mark.parametrize("model", ["bike_demand", "electricity_price"])
def test_the_graph_of_a_shipped_model_is_the_one_on_record(definitions, snapshot, model):
    assert "\n".join(described(definitions, model)) == snapshot


def test_no_delivery_and_no_training_drills_the_way_back(definitions):
    job = definitions.resolve_job_def("bike_demand_lifecycle")
    assert dg.AssetKey(["bike_demand", "rollback_drill"]) not in job.asset_layer.executable_asset_keys
    [schedule] = definitions.schedules
    assert schedule.name == "rollback_drills"


def described(definitions: dg.Definitions, model: str) -> Iterator[str]:
    """A model's graph as text: every asset with its stage and dependencies, every check, job and sensor."""
    graph = definitions.resolve_asset_graph()
    specs = [spec for spec in definitions.resolve_all_asset_specs() if spec.key.path[0] == model]
    for spec in sorted(specs, key=lambda spec: spec.key):
        node = graph.get(spec.key)
        cut = type(node.partitions_def).__name__ if node.partitions_def else "unpartitioned"
        upstream = ", ".join(sorted(key.to_user_string() for key in node.parent_keys)) or "nothing"
        yield f"{spec.key.to_user_string()} ({spec.tags['mlops/stage']}, {cut}) <- {upstream}"
        for check in sorted(node.check_keys):
            yield f"    {check.name}{', blocking' if graph.get_check_spec(check).blocking else ''}"
    for job in sorted(definitions.resolve_all_job_defs(), key=lambda job: job.name):
        if job.name.startswith(model):
            yield f"job {job.name}"
    for sensor in sorted(definitions.sensors or (), key=lambda sensor: sensor.name):
        if sensor.name.startswith(model):
            yield f"sensor {sensor.name} ({sensor.default_status.value})"
