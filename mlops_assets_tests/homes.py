"""Homes for tests, copied from a prepared one: making the tables of Dagster and MLflow takes longer than most tests."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from dagster._core.storage.defs_state import base
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import ConnectionPoolEntry

from mlops_assets import instance, settings

FOLDER = "MLOPS_TEST_HOMES"
NO_LOGS = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}


def without_waiting_for_the_disk() -> None:
    """Let what this process writes, SQLite's databases too, trust the operating system: no test cuts the power."""
    os.fsync = lambda _: None
    if not event.contains(Engine, "connect", _trusting):
        event.listen(Engine, "connect", _trusting)


def _trusting(connection: object, _: ConnectionPoolEntry) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous = OFF")


def without_state_of_components() -> None:
    """Let no instance say where components keep state: none of ours does.

    A context that is collected late closes its instance late, and Dagster goes back to what the one before it said,
    which may be gone by then: whatever test builds definitions next would fail.
    """
    base.set_defs_state_storage = lambda _: nullcontext()


def without_reading_migrations_again() -> None:
    """Read all migrations of Dagster and MLflow once, not for each database that one of them makes or opens."""
    read: Callable[[Config], ScriptDirectory] = ScriptDirectory.from_config
    known: dict[str | None, ScriptDirectory] = {}

    def read_once(config: Config) -> ScriptDirectory:
        location = config.get_main_option("script_location")
        if location not in known:
            known[location] = read(config)
        return known[location]

    ScriptDirectory.from_config = read_once


@cache
def _folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory()


@cache
def prepared() -> Path:
    """A prepared home, to copy: made by the first of all processes with the same FOLDER that needs it."""
    home = Path(os.environ.get(FOLDER) or _folder().name) / "home"
    with pytest.MonkeyPatch.context() as patch:
        for setting in (settings.DAGSTER_HOME, settings.TRACKING_URI):
            patch.setenv(setting.name, "")
            patch.delenv(setting.name)
        patch.setenv(settings.HOME.name, str(home))
        instance.prepare()
    return home


def prepare(home: Path) -> Path:
    """As `instance.prepare` makes a fresh home ready, but that its databases are copied; where Dagster's home is."""
    shutil.copytree(prepared(), home, dirs_exist_ok=True)
    return instance.prepare(str(home))


@cache
def empty_database() -> bytes:
    """MLflow's tables in SQLite, empty."""
    return (prepared() / "mlflow.db").read_bytes()


@contextmanager
def instance_at(folder: Path, **changes: Any) -> Iterator[dg.DagsterInstance]:
    """An instance in `folder` with Dagster's own settings but `changes`, and MLflow's tables in `home` beside it."""
    for name in instance.DATABASES:
        shutil.copytree(prepared() / "dagster" / name, folder / name)
    (folder / "home").mkdir(exist_ok=True)
    (folder / "home" / "mlflow.db").write_bytes(empty_database())
    with opened_at(folder, **changes) as opened:
        yield opened


def without_logs(dagster_home: Path) -> Path:
    """The same home, whose instance keeps nothing of what steps print: Dagster starts four processes a run for it."""
    with (dagster_home / "dagster.yaml").open("a") as config:
        config.write(f"compute_logs: {json.dumps(NO_LOGS)}\n")
    return dagster_home


@contextmanager
def opened_at(folder: Path, **changes: Any) -> Iterator[dg.DagsterInstance]:
    """The instance that was made in `folder`.

    What steps print is pytest's to capture: Dagster would start four processes a run for it.
    """
    storage = {"module": "mlops_assets.sqlite_storage", "class": "SqliteStorage", "config": {"base_dir": str(folder)}}
    overrides = {"storage": {"custom": storage}, "compute_logs": NO_LOGS, **changes}
    with dg.instance_for_test(temp_dir=str(folder), overrides=overrides) as opened:
        yield opened
