"""The files of a project that are worth reading, as text. No link is followed, nothing is imported, nothing is run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

LARGEST = 2_000_000
_LEFT_OUT = {"__pycache__", "node_modules", "site-packages", "build", "dist", "venv", "env", "dbt_packages"}
_DATA = re.compile(r"\.(py|ya?ml|toml|cfg|ini)$")
_DOCKERFILE = re.compile(r"(^|[./_-])(Dockerfile|Containerfile)([.-][^/]*)?$", re.IGNORECASE)
_REQUIREMENTS = re.compile(r"requirements([^/]*|/[^/]+)\.txt$", re.IGNORECASE)


@dataclass(frozen=True)
class Text:
    """A file as text, by its path below the project's root."""

    path: str
    text: str

    @cached_property
    def lines(self) -> list[str]:
        """Its lines, without their ends."""
        return self.text.splitlines()

    @property
    def is_dockerfile(self) -> bool:
        """Whether it makes an image."""
        return bool(_DOCKERFILE.search(self.path))

    @property
    def is_requirements(self) -> bool:
        """Whether it lists packages for pip, one a line."""
        return bool(_REQUIREMENTS.search(self.path))


@dataclass(frozen=True, order=True)
class Unread:
    """A file that could not be looked at, and why."""

    path: str
    reason: str


def files(root: Path) -> Iterator[str]:
    """The path of every file below `root`, hidden folders, environments, build output and links left out."""
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        folders[:] = sorted(each for each in folders if _belongs(here / each))
        yield from ((here / name).relative_to(root).as_posix() for name in sorted(names) if _is_file(here / name))


def wanted(path: str) -> bool:
    """Whether a rule may have something to say about such a file."""
    return any(each.search(path) for each in (_DATA, _DOCKERFILE, _REQUIREMENTS))


def read(root: Path, path: str) -> Text | Unread:
    """A file's text, or why there is none."""
    try:
        size = (root / path).stat().st_size
        if size > LARGEST:
            return Unread(path, f"larger than {LARGEST // 1_000_000} MB ({size / 1e6:.0f} MB)")
        content = (root / path).read_bytes()
    except OSError as error:
        return Unread(path, error.strerror or str(error))
    if b"\0" in content:
        return Unread(path, "binary, not text")
    try:
        return Text(path, content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Unread(path, f"not UTF-8 (byte {error.start})")


def _belongs(folder: Path) -> bool:
    hidden = folder.name.startswith(".") or folder.name.endswith(".egg-info") or folder.name in _LEFT_OUT
    return not (hidden or folder.is_symlink() or (folder / "pyvenv.cfg").exists())


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
