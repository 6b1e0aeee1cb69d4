"""Deliveries: what arrived, which partition it belongs to, and what to do about it. Bytes in, tables out; no network."""

from __future__ import annotations

from datetime import datetime

from mlops_assets.ml.spec import Value, digest_of


class DeliveredFile(Value):
    """One file as it arrived: its name relative to the source, the SHA-256 of its bytes, its size and age."""

    name: str
    sha256: str
    bytes: int
    modified: datetime


class Delivery(Value):
    """What `raw_data` stores for one partition.

    `files` are the stored bytes that hold the partition's rows. Where rows were cut out of a larger file or came from a
    query, they are Parquet extracts and `origins` are the files they were cut from. `corrects` is the version of
    the delivery that this one replaces.
    """

    model: str
    partition: str
    files: tuple[DeliveredFile, ...]
    origins: tuple[DeliveredFile, ...] = ()
    corrects: str | None = None

    @property
    def version(self) -> str:
        """The data version: same bytes, same version, whatever the files are called and whenever they came."""
        return digest_of(sorted(file.sha256 for file in self.files))
