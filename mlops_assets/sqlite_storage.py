"""Dagster's SQLite storage with an engine kept for each file.

Dagster 1.13 makes a SQLAlchemy engine for each of a run's 400 connections, and with it compiles every statement again:
a tenth of the CPU of a small run. Nothing is held open here either: a connection is still opened and closed each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage, SqliteStorageConfig
from dagster._serdes import ConfigurableClassData
from sqlalchemy import create_engine, inspect
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import NullPool


@lru_cache(maxsize=64)
def _engine(url: str) -> Engine:
    return create_engine(url, poolclass=NullPool, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS})


class _Events(SqliteEventLogStorage):
    """The log of events, one file a run and one index of all."""

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        engine = _engine(self.conn_string_for_shard(shard))
        with self._db_lock:
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                yield connection

    def has_table(self, table_name: str) -> bool:
        return inspect(_engine(self.conn_string_for_shard(INDEX_SHARD_NAME))).has_table(table_name)


class _Runs(SqliteRunStorage):
    """The list of runs."""

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with _engine(self._conn_string).begin() as connection:
            yield connection


class _Schedules(SqliteScheduleStorage):
    """The ticks of schedules and sensors."""

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
