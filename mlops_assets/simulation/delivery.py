"""A world's deliveries as files: what a provider would put into the landing folder.

Where a world knows some columns only later, its rows come without them, and they come as labels in files of their own.
"""

from __future__ import annotations

import gzip
import os
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import pandas as pd

LABELS = "labels"
"""The folder below the landing folder where labels come that are later than their rows."""


class World(Protocol):
    """Something that sends deliveries of raw rows, window after window."""

    @property
    def model(self) -> str:
        """Whose deliveries they are."""

    @property
    def late(self) -> tuple[str, ...]:
        """The columns that rows are delivered without, because they are known only later."""

    def starts(self) -> list[date]:
        """The first day of each window that the world can deliver, in ascending order."""

    def partition(self, start: date, attempt: int = 0) -> pd.DataFrame:
        """All of the window that begins on `start`, the same on every call; `attempt` counts corrections."""

    def attempts(self, start: date) -> int:
        """How many deliveries of this window the provider sends until one is good."""

    def file_name(self, start: date) -> str:
        """What the provider calls the file."""

    def comes(self, start: date) -> date:
        """The day on which the rows of a window come: the first after it."""

    def labels(self, start: date) -> dict[str, pd.DataFrame]:
        """The labels of earlier windows that come together with the rows of this one, by the names of their files."""


def content(world: World, start: date, attempt: int = 0) -> bytes:
    """The bytes of the rows of one delivery. Same call, same bytes."""
    return _bytes(world.partition(start, attempt).drop(columns=list(world.late)), world.file_name(start))


def deliver(world: World, start: date, folder: Path, attempt: int = 0) -> list[Path]:
    """Put one delivery into `folder`: its rows, and with the first attempt the labels that come together with them."""
    labels = {} if attempt else world.labels(start)
    rows = _put(folder / world.file_name(start), content(world, start, attempt))
    return [rows, *(_put(folder / LABELS / name, _bytes(frame, name)) for name, frame in labels.items())]


def _bytes(frame: pd.DataFrame, name: str) -> bytes:
    """CSV, compressed where the file's name says so."""
    text = frame.to_csv(index=False).encode()
    return gzip.compress(text, mtime=0) if name.endswith(".gz") else text


def _put(path: Path, content: bytes) -> Path:
    """Write a file so that a reader sees no file or the whole file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
    return path


def backdate(path: Path, day: date) -> None:
    """Make a delivered file look as if it had come on `day`: nobody waits for it to stop growing."""
    moment = datetime.combine(day, time(6), UTC).timestamp()
    os.utime(path, (moment, moment))
