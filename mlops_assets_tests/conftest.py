"""What every test shares: no telemetry, homes of their own, and figures that a fault test publishes."""

import gc
import json
import os
from pathlib import Path

import hypothesis
import pytest

from mlops_assets_tests.homes import (
    FOLDER,
    instance_at,
    without_reading_migrations_again,
    without_state_of_components,
    without_waiting_for_the_disk,
)
from mlops_assets_tests.lives import Lives
from mlops_assets_tests.toy import Workshop

os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLOPS_DATABASE_PATIENCE_SECONDS", "1")  # what is away in most tests is away for good
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small fits: threads that wait for each other cost ten times the work

hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

without_waiting_for_the_disk()
without_reading_migrations_again()
without_state_of_components()

DATA = Path(os.environ.get("MLOPS_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))

LONGEST = (
    "test_demo",
    "test_installation",
    "test_row_20_killed",
    "test_reproducing",
    "test_row_28_racing_releases",
    "test_data",
    "test_lives",
    "test_row_24_silent_daemon",
    "test_conformance",
    "test_row_26_postgresql",
    "test_policies",
    "test_retraining",
    "test_scenarios",
    "test_upstream",
    "test_labels",
    "test_trained_through_preemption",
    "test_rollback",
    "test_row_21_daemon_killed",
    "test_row_25_registry_down",
    "test_row_22_two_daemons",
    "test_history",
    "test_row_46_backfill",
)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Look for no garbage in what is imported and collected, neither now nor later: all of it stays. What tests leave
    behind is looked for less often than Python does, which takes a tenth of their CPU."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(50_000)
        gc.enable()


class Folder(pytest.Package):
    """A folder of tests that each worker begins to collect elsewhere: what another has compiled by then is there."""

    def collect(self):
        found = [*super().collect()]
        worker = getattr(self.config, "workerinput", {"workerid": "gw0", "workercount": 1})
        start = int(worker["workerid"].removeprefix("gw")) * len(found) // worker["workercount"]
        return found[start:] + found[:start]


def pytest_collect_directory(path, parent):
    return Folder.from_parent(parent, path=path)


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest, so that no core waits for another at the end."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (places.get(item.path.stem, len(LONGEST)), item.path))


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


@pytest.fixture(scope="session", autouse=True)
def one_prepared_home(tmp_path_factory):
    """Let all workers, and the programs that they start, copy one prepared home."""
    folder = tmp_path_factory.getbasetemp()
    os.environ.setdefault(FOLDER, str(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder))


@pytest.fixture(scope="session")
def lives(tmp_path_factory):
    """Where lives are laid out again that many tests begin with."""
    return Lives(tmp_path_factory.mktemp("lives"))


@pytest.fixture
def workshop(tmp_path):
    """A function that opens the toy model on a home of its own; keyword arguments replace fields of its declaration."""
    with instance_at(tmp_path) as instance:

        def open_workshop(**changes):
            return Workshop(tmp_path / "home", instance, changes)

        yield open_workshop
