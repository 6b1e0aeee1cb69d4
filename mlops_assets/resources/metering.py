"""Metering: what the process takes while something runs, looked at from a thread beside it.

The peak of resident memory is exact where it is the highest of the process so far, which Linux remembers; else it is
the highest that was seen, every 0.2 s. Memory of a graphics card is what torch says, where it is in use; for other
libraries it is what `nvidia-smi` says of the whole card, every 2 s.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple, Self

from mlops_assets.ml.resource_card import Usage

EVERY = 0.2
WINDOW = 1.0
CARD_EVERY = 2.0
PATIENCE = 5.0
PAGE = resource.getpagesize()
STATM = Path("/proc/self/statm")
ASK = ("--query-gpu=name,memory.used,memory.total", "--format=csv,noheader,nounits")


class Card(NamedTuple):
    """A graphics card: its name, and bytes used and there are."""

    name: str
    used: int
    size: int


class Meter:
    """Looks at the process until it is stopped. `usage` is what it has seen."""

    def __init__(self, devices: int = 0) -> None:
        self._devices, self._stop = devices, threading.Event()
        self._began, self._cpu, self._highest = time.monotonic(), time.process_time(), _highest()
        self._memory, self._cores, self._card = resident(), 0.0, None
        self._smi = shutil.which("nvidia-smi") if devices else None
        self._thread = threading.Thread(target=self._look, name="meter", daemon=True)

    def usage(self) -> Usage:
        """What was taken since it began."""
        seconds, cpu = time.monotonic() - self._began, time.process_time() - self._cpu
        highest = _highest()
        card = _of_torch() or self._card
        return Usage(
            seconds=seconds,
            cpu_seconds=cpu,
            cores=max(self._cores, cpu / seconds if seconds else 0.0),
            memory=highest if highest > self._highest else max(self._memory, resident()),
            devices=self._devices,
            card=card.name if card else "",
            card_memory=card.used if card else None,
            card_size=card.size if card else None,
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        since, cpu, asked = time.monotonic(), time.process_time(), 0.0
        while not self._stop.wait(EVERY):
            self._memory = max(self._memory, resident())
            now = time.monotonic()
            if now - since >= WINDOW:
                spent = time.process_time()
                self._cores = max(self._cores, (spent - cpu) / (now - since))
                since, cpu = now, spent
            if self._smi and now - asked >= CARD_EVERY:
                self._see(asked_card(self._smi))
                asked = time.monotonic()

    def _see(self, card: Card | None) -> None:
        if card and (self._card is None or card.used > self._card.used):
            self._card = card


def resident() -> int:
    """The process's memory now, in bytes: what it had at most, where the system does not tell."""
    try:
        return int(STATM.read_text().split()[1]) * PAGE
    except OSError:
        return _highest()


def asked_card(command: str) -> Card | None:
    """The fullest card, as nvidia-smi says; None where it says nothing of use."""
    try:
        said = subprocess.run([command, *ASK], capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
        lines = [line.rsplit(",", 2) for line in said.splitlines() if line.strip()]
        cards = [Card(name.strip(), int(used) * 2**20, int(size) * 2**20) for name, used, size in lines]
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return max(cards, key=lambda card: card.used, default=None)


def _of_torch() -> Card | None:
    """The card that torch uses in this process, with the most that it has reserved there."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    size = torch.cuda.get_device_properties(0).total_memory
    return Card(torch.cuda.get_device_name(0), torch.cuda.max_memory_reserved(), size)


def _highest() -> int:
    """The most memory that the process has had, in bytes."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
