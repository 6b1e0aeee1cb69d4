"""PostgreSQL that is away for a while: whoever connects waits for it, and does not fail."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlops_assets import settings

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Dialect, Engine

FIRST_SECONDS, LONGEST_SECONDS = 0.2, 5.0
TAKE_TURN = "SELECT pg_advisory_xact_lock(hashtext('mlops_assets'), hashtext(:name))"
FINAL = ("authentication failed", "does not exist", "no password supplied", "no pg_hba.conf entry")


def outages() -> tuple[type[Exception], ...]:
    """What is raised where a database is away: Dagster's storage wraps it, where it is PostgreSQL."""
    from sqlalchemy.exc import SQLAlchemyError

    found: list[type[Exception]] = [SQLAlchemyError, OSError]
    if loaded := sys.modules.get("dagster_postgres.utils"):
        found.append(loaded.DagsterPostgresException)
    return tuple(found)


def is_postgresql(uri: str) -> bool:
    """Whether a URL of SQLAlchemy is of PostgreSQL."""
    return uri.partition("://")[0].partition("+")[0] in {"postgresql", "postgres"}


def driven(uri: str) -> URL:
    """The URL with the driver that is installed here: SQLAlchemy 2.1 would look for another one."""
    from sqlalchemy.engine import make_url

    url = make_url(uri)
    return url.set(drivername="postgresql+psycopg2") if url.drivername in {"postgresql", "postgres"} else url


def waits(engine: Engine) -> Engine:
    """Let an engine wait for its database: refused, starting, shutting down, or with no connection left to give.

    It is asked again ever later, by chance, for MLOPS_DATABASE_PATIENCE_SECONDS. What will not mend itself, such as a
    wrong password, is said at once.
    """
    from sqlalchemy import event

    @event.listens_for(engine, "do_connect")
    def _connect(dialect: Dialect, _record: Any, arguments: list[Any], named: dict[str, Any]) -> Any:
        until, seconds = time.monotonic() + settings.database_patience(), FIRST_SECONDS
        while True:
            try:
                return dialect.connect(*arguments, **named)
            except dialect.loaded_dbapi.OperationalError as error:
                if time.monotonic() > until or any(each in str(error) for each in FINAL):
                    raise
            time.sleep(seconds * random.uniform(0.5, 1))  # noqa: S311
            seconds = min(LONGEST_SECONDS, 2 * seconds)

    return engine


@contextmanager
def turn(uri: str, name: str, seconds: int) -> Iterator[Connection]:
    """Hold the lock of this name, over all machines that use the database, for the length of the block.

    It is gone with its session. Whoever waits for more than so many seconds fails with SQLAlchemy's OperationalError.
    """
    from sqlalchemy import NullPool, create_engine, text

    engine = waits(create_engine(driven(uri), poolclass=NullPool))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{seconds}s'")
        connection.execute(text(TAKE_TURN), {"name": name})
        yield connection
