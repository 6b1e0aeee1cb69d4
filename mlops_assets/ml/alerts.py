"""Alerts: what a person is told, when two of them are the same, and how several become one message."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from mlops_assets.ml.spec import Value

Kind = Literal[
    "failed_check",
    "failed_run",
    "stuck_run",
    "given_up",
    "drift",
    "performance_drop",
    "overdue_data",
    "overdue_labels",
    "unusual_volume",
    "silent_daemon",
]


class Alert(Value):
    """One thing that a person has to look at. `about` names what happened: equal names are the same alert.

    `sentence` says what, with numbers. `link` leads into the UI. The runbook is docs/runbooks/<kind>.md.
    """

    kind: Kind
    model: str | None
    partition: str | None
    about: str
    sentence: str
    link: str | None
    raised: datetime
