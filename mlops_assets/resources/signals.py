"""Signals that end a process, held back while something must not be cut in two."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

ENDING = (signal.SIGTERM, signal.SIGINT)


@dataclass
class HeldBack:
    """What has come while signals are held back. Outside the main thread nothing comes."""

    came: int | None = None
    _before: dict[int, Any] = field(default_factory=dict)

    def pass_on(self) -> None:
        """Let what has come do what it does elsewhere: raise, or end the process."""
        if self.came is not None:
            number, self.came = self.came, None
            self._release()
            try:
                signal.raise_signal(number)
            finally:
                self._hold()

    def _hold(self) -> None:
        self._before = {number: signal.signal(number, self._heard) for number in ENDING}

    def _release(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _heard(self, number: int, _: FrameType | None) -> None:
        self.came = number


@contextmanager
def held_back() -> Iterator[HeldBack]:
    """Signals that end the process wait for `pass_on`, or for the end of the block."""
    held = HeldBack()
    if threading.current_thread() is not threading.main_thread():
        yield held
        return
    held._hold()
    try:
        yield held
    finally:
        held._release()
        if held.came is not None:
            signal.raise_signal(held.came)
