"""The storage of the prepared instance: Dagster's own files and answers, with an engine kept for each file."""

import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from unittest.mock import Mock

import dagster as dg
import pytest
from alembic.script import ScriptDirectory
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.events import AssetMaterializationPlannedData
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from sqlalchemy import event
from sqlalchemy.engine import Engine

from mlops_assets import sqlite_storage
from mlops_assets_tests.homes import prepare


@dg.asset
def numbers() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"rows": 3})


@dg.asset
def letters() -> None:
    return None


@pytest.fixture
def home(monkeypatch, tmp_path):
    for name in ("DAGSTER_HOME", "MLOPS_HOME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    return prepare(tmp_path)


def materialize(home) -> str:
    with dg.DagsterInstance.from_config(str(home)) as opened:
        return dg.materialize([numbers], instance=opened).run_id


def test_the_prepared_instance_uses_it_wherever_it_is_opened_from(home, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME")
    with dg.DagsterInstance.from_config(str(home)) as opened:
        again = dg.DagsterInstance.from_ref(opened.get_ref())
        for one in (opened, again):
            assert isinstance(one.event_log_storage, sqlite_storage._Events)
            assert isinstance(one.run_storage, sqlite_storage._Runs)
            assert isinstance(one.schedule_storage, sqlite_storage._Schedules)
            assert one.event_log_storage.path_for_shard("index").startswith(str(home / "history" / "runs"))


def test_what_it_writes_dagsters_own_storage_reads(home):
    run_id = materialize(home)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}")
    with dg.DagsterInstance.from_config(str(home)) as plain:
        assert type(plain.event_log_storage) is SqliteEventLogStorage
        assert plain.get_run_by_id(run_id).is_success
        assert plain.get_latest_materialization_event(dg.AssetKey("numbers")).run_id == run_id
        assert len(plain.all_logs(run_id)) > 10


def test_what_dagsters_own_storage_wrote_it_reads(home):
    ours = (home / "dagster.yaml").read_text()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}")
    run_id = materialize(home)
    (home / "dagster.yaml").write_text(ours)
    with dg.DagsterInstance.from_config(str(home)) as opened:
        assert opened.get_latest_materialization_event(dg.AssetKey("numbers")).run_id == run_id


def test_a_run_makes_one_engine_a_file_where_dagster_makes_one_a_connection(home):
    def engines(home) -> int:
        made = set()

        def connected(connection):
            made.add(connection.engine)

        event.listen(Engine, "engine_connect", connected)
        try:
            materialize(home)
        finally:
            event.remove(Engine, "engine_connect", connected)
        return len(made)

    ours = engines(home)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}")
    assert ours < 8 < 30 < engines(home)


def test_no_migration_is_read_where_all_files_are_stamped(home, monkeypatch):
    read = []
    find = ScriptDirectory.from_config
    run_id = materialize(home)
    monkeypatch.setattr(ScriptDirectory, "from_config", lambda config: read.append(config) or find(config))

    def look():
        with dg.DagsterInstance.from_config(str(home)) as opened:
            assert opened.all_logs(run_id)
            return len(read)

    assert look() == 0
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}")
    assert look() == 3


@pytest.mark.parametrize("name", ["runs.db", "runs/index.db", "../schedules/schedules.db"])
@pytest.mark.parametrize("damage", ["missing", "not stamped"])
def test_what_is_missing_or_was_never_finished_dagster_makes(home, name, damage):
    path = home / "history" / name
    if damage == "missing":
        path.unlink()
    else:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DROP TABLE alembic_version")
    run_id = materialize(home)
    assert tables(path)
    with dg.DagsterInstance.from_config(str(home)) as opened:
        assert opened.get_run_by_id(run_id).is_success
        assert not opened.all_instigator_state()


def test_the_file_of_one_run_alone_is_open(home):
    runs = [materialize(home) for _ in range(2)]
    with dg.DagsterInstance.from_config(str(home)) as opened:
        for run_id in (*runs, runs[0]):
            opened.all_logs(run_id)
            assert {path.stem for path in home.rglob("*.db-wal")} & set(runs) == {run_id}


