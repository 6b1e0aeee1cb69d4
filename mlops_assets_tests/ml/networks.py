"""Small tables, small networks and keepers in memory: what the tests of networks share."""

from __future__ import annotations

from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_assets.ml.checkpoints import read, written
from mlops_assets.ml.tabular import TorchTabularRegressor

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="the extra mlops-assets[torch] is not installed")

SMALL: dict[str, Any] = {"hidden": (8,), "embedding": 3, "batch_size": 16, "epochs": 4, "random_state": 7}


class CutOffError(Exception):
    """The process died here."""


class Memory:
    """A keeper that keeps every state in memory, and may die when it has been offered so many."""

    def __init__(self, dies_after=None, every=1):
        self.dies_after, self.every = dies_after, every
        self.offers, self.states, self.identity = 0, [], {}

    def newest(self, identity):
        self.identity = identity
        return read(self.states[-1], identity) if self.states else None

    def watching(self):
        return nullcontext()

    def offer(self, take):
        self.offers += 1
        if self.offers % self.every == 0:
            self.keep(take())
        if self.offers == self.dies_after:
            raise CutOffError

    def keep(self, snapshot):
        self.states.append(written(self.identity, snapshot))


def table(count=160, seed=0):
    """Rows of text, numbers with gaps, and a number that follows from them."""
    random = np.random.default_rng(seed)
    kind = random.choice(["a", "b", "c"], count)
    price, wind = random.normal(20, 4, count), random.normal(0, 5, count)
    target = 3.0 * (kind == "a") + price / 4 + random.normal(0, 0.1, count)
    wind[::7] = np.nan
    return pd.DataFrame({"kind": pd.Series(kind, dtype="category"), "price": price, "wind": wind}), target


def regressor(**changes):
    """A small network."""
    return TorchTabularRegressor(**{**SMALL, **changes})
