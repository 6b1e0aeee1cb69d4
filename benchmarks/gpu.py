"""Networks on a GPU against the CPU: seconds, rows a second, what checkpoints cost, resuming, memory that is too small.

Run: python -m benchmarks.gpu [--rows 1000000 10000000] [--epochs 3] [--batch 16384] [--threads 1]. What needs a GPU is
left out, and said to be, where there is none. One JSON line a figure.
"""

import argparse
import hashlib
import json
import os
import platform
import tempfile
import time

import numpy as np
import pandas as pd
import torch

from mlops_assets.ml.artifacts import dump_model
from mlops_assets.ml.checkpoints import kept_by
from mlops_assets.ml.tabular import TorchTabularRegressor
from mlops_assets.ml.tabular_network import DeviceMemoryError
from mlops_assets.resources.checkpoints import Checkpoints

NUMBERS, CATEGORIES, VALUES = 12, 3, 50
CUDA = torch.cuda.is_available()
DEVICES = ("cpu", "cuda") if CUDA else ("cpu",)
SHARE, WIDE, LAYERS = 1.4, 4096, 4


class CutError(Exception):
    """The fit was cut off."""


class Cutting:
    """The keeper that it is given, until it has been offered so many states: then the fit is cut off."""

    def __init__(self, keeper, offers):
        self.keeper, self.left = keeper, offers

    def __getattr__(self, name):
        return getattr(self.keeper, name)

    def offer(self, take):
        self.keeper.offer(take)
        self.left -= 1
        if not self.left:
            raise CutError


def table(rows):
    random = np.random.default_rng(7)
    frame = pd.DataFrame(random.normal(size=(rows, NUMBERS)).astype(np.float32)).rename(columns=lambda at: f"n{at}")
    target = frame["n0"].to_numpy() * 2 + random.normal(0, 0.1, rows)
    for at in range(CATEGORIES):
        codes = random.integers(0, VALUES, rows)
        frame[f"c{at}"] = pd.Categorical.from_codes(codes, categories=range(VALUES))
        target = target + np.sin(codes)
    return frame, target


def network(args, **changes):
    chosen = {"hidden": (256, 128), "epochs": args.epochs, "patience": args.epochs, "batch_size": args.batch}
    return TorchTabularRegressor(**{**chosen, "threads": args.threads, "random_state": 7, **changes})


def said(**figures):
    print(json.dumps(figures), flush=True)


def digest(model):
    return hashlib.sha256(dump_model(model)).hexdigest()


def timed(work):
    began, cpu = time.perf_counter(), time.process_time()
    made = work()
    return made, round(time.perf_counter() - began, 3), round(time.process_time() - cpu, 3)


def speed(args, rows):
    """Seconds and rows a second on each device, and whether the same weights come out twice."""
    frame, target = table(rows)
    for device in DEVICES:
        model, seconds, cpu = timed(lambda device=device: network(args, device=device).fit(frame, target))
        again = digest(network(args, device=device).fit(frame, target)) if device == "cuda" else None
        peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
        said(
            what="speed",
            device=device,
            rows=rows,
            epochs=model.epochs_,
            seconds=seconds,
            cpu_seconds=cpu,
            rows_a_second=round(rows * model.epochs_ / seconds),
            peak_bytes=peak,
            same_twice=None if again is None else again == digest(model),
        )


def overhead(args, rows, every, **changes):
    """What keeping the state costs, of the time that a fit takes."""
    frame, target = table(rows)
    with tempfile.TemporaryDirectory() as home:
        keeper = Checkpoints(root=home, seconds=every).keeper("bench", "m" * 64)
        with kept_by(keeper):
            model, seconds, _ = timed(lambda: network(args, **changes).fit(frame, target))
    said(
        what="checkpoints",
        every_seconds=every,
        parameters=sum(array.size for array in model.weights_.values()),
        written=keeper.count,
        bytes=keeper.largest,
        seconds=seconds,
        writing=round(keeper.spent, 4),
        share=round(keeper.spent / seconds, 5),
    )


def resuming(args, rows, device):
    """A fit that is cut off half-way, the time that going on saves, and whether the same weights come out."""
    frame, target = table(rows)
    whole, seconds, _ = timed(lambda: network(args, device=device).fit(frame, target))
    steps = args.epochs * -(-(rows - rows // 10) // args.batch)
    with tempfile.TemporaryDirectory() as home:
        states = Checkpoints(root=home, seconds=1e-6)
        try:
            with kept_by(Cutting(states.keeper("bench", "m" * 64), steps // 2)):
                network(args, device=device).fit(frame, target)
        except CutError:
            pass
        with kept_by(Checkpoints(root=home, seconds=3600).keeper("bench", "m" * 64)):
            model, after, _ = timed(lambda: network(args, device=device).fit(frame, target))
    said(
        what="resume",
        device=device,
        rows=rows,
        whole_seconds=seconds,
        resumed_seconds=after,
        same=digest(model) == digest(whole),
    )


def memory(args):
    """A batch that takes more than the card has, halved to one that fits; and one that does not fit when halved."""
    size = torch.cuda.get_device_properties(0).total_memory
    batch = int(SHARE * size / (WIDE * LAYERS * 4 * 3))
    frame, target = table(2 * batch)
    wide = {"hidden": (WIDE,) * LAYERS, "epochs": 1, "device": "cuda", "precision": "float32"}
    for asked in (batch, 2 * batch):
        try:
            model, seconds, _ = timed(lambda asked=asked: network(args, **wide, batch_size=asked).fit(frame, target))
            said(what="memory", asked=asked, used=model.batch_size_, seconds=seconds)
        except DeviceMemoryError as error:
            said(what="memory", asked=asked, refused=str(error))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="*", default=[1_000_000, 10_000_000])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16_384)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    card = torch.cuda.get_device_name() if CUDA else "no GPU here: nothing was measured on one"
    said(what="machine", card=card, cores=os.cpu_count(), machine=platform.machine(), torch=torch.__version__)
    network(args, epochs=1).fit(*table(2_000))
    for rows in args.rows:
        speed(args, rows)
    for every in (1.0, 10.0):
        overhead(args, min(args.rows), every)
    overhead(args, min(args.rows) // 4, 10.0, hidden=(1024, 1024), epochs=2)
    for device in DEVICES:
        resuming(args, min(args.rows) // 4, device)
    if CUDA:
        memory(args)


if __name__ == "__main__":
    main()
