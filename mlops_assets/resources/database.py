"""Databases: the rows of one window of time, by a declared query, the same rows always in the same order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from mlops_assets.ml.spec import SqlSource
from mlops_assets.ml.unpacking import UnreadableFileError
from mlops_assets.resources.landing import UnreachableSourceError
from mlops_assets.resources.postgresql import driven

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy import Connection, Engine


class Database:
    """A source of rows by SQL. One engine for as long as the context lasts."""

    def __init__(self, source: SqlSource, timezone: str) -> None:
        """`timezone` is where times without an offset are, in the query's window and in its rows."""
        self._source, self._timezone = source, timezone
        self._engine: Engine | None = None

    def __enter__(self) -> Database:
        from sqlalchemy import create_engine
        from sqlalchemy.exc import SQLAlchemyError

        name = self._source.url_env
        if not (text := os.environ.get(name)):
            raise UnreachableSourceError(f"The environment variable {name}, the database's URL, is not set.")
        try:
            self._engine = create_engine(driven(text))
        except (SQLAlchemyError, ImportError) as error:
            raise UnreachableSourceError(f"{name} names no usable database: {type(error).__name__}.") from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._engine is not None:
            self._engine.dispose()

    def window(self, start: datetime, end: datetime) -> pa.Table:
        """The rows of one window."""
        from sqlalchemy import text
        from sqlalchemy.exc import SQLAlchemyError

        if self._engine is None:
            raise RuntimeError("a database is used within its context: with Database(...) as database.")
        try:
            with self._engine.connect() as connection:
                self._set_timezone(connection)
                result = connection.execute(
                    text(self._source.query), {"start": self._wall(start), "end": self._wall(end)}
                )
                return _table(list(result.keys()), result.all(), self._source.url_env)
        except SQLAlchemyError as error:
            raise UnreachableSourceError(self._said(error)) from error

    def _set_timezone(self, connection: Connection) -> None:
        from sqlalchemy import text

        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT set_config('TimeZone', :zone, false)"), {"zone": self._timezone})

    def _wall(self, time: datetime) -> datetime | str:
        """A bound of the window on the clocks of the time zone. SQLite keeps times as text in ISO 8601."""
        wall = time.astimezone(ZoneInfo(self._timezone)).replace(tzinfo=None)
        return wall.isoformat(" ") if self._engine is not None and self._engine.dialect.name == "sqlite" else wall

    def _said(self, error: Exception) -> str:
        """What the database said, in one line and without the password."""
        line = (str(getattr(error, "orig", None) or error).splitlines() or [""])[0][:300]
        url = self._engine.url if self._engine is not None else None
        if url is not None and url.password:
            line = line.replace(str(url.password), "***")
        place = f" ({url.host}/{url.database})" if url is not None and url.host else ""
        return f"The database in {self._source.url_env}{place} did not answer the query: {line}"


def _table(names: Sequence[str], rows: Sequence[Sequence[Any]], source: str) -> pa.Table:
    import pyarrow as pa

    if len(set(names)) < len(names):
        raise UnreadableFileError(
            f"The query of {source}", f"gives columns of the same name: {', '.join(names)}", "Name them with AS"
        )
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    table = pa.table({name: _column(values) for name, values in zip(names, columns, strict=True)})
    return table.sort_by([(name, "ascending") for name in names]) if rows else table


def _column(values: Sequence[Any]) -> pa.Array:
    """Values as one Arrow type; text where they are of several kinds, or of one that Parquet does not know."""
    import pyarrow as pa
    import pyarrow.compute as pc

    # Done here, as pandera sets PYARROW_IGNORE_TIMEZONE, with which Arrow drops offsets without a word.
    zoned = [value.tzinfo is not None if isinstance(value, datetime) else None for value in values]
    plain = [
        value.astimezone(UTC).replace(tzinfo=None) if aware else value
        for value, aware in zip(values, zoned, strict=True)
    ]
    try:
        column = pa.array(plain)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        column = None
    if column is None or pa.types.is_nested(column.type) or pa.types.is_null(column.type) or {True, False} <= {*zoned}:
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    return pc.assume_timezone(column, "UTC") if True in zoned else column
