"""The Dagster instance and MLflow's database of one machine, made ready before anything opens them.

Two processes that open a fresh SQLite instance at once can break it for good
(https://github.com/dagster-io/dagster/issues/27390), so both are created aside and moved into place whole.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from mlops_assets import settings
from mlops_assets.resources import mlflow_database

DATABASES = ("history", "schedules")


class InstanceError(Exception):
    """The instance cannot be made ready as the environment stands."""


def prepare(home: str | None = None) -> Path:
    """Make Dagster's home and MLflow's SQLite database ready, and return the former.

    `home` takes the place of MLOPS_HOME. Any number of processes may call this at once, and again. Afterwards the
    environment of this process and of its children names both homes and switches telemetry off.
    """
    from filelock import FileLock

    settings.set_library_defaults()
    ours = _is_ours()
    if home is not None:
        os.environ[settings.HOME.name] = home
        if ours:
            os.environ.pop(settings.DAGSTER_HOME.name, None)
    dagster_home = _local(settings.DAGSTER_HOME, settings.dagster_home())
    dagster_home.mkdir(parents=True, exist_ok=True)
    with FileLock(dagster_home / ".prepare.lock"):
        _configure(dagster_home, ours)
        _create_dagster(dagster_home)
    mlflow = settings.tracking_uri()
    if mlflow.startswith(mlflow_database.SQLITE):
        _local(settings.TRACKING_URI, mlflow.removeprefix(mlflow_database.SQLITE))
        mlflow_database.create(mlflow)
    os.environ[settings.HOME.name] = settings.home()
    os.environ[settings.DAGSTER_HOME.name] = str(dagster_home)
    return dagster_home


def _is_ours() -> bool:
    """Whether Dagster's home follows MLOPS_HOME, rather than being one that the user named."""
    return settings.dagster_home() == f"{settings.home()}/dagster"


def _local(setting: settings.Setting, value: str) -> Path:
    if "://" in value:
        raise InstanceError(
            f"{setting.name} would be {value}, but it has to be a local folder: SQLite cannot live in an object store. "
            f"Set {setting.name} to a folder on this machine."
        )
    return Path(value)


def _template() -> Path:
    """The file `dagster.yaml`: inside an installed package, beside a checked-out one."""
    package = Path(__file__).parent
    inside = package / "dagster.yaml"
    return inside if inside.exists() else package.parent / "dagster.yaml"


def _storage(dagster_home: Path) -> str:
    """The part of `dagster.yaml` that names the folder, which the template cannot know."""
    return f"""
storage:
  custom:
    module: mlops_assets.sqlite_storage
    class: SqliteStorage
    config: {{base_dir: {json.dumps(str(dagster_home.absolute()))}}}
"""


def _configure(dagster_home: Path, ours: bool) -> None:
    """Keep our own home's `dagster.yaml` like the template, with its storage; leave alone one in a home of the user."""
    config = dagster_home / "dagster.yaml"
    wanted = _template().read_text() + _storage(dagster_home)
    if config.exists() and (not ours or config.read_text() == wanted):
        return
    aside = config.with_suffix(".new")
    aside.write_text(wanted)
    aside.replace(config)


def _create_dagster(dagster_home: Path) -> None:
    """Create the instance's databases, unless they are there or the configuration keeps them elsewhere."""
    import yaml

    config = yaml.safe_load((dagster_home / "dagster.yaml").read_text()) or {}
    missing = [name for name in DATABASES if not (dagster_home / name).exists()]
    if config.get("storage") == yaml.safe_load(_storage(dagster_home))["storage"]:
        del config["storage"]
    if not missing or {"storage", "run_storage", "event_log_storage", "schedule_storage"} & set(config):
        return
    from dagster._core.storage.sqlite_storage import DagsterSqliteStorage

    with tempfile.TemporaryDirectory(prefix=".fresh-", dir=dagster_home) as fresh:
        DagsterSqliteStorage(fresh).dispose()
        for name in missing:
            (Path(fresh) / name).rename(dagster_home / name)
