"""Content-addressed bytes under the storage root: written atomically, never over anything, verified when read."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import uuid
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import dagster as dg

from mlops_assets.resources.places import blob_path, filesystem

CHUNK = 1 << 20
REMEDY = "Restore the file from a backup, or have the delivery sent again."


class CorruptBytesError(dg.DagsterError):
    """Stored bytes are not the bytes that were stored."""


def write_atomically(root: str, relative: str, chunks: Iterable[bytes]) -> None:
    """Write `chunks` to `root/relative` so that a reader sees the old bytes or all the new ones, whatever dies when.

    Locally: a temporary file, fsync, rename, fsync of the folder. An object store publishes when the upload is closed,
    even by an error of whoever makes the chunks: so it begins when they are all there.
    """
    system, base = filesystem(root)
    target = f"{base}/{relative}"
    if system.type_name == "local":
        with _temporary(Path(target).parent) as temporary:
            _write(temporary, chunks)
            _publish(temporary, Path(target))
        return
    with _spooled(chunks) as copy, system.open_output_stream(target) as stream:
        while chunk := copy.read(CHUNK):
            stream.write(chunk)


@contextmanager
def _spooled(chunks: Iterable[bytes]) -> Generator[BinaryIO]:
    """The chunks as one stream at its start: in memory, or on the disk where they are many."""
    with tempfile.SpooledTemporaryFile(max_size=64 * CHUNK) as copy:
        copy.writelines(chunks)
        copy.seek(0)
        yield cast("BinaryIO", copy)


@contextmanager
def _temporary(folder: Path) -> Generator[Path]:
    """The name of a hidden file in `folder`, which is gone afterwards unless it was published."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{uuid.uuid4().hex}.tmp"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _write(path: Path, chunks: Iterable[bytes]) -> None:
    with path.open("xb") as stream:
        for chunk in chunks:
            stream.write(chunk)
        stream.flush()
        os.fsync(stream.fileno())


def _publish(temporary: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary.replace(target)
    handle = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Blobs(dg.ConfigurableResource):
    """Bytes named by their SHA-256, under `root/raw`."""

    root: str

    def put(self, stream: BinaryIO) -> tuple[str, int]:
        """Store what `stream` holds and return its SHA-256 (hex) and size. Intact bytes are not written again."""
        counted = _Counted(stream)
        system, base = filesystem(self.root)
        if system.type_name == "local":
            with _temporary(Path(base, "raw")) as temporary:
                _write(temporary, counted)
                if not self._intact(counted.sha256):
                    _publish(temporary, Path(base, blob_path(counted.sha256)))
            return counted.sha256, counted.size
        with _spooled(counted) as copy:
            if not self._intact(counted.sha256):
                write_atomically(self.root, blob_path(counted.sha256), iter(lambda: copy.read(CHUNK), b""))
        return counted.sha256, counted.size

    def put_bytes(self, content: bytes) -> str:
        """Store `content` and return its SHA-256 (hex). Intact bytes are not written again."""
        sha256 = hashlib.sha256(content).hexdigest()
        if not self._intact(sha256):
            write_atomically(self.root, blob_path(sha256), [content])
        return sha256

    def exists(self, sha256: str) -> bool:
        """Whether bytes of this digest are stored."""
        from pyarrow import fs

        system, base = filesystem(self.root)
        return system.get_file_info(f"{base}/{blob_path(sha256)}").type == fs.FileType.File

    def _intact(self, sha256: str) -> bool:
        """Whether bytes of this digest are stored, and still have it: damaged ones are to be replaced."""
        return self.fault(sha256) is None

    def fault(self, sha256: str) -> str | None:
        """How the bytes of this digest, however many, are not what was stored; None where they are."""
        system, base = filesystem(self.root)
        path = f"{base}/{blob_path(sha256)}"
        try:
            with system.open_input_stream(path) as stored:
                found = hashlib.file_digest(stored, "sha256").hexdigest()
        except FileNotFoundError:
            return f"{path} is gone. {REMEDY}"
        return None if found == sha256 else _changed(path, found, sha256)

    def uri(self, sha256: str) -> str:
        """Where the bytes of this digest are."""
        return f"{self.root}/{blob_path(sha256)}"

    def read(self, sha256: str) -> bytes:
        """The bytes of this digest. Raises CorruptBytesError when what is stored has another digest, or is gone."""
        system, base = filesystem(self.root)
        path = f"{base}/{blob_path(sha256)}"
        try:
            with system.open_input_stream(path) as stream:
                content = stream.read()
        except FileNotFoundError as error:
            raise CorruptBytesError(f"{path} is gone. {REMEDY}") from error
        if (found := hashlib.sha256(content).hexdigest()) != sha256:
            raise CorruptBytesError(_changed(path, found, sha256))
        return content

    @contextmanager
    def open(self, sha256: str) -> Generator[BinaryIO]:
        """The bytes of this digest as a seekable stream, verified before the first byte is given out."""
        yield io.BytesIO(self.read(sha256))


def _changed(path: str, found: str, sha256: str) -> str:
    return f"{path} holds other bytes than were stored: SHA-256 {found}, expected {sha256}. {REMEDY}"


class _Counted:
    """The chunks of a stream, whose digest and size are known when it has been read to its end."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._digest, self.size = stream, hashlib.sha256(), 0

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self._stream.read(CHUNK):
            self._digest.update(chunk)
            self.size += len(chunk)
            yield chunk

    @property
    def sha256(self) -> str:
        """The digest (hex) of what was read."""
        return self._digest.hexdigest()
