"""How the network behind ml/tabular.py learns: by torch, in batches, with checkpoints, until it gets no better."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlops_assets.ml.checkpoints import CheckpointError, Identity, Keeper, Snapshot
from mlops_assets.ml.tabular_network import DeviceMemoryError, Forward, Weights, card_of, forward, load_torch
from mlops_assets.ml.tabular_rows import Encoded

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import Tensor

Loss = Literal["squared_error", "absolute_error", "log_loss"]
RESIDENT = 0.5


@dataclass(frozen=True)
class Rows:
    """Rows to learn from or to be judged on, with what to answer and how much each counts."""

    encoded: Encoded
    target: NDArray[Any]
    weight: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.target)

    def digest(self) -> str:
        """SHA-256 of all of it."""
        return self.encoded.digest(self.target, self.weight)


@dataclass(frozen=True)
class Plan:
    """How a network learns."""

    loss: Loss
    epochs: int
    batch: int
    rate: float
    decay: float
    dropout: float
    patience: int
    seed: int
    device: str
    mixed: bool
    threads: int


class Learned(NamedTuple):
    """What came out: the weights of the best epoch, and how it went."""

    weights: Weights
    losses: list[float]
    epochs: int
    best_epoch: int
    batch: int


class Placed(NamedTuple):
    """Rows as tensors, on the device or where batches of them come from."""

    codes: Tensor
    numbers: Tensor
    target: Tensor
    weight: Tensor


class Fit:
    """One fit of a network: from its start, or from where its keeper knows it to have been, to its best weights.

    The order of rows in an epoch follows from the seed and the epoch alone. `judged` rows say when to stop.
    """

    def __init__(
        self, plan: Plan, weights: Weights, rows: Rows, judged: Rows | None, forward: Forward = forward
    ) -> None:
        self._torch = load_torch()
        self._plan, self._forward, self._first = plan, forward, rows
        self._weights = {name: self._tensor(array).requires_grad_() for name, array in weights.items()}
        self._rows, self._judged = self._placed(rows), None if judged is None else self._placed(judged)
        self._optimiser = self._torch.optim.AdamW(
            self._weights.values(), lr=plan.rate, weight_decay=plan.decay, fused=True
        )
        half = plan.mixed and not self._torch.cuda.is_bf16_supported()
        self._half = self._torch.float16 if half else self._torch.bfloat16
        self._scaler = self._torch.amp.GradScaler(plan.device, enabled=half)
        self._best = self._copied()
        self._at: dict[str, Any] = {
            "epoch": 0,
            "row": 0,
            "batch": plan.batch,
            "waited": 0,
            "best_epoch": 0,
            "losses": [],
            "done": False,
        }

    def run(self, keeper: Keeper, identity: Identity) -> Learned:
        """Learn until an end is reached."""
        with self._surroundings():
            if (snapshot := keeper.newest(identity)) is not None:
                self._resume(snapshot)
            with keeper.watching():
                while not self._at["done"]:
                    self._epoch(keeper)
                if snapshot is None or not snapshot.values["done"]:
                    keeper.keep(self.snapshot())
        if not all(np.isfinite(array).all() for array in self._best.values()):
            raise ValueError("the network diverged, as its weights are no numbers any more: lower learning_rate")
        return Learned(
            weights=dict(self._best),
            losses=list(self._at["losses"]),
            epochs=self._at["epoch"],
            best_epoch=self._at["best_epoch"],
            batch=self._at["batch"],
        )

    def snapshot(self) -> Snapshot:
        """All that the fit consists of between two steps."""
        arrays = {f"weights.{name}": array for name, array in self._copied().items()}
        arrays |= {f"best.{name}": array for name, array in self._best.items()}
        for name, tensor in self._weights.items():
            state = self._optimiser.state.get(tensor, {})
            arrays |= {f"optimiser.{name}.{key}": _array(value) for key, value in state.items()}
        arrays["random.cpu"] = _array(self._torch.get_rng_state())
        if self._plan.device == "cuda":
            arrays["random.cuda"] = _array(self._torch.cuda.get_rng_state())
        return Snapshot(arrays, copy.deepcopy(self._at) | {"scaler": self._scaler.state_dict()})

    def _resume(self, snapshot: Snapshot) -> None:
        """Go on from a state. Values are copied into tensors that torch laid out itself: it computes the same then."""
        values = dict(snapshot.values)
        if scaler := values.pop("scaler"):
            self._scaler.load_state_dict(scaler)
        arrays = snapshot.arrays
        with self._torch.no_grad():
            for name, tensor in self._weights.items():
                tensor.copy_(self._tensor(_same(arrays[f"weights.{name}"], tensor.shape)))
                start = f"optimiser.{name}."
                kept = {key.removeprefix(start): array for key, array in arrays.items() if key.startswith(start)}
                if kept:
                    self._optimiser.state[tensor] = {key: self._tensor(array) for key, array in kept.items()}
        self._best = {name: arrays[f"best.{name}"] for name in self._weights}
        self._torch.set_rng_state(self._torch.tensor(arrays["random.cpu"]))
        if self._plan.device == "cuda":
            self._torch.cuda.set_rng_state(self._torch.tensor(arrays["random.cuda"]))
        self._at = values

    def _epoch(self, keeper: Keeper) -> None:
        at, size = self._at, len(self._first)
        order = self._order(at["epoch"])
        while at["row"] < size:
            at["row"] += self._sparing(lambda: self._step(order))
            keeper.offer(self.snapshot)
        at["row"] = 0
        at["epoch"] += 1
        self._judge()

    def _step(self, order: Tensor) -> int:
        """One batch, and how many rows it had."""
        chosen = order[self._at["row"] : self._at["row"] + self._at["batch"]]
        self._optimiser.zero_grad()
        loss, weight = self._losses(self._rows, chosen, self._plan.dropout)
        self._scaler.scale(loss / weight).backward()
        self._scaler.step(self._optimiser)
        self._scaler.update()
        return len(chosen)

    def _losses(self, rows: Placed, chosen: Tensor, dropout: float) -> tuple[Tensor, Tensor]:
        """The sum of weighted losses of some rows, and that of their weights."""
        codes, numbers, target, weight = (part[chosen].to(self._plan.device, non_blocking=True) for part in rows)
        with self._precision():
            found = self._forward(self._weights, codes, numbers, dropout).float()
        functional = self._torch.nn.functional
        match self._plan.loss:
            case "log_loss":
                losses = functional.cross_entropy(found, target, reduction="none")
            case "absolute_error":
                losses = (found[:, 0] - target).abs()
            case _:
                losses = (found[:, 0] - target).square()
        return (losses * weight).sum(), weight.sum().clamp_min(1e-12)

    def _judge(self) -> None:
        """Whether the epoch was the best so far, and whether another one is worth while."""
        at, plan = self._at, self._plan
        judged = self._judged
        if judged is None:
            at["best_epoch"] = at["epoch"]
        else:
            loss = self._sparing(lambda: self._loss(judged))
            better = loss < min(at["losses"], default=math.inf)
            at["losses"].append(loss)
            at["waited"] = 0 if better else at["waited"] + 1
            at["best_epoch"] = at["epoch"] if better else at["best_epoch"]
        at["done"] = at["epoch"] >= plan.epochs or at["waited"] >= plan.patience
        if at["best_epoch"] == at["epoch"] and (judged is not None or at["done"]):
            self._best = self._copied()

    def _loss(self, rows: Placed) -> float:
        """The mean loss on rows that are not learned from."""
        size = len(rows.target)
        whole = weights = 0.0
        with self._torch.no_grad():
            for start in range(0, size, self._at["batch"]):
                chosen = self._torch.arange(start, min(start + self._at["batch"], size), device=rows.target.device)
                loss, weight = self._losses(rows, chosen, 0.0)
                whole, weights = whole + loss.double(), weights + weight.double()
        return float(whole / weights)

    def _sparing(self, work: Callable[[], Any]) -> Any:
        """Do something; where the device's memory does not suffice for it, once more with half of a batch."""
        try:
            return work()
        except self._torch.OutOfMemoryError as error:
            if self._at["batch"] < self._plan.batch or self._plan.batch == 1:
                raise self._out_of_memory() from error
        self._at["batch"] //= 2
        self._optimiser.zero_grad()
        if self._plan.device == "cuda":
            self._torch.cuda.empty_cache()
        return self._sparing(work)

    def _out_of_memory(self) -> DeviceMemoryError:
        cuda, here = self._torch.cuda, self._plan.device == "cuda"
        return DeviceMemoryError(
            asked=self._plan.batch,
            batch=self._at["batch"],
            peak=cuda.max_memory_allocated() if here else 0,
            card=card_of(self._plan.device),
            card_bytes=cuda.get_device_properties(0).total_memory if here else 0,
        )

    def _order(self, epoch: int) -> Tensor:
        """The order of rows in an epoch, where the rows are."""
        device = self._rows.target.device
        generator = self._torch.Generator(device).manual_seed(self._plan.seed * 1_000_003 + epoch)
        return self._torch.randperm(len(self._first), generator=generator, device=device)

    def _placed(self, rows: Rows) -> Placed:
        """Rows on the device where they take no more than half of what is free there; else batches travel."""
        parts = (*rows.encoded, rows.target, rows.weight)
        size = sum(part.nbytes for part in parts)
        here = self._plan.device == "cuda" and size <= RESIDENT * self._torch.cuda.mem_get_info()[0]
        return Placed(*(self._torch.tensor(part, device="cuda" if here else "cpu") for part in parts))

    def _tensor(self, array: np.ndarray) -> Tensor:
        return self._torch.tensor(array, device=self._plan.device)

    def _copied(self) -> Weights:
        return {name: _array(tensor) for name, tensor in self._weights.items()}

    def _precision(self) -> AbstractContextManager[Any]:
        return self._torch.autocast("cuda", self._half) if self._plan.mixed else nullcontext()

    @contextmanager
    def _surroundings(self) -> Iterator[None]:
        """Threads and randomness has it and, on CUDA, algorithms that give the same twice."""
        torch, cuda = self._torch, self._plan.device == "cuda"
        threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if cuda else []):
            torch.manual_seed(self._plan.seed)
            torch.set_num_threads(self._plan.threads)
            if cuda:
                torch.cuda.reset_peak_memory_stats()
                torch.use_deterministic_algorithms(True, warn_only=True)
            try:
                yield
            finally:
                torch.set_num_threads(threads)
                if cuda:
                    torch.use_deterministic_algorithms(strict)


def _array(tensor: Tensor) -> np.ndarray:
    """A tensor's values, in memory of their own."""
    return tensor.detach().cpu().numpy().copy()


def _same(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    if array.shape != tuple(shape):
        raise CheckpointError(f"its weights are of another network: {array.shape}, not {tuple(shape)}")
    return array
