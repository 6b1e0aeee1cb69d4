"""What the drift verdict costs over all rows, against a plain vectorised NumPy PSI. Run: python -m benchmarks.drift."""

import json
import sys
import time
import tracemalloc
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from mlops_assets.ml.monitoring import Subject, judge, predictions, reference_profile
from mlops_assets_tests import toy

CATEGORIES = (3, 10, 30, 90)
REPEATS = 3


class Mean:
    """A model that costs nothing, so that drift alone is measured."""

    def predict(self, rows):
        return rows["n00"].to_numpy()


def world(rows, seed, shift):
    random = np.random.default_rng(seed)
    numbers = {f"n{i:02}": random.normal(shift, 1, rows) if i % 3 else random.lognormal(0, 1, rows) for i in range(12)}
    texts = {
        f"c{i}": pd.Categorical.from_codes(random.integers(0, size, rows), [f"v{j}" for j in range(size)])
        for i, size in enumerate(CATEGORIES)
    }
    return pd.DataFrame({**numbers, **texts})


def plain(before, now):
    """PSI by exact deciles and codes, as one would write it with NumPy."""
    found = {}
    for name in before:
        if before[name].dtype == "category":
            size = len(before[name].cat.categories)
            a, b = (np.bincount(side[name].cat.codes, minlength=size) / len(side) for side in (before, now))
        else:
            edges = np.quantile(before[name].to_numpy(), np.linspace(0, 1, 11))[1:-1]
            a, b = (
                np.bincount(np.searchsorted(edges, side[name].to_numpy()), minlength=10) / len(side)
                for side in (before, now)
            )
        a, b = np.maximum(a, 1e-4), np.maximum(b, 1e-4)
        found[name] = float(((b - a) * np.log(b / a)).sum())
    return found


def ours(before, now):
    """Both sides, as training and monitoring do it: the reference's profile, then the whole report."""
    spec, model = toy.spec("landing"), Mean()
    started = time.process_time()
    reference = reference_profile(before, predictions(model, before, "regression"))
    profiled = time.process_time()
    subject = Subject(
        partition="p", first=datetime(2024, 5, 1, tzinfo=UTC), delivery="d", version=1, usual_rows=len(before)
    )
    weights = dict.fromkeys(before.columns, 1.0)
    report = judge(spec, subject, reference, now, predictions(model, now, "regression"), weights)
    return report, profiled - started, time.process_time() - profiled


def measured(rows):
    before, now = world(rows, 0, 0.0), world(rows, 1, 0.1)
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        plain(before, now)
        floor = time.process_time() - started
        _, profiled, judged = ours(before, now)
        times.append((floor, profiled, judged))
    floor, profiled, judged = (sorted(column)[REPEATS // 2] for column in zip(*times, strict=True))
    tracemalloc.start()
    ours(before, now)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "rows": rows,
        "plain_cpu_seconds": round(floor, 3),
        "reference_cpu_seconds": round(profiled, 3),
        "verdict_cpu_seconds": round(judged, 3),
        "both_against_plain": round((profiled + judged) / floor, 2),
        "peak_megabytes": round(peak / 2**20),
    }


if __name__ == "__main__":
    for size in map(int, sys.argv[1:] or ["100000", "1000000"]):
        print(json.dumps(measured(size)))
