import pytest

from mlops_assets_tests.doctor.writing import found, marked

HEAD = """import glob
import os
from glob import glob as matching
from pathlib import Path
import mlflow
from mlflow import search_runs as runs_of
from mlflow.tracking import MlflowClient
import dagster as dg

MODELS = Path("models")

@dg.asset
def predictions(store, name):
    client = MlflowClient()
"""
FOUND = [
    'return sorted(glob.glob("models/*.bin"))[-1]',
    'return max(matching("out/*.joblib"), key=os.path.getmtime)',
    'return sorted(MODELS.glob("*"), key=lambda path: path.stat().st_mtime, reverse=True)[0]',
    "return max((path for path in MODELS.iterdir()), key=os.path.getctime)",
    'return sorted(os.listdir("checkpoints"))[-1]',
    "latest_model = store.list()[0]",
    'return client.search_runs(["1"], order_by=["attributes.start_time DESC"])[0]',
    'return mlflow.search_runs(order_by=["metrics.rmse ASC"]).iloc[0]',
    'return client.get_latest_versions(name, stages=["None"])[0]',
    "return max(client.search_model_versions(name), key=lambda version: int(version.version))",
    "return max(int(version.version) for version in client.search_model_versions(name))",
    'runs = runs_of(); return runs.loc[runs["metrics.mae"].idxmin()]',
    'return mlflow.pyfunc.load_model("models:/churn/latest")',
    'return mlflow.pyfunc.load_model(f"models:/{name}/latest")',
]
NOT_FOUND = [
    'return sorted(glob.glob("landing/*.csv"))[-1]',
    'return max(Path("landing").iterdir(), key=os.path.getmtime)',
    'return sorted(Path("models").glob("*.sql"))[-1]',
    'return sorted(MODELS.glob("*.joblib"))',
    "latest_row = store.list()[0]",
    'return mlflow.search_runs(order_by=["metrics.rmse ASC"])',
    'return client.get_latest_versions(name, stages=["Production"])[0]',
    "return client.search_model_versions(f\"name='{name}' and run_id='{store.run}'\")[0]",
    'return mlflow.pyfunc.load_model("models:/churn@champion")',
    'return mlflow.pyfunc.load_model(f"models:/{name}/{store.version}")',
]


@pytest.mark.parametrize("line", FOUND)
def test_a_model_that_is_the_newest_is_found(tmp_path, line):
    text = f"{HEAD}    {line}  # <-\n"
    assert found(tmp_path, text) == marked("newest-wins", text)


@pytest.mark.parametrize("line", NOT_FOUND)
def test_the_newest_data_and_a_decided_model_are_not(tmp_path, line):
    assert found(tmp_path, f"{HEAD}    {line}\n") == []


@pytest.mark.parametrize(("name", "is_found"), [("load_model", True), ("train_model", False)])
def test_the_name_of_a_function_that_loads_says_what_the_files_are(tmp_path, name, is_found):
    text = f"""
        from pathlib import Path
        import dagster as dg

        @dg.op
        def {name}():
            return max(Path("somewhere").iterdir())
        """
    assert (found(tmp_path, text) != []) is is_found


def test_a_choice_over_several_lines_is_followed(tmp_path):
    text = f"""{HEAD}    files = list(MODELS.glob("*.bin"))
    files.sort()
    newest = files[-1]  # <-
    found = runs_of(order_by=["start_time DESC"], max_results=1)
    return newest, found.iloc[0]  # <-
"""
    assert found(tmp_path, text) == marked("newest-wins", text)
