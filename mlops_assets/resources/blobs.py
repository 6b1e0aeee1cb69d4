"""Content-addressed bytes under the storage root: written atomically, never over anything, verified when read."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import dagster as dg

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

CHUNK = 1 << 20


class CorruptBytesError(dg.DagsterError):
    """Stored bytes are not the bytes that were stored."""


def filesystem(root: str) -> tuple[FileSystem, str]:
    """The file system of a path or object-store URI, and the path on it. Credentials come from the environment."""
    from pyarrow import fs

    if "://" not in root:
        return fs.LocalFileSystem(), str(Path(root).absolute())
    system, path = fs.FileSystem.from_uri(root)
    return system, path.rstrip("/")


def write_atomically(root: str, relative: str, chunks: Iterator[bytes]) -> None:
    """Write `chunks` to `root/relative` so that a reader sees the old bytes or all the new ones, whatever dies when.

    Locally: a temporary file, fsync, rename, fsync of the folder. Object stores publish when the upload is completed.
    """
    system, base = filesystem(root)
    target = f"{base}/{relative}"
    if system.type_name != "local":
        with system.open_output_stream(target) as stream:
            for chunk in chunks:
                stream.write(chunk)
        return
    folder = Path(target).parent
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{Path(target).name[:100]}.{uuid.uuid4().hex}.tmp"
    try:
        with temporary.open("xb") as stream:
            for chunk in chunks:
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Blobs(dg.ConfigurableResource):
    """Bytes named by their SHA-256, under `root/raw`."""

    root: str

    def put(self, stream: BinaryIO) -> tuple[str, int]:
        """Store what `stream` holds and return its SHA-256 (hex) and size. Known bytes are not written again."""
        import tempfile

        digest, size = hashlib.sha256(), 0
        with tempfile.SpooledTemporaryFile(max_size=64 * CHUNK) as copy:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
                copy.write(chunk)
            sha256 = digest.hexdigest()
            if not self.exists(sha256):
                copy.seek(0)
                write_atomically(self.root, _path(sha256), iter(lambda: copy.read(CHUNK), b""))
        return sha256, size

    def put_bytes(self, content: bytes) -> str:
        """Store `content` and return its SHA-256 (hex)."""
        sha256 = hashlib.sha256(content).hexdigest()
        if not self.exists(sha256):
            write_atomically(self.root, _path(sha256), iter([content]))
        return sha256

    def exists(self, sha256: str) -> bool:
        """Whether bytes of this digest are stored."""
        from pyarrow import fs

        system, base = filesystem(self.root)
        return system.get_file_info(f"{base}/{_path(sha256)}").type == fs.FileType.File

    def uri(self, sha256: str) -> str:
        """Where the bytes of this digest are."""
        return f"{self.root}/{_path(sha256)}"

    def read(self, sha256: str) -> bytes:
        """The bytes of this digest. Raises CorruptBytesError when what is stored has another digest."""
        with self.open(sha256) as stream:
            return stream.read()

    @contextmanager
    def open(self, sha256: str) -> Iterator[BinaryIO]:
        """The bytes of this digest as a seekable stream, verified before the first byte is given out."""
        system, base = filesystem(self.root)
        path = f"{base}/{_path(sha256)}"
        with system.open_input_file(path) as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
            if found != sha256:
                raise CorruptBytesError(
                    f"{path} holds other bytes than were stored: SHA-256 {found}, expected {sha256}. "
                    "Restore the file from a backup, or have the delivery sent again."
                )
            stream.seek(0)
            yield stream


def _path(sha256: str) -> str:
    return f"raw/{sha256[:2]}/{sha256}"
