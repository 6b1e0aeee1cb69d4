"""A world's deliveries as files: what a provider would put into the landing folder."""

from __future__ import annotations

import gzip
import os
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import pandas as pd


class World(Protocol):
    """Something that sends deliveries of raw rows, window after window."""

    @property
    def model(self) -> str:
        """Whose deliveries they are."""

    def starts(self) -> list[date]:
        """The first day of each window that the world can deliver, in ascending order."""

    def partition(self, start: date, attempt: int = 0) -> pd.DataFrame:
        """The raw rows of the window that begins on `start`, the same on every call; `attempt` counts corrections."""

    def attempts(self, start: date) -> int:
        """How many deliveries of this window the provider sends until one is good."""

    def file_name(self, start: date) -> str:
        """What the provider calls the file."""


def content(world: World, start: date, attempt: int = 0) -> bytes:
    """The bytes of one delivery: CSV, compressed where the file's name says so. Same call, same bytes."""
    text = world.partition(start, attempt).to_csv(index=False).encode()
    return gzip.compress(text, mtime=0) if world.file_name(start).endswith(".gz") else text


def deliver(world: World, start: date, folder: Path, attempt: int = 0) -> Path:
    """Put one delivery into `folder`, so that a reader sees no file or the whole file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / world.file_name(start)
    temporary = folder / f".{path.name}.{uuid4().hex}.tmp"
    temporary.write_bytes(content(world, start, attempt))
    temporary.replace(path)
    return path


def backdate(path: Path, day: date) -> None:
    """Make a delivered file look as if it had come on `day`: nobody waits for it to stop growing."""
    moment = datetime.combine(day, time(6), UTC).timestamp()
    os.utime(path, (moment, moment))
