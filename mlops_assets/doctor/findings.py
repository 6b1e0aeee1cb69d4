"""What a rule is, what it finds, and how a person accepts a finding in place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from tokenize import COMMENT, generate_tokens
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops_assets.doctor.project import Project

_COMMENT = re.compile(r"#\s*doctor:\s*accepted\b\s*(?P<rule>[\w-]*)\s*:?\s*(?P<reason>.*?)\s*$")


@dataclass(frozen=True, order=True)
class Found:
    """One place where a habit shows: what was seen there, and what to write instead."""

    path: str
    line: int
    what: str
    mend: str


@dataclass(frozen=True)
class Rule:
    """A habit: its name, why it hurts in production, and how it is found in a parsed project."""

    name: str
    title: str
    why: str
    find: Callable[[Project], Iterable[Found]]


@dataclass(frozen=True)
class Finding:
    """What a rule found, and the reason for which a person accepted it, if one did."""

    rule: Rule
    found: Found
    reason: str | None = None
    note: str = ""


@dataclass(frozen=True, order=True)
class Acceptance:
    """A comment `# doctor: accepted <rule>: <reason>`, and the line of code that it speaks of."""

    path: str
    line: int
    about: int
    rule: str
    reason: str


def acceptances(path: str, lines: Sequence[str]) -> Iterator[Acceptance]:
    """Every acceptance in a file. A comment on a line of its own speaks of the next line that is no comment."""
    comments = _comments(lines) if path.endswith(".py") else range(1, len(lines) + 1)
    for number in comments:
        if said := _COMMENT.search(lines[number - 1]):
            about = number
            while about <= len(lines) and lines[about - 1].lstrip().startswith("#"):
                about += 1
            yield Acceptance(path, number, about, said["rule"], said["reason"])


def _comments(lines: Sequence[str]) -> list[int]:
    """The lines of Python on which there is a comment: what stands in a string accepts nothing."""
    tokens = generate_tokens(iter([f"{line}\n" for line in lines]).__next__)
    return [token.start[0] for token in tokens if token.type == COMMENT]


def judged(rule: Rule, found: Found, accepted: Mapping[tuple[str, int, str], Acceptance]) -> Finding:
    """The finding, with the reason that a person gave. A comment without a reason accepts nothing."""
    said = accepted.get((found.path, found.line, rule.name))
    if said is None:
        return Finding(rule, found)
    if not said.reason:
        return Finding(rule, found, note=f"The comment on line {said.line} gives no reason, so it accepts nothing.")
    return Finding(rule, found, said.reason)
