"""Where bytes are: a folder of this machine, or an object store. Imports nothing heavy: proofs are to be quick."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem


def filesystem(root: str) -> tuple[FileSystem, str]:
    """The file system of a path or object-store URI, and the path on it. Credentials come from the environment."""
    from pyarrow import fs

    if "://" not in root:
        return fs.LocalFileSystem(), str(Path(root).absolute())
    system, path = fs.FileSystem.from_uri(root)
    return system, path.rstrip("/")


def blob_path(sha256: str) -> str:
    """Where the bytes of this digest are kept, below the storage root."""
    return f"raw/{sha256[:2]}/{sha256}"
