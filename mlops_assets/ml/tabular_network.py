"""The network behind ml/tabular.py: its weights, what it answers by torch and by NumPy, and which device it is on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlops_assets.ml.tabular_rows import Encoded

if TYPE_CHECKING:
    from torch import Tensor

Weights = Mapping[str, NDArray[np.float32]]
Forward = Callable[["Mapping[str, Tensor]", "Tensor", "Tensor", float], "Tensor"]
TABLE = "embeddings"
CHUNK = 1 << 16


class TorchMissingError(ImportError):
    """torch is not installed."""


class DeviceError(ValueError):
    """A device was asked for that is not here."""


class DeviceMemoryError(MemoryError):
    """The memory of an accelerator did not suffice, with half of the declared batch neither."""

    def __init__(self, *, asked: int, batch: int, peak: int, card: str, card_bytes: int) -> None:
        self.asked, self.batch, self.peak, self.card, self.card_bytes = asked, batch, peak, card, card_bytes
        halved = f", halved once from {asked:,}" if batch < asked else ""
        super().__init__(
            f"the memory of the device ({card}, {card_bytes / 2**30:.2f} GiB) did not suffice: at its peak training "
            f"held {peak:,} bytes ({peak / 2**30:.2f} GiB), with batches of {batch:,} rows{halved}"
        )


def load_torch() -> Any:
    """torch, or an error that says how to get it."""
    try:
        import torch
    except ImportError as error:
        raise TorchMissingError(
            "torch is not installed, and this estimator learns with it: install the extra mlops-assets[torch]."
        ) from error
    return torch


def device_of(asked: str) -> str:
    """The device that `auto`, `cpu` or `cuda` means here. Raises DeviceError where it is not here."""
    there = load_torch().cuda.is_available()
    if asked == "cuda" and not there:
        raise DeviceError(
            "device is 'cuda', and torch finds no CUDA device here. Give the training a compute profile with an "
            "accelerator and an image whose torch is built for CUDA, or declare device: auto"
        )
    return "cuda" if there and asked != "cpu" else "cpu"


def card_of(device: str) -> str:
    """The device as its maker calls it."""
    return load_torch().cuda.get_device_name() if device == "cuda" else "cpu"


def initial(table: tuple[int, int], sizes: Sequence[int], seed: int) -> Weights:
    """Seeded weights, the same on every device: the table of embeddings, then layers of so many numbers each."""
    random = np.random.default_rng(seed)
    weights = {TABLE: random.normal(0, 0.1, table)}
    for layer, (inside, outside) in enumerate(pairwise(sizes)):
        bound = math.sqrt((6 if layer + 2 < len(sizes) else 3) / max(inside, 1))
        weights[f"weight.{layer}"] = random.uniform(-bound, bound, (outside, inside))
        weights[f"bias.{layer}"] = np.zeros(outside)
    return {name: array.astype(np.float32) for name, array in weights.items()}


def forward(weights: Mapping[str, Tensor], codes: Tensor, numbers: Tensor, dropout: float) -> Tensor:
    """What the network answers, by torch: embeddings beside numbers, then layers with what is below zero cut off."""
    from torch import cat
    from torch.nn.functional import dropout as dropped
    from torch.nn.functional import embedding, linear, relu

    found = cat([embedding(codes, weights[TABLE]).flatten(1), numbers], dim=1)
    last = _layers(weights) - 1
    for layer in range(last):
        found = dropped(relu(linear(found, weights[f"weight.{layer}"], weights[f"bias.{layer}"])), dropout)
    return linear(found, weights[f"weight.{last}"], weights[f"bias.{last}"])


def answers(weights: Weights, rows: Encoded) -> NDArray[np.float32]:
    """What the network answers, by NumPy: where a model serves no torch is needed."""
    size = len(rows.numbers)
    parts = [_answer(weights, rows.take(slice(start, start + CHUNK))) for start in range(0, max(size, 1), CHUNK)]
    return np.concatenate(parts)


def _answer(weights: Weights, rows: Encoded) -> NDArray[np.float32]:
    found = np.hstack([weights[TABLE][rows.codes].reshape(len(rows.codes), -1), rows.numbers])
    last = _layers(weights) - 1
    for layer in range(last):
        found = np.maximum(found @ weights[f"weight.{layer}"].T + weights[f"bias.{layer}"], 0)
    return found @ weights[f"weight.{last}"].T + weights[f"bias.{last}"]


def _layers(weights: Mapping[str, Any]) -> int:
    return (len(weights) - 1) // 2
