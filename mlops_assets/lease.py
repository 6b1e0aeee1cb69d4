"""The lease of an instance: only the process that holds it may run Dagster's daemon.

Two daemons start runs twice in spite of run keys, and Dagster does no more than write a line about it
(https://github.com/dagster-io/dagster/issues/33962). A lease dies with its process: it is a lock on a file beside
SQLite, and an advisory lock in PostgreSQL, which needs a session of its own: connect past a pooler of transactions.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import dagster as dg
    import sqlalchemy

FILE = "daemon.lock"
LOST = 3
LOOK_SECONDS = 2
# A holder whose machine is gone is noticed by the server after 10 + 3 x 5 seconds, and the lease is free again.
KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
SERVER_KEEPALIVES = "; ".join(f"SET tcp_{name} = {value}" for name, value in KEEPALIVES.items())
KEY = "hashtext('mlops_assets daemon'), hashtext(current_schema())"
TAKE = f"SELECT pg_try_advisory_lock({KEY})"
HOLDER = """SELECT application_name, backend_start FROM pg_locks JOIN pg_stat_activity USING (pid)
  WHERE locktype = 'advisory' AND granted AND objsubid = 2
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (classid::bigint, objid::bigint) = (hashtext('mlops_assets daemon')::bigint & x'ffffffff'::bigint,
                                          hashtext(current_schema())::bigint & x'ffffffff'::bigint)"""


class HeldError(Exception):
    """Another process holds the lease."""

    def __init__(self, holder: str, since: str) -> None:
        self.holder = holder
        super().__init__(
            f"The daemon of this instance is {holder}, since {since}. A second one would start runs twice: "
            "stop that process first."
        )


def process_name() -> str:
    """This process, as the next one that asks for the lease is told."""
    return f"process {os.getpid()} on {socket.gethostname()}"[:60]


def refuse_second(instance: dg.DagsterInstance) -> None:
    """Raise HeldError where another process holds the lease, and hold nothing."""
    with lease(instance):
        return


@contextmanager
def lease(instance: dg.DagsterInstance) -> Iterator[None]:
    """Hold the instance's lease for the length of the block. Raises HeldError at once where another process has it."""
    from dagster._core.storage.runs.sql_run_storage import SqlRunStorage

    storage = instance.run_storage
    if not isinstance(storage, SqlRunStorage):
        raise TypeError(f"there is no lease for {type(storage).__name__}: runs are kept in SQLite or PostgreSQL.")
    with storage.connect() as connection:
        url = connection.engine.url
    if url.get_backend_name() == "postgresql":
        with PostgresLease(url).held():
            yield
    else:
        with _file_lease(Path(url.database or "").with_name(FILE)):
            yield


@contextmanager
def _file_lease(path: Path) -> Iterator[None]:
    with path.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder, _, since = _written(stream).partition("\n")
            raise HeldError(holder or "another process", since or "just now") from None
        stream.truncate(0)
        stream.write(f"{process_name()}\n{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
        stream.flush()
        yield


def _written(stream: TextIO) -> str:
    """What the holder wrote about itself, which it does in the moment after it took the lock."""
    for _ in range(10):
        stream.seek(0)
        if text := stream.read():
            return text
        time.sleep(0.1)
    return ""


@dataclass
class PostgresLease:
    """An advisory lock, looked after while it is held.

    A lost session is opened again for as long as it takes: without the database a daemon can start nothing. If another
    process got the lease meanwhile, this one ends on the spot, as it would by a crash, which loses nothing.
    """

    url: sqlalchemy.URL

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold it for the length of the block."""
        session, over = self._taken(), Event()
        keeper = Thread(target=self._keep, args=(session, over), daemon=True)
        keeper.start()
        try:
            yield
        finally:
            over.set()
            keeper.join()

    def _taken(self) -> sqlalchemy.Connection:
        import sqlalchemy

        named = {"application_name": process_name(), **KEEPALIVES}
        engine = sqlalchemy.create_engine(
            self.url, poolclass=sqlalchemy.NullPool, connect_args=named, isolation_level="AUTOCOMMIT"
        )
        session = engine.connect()
        session.execute(sqlalchemy.text(SERVER_KEEPALIVES))
        if session.scalar(sqlalchemy.text(TAKE)):
            return session
        found = session.execute(sqlalchemy.text(HOLDER)).first()
        session.close()
        raise HeldError(found[0], f"{found[1]:%Y-%m-%d %H:%M:%S %Z}") if found else HeldError("ending", "just now")

    def _keep(self, session: sqlalchemy.Connection, over: Event) -> None:
        from sqlalchemy import exc, text

        while not over.wait(LOOK_SECONDS):
            try:
                session.execute(text("SELECT 1"))
            except exc.DBAPIError:
                session.invalidate()
                session = self._taken_again(over) or session
        session.close()

    def _taken_again(self, over: Event) -> sqlalchemy.Connection | None:
        from sqlalchemy import exc

        while not over.is_set():
            try:
                return self._taken()
            except exc.DBAPIError:
                time.sleep(1)
            except HeldError as error:
                if error.holder in (process_name(), "ending"):
                    time.sleep(1)
                    continue
                sys.stderr.write(f"The lease was lost with its session. {error}\n")
                sys.stderr.flush()
                os._exit(LOST)
        return None
