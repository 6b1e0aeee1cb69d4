"""The ledger's table, in SQLite or PostgreSQL: appended to by one at a time, and never changed.

The database gives the turns, and refuses UPDATE, DELETE and an entry out of order. Whoever may drop its triggers can
still change it: that is what the chain, and the anchors elsewhere, are for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from mlops_assets import settings
from mlops_assets.ml.ledger import Anchor, Entry, Link, verify
from mlops_assets.resources.blobs import write_atomically
from mlops_assets.resources.kept import COLUMNS, TABLE, anchors_in
from mlops_assets.resources.postgresql import driven, waits

if TYPE_CHECKING:
    import sqlite3

    from sqlalchemy import Connection, Engine

PATIENCE_SECONDS = 120
KEY = "hashtext('mlops_assets ledger'), hashtext(current_schema())"
REFUSAL = "the ledger is append-only"
TAKE_TURN = {
    "sqlite": ["BEGIN IMMEDIATE"],
    "postgresql": [f"SET LOCAL lock_timeout = '{PATIENCE_SECONDS}s'", f"SELECT pg_advisory_xact_lock({KEY})"],
}
CREATE = [
    f"CREATE TABLE {TABLE} (sequence INTEGER PRIMARY KEY, model TEXT NOT NULL, payload TEXT NOT NULL, "
    "hash TEXT NOT NULL)",
    f"CREATE INDEX {TABLE}_by_model ON {TABLE} (model, sequence)",
]
NEXT = f"(SELECT COALESCE(MAX(sequence), 0) + 1 FROM {TABLE})"  # noqa: S608
PROTECT = {
    "sqlite": [
        *(
            f"CREATE TRIGGER {TABLE}_no_{act.lower()} BEFORE {act} ON {TABLE} "
            f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
            for act in ("UPDATE", "DELETE")
        ),
        f"CREATE TRIGGER {TABLE}_in_order BEFORE INSERT ON {TABLE} WHEN NEW.sequence IS NOT {NEXT} "
        f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}, without a gap'); END",
    ],
    "postgresql": [
        f"CREATE OR REPLACE FUNCTION {TABLE}_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{REFUSAL}'; END $$",
        f"CREATE TRIGGER {TABLE}_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {TABLE} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {TABLE}_refuse()",
        f"CREATE OR REPLACE FUNCTION {TABLE}_next() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF NEW.sequence <> {NEXT} THEN RAISE EXCEPTION '{REFUSAL}, without a gap'; END IF; RETURN NEW; END $$",
        f"CREATE TRIGGER {TABLE}_in_order BEFORE INSERT ON {TABLE} FOR EACH ROW EXECUTE FUNCTION {TABLE}_next()",
    ],
}


class BrokenLedgerError(dg.DagsterError):
    """The ledger is not as it was written: nothing may be appended before a person has looked at it."""


class LedgerUnavailableError(dg.DagsterError):
    """The ledger's database does not answer, or does not do what it is asked to."""


