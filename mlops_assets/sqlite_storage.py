"""Dagster's SQLite storage with an engine kept for each file.

Dagster 1.13 makes a SQLAlchemy engine for each of a run's 400 connections, and with it compiles every statement again:
a tenth of the CPU of a small run. It also reads its 67 migrations for each file that it opens, and twice for each that
it makes: we look for the file's stamp instead, and copy an empty file. A connection stays open to the three files that
all runs and sensors write to, another tenth: the last one to be closed copies the write-ahead log back and removes it.
So does one to the file of the run that was last told of. That copying is also the change by which the webserver sees
that a run went on: the file is touched after each event instead, which spares the disk three of four waits.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import cache, partial
from pathlib import Path
from threading import RLock
from typing import Any

from dagster import DagsterInstance
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS, EVENT_TYPE_TO_PIPELINE_RUN_STATUS
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS, create_db_conn_string
from dagster._core.storage.sqlite_storage import (
    DagsterSqliteStorage,
    SqliteStorageConfig,
    _event_logs_directory,
    _runs_directory,
    _schedule_directory,
)
from dagster._serdes import ConfigurableClassData
from sqlalchemy import URL, create_engine, inspect
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import QueuePool

INSERT = str(
    SqlEventLogStorageTable.insert().compile(column_keys=[c.name for c in SqlEventLogStorageTable.c if c.name != "id"])
)
BATCH = 1000
IN_INDEX = ASSET_EVENTS | ASSET_CHECK_EVENTS | EVENT_TYPE_TO_PIPELINE_RUN_STATUS.keys()


@cache
def _no_events() -> bytes:
    """The file of a run of which nothing has been told yet, as Dagster makes it."""
    with tempfile.TemporaryDirectory() as folder:
        made = SqliteEventLogStorage(folder)
        made.dispose()
        return Path(made.path_for_shard(INDEX_SHARD_NAME)).read_bytes()


def _is_stamped(path: Path) -> bool:
    """Whether Dagster made its tables in this file: it stamps the file last of all. It looks for no more than that."""
    if not path.exists():
        return False
    with closing(sqlite3.connect(path)) as connection:
        try:
            return connection.execute("SELECT 1 FROM alembic_version").fetchone() is not None
        except sqlite3.OperationalError:
            return False


def _made(path: Path) -> bool:
    """Make such a file, whole from the first moment on; False where there is one, or a file system without links."""
    aside = path.with_suffix(f".{uuid.uuid4().hex}.new")
    try:
        aside.write_bytes(_no_events())
        os.link(aside, path)
    except OSError:
        return False
    finally:
        aside.unlink(missing_ok=True)
    return True


def _driver(connection: Connection) -> Any:
    """What SQLAlchemy's connection works on: there a statement that is at hand is only executed."""
    return connection.connection.driver_connection


class _File:
    """A file of which one connection stays open until `close`. A forked child opens its own: SQLite forbids sharing.

    Another file of the same tables may take its place at `path` then: the engine has compiled its statements by now.
    """

    def __init__(self, path: str = "") -> None:
        self.path = path
        self._engines: dict[int, Engine] = {}

    @property
    def engine(self) -> Engine:
        process = os.getpid()
        if process not in self._engines:
            self._engines[process] = create_engine(
                URL.create("sqlite", database=self.path),
                creator=self._open,
                poolclass=QueuePool,
                pool_size=1,
                max_overflow=-1,
            )
        return self._engines[process]

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=SQLITE_BUSY_TIMEOUT_SECONDS, check_same_thread=False)

    def close(self) -> None:
        if engine := self._engines.get(os.getpid()):
            engine.dispose()


