"""Series of numbers with a memory, of which weather is made."""

from __future__ import annotations

import numpy as np


def lasting(steps: int, memory: float, random: np.random.Generator) -> np.ndarray:
    """A standard normal series in which each value resembles the one before by `memory` (their correlation)."""
    shocks = random.normal(0, np.sqrt(1 - memory**2), steps)
    values = np.empty(steps)
    last = random.normal()
    for step, shock in enumerate(shocks):
        last = values[step] = memory * last + shock
    return values
