"""The name of one prediction, which says where to look: no index is kept of a million of them."""

from __future__ import annotations

import re
from typing import Self
from urllib.parse import parse_qsl, urlencode

from pydantic import Field

from mlops_assets.ml.spec import PARTITION_KEY, Value

PINNED = 12
FORM = "<model>:<partition>:<row>@v<version>, such as bike_demand:2012-03-01:1042@v3"
ID = re.compile(
    r"(?P<model>[a-z][a-z0-9_]{0,62}):(?P<partition>[^:]+):(?P<row>.+)@v(?P<version>[1-9]\d{0,8})(-(?P<pin>[0-9a-f]{8,64}))?"
)


class NoPredictionError(Exception):
    """There is no such prediction, or more than one."""


class PredictionId(Value):
    """The name of one prediction: nothing has to be looked up in an index to find it.

    `row` counts the validated rows of the partition from 1 on; `key` names the row by the values of its columns
    instead. `pin` are the first letters of the SHA-256 of the record of predictions: with it the name means the same
    for ever; without it, the newest that the version said of the partition.
    """

    model: str
    partition: str
    row: int | None = Field(default=None, ge=1)
    key: tuple[tuple[str, str], ...] = ()
    version: int
    pin: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """The name that is written. Raises NoPredictionError where it is none."""
        found = ID.fullmatch(text.strip())
        if found is None or not PARTITION_KEY.fullmatch(found["partition"]):
            raise NoPredictionError(f"{text!r} names no prediction: write {FORM}.")
        row = found["row"]
        key = tuple(parse_qsl(row, keep_blank_values=True)) if "=" in row else ()
        if not key and (not row.isdecimal() or int(row) == 0):
            raise NoPredictionError(
                f"{text!r}: {row!r} names no row. Rows are counted from 1, or named by their columns: customer=4711, "
                "several with & between them."
            )
        return cls(
            model=found["model"],
            partition=found["partition"],
            row=None if key else int(row),
            key=key,
            version=int(found["version"]),
            pin=found["pin"],
        )

    def __str__(self) -> str:
        row = urlencode(self.key) if self.row is None else str(self.row)
        pin = f"-{self.pin}" if self.pin else ""
        return f"{self.model}:{self.partition}:{row}@v{self.version}{pin}"