def tables(path) -> list:
    with closing(sqlite3.connect(path)) as connection:
        said = [
            *connection.execute("SELECT sql FROM sqlite_master ORDER BY name"),
            *connection.execute("PRAGMA journal_mode"),
        ]
        return [*said, *connection.execute("SELECT version_num FROM alembic_version")]


def test_the_file_of_a_run_is_made_as_dagster_makes_it(home):
    ours = home / "history" / "runs" / f"{materialize(home)}.db"
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}")
    dagsters = home / "history" / "runs" / f"{materialize(home)}.db"
    assert tables(ours) == tables(dagsters)
    assert {path.suffix for path in ours.parent.iterdir()} == {".db"}


@pytest.fixture
def planned() -> list[dg.EventLogEntry]:
    """What Dagster tells of a run that is to make an asset of three partitions, and to check it."""
    asset = dg.AssetKey("numbers")
    said = [
        *(("ASSET_MATERIALIZATION_PLANNED", AssetMaterializationPlannedData(asset, partition=day)) for day in "abc"),
        ("ASSET_CHECK_EVALUATION_PLANNED", AssetCheckEvaluationPlanned(asset_key=asset, check_name="odd")),
    ]
    events = [dg.DagsterEvent(kind, "job", step_key="numbers", event_specific_data=data) for kind, data in said]
    return [dg.EventLogEntry(None, 10, "", "run", 1767225600.0, "numbers", "job", event) for event in events]


def kept(storage) -> list:
    found = []
    for shard in ("run", "index"):
        with closing(sqlite3.connect(storage.path_for_shard(shard))) as connection:
            for table in ("event_logs", "asset_keys", "asset_check_executions"):
                rows = connection.execute(f"SELECT * FROM {table}")
                names = [column[0] for column in rows.description]
                found += [dict(zip(names, row, strict=True)) | {"create_timestamp": None} for row in rows]
    return found


def test_events_that_come_together_are_kept_as_dagster_keeps_them_by_one_transaction_a_file(tmp_path, planned):
    dagsters, ours = SqliteEventLogStorage(str(tmp_path / "dagster")), sqlite_storage._Events(str(tmp_path / "ours"))
    for storage in (dagsters, ours):
        storage.store_event(planned[0])
    commits = []

    def committed(connection):
        commits.append(connection)

    event.listen(Engine, "commit", committed)
    try:
        ours.store_event_batch(planned)
        assert len(commits) == 2
        dagsters.store_event_batch(planned)
        assert len(commits) > 2 + 2 * len(planned)
    finally:
        event.remove(Engine, "commit", committed)
    assert kept(ours) == kept(dagsters)
    assert ours.get_logs_for_run("run") == [planned[0], *planned]


def test_of_events_that_come_together_all_are_kept_or_none(tmp_path, planned, monkeypatch):
    storage = sqlite_storage._Events(str(tmp_path))
    storage.store_event(planned[0])
    before = kept(storage)
    with monkeypatch.context() as patch:
        patch.setattr(storage, "store_asset_check_event", Mock(side_effect=OSError("the disk is full")))
        with pytest.raises(OSError, match="full"):
            storage.store_event_batch(planned)
    assert kept(storage) == before
    storage.store_event_batch(planned)
    assert storage.get_logs_for_run("run") == [planned[0], *planned]


def test_the_prepared_instance_stores_what_a_run_is_to_make_at_once(home, monkeypatch):
    batches, store = [], sqlite_storage._Events.store_event_batch
    monkeypatch.setattr(
        sqlite_storage._Events, "store_event_batch", lambda self, events: batches.append(events) or store(self, events)
    )
    with dg.DagsterInstance.from_config(str(home)) as opened:
        dg.materialize([numbers, letters], instance=opened)
    [together] = batches
    assert {each.get_dagster_event().event_type_value for each in together} == {"ASSET_MATERIALIZATION_PLANNED"}


@pytest.mark.parametrize("moment", [0.0, 1767225600.0, 1767225600.000001])
def test_an_event_is_written_as_dagster_writes_it(tmp_path, moment):
    said = dg.EventLogEntry(None, "INFO", "50 % of 'rows'\nü", "run", moment, step_key="toy__raw_data")

    def written(storage) -> list:
        storage.store_event(said)
        with closing(sqlite3.connect(storage.path_for_shard("run"))) as connection:
            return connection.execute("SELECT *, typeof(timestamp) FROM event_logs").fetchall()

    ours, dagsters = sqlite_storage._Events(str(tmp_path / "ours")), SqliteEventLogStorage(str(tmp_path / "dagster"))
    assert written(ours) == written(dagsters)
    assert ours.get_logs_for_run("run") == [said]


