"""The cause of drift: whether a broken feed or a changed world is the likelier reason that columns moved."""

from __future__ import annotations

from typing import Literal

from mlops_assets.ml.spec import Value

Likely = Literal["upstream", "world", "unknown"]


class Finding(Value):
    """One piece of evidence: what kind, in which columns, and the sentence with its numbers."""

    kind: str
    columns: tuple[str, ...]
    sentence: str


class Cause(Value):
    """What most likely moved the data, the evidence for it, and the sentence that says so."""

    likely: Likely
    findings: tuple[Finding, ...]
    sentence: str