class _Events(SqliteEventLogStorage):
    """The log of events, one file a run and one index of all."""

    def __init__(self, base_dir: str) -> None:
        self._index, self._run = _File(str(Path(base_dir, f"{INDEX_SHARD_NAME}.db"))), _File()
        self._known: set[str] = set()
        self._batch: Callable[[str], Connection] | None = None
        super().__init__(base_dir)
        self._db_lock = RLock()

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            if self._batch is None:
                with self._transaction(shard) as connection:
                    yield connection
            else:
                yield self._batch(shard)

    @contextmanager
    def _transaction(self, shard: str) -> Iterator[Connection]:
        engine = self._file(shard).engine
        if shard not in self._initialized_dbs:
            path = Path(self.path_for_shard(shard))
            if not (_is_stamped(path) or _made(path)):
                self._initdb(engine)
            self._initialized_dbs.add(shard)
        with engine.connect() as connection:
            before = _driver(connection).total_changes
            with connection.begin():
                yield connection
            if shard != INDEX_SHARD_NAME and _driver(connection).total_changes > before:
                os.utime(self.path_for_shard(shard))

    def _file(self, shard: str) -> _File:
        if shard == INDEX_SHARD_NAME:
            return self._index
        path = self.path_for_shard(shard)
        if self._run.path != path:
            self._run.close()
            self._run.path = path
        return self._run

    def store_event(self, event: EventLogEntry) -> None:
        """Store it in its run's file, and where Dagster looks for events of all runs in the index too."""
        if event.is_dagster_event and event.dagster_event_type in IN_INDEX:
            super().store_event(event)
            return
        row = self._event_to_row(event)
        row["timestamp"] = row["timestamp"].isoformat(" ", "microseconds")
        with self._connect(event.run_id) as connection:
            _driver(connection).execute(INSERT, row)

    def register_instance(self, instance: DagsterInstance) -> None:
        """Have what this instance is told together stored together, which Dagster does where the environment says so.

        Other storages may have kept some of the events when they fail, and Dagster stores them one by one then.
        """
        super().register_instance(instance)
        vars(instance)["_get_event_batch_size"] = lambda: BATCH

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store the events of one run in one transaction of each file; one by one they take three."""
        with self._db_lock, ExitStack() as open_until_stored:
            self._batch = cache(lambda shard: open_until_stored.enter_context(self._transaction(shard)))
            try:
                super().store_event_batch(events)
            finally:
                self._batch = None

    def has_table(self, table_name: str) -> bool:
        return self._knows(table_name, lambda: inspect(self._index.engine).has_table(table_name))

    def _has_asset_key_col_on_connection(self, conn: Connection, column_name: str) -> bool:
        return self._knows(column_name, partial(super()._has_asset_key_col_on_connection, conn, column_name))

    def _knows(self, name: str, is_there: Callable[[], bool]) -> bool:
        """Whether the index has a table, or its table of assets a column: what was there once stays."""
        if name not in self._known and is_there():
            self._known.add(name)
        return name in self._known

    def dispose(self) -> None:
        super().dispose()
        with self._db_lock:
            self._run.close()
            self._index.close()


class _Schedules(SqliteScheduleStorage):
    """The ticks of schedules and sensors."""

    def __init__(self, base_dir: str) -> None:
        self._file = _File(str(Path(base_dir, "schedules.db")))
        super().__init__(create_db_conn_string(base_dir, "schedules"))

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with self._file.engine.begin() as connection:
            yield connection

    def dispose(self) -> None:
        super().dispose()
        self._file.close()


class _Runs(SqliteRunStorage):
    """The list of runs. It ends with the `ticks`: an instance tells its other storages alone that it is done."""

    def __init__(self, base_dir: str, ticks: _Schedules) -> None:
        self._file, self._ticks = _File(str(Path(base_dir, "runs.db"))), ticks
        super().__init__(create_db_conn_string(base_dir, "runs"))

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with self._file.engine.begin() as connection:
            yield connection

    def dispose(self) -> None:
        super().dispose()
        self._file.close()
        self._ticks.dispose()


class SqliteStorage(DagsterSqliteStorage):
    """What `storage` in the prepared `dagster.yaml` names; `base_dir` holds the folders `history` and `schedules`."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        runs, events, schedules = (
            where(base_dir) for where in (_runs_directory, _event_logs_directory, _schedule_directory)
        )
        files = Path(runs, "runs.db"), Path(events, f"{INDEX_SHARD_NAME}.db"), Path(schedules, "schedules.db")
        if not all(map(_is_stamped, files)):
            DagsterSqliteStorage(base_dir).dispose()
        self.base_dir, self._inst_data = base_dir, inst_data
        self._schedule_storage = _Schedules(schedules)
        self._run_storage = _Runs(runs, self._schedule_storage)
        self._event_log_storage = _Events(events)
        super(DagsterSqliteStorage, self).__init__()

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: SqliteStorageConfig
    ) -> SqliteStorage:
        """What Dagster calls with the `config` of `dagster.yaml`."""
        return cls(inst_data=inst_data, **config_value)
