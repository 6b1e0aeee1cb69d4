"""Dagster's SQLite storage with an engine kept for each file.

Dagster 1.13 makes a SQLAlchemy engine for each of a run's 400 connections, and with it compiles every statement again:
a tenth of the CPU of a small run. It also reads its 67 migrations twice to make the file of a run: ours is a copy of
an empty one. The two files that all runs write to also keep a connection open, another tenth: the
last one to be closed copies the write-ahead log back. A run's own file is closed each time, because that copying is the
change by which the webserver sees that the run went on.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path

from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage, SqliteStorageConfig
from dagster._serdes import ConfigurableClassData
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import NullPool, QueuePool


@lru_cache(maxsize=64)
def _engine(url: str) -> Engine:
    return create_engine(url, poolclass=NullPool, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS})


@cache
def _no_events() -> bytes:
    """The file of a run of which nothing has been told yet, as Dagster makes it."""
    with tempfile.TemporaryDirectory() as folder:
        made = SqliteEventLogStorage(folder)
        made.dispose()
        return Path(made.path_for_shard(INDEX_SHARD_NAME)).read_bytes()


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


class _File:
    """A file of which one connection stays open until `close`. A forked child opens its own: SQLite forbids sharing."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._engines: dict[int, Engine] = {}

    @property
    def engine(self) -> Engine:
        process = os.getpid()
        if process not in self._engines:
            self._engines[process] = create_engine(
                self._url,
                poolclass=QueuePool,
                pool_size=1,
                max_overflow=-1,
                connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS},
            )
        return self._engines[process]

    def close(self) -> None:
        if engine := self._engines.pop(os.getpid(), None):
            engine.dispose()


class _Events(SqliteEventLogStorage):
    """The log of events, one file a run and one index of all."""

    def __init__(self, base_dir: str) -> None:
        super().__init__(base_dir)
        self._index = _File(self.conn_string_for_shard(INDEX_SHARD_NAME))

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        engine = self._index.engine if shard == INDEX_SHARD_NAME else _engine(self.conn_string_for_shard(shard))
        with self._db_lock:
            if shard not in self._initialized_dbs:
                path = Path(self.path_for_shard(shard))
                if path.exists() or not _made(path):
                    self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                yield connection

    def has_table(self, table_name: str) -> bool:
        return inspect(self._index.engine).has_table(table_name)

    def dispose(self) -> None:
        super().dispose()
        self._index.close()


class _Runs(SqliteRunStorage):
    """The list of runs."""

    def __init__(self, url: str) -> None:
        self._file = _File(url)
        super().__init__(url)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with self._file.engine.begin() as connection:
            yield connection

    def dispose(self) -> None:
        super().dispose()
        self._file.close()


class _Schedules(SqliteScheduleStorage):
    """The ticks of schedules and sensors. Dagster never says that it is done with them, so nothing stays open."""

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with _engine(self._conn_string).begin() as connection:
            yield connection


class SqliteStorage(DagsterSqliteStorage):
    """What `storage` in the prepared `dagster.yaml` names; `base_dir` holds the folders `history` and `schedules`."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        events, runs, schedules = self._event_log_storage, self._run_storage, self._schedule_storage
        self._event_log_storage = _Events(events._base_dir)
        self._run_storage = _Runs(runs._conn_string)
        self._schedule_storage = _Schedules(schedules._conn_string)

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: SqliteStorageConfig
    ) -> SqliteStorage:
        """What Dagster calls with the `config` of `dagster.yaml`."""
        return cls(inst_data=inst_data, **config_value)
