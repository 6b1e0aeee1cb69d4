"""Dagster's tables, followed by row number: each row is read when it is new, and again until it is over.

Columns only: no event and no run is unpacked for it, so that years of history are counted within a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlalchemy

MOST_PENDING = 5000
CHUNK = 500


@dataclass
class Follower:
    """One table. `pending` are the rows that were not over when they were read, the newest of them."""

    table: sqlalchemy.Table
    columns: Sequence[str]
    is_over: Callable[[Any], bool]
    last: int = 0
    pending: dict[int, Any] = field(default_factory=dict)

    def over(self, connection: sqlalchemy.Connection) -> list[Any]:
        """The rows that are over since the last call, by their numbers. Rows that are gone are forgotten."""
        again = self._numbered(connection, self.pending)
        self.pending = {}
        found = sorted([*again, *self._new(connection)], key=lambda row: row.id)
        for row in found:
            self.last = max(self.last, row.id)
            if not self.is_over(row):
                self.pending[row.id] = row
        for number in sorted(self.pending)[:-MOST_PENDING]:
            del self.pending[number]
        return [row for row in found if self.is_over(row)]

    def _select(self) -> sqlalchemy.Select:
        import sqlalchemy

        return sqlalchemy.select(*(self.table.c[name] for name in ("id", *self.columns)))

    def _new(self, connection: sqlalchemy.Connection) -> Sequence[Any]:
        return connection.execute(self._select().where(self.table.c.id > self.last)).all()

    def _numbered(self, connection: sqlalchemy.Connection, numbers: Iterable[int]) -> list[Any]:
        wanted, found = list(numbers), []
        for start in range(0, len(wanted), CHUNK):
            some = wanted[start : start + CHUNK]
            found += connection.execute(self._select().where(self.table.c.id.in_(some))).all()
        return found
