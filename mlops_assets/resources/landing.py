"""Landing places: the folder or object store that files are delivered to. Listed and read, never written."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import dagster as dg

from mlops_assets.ml.sources import Sighting
from mlops_assets.resources.places import filesystem

READ_ONLY = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class UnreachableSourceError(dg.DagsterError):
    """A source that cannot be looked into or read from. The text names it, never a credential."""


class ChangedWhileReadError(dg.DagsterError):
    """A file that was written to while it was read: what was read may be neither the old file nor the new one."""


class Listing(NamedTuple):
    """The files of a source, and the names that were not looked at with the reason."""

    files: list[Sighting]
    refused: dict[str, str]


@dataclass(frozen=True)
class LocalFolder:
    """A folder on this machine. Symbolic links in it are not followed, so that nothing outside it is ever read."""

    root: str

    @property
    def where(self) -> str:
        """How messages call it."""
        return self.root

    def list(self, depth: int) -> Listing:
        """Every regular file at most `depth` folders down."""
        found = Listing([], {})
        try:
            self._list(Path(self.root), "", depth, found)
        except OSError as error:
            raise UnreachableSourceError(f"{self.root} cannot be listed: {error.strerror}.") from error
        return found

    def _list(self, folder: Path, prefix: str, depth: int, found: Listing) -> None:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = prefix + entry.name
                if entry.is_symlink():
                    found.refused[ascii(name)[1:-1]] = "it is a symbolic link, and links are not followed"
                elif entry.is_file():
                    seen = entry.stat(follow_symlinks=False)
                    found.files.append(Sighting(name, seen.st_size, seen.st_mtime_ns))
                elif entry.is_dir() and depth:
                    self._list(Path(entry.path), f"{name}/", depth - 1, found)

    @contextmanager
    def opened(self, name: str) -> Generator[BinaryIO]:
        """The bytes of a file. Raises ChangedWhileReadError at the end when it was written to in between."""
        try:
            handle = self._handle(name)
        except OSError as error:
            raise UnreachableSourceError(f"{self.root}/{name} cannot be opened: {error.strerror}.") from error
        before = os.fstat(handle)
        if not stat.S_ISREG(before.st_mode):
            os.close(handle)
            raise UnreachableSourceError(f"{self.root}/{name} is not a regular file.")
        with os.fdopen(handle, "rb") as stream:
            yield stream
            after = os.fstat(handle)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise ChangedWhileReadError(f"{name} was written to while it was read.")

    def _handle(self, name: str) -> int:
        """Open a file step by step from the root, so that no folder on the way can be swapped for a link."""
        *folders, file = name.split("/")
        if {"", ".", ".."} & {file, *folders}:
            raise FileNotFoundError(2, "it is not a path within the folder")
        at = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for folder in folders:
            outer = at
            try:
                at = os.open(folder, READ_ONLY | os.O_DIRECTORY, dir_fd=outer)
            finally:
                os.close(outer)
        try:
            return os.open(file, READ_ONLY | os.O_NONBLOCK, dir_fd=at)
        finally:
            os.close(at)


@dataclass(frozen=True)
class ObjectStore:
    """Objects under a URI such as s3://bucket/prefix. Credentials and endpoint come from the environment."""

    uri: str

    @property
    def where(self) -> str:
        """How messages call it: without credentials and options."""
        return re.sub(r"//[^/@]*@", "//", self.uri.partition("?")[0])

    def list(self, depth: int) -> Listing:
        """Every object at most `depth` folders down."""
        from pyarrow import fs

        found = Listing([], {})
        try:
            system, base = filesystem(self.uri)
            infos = system.get_file_info(fs.FileSelector(base, recursive=depth > 0))
        except (OSError, ValueError) as error:
            raise UnreachableSourceError(f"{self.where} cannot be listed: {_first_line(error)}") from error
        for info in infos:
            name = info.path[len(base) + 1 :]
            if {"", ".", ".."} & set(name.split("/")):
                found.refused[name] = "its path holds an empty part, '.' or '..'"
            elif info.type == fs.FileType.File and name.count("/") <= depth:
                found.files.append(Sighting(name, info.size, info.mtime_ns))
        return found

    @contextmanager
    def opened(self, name: str) -> Generator[BinaryIO]:
        """The bytes of an object. Raises ChangedWhileReadError at the end when it was replaced in between."""
        try:
            system, base = filesystem(self.uri)
            path = f"{base}/{name}"
            before = system.get_file_info(path)
            with system.open_input_stream(path) as stream:
                yield stream
            after = system.get_file_info(path)
        except OSError as error:
            raise UnreachableSourceError(f"{self.where}/{name} cannot be read: {_first_line(error)}") from error
        if (before.size, before.mtime_ns) != (after.size, after.mtime_ns):
            raise ChangedWhileReadError(f"{name} was replaced while it was read.")


Landing = LocalFolder | ObjectStore


def landing(uri: str) -> Landing:
    """The landing place behind a path or URI."""
    if "://" in uri and not uri.startswith("file://"):
        return ObjectStore(uri.rstrip("/"))
    return LocalFolder(str(Path(uri.removeprefix("file://")).absolute()))


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"
