"""What real feeds get wrong, put into clean rows on purpose: a seeded choice of rows, and one fault for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Fault:
    """A cell that no sensor would send: `value` in place of whatever `column` held. None is a missing value."""

    column: str
    value: Any


def spoiled(rows: pd.DataFrame, share: float, faults: Sequence[Fault], random: np.random.Generator) -> pd.DataFrame:
    """The rows with about `share` of them broken: each of `faults` in turn, and some rows sent twice."""
    chosen = random.permutation(len(rows))[: round(share * len(rows))]
    dirty = rows.astype({fault.column: object for fault in faults})
    for number, fault in enumerate(faults):
        dirty.loc[chosen[number :: len(faults) + 1], fault.column] = fault.value
    twice = np.sort(np.concatenate([np.arange(len(rows)), chosen[len(faults) :: len(faults) + 1]]))
    return dirty.iloc[twice].reset_index(drop=True)
