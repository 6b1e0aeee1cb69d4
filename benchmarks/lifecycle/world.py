"""The world that every contestant lives in: 12 numeric and 4 categorical columns, a binary target, a few bad rows."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

NUMERIC = [f"n{i:02}" for i in range(12)]
CATEGORICAL = [f"c{i}" for i in range(4)]
WEEKS = 5
START = pd.Timestamp("2024-01-01")


def write(folder: Path, rows: int) -> None:
    """Deliver `rows` rows as one Parquet file a week; one row in a thousand breaks the contract."""
    folder.mkdir(parents=True, exist_ok=True)
    for week in range(WEEKS):
        random = np.random.default_rng([42, week])
        count = rows // WEEKS
        frame = pd.DataFrame(random.normal(0, 1, (count, len(NUMERIC))), columns=NUMERIC)
        for number, column in enumerate(CATEGORICAL):
            frame[column] = random.choice([f"{column}_{level}" for level in range(5 + 5 * number)], count)
        score = frame["n00"] + 0.5 * frame["n01"] * frame["n02"] + (frame["c0"] == "c0_1") + random.normal(0, 1, count)
        frame["target"] = (score > 0.2).astype("int64")
        seconds = np.sort(random.integers(0, 7 * 24 * 3600, count))
        frame.insert(0, "ts", START + pd.Timedelta(weeks=week) + pd.to_timedelta(seconds, unit="s"))
        frame.loc[random.random(count) < 0.001, "n03"] = 1e9
        frame.loc[random.random(count) < 0.01, "n04"] = np.nan
        frame.to_parquet(folder / f"world-{START + pd.Timedelta(weeks=week):%Y-%m-%d}.parquet", index=False)


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]))
