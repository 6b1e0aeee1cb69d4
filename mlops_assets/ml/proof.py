"""What a proof says: the chain from one stored prediction to who released its version, and to all that it rests on.

How it is walked through is in proving.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pydantic import Field

from mlops_assets.ml.ledger import Anchor, Link
from mlops_assets.ml.signing import Trust
from mlops_assets.ml.spec import Value

LINKS = ("prediction", "row", "release", "approval", "report", "manifest", "model", "data", "code", "lock")


class BrokenLinkError(Exception):
    """Stored bytes are not what the link before them says: which file, and how."""

    def __init__(self, file: str, why: str) -> None:
        super().__init__(f"{file} {why}")
        self.file = file


class Step(Value):
    """One link of the chain: what it says, and the files that were read for it, each with the SHA-256 that it has.

    `broken` says which file is not what it should be, and how.
    """

    link: str
    says: str
    files: dict[str, str] = Field(default_factory=dict)
    broken: str | None = None


class Explanation(Value):
    """A prediction and the chain behind it, as far as it holds. `answer` is what was predicted: a score, or several."""

    prediction: str
    answer: dict[str, float] = Field(default_factory=dict)
    steps: tuple[Step, ...]

    @property
    def broken(self) -> Step | None:
        """The first broken link; None where the whole chain holds."""
        return next((step for step in self.steps if step.broken), None)

    @property
    def sentence(self) -> str:
        """What was found, in a sentence."""
        if self.broken:
            return f"The chain behind {self.prediction} is broken at {self.broken.link!r}: {self.broken.broken}"
        files = {file for step in self.steps for file in step.files}
        return (
            f"The chain behind {self.prediction} holds: {len(self.steps)} links, {len(files)} files read and verified."
        )


class Kept(Protocol):
    """What is stored, as bytes. Paths are below the storage root; what is not there raises FileNotFoundError."""

    def where(self, path: str) -> str:
        """The path as a person finds it."""
        ...

    def read(self, path: str) -> bytes:
        """The bytes of a file."""
        ...

    def sha256(self, path: str) -> tuple[str, int]:
        """The SHA-256 (hex) of a file, however large, and its size."""
        ...

    def blob(self, sha256: str) -> str:
        """The path of the bytes with this digest."""
        ...

    def blobs(self, beginning: str) -> list[str]:
        """The digests of stored bytes that begin so."""
        ...

    def folder(self, candidate: Mapping[str, Any]) -> str | None:
        """The path of the folder of a fitted model, None where a server keeps it."""
        ...

    def artifact(self, candidate: Mapping[str, Any]) -> tuple[str, bytes]:
        """Where a server keeps a fitted model, and its bytes."""
        ...

    def trust(self) -> Trust | None:
        """Whose signatures count, None where that is not configured."""
        ...

    def ledger(self) -> tuple[str, Sequence[Link], Sequence[Anchor]]:
        """Where the ledger is, all its links, and the heads that were anchored."""
        ...
