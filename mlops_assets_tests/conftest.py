"""What every test shares: no telemetry, homes of their own, and figures that a fault test publishes."""

import json
import os
from pathlib import Path

import hypothesis
import pytest

from mlops_assets_tests.homes import instance_at, without_waiting_for_the_disk
from mlops_assets_tests.toy import Workshop

os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLOPS_DATABASE_PATIENCE_SECONDS", "1")  # what is away in most tests is away for good
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small fits: threads that wait for each other cost ten times the work

hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

without_waiting_for_the_disk()

DATA = Path(os.environ.get("MLOPS_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))

LONGEST = ("test_row_20_killed.py", "test_dev.py", "test_demo.py", "test_bad_input.py", "test_retrain_on_decision.py")


def pytest_collection_modifyitems(items):
    """Begin with the files that take minutes, so that no core waits for another at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets, or a skip that says where it was looked for."""
    if not DATA.is_dir():
        pytest.skip(f"no real data at {DATA}; set MLOPS_TEST_DATA to the folder that holds it")
    return DATA


@pytest.fixture
def record_figure(request):
    """Publish the figure that a row of the fault matrix asks for: kept with the test's result, and appended as a
    line of JSON to the file named by MLOPS_FIGURES where that is set."""

    def record(**figure):
        rows = [mark.args[0] for mark in request.node.iter_markers("fault")]
        entry = {"row": rows[0] if rows else None, "test": request.node.name, **figure}
        request.node.user_properties.append(("figure", entry))
        if path := os.environ.get("MLOPS_FIGURES"):
            with Path(path).open("a") as stream:
                stream.write(json.dumps(entry, default=str) + "\n")

    return record


@pytest.fixture
def workshop(tmp_path):
    """A function that opens the toy model on a home of its own; keyword arguments replace fields of its declaration."""
    with instance_at(tmp_path) as instance:

        def open_workshop(**changes):
            return Workshop(tmp_path / "home", instance, changes)

        yield open_workshop