class Ledger(dg.ConfigurableResource):
    """The ledger in the database at `uri`. The head after each turn is kept under `anchors`, a file an entry."""

    uri: str
    anchors: str

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """Read and append with nobody beside: in one transaction, which waits until the one before it has ended.

        What was appended is kept when the block ends, all of it or, after an error, nothing. Raises BrokenLedgerError
        where the end of the ledger is not the one that was anchored last.
        """
        with self._asking("take its turn"):
            connection = _engine(self.uri).connect()
        with connection:
            with self._asking("take its turn"):
                for statement in TAKE_TURN[connection.dialect.name]:
                    connection.exec_driver_sql(statement)
                _create(connection)
                turn = Turn(self, connection, _last(connection))
            self._refuse_a_cut(turn.last)
            yield turn
            with self._asking("keep what was appended"):
                connection.commit()
        if turn.appended:
            self._anchor(turn.appended[-1])

    def append(self, entry: Entry) -> Link:
        """One entry in a turn of its own."""
        with self.turn() as turn:
            return turn.append(entry)

    def links(self, model: str | None = None) -> tuple[Link, ...]:
        """Everything that was written, or all about one model, oldest first."""
        with self._asking("be read"), _engine(self.uri).connect() as connection:
            return _links(connection, model) if _exists(connection) else ()

    def verify(self) -> str | None:
        """The first broken link; None where the whole ledger is as it was written."""
        return verify(self.links(), self._anchors())

    def _anchor(self, link: Link) -> None:
        """Keep the head, under a name that no other head has."""
        with self._anchoring(f"Entry {link.sequence} stands in the ledger, and its anchor cannot be kept"):
            write_atomically(self.anchors, f"{link.sequence:09d}-{link.hash}", [link.hash.encode()])

    def _anchors(self) -> list[Anchor]:
        """The heads that were kept, oldest first."""
        with self._anchoring("The ledger's anchors cannot be read"):
            return anchors_in(self.anchors)

    @contextmanager
    def _anchoring(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LedgerUnavailableError(
                f"{what} under {self.anchors}: {error}. Mend that, or set {settings.LEDGER_ANCHORS.name} to a folder "
                "or an object store's URI that is well."
            ) from error

    def _refuse_a_cut(self, last: Link | None) -> None:
        *_, newest = self._anchors() or [None]
        if newest and (last is None or last.sequence < newest.sequence):
            raise BrokenLedgerError(
                f"The ledger at {self.uri} ends at entry {last.sequence if last else 0}, and entry {newest.sequence} "
                f"was anchored under {self.anchors}: its end was cut off, or an old copy of it was put back. Put the "
                "newest copy in its place."
            )

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (SQLAlchemyError, OSError, ImportError) as error:
            said = (str(getattr(error, "orig", None) or error).splitlines() or [""])[0]
            raise LedgerUnavailableError(
                f"The ledger at {self.uri} did not {what}: {said}. "
                f"Start its database, or set {settings.LEDGER.name} to one that runs."
            ) from error


@dataclass
class Turn:
    """The ledger while nobody else may append to it."""

    ledger: Ledger
    connection: Connection
    last: Link | None
    appended: list[Link] = field(default_factory=list)

    def links(self, model: str) -> tuple[Link, ...]:
        """All about one model, with what was appended in this turn."""
        with self.ledger._asking("be read"):
            return _links(self.connection, model)

    def append(self, entry: Entry) -> Link:
        """The entry's link, kept when the turn ends."""
        from sqlalchemy import text

        link = Link.after(self.last, entry)
        with self.ledger._asking("append an entry"):
            self.connection.execute(
                text(f"INSERT INTO {TABLE} ({COLUMNS}) VALUES (:sequence, :model, :payload, :hash)"),  # noqa: S608
                link.model_dump(),
            )
        self.last = link
        self.appended.append(link)
        return link


@lru_cache(maxsize=16)
def _engine(uri: str) -> Engine:
    """What opens connections, none of which is kept. Text that is no text any more is read all the same, and found."""
    from sqlalchemy import NullPool, create_engine, event

    url = driven(uri)
    if url.get_backend_name() == "postgresql":
        return waits(create_engine(url, poolclass=NullPool, isolation_level="READ COMMITTED"))
    if "://" in (path := url.database or ""):
        raise LedgerUnavailableError(
            f"The ledger would be {uri}, but SQLite cannot live in an object store. Set {settings.LEDGER.name} to a "
            "file on this machine, or to a PostgreSQL database."
        )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": PATIENCE_SECONDS})

    @event.listens_for(engine, "connect")
    def _opened(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None
        connection.text_factory = lambda stored: stored.decode("utf-8", "replace")

    return engine


def _exists(connection: Connection) -> bool:
    from sqlalchemy import inspect

    return inspect(connection).has_table(TABLE)


def _create(connection: Connection) -> None:
    """Make the table, unless it is there: a role that may only SELECT and INSERT suffices then."""
    if not _exists(connection):
        for statement in (*CREATE, *PROTECT[connection.dialect.name]):
            connection.exec_driver_sql(statement)


def _links(connection: Connection, model: str | None) -> tuple[Link, ...]:
    from sqlalchemy import text

    only = "" if model is None else "WHERE model = :model"
    rows = connection.execute(
        text(f"SELECT {COLUMNS} FROM {TABLE} {only} ORDER BY sequence"),  # noqa: S608
        {} if model is None else {"model": model},
    )
    return tuple(Link(**row._mapping) for row in rows)


def _last(connection: Connection) -> Link | None:
    row = connection.exec_driver_sql(f"SELECT {COLUMNS} FROM {TABLE} ORDER BY sequence DESC LIMIT 1").first()  # noqa: S608
    return Link(**row._mapping) if row else None
