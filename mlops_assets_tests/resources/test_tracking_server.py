"""Tracking on a real MLflow server, which dies while a model is being logged."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request

import dagster as dg
import pytest

from mlops_assets.resources.tracking import Tracking, TrackingUnavailableError
from mlops_assets_tests.homes import empty_database
from mlops_assets_tests.ml.test_features import rows
from mlops_assets_tests.resources.tracked import logged, trained


@pytest.fixture
def server(tmp_path):
    """An MLflow server on loopback that keeps the artifacts itself: its process, its address, its database."""
    (tmp_path / "mlflow.db").write_bytes(empty_database())
    database = f"sqlite:///{tmp_path}/mlflow.db"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", database, "--artifacts-destination", str(tmp_path / "served")]
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | settings, stdout=log, stderr=log, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until_healthy(address, process)
        yield process, address, database
    finally:
        stop(process)


def wait_until_healthy(address, process):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=1):
            return
        time.sleep(0.2)
    pytest.fail("the MLflow server did not start")


def stop(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    process.wait()


def test_a_server_keeps_the_model_and_its_death_is_said_soon_and_put_right_later(server, tmp_path):
    process, address, database = server
    tracking = Tracking(root=str(tmp_path / "ours"), tracking_uri=address)
    made = logged(tracking)
    assert not (tmp_path / "ours").exists()
    assert len(list((tmp_path / "served").rglob("model.skops"))) == 1
    assert len(tracking.load(made).predict(rows(5))) == 5

    begun = {}

    def train_on_a_dying_server(dagster_run_id):
        with tracking.run("toy", dagster_run_id) as run:
            stop(process)
            begun[run.id] = time.monotonic()
            tracking.log_model(run, *trained(), {})

    with dg.DagsterInstance.ephemeral() as instance:
        going_on = instance.create_run_for_job(dg.GraphDefinition(name="lifecycle").to_job())
        with pytest.raises(TrackingUnavailableError, match=f"MLflow at {address} did not record the training"):
            train_on_a_dying_server(going_on.run_id)
        ((run_id, stopped),) = begun.items()
        assert time.monotonic() - stopped < 40
        instance.report_run_failed(going_on)
        revived = Tracking(root=str(tmp_path), tracking_uri=database)
        assert revived.reconcile(instance) == {run_id: "FAILED"}
