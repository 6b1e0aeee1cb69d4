"""One examination: every rule over a parsed project, and what a person accepted of it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlops_assets.doctor.findings import Acceptance, Finding, acceptances, judged
from mlops_assets.doctor.project import Module, Project, load
from mlops_assets.doctor.reading import Text, Unread
from mlops_assets.doctor.rules import RULES


class NoProjectError(Exception):
    """There is no Dagster project to look at."""


@dataclass(frozen=True)
class Examination:
    """What was found, what was accepted with a reason, what could not be read, and which acceptances accept nothing."""

    findings: list[Finding]
    accepted: list[Finding]
    unread: list[Unread]
    idle: list[Acceptance]
    looked_at: int

    @property
    def exit_code(self) -> int:
        """0: nothing found; 1: something found; 2: nothing found, but not everything could be looked at."""
        if self.findings:
            return 1
        return 2 if self.unread else 0


def examine(root: Path) -> Examination:
    """Look for every habit in the project below `root`. It is neither imported nor run."""
    if not root.is_dir():
        raise NoProjectError(f"{root} is not a folder.")
    with _uncollected():
        return _examined(root)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the cyclic collector away: to find out that no node is garbage yet takes it a third of the CPU."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _examined(root: Path) -> Examination:
    project = load(root)
    if not any(map(_imports_dagster, project.modules)):
        raise NoProjectError(_nothing(root, project))
    said = list(_said(project))
    by_place = {(each.path, each.about, each.rule): each for each in said}
    found = [judged(rule, each, by_place) for rule in RULES for each in sorted(set(rule.find(project)))]
    used = {(each.found.path, each.found.line, each.rule.name) for each in found}
    return Examination(
        [each for each in found if each.reason is None],
        [each for each in found if each.reason is not None],
        sorted(project.unread),
        sorted(each for each in said if (each.path, each.about, each.rule) not in used),
        len(project.modules) + len(project.tests) + len(project.texts),
    )


def _imports_dagster(module: Module) -> bool:
    return any(
        isinstance(each, str) and each.partition(".")[0] == "dagster"
        for scope in {module.names.top, *module.names.scope_of.values()}
        for meanings in scope.bound.values()
        for each in meanings
    )


def _texts(project: Project) -> Iterator[Text]:
    yield from (module.text for module in project.modules)
    yield from project.texts


def _said(project: Project) -> Iterator[Acceptance]:
    for text in _texts(project):
        if "doctor:" in text.text:
            yield from acceptances(text.path, text.lines)


def _nothing(root: Path, project: Project) -> str:
    unread = "".join(f"\n  {each.path}: {each.reason}" for each in project.unread)
    return f"No module below {root} imports dagster." + (f" Not read:{unread}" if unread else "")
