"""The contract: which rows honour it, which break it and why, and whether a delivery looks like the ones before."""

from __future__ import annotations

from datetime import datetime

from mlops_assets.ml.monitoring import Profile
from mlops_assets.ml.spec import Value


class BrokenRule(Value):
    """One rule that rows of a delivery broke: counts are exact, `rows` holds the first few row numbers."""

    column: str
    rule: str
    count: int
    rows: tuple[int, ...]


class ValidatedPartition(Value):
    """What `validated_features` says of one partition. `files` maps each data file of the table to its SHA-256."""

    model: str
    partition: str
    delivery: str
    rows_in: int
    rows_out: int
    rows_quarantined: int
    broken_rules: tuple[BrokenRule, ...]
    first: datetime
    last: datetime
    table_version: int
    files: dict[str, str]
    content: str
    profile: Profile
