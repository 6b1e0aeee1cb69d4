"""Waiting for what others do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE = 240
LOOK_SECONDS = 0.05


def until(answer: Callable[[], Any], what: str) -> Any:
    """The answer, once there is one."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := answer():
            return found
        time.sleep(LOOK_SECONDS)
    raise AssertionError(f"not within {PATIENCE} s: {what}")
