"""MLflow's SQLite database, made whole before anything opens it: two processes that start on a fresh one break it."""

from __future__ import annotations

import tempfile
from pathlib import Path

SQLITE = "sqlite:///"


def create(uri: str) -> None:
    """Create MLflow's tables where `uri` is a SQLite file that does not exist yet. Any number may call this at once."""
    path = Path(uri.removeprefix(SQLITE))
    if not uri.startswith(SQLITE) or path.exists():
        return
    from filelock import FileLock
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if path.exists():
            return
        with tempfile.TemporaryDirectory(prefix=".fresh-", dir=path.parent) as fresh:
            aside = Path(fresh) / path.name
            SqlAlchemyStore(f"{SQLITE}{aside}", str(path.parent / "mlflow")).engine.dispose()
            aside.rename(path)
