"""The provider's side of a landing folder: what was delivered, and what comes next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from mlops_assets.simulation.bike import BikeWorld
from mlops_assets.simulation.delivery import World, content, deliver
from mlops_assets.simulation.electricity import ElectricityWorld


class OtherWorldError(Exception):
    """A landing folder holds deliveries of another world."""


@dataclass(frozen=True)
class Provider:
    """Sends the deliveries of a world into a folder, in order, never one twice."""

    world: World
    folder: Path

    def delivered(self) -> list[date]:
        """The windows whose file lies in the folder. Raises OtherWorldError when the first is not of this world."""
        there = [start for start in self.world.starts() if self._path(start).exists()]
        if there and self._attempt(there[0]) is None:
            raise OtherWorldError(
                f"{self._path(there[0])} is not a delivery of this world. Set MLOPS_HOME to another folder, or remove "
                f"{self.folder} and what was made from it."
            )
        return there

    def coming(self) -> Iterator[tuple[date, int]]:
        """The window and attempt of each delivery still to be sent: first the correction of a bad last one."""
        there = self.delivered()
        for start in self.world.starts():
            tried = self._attempt(start) if start in there else -1
            if start not in there[:-1] and tried is not None:
                yield from ((start, attempt) for attempt in range(tried + 1, self.world.attempts(start)))

    def send(self, start: date, attempt: int) -> list[Path]:
        """Deliver one window, and the labels of earlier ones that come together with it. The rows are the first."""
        return deliver(self.world, start, self.folder, attempt)

    def _path(self, start: date) -> Path:
        return self.folder / self.world.file_name(start)

    def _attempt(self, start: date) -> int | None:
        """Which attempt the file of a window is; None when it is none of them."""
        there = self._path(start).read_bytes()
        attempts = range(self.world.attempts(start))
        return next((attempt for attempt in attempts if content(self.world, start, attempt) == there), None)


def simulated_worlds() -> list[World]:
    """The worlds of the shipped models."""
    return [BikeWorld(), ElectricityWorld()]
