"""Row 16: a column explodes into a million categories. Drift sees it, in bounded time, memory and space."""

from __future__ import annotations

import time
import tracemalloc
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from mlops_assets.ml.drift_page import CATEGORIES_DRAWN, drawable
from mlops_assets.ml.monitoring import Subject, judge, reference_profile
from mlops_assets.ml.profiles import CATEGORIES, profile
from mlops_assets_tests import toy

ROWS = 1_000_000
FIRST = datetime(2024, 5, 1, tzinfo=UTC)
SUBJECT = Subject(partition="2024-05-01", first=FIRST, delivery="d5", version=3, usual_rows=ROWS)


def exploded() -> pd.DataFrame:
    codes = np.arange(ROWS, dtype=np.int32)
    return pd.DataFrame({"kind": pd.Categorical.from_codes(codes, [f"id-{code:07}" for code in codes])})


@pytest.mark.fault(16)
def test_a_million_new_categories_are_drift_and_cost_little(record_figure):
    before = pd.DataFrame({"kind": pd.Categorical(np.random.default_rng(0).choice(["a", "b", "c"], ROWS))})
    predicted = pd.Series(np.random.default_rng(1).normal(0, 1, ROWS))
    reference, now = reference_profile(before, predicted), exploded()
    started = time.process_time()
    report = judge(toy.spec("landing"), SUBJECT, reference, now, predicted, {"kind": 1.0})
    judging = time.process_time() - started
    assert (report.verdict, report.columns[0].new_category_share) == ("drifted", 1.0)
    assert "kind" in report.sentence

    tracemalloc.start()
    found = profile(now)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.columns["kind"].categories) == CATEGORIES
    shown, _, _ = drawable(now.sample(5000, random_state=0), before.sample(5000, random_state=0), ["kind"])
    assert shown["kind"].nunique() <= CATEGORIES_DRAWN + 1
    everything = len("".join(now["kind"].cat.categories))
    record_figure(
        judge_cpu_seconds=round(judging, 2),
        profile_peak_megabytes=round(peak / 2**20),
        profile_bytes=len(found.model_dump_json()),
        unbounded_profile_bytes=everything,
    )
    assert judging < 20
    assert peak < 512 * 2**20
    assert len(found.model_dump_json()) < 10_000 < everything
