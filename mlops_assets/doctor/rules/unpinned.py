"""Environments that another day's build makes otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mlops_assets.doctor.findings import Found
from mlops_assets.doctor.project import Project, is_test
from mlops_assets.doctor.reading import Text

_LOCKS = re.compile(
    r"(^|/)(uv\.lock|poetry\.lock|pdm\.lock|Pipfile\.lock|pylock(\.\w+)?\.toml|conda-lock\.ya?ml|pixi\.lock)$"
)
_EXACT = re.compile(r"===?\s*[^*,;\s]+\s*($|[;#\\ ])|@\s*\S+://|^\.|^file:|\.whl")
_NAME = re.compile(r"^[A-Za-z0-9][\w.-]*")
_FROM = re.compile(r"^\s*FROM\s+(?:--\S+\s+)*(?P<image>\S+)(?:\s+AS\s+(?P<stage>\S+))?", re.IGNORECASE)
_LOCK = (
    "Commit a lock with hashes (`uv lock`, `poetry lock`, `uv pip compile --generate-hashes`) and install only from it."
)
_DIGEST = "Name the image by version and digest (`python:3.12.8-slim@sha256:...`), and let a bot renew it."


def find(project: Project) -> Iterator[Found]:
    """Dagster environments that no lock covers, and images named by a tag that can move."""
    locks = sorted({path.rpartition("/")[0] for path in project.paths if _LOCKS.search(path)} | set(_hashed(project)))
    stated = False
    for path, table in project.tables.items():
        if path.rpartition("/")[2] == "pyproject.toml" and (line := _declares_dagster(project, path, table)):
            stated = True
            if not _covered(path, locks):
                yield Found(
                    path, line, "Dagster's environment is declared here, and no lock file stands beside it", _LOCK
                )
    for text in project.texts:
        if text.is_requirements and not is_test(text.path):
            stated = True
            yield from _loose(text, locks)
        elif text.is_dockerfile:
            yield from _images(text)
    if not stated and not locks:
        yield from _nothing(project)


def _hashed(project: Project) -> Iterator[str]:
    """The folders that a requirements file with hashes covers: its own, and the one above `requirements/`."""
    for text in project.texts:
        if text.is_requirements and "--hash=" in text.text:
            folder = text.path.rpartition("/")[0]
            yield folder.removesuffix("requirements").rstrip("/") if folder.endswith("requirements") else folder


def _covered(path: str, locks: list[str]) -> bool:
    folder = path.rpartition("/")[0]
    return any(not lock or folder == lock or folder.startswith(f"{lock}/") for lock in locks)


def _declares_dagster(project: Project, path: str, table: Mapping[str, Any]) -> int:
    """The line on which a pyproject's dependencies begin, if Dagster is among them."""
    project_table = table.get("project", {})
    poetry = table.get("tool", {}).get("poetry", {})
    names = [*project_table.get("dependencies", []), *poetry.get("dependencies", {})]
    if not any(isinstance(each, str) and each.lower().startswith("dagster") for each in names):
        return 0
    lines = next(text.lines for text in project.texts if text.path == path)
    begins = re.compile(r"^\s*(dependencies\s*=|\[tool\.poetry\.dependencies\])")
    return next((number for number, line in enumerate(lines, 1) if begins.match(line)), 1)


def _loose(text: Text, locks: list[str]) -> Iterator[Found]:
    """One finding for a requirements file: its first requirement without an exact version, and how many there are."""
    if _covered(text.path, locks):
        return
    asked = [(number, line.strip()) for number, line in enumerate(text.lines, 1) if _NAME.match(line.strip())]
    loose = [(number, line) for number, line in asked if not _EXACT.search(line)]
    if loose:
        names = ", ".join(re.split(r"[^\w.-]", line)[0] for _, line in loose[:4])
        more = ", ..." if len(loose) > 4 else ""
        yield Found(
            text.path,
            loose[0][0],
            f"{len(loose)} of {len(asked)} requirements have no exact version: {names}{more}",
            _LOCK,
        )


def _images(text: Text) -> Iterator[Found]:
    stages, defaults = {"scratch"}, {}
    for number, line in enumerate(text.lines, 1):
        if said := re.match(r"^\s*ARG\s+(\w+)=(\S+)", line):
            defaults[said[1]] = said[2].strip("\"'")
        if not (said := _FROM.match(line)):
            continue
        image = re.sub(r"\$\{?(\w+)(?::-[^}]*)?\}?", lambda name: defaults.get(name[1], name[0]), said["image"])
        if "$" not in image and image not in stages and "@sha256:" not in image:
            tag = image.rpartition("/")[2].partition(":")[2]
            moves = "is whatever is newest" if tag in {"", "latest"} else "has no digest, and its tag can move"
            yield Found(text.path, number, f"The image {image} {moves}", _DIGEST)
        if said["stage"]:
            stages.add(said["stage"])


def _nothing(project: Project) -> Iterator[Found]:
    first = min(
        (function.module for function in project.dagster_functions), key=lambda module: module.path, default=None
    )
    elsewhere = {"setup.py", "setup.cfg", "environment.yml", "environment.yaml", "Pipfile"}
    path = next(
        (path for path in sorted(project.paths) if path.rpartition("/")[2] in elsewhere), first.path if first else ""
    )
    if path:
        yield Found(path, 1, "No lock file, and no requirements with exact versions, in the whole project", _LOCK)