@pytest.mark.parametrize("error", [FileExistsError, PermissionError])
def test_where_the_file_of_a_run_cannot_be_linked_dagster_makes_it(home, monkeypatch, error):
    def refuse(*_):
        raise error

    monkeypatch.setattr(os, "link", refuse)
    run_id = materialize(home)
    with dg.DagsterInstance.from_config(str(home)) as opened:
        assert opened.get_run_by_id(run_id).is_success
        assert len(opened.all_logs(run_id)) > 10


def test_no_connection_outlives_the_instance(home):
    with dg.DagsterInstance.from_config(str(home)) as opened:
        opened.get_runs_count()
        opened.all_asset_keys()
        opened.all_instigator_state()
        assert {path.name for path in home.rglob("*.db-wal")} == {"index.db-wal", "runs.db-wal", "schedules.db-wal"}
    assert not list(home.rglob("*.db-wal"))


def test_the_file_of_a_run_changes_with_each_event_because_the_webserver_watches_it(home):
    with dg.DagsterInstance.from_config(str(home)) as opened:
        run = opened.create_run_for_job(dg.Definitions(assets=[numbers]).resolve_implicit_global_asset_job_def())
        opened.report_engine_event("first", run)
        seen = threading.Event()
        opened.watch_event_logs(run.run_id, None, lambda event, _: seen.set() if event.message == "second" else None)
        opened.report_engine_event("second", run)
        assert seen.wait(30)


def test_an_event_touches_the_file_of_its_run_and_stays_in_its_log_and_a_look_touches_nothing(tmp_path):
    storage = sqlite_storage._Events(str(tmp_path))
    path, long_ago = Path(storage.path_for_shard("run")), 1767225600

    def tell(message) -> None:
        storage.store_event(dg.EventLogEntry(None, "INFO", message, "run", float(long_ago)))

    tell("first")
    before = path.read_bytes()
    os.utime(path, (long_ago, long_ago))
    assert len(storage.get_logs_for_run("run")) == 1
    assert path.stat().st_mtime == long_ago, "the webserver would look again, and again"
    tell("second")
    assert path.stat().st_mtime > long_ago
    assert path.read_bytes() == before
    storage.dispose()
    assert path.read_bytes() != before
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM event_logs").fetchone() == (2,)


def test_a_forked_child_opens_connections_of_its_own(home):
    with dg.DagsterInstance.from_config(str(home)) as opened:
        run_id = dg.materialize([numbers], instance=opened).run_id
        ours = opened.run_storage._file.engine
        child = os.fork()
        if child == 0:
            alike = opened.run_storage._file.engine is ours
            opened.add_run_tags(run_id, {"by": "child"})
            os._exit(3 if alike else 0)
        assert os.waitpid(child, 0)[1] == 0
        assert opened.get_run_by_id(run_id).tags["by"] == "child"
        assert opened.run_storage._file.engine is ours


def test_threads_that_write_to_one_run_lose_no_event(home):
    with dg.DagsterInstance.from_config(str(home)) as opened:
        run = opened.create_run_for_job(dg.Definitions(assets=[numbers]).resolve_implicit_global_asset_job_def())
        start = threading.Barrier(4)

        def report(number):
            start.wait()
            for each in range(10):
                opened.report_engine_event(f"{number}-{each}", run)

        threads = [threading.Thread(target=report, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        messages = [log.message for log in opened.all_logs(run.run_id)]
    wanted = [f"{number}-{each}" for number in range(4) for each in range(10)]
    assert sorted(message for message in messages if message in wanted) == sorted(wanted)


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (SqliteEventLogStorage, ("_connect", "_initdb", "has_table", "conn_string_for_shard")),
        (SqliteRunStorage, ("connect",)),
        (SqliteScheduleStorage, ("connect",)),
    ],
)
def test_dagster_still_has_what_is_overridden(owner, names):
    assert all(name in vars(owner) for name in names)
