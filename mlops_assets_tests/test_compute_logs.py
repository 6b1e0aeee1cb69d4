"""What steps print, kept in the store: whole at the end, in parts before, read by a process that did not capture it."""

import sys
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterInstance
from dagster._core.errors import DagsterInvalidConfigError
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.compute_log_manager import ComputeIOType

from mlops_assets.compute_logs import StoredComputeLogs
from mlops_assets_tests.s3 import s3_server

KEY = ["run", "compute_logs", "step"]


@pytest.fixture
def managers(tmp_path):
    """A function that makes a manager of the same store, as each process has its own."""
    made = []

    def manager(**config) -> StoredComputeLogs:
        made.append(StoredComputeLogs(root=str(tmp_path / "home"), **config))
        return made[-1]

    yield manager
    for each in made:
        each.dispose()


@contextmanager
def instance(folder: Path, config: dict):
    """A Dagster instance whose compute logs are ours, as `dagster.yaml` would say it."""
    logs = {"module": "mlops_assets.compute_logs", "class": "StoredComputeLogs", "config": config}
    with DagsterInstance.from_ref(InstanceRef.from_dir(str(folder), overrides={"compute_logs": logs})) as opened:
        yield opened


def printed(manager: StoredComputeLogs) -> tuple[bytes | None, bytes | None]:
    data = manager.get_log_data(KEY)
    return data.stdout, data.stderr


def test_what_a_run_prints_is_read_by_another_process_from_an_object_store(tmp_path, monkeypatch):
    @dg.op
    def talks() -> None:
        print("to the world")  # noqa: T201
        sys.stderr.write("to the operator\n")

    @dg.job
    def talk() -> None:
        talks()

    with s3_server(monkeypatch, "logs") as bucket:
        monkeypatch.setenv("MLOPS_HOME", f"{bucket}/home")
        with instance(tmp_path, {"root": {"env": "MLOPS_HOME"}, "upload_interval": 30}) as opened:
            run = talk.execute_in_process(instance=opened)
            [captured] = [event for event in run.all_events if event.event_type_value == "LOGS_CAPTURED"]
        reader = StoredComputeLogs(root=f"{bucket}/home")
        key = [run.run_id, "compute_logs", captured.logs_captured_data.file_key]
        data = reader.get_log_data(key)
        assert (data.stdout.strip(), b"to the operator" in data.stderr) == (b"to the world", True)
        assert reader.get_log_metadata(key).stdout_location.startswith(f"{bucket}/home/logs/{run.run_id}/")
        reader.delete_logs(prefix=[run.run_id])
        assert not reader.cloud_storage_has_logs(key, ComputeIOType.STDOUT)
        reader.dispose()


def test_what_was_printed_so_far_is_there_before_the_step_ends(managers):
    step, web = managers(), managers()
    with step.open_log_stream(KEY, ComputeIOType.STDOUT) as stream:
        stream.write("so far\n")
        stream.flush()
        assert printed(web) == (None, None)
        step.on_progress(KEY)
        assert printed(web)[0] == b"so far\n"
        assert not web.is_capture_complete(KEY)
        stream.write("and to the end\n")
    assert printed(managers())[0] == b"so far\nand to the end\n"
    assert web.is_capture_complete(KEY)


def test_deleted_output_is_gone_whole_and_in_parts(managers):
    manager = managers()
    with manager.open_log_stream(KEY, ComputeIOType.STDERR) as stream:
        stream.write("oops\n")
        stream.flush()
        manager.on_progress(KEY)
    manager.delete_logs(log_key=KEY)
    assert printed(managers()) == (None, None)
    manager.delete_logs(log_key=KEY)  # what is not there is deleted already


def test_no_folder_is_made_by_a_process_that_captures_nothing(managers, tmp_path):
    manager = managers()
    assert manager._local is None
    assert manager.download_url_for_type(KEY, ComputeIOType.STDOUT) is None
    assert not (tmp_path / "home").exists()


def test_a_setting_that_does_not_exist_is_refused(tmp_path):
    with instance(tmp_path, {"bucket": "logs"}) as opened, pytest.raises(DagsterInvalidConfigError, match="bucket"):
        _ = opened.compute_log_manager
