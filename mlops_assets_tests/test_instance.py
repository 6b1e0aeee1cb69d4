"""The prepared instance: where it is, how it is configured, and that libraries are silent."""

import os
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.run_coordinator import QueuedRunCoordinator

from mlops_assets import instance, settings

VARIABLES = [setting.name for setting in (*settings.ALL, *settings.LIBRARIES)]


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """An environment in which only MLOPS_HOME is set; MLflow is elsewhere, so that no test waits for its tables."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    return monkeypatch


def test_dagster_lives_under_the_storage_root_with_its_databases_and_configuration(environment, tmp_path):
    home = instance.prepare()
    assert home == tmp_path / "home" / "dagster"
    assert {"dagster.yaml", "history", "schedules"} <= {path.name for path in home.iterdir()}
    assert not list(home.glob(".fresh-*"))
    assert Path(os.environ["DAGSTER_HOME"]) == home


def test_the_configuration_is_what_the_design_promises(environment):
    instance.prepare()
    with dg.DagsterInstance.get() as prepared:
        assert not prepared.telemetry_enabled
        assert not prepared.nux_enabled
        assert prepared.run_monitoring_enabled
        assert prepared.run_retries_enabled
        assert not prepared.get_settings("run_retries")["retry_on_asset_or_op_failure"]
        queue = prepared.run_coordinator
        assert isinstance(queue, QueuedRunCoordinator)
        assert queue.get_run_queue_config().max_concurrent_runs == 2
        one_per_model = {"key": "mlops/model", "value": {"applyLimitPerUniqueValue": True}, "limit": 1}
        assert queue.get_run_queue_config().tag_concurrency_limits == [one_per_model]


def test_preparing_again_keeps_what_is_there_and_renews_our_configuration(environment):
    home = instance.prepare()
    before = (home / "history" / "runs.db").stat().st_ino
    (home / "dagster.yaml").write_text("telemetry: {enabled: true}")
    instance.prepare()
    assert (home / "history" / "runs.db").stat().st_ino == before
    assert "enabled: false" in (home / "dagster.yaml").read_text()


def test_a_home_of_the_users_own_keeps_its_configuration(environment, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "dagster.yaml").write_text("nux: {enabled: false}")
    environment.setenv("DAGSTER_HOME", str(own))
    assert instance.prepare() == own
    assert (own / "dagster.yaml").read_text() == "nux: {enabled: false}"
    assert (own / "history" / "runs.db").exists()


def test_storage_configured_elsewhere_is_left_to_its_owner(environment, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "dagster.yaml").write_text("storage: {postgres: {postgres_url: {env: PG_URL}}}")
    environment.setenv("DAGSTER_HOME", str(own))
    instance.prepare()
    assert not (own / "history").exists()


def test_an_explicit_home_takes_the_instance_with_it(environment, tmp_path):
    instance.prepare(str(tmp_path / "first"))
    assert instance.prepare(str(tmp_path / "second")) == tmp_path / "second" / "dagster"
    assert settings.home() == str(tmp_path / "second")


@pytest.mark.parametrize(
    ("given", "named"),
    [({}, "DAGSTER_HOME"), ({"DAGSTER_HOME": "/tmp"}, "MLFLOW_TRACKING_URI")],  # noqa: S108
)
def test_an_object_store_cannot_hold_sqlite_and_the_error_names_the_setting(environment, tmp_path, given, named):
    environment.setenv("MLOPS_HOME", "s3://bucket/prefix")
    environment.delenv("MLFLOW_TRACKING_URI")
    if given:
        environment.setenv("DAGSTER_HOME", str(tmp_path))
    with pytest.raises(instance.InstanceError, match=rf"^{named} would be .*s3://bucket/prefix/.* Set {named}"):
        instance.prepare()


def test_libraries_are_silent_unless_the_user_says_otherwise(environment):
    environment.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    instance.prepare()
    assert os.environ["DO_NOT_TRACK"] == "true"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"


def test_a_code_server_that_nobody_prepared_is_silent_too(environment):
    from mlops_assets.definitions import defs

    defs()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_mlflow_finds_its_tables_made(environment, tmp_path):
    environment.delenv("MLFLOW_TRACKING_URI")
    instance.prepare()
    from mlflow.store.db.utils import _all_tables_exist
    from sqlalchemy import create_engine

    assert _all_tables_exist(create_engine(settings.tracking_uri()))
    assert [path.name for path in (tmp_path / "home").iterdir() if path.name.startswith("mlflow")] == ["mlflow.db"]
