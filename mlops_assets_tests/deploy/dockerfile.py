"""A Dockerfile as its stages and instructions: as much of its grammar as ours uses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

WORDS = {"ARG", "CMD", "COPY", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "RUN", "USER", "WORKDIR"}


@dataclass(frozen=True)
class Instruction:
    """One instruction, its continued lines joined."""

    word: str
    rest: str

    @property
    def arguments(self) -> list[str]:
        """What follows, without the flags."""
        return [each for each in self.rest.split() if not each.startswith("--")]


@dataclass
class Stage:
    """One stage: what it starts from, its name, and what it does."""

    start: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def of(self, word: str) -> list[Instruction]:
        """Its instructions of this kind."""
        return [each for each in self.instructions if each.word == word]


@dataclass
class Dockerfile:
    """The instructions before the first stage, and the stages by name."""

    before: list[Instruction]
    stages: dict[str, Stage]

    @classmethod
    def parse(cls, text: str) -> Self:
        """The file's stages. Raises ValueError for an instruction that is none."""
        before: list[Instruction] = []
        stages: list[Stage] = []
        for each in _instructions(text):
            if each.word == "FROM":
                start, name = re.fullmatch(r"(\S+) AS (\S+)", each.rest).groups()
                stages.append(Stage(start, name))
            elif stages:
                stages[-1].instructions.append(each)
            else:
                before.append(each)
        return cls(before, {stage.name: stage for stage in stages})

    def whole(self, name: str) -> list[Instruction]:
        """What a stage and those that it starts from do, in order."""
        stage = self.stages[name]
        return [*(self.whole(stage.start) if stage.start in self.stages else ()), *stage.instructions]

    def needs(self, name: str) -> set[str]:
        """The stage, those it starts from, and those it copies from."""
        stage = self.stages[name]
        copied = re.findall(r"--from=(\S+)", " ".join(each.rest for each in self.whole(name)))
        above = [each for each in (stage.start, *copied) if each in self.stages]
        return {name}.union(*(self.needs(each) for each in above))


def _instructions(text: str) -> Iterator[Instruction]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in re.sub(r"\s*\\\n\s*", " ", "\n".join(lines)).splitlines():
        word, _, rest = line.partition(" ")
        if word not in WORDS:
            raise ValueError(f"{word} is no instruction that is known here")
        yield Instruction(word, rest)
