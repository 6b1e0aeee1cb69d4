"""Row 11: NaN, infinities, 1e400, negative zero and the smallest numbers."""

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlops_assets.ml.contracts import column_types, load_contract
from mlops_assets.ml.reading import read
from mlops_assets.ml.validation import judge
from mlops_assets_tests import toy

SPEC = toy.spec("landing")
CONTRACT = load_contract(SPEC.contract)
WIDE = CONTRACT.update_column("sales", checks=[])
LARGEST, SMALLEST = float(np.finfo(float).max), 5e-324


def from_csv(texts):
    frame = toy.rows("2024-01", len(texts)).assign(sales=texts)
    content = io.BytesIO(frame.to_csv(index=False).encode())
    return judge({"a.csv": read(content, "a.csv", SPEC.source, column_types(WIDE, SPEC))}, SPEC, WIDE)


def from_parquet(values):
    frame = toy.rows("2024-01", len(values)).assign(sales=values)
    return judge({"a.parquet": pa.Table.from_pandas(frame, preserve_index=False)}, SPEC, WIDE)


@pytest.mark.fault(11)
def test_no_number_that_is_not_finite_escapes_and_no_finite_one_is_lost(record_figure):
    counts = {"numbers": 0, "escapes": 0, "lost": 0}

    @settings(max_examples=60, deadline=None, database=None)
    @example(numbers=[np.inf, -np.inf, np.nan, -0.0, SMALLEST, -SMALLEST, LARGEST, -LARGEST, 2.2250738585072014e-308])
    @given(numbers=st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=2, max_size=30))
    def deliver(numbers):
        if np.isnan(numbers).all():
            return
        finite = sorted(each for each in numbers if np.isfinite(each))
        for found in (from_csv([repr(each) for each in numbers]), from_parquet(numbers)):
            kept = found.good["sales"].to_numpy()
            counts["numbers"] += len(numbers)
            counts["escapes"] += int((~np.isfinite(kept)).sum())
            counts["lost"] += sorted(kept) != finite

    deliver()
    record_figure(**counts)
    assert (counts["escapes"], counts["lost"]) == (0, 0)


@pytest.mark.fault(11)
@pytest.mark.parametrize("text", ["1e400", "-1e400", "inf", "-inf", "Infinity", "+inf", "1e309", "Inf"])
def test_texts_of_infinity_are_quarantined(text):
    found = from_csv([text, "1"])
    assert found.quarantined["rule"].to_pylist() == ["is finite"]


@pytest.mark.fault(11)
def test_pandera_alone_lets_infinity_pass():
    frame = pd.DataFrame({"sales": [1.0, np.inf]})
    assert np.isinf(CONTRACT.select_columns(["sales"]).validate(frame)["sales"]).any()
