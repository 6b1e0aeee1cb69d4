"""Row 9: a partition without rows."""

import io

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_assets.ml.contracts import load_contract
from mlops_assets_tests import toy
from mlops_assets_tests.faults.deliveries import inspected

SPEC = toy.spec("landing", source={"uri": "landing", "files": ["shop-{partition:%Y-%m}.parquet"]})


def no_rows():
    content = io.BytesIO()
    frame = toy.rows("2024-01", 3).iloc[:0]
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), content)
    return content.getvalue()


@pytest.mark.fault(9)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("shop.parquet", no_rows()),
        ("shop.csv", b"ts,kind,price,wind,sales\n"),
        ("shop.csv", b""),
        ("shop.csv", b"\n\n"),
    ],
)
def test_a_delivery_without_rows_is_refused_and_never_green(name, content, tmp_path, record_figure):
    found = inspected(tmp_path, SPEC, {name: content})

    record_figure(file=name, bytes=len(content), refused=found.refused["2024-01-01"])
    assert found.validated == {}
    assert "empty" in found.refused["2024-01-01"] or "no rows" in found.refused["2024-01-01"]


@pytest.mark.fault(9)
def test_pandera_alone_lets_no_rows_pass():
    contract = load_contract(SPEC.contract)
    empty = pd.DataFrame({name: pd.Series(dtype=str(column.dtype)) for name, column in contract.columns.items()})
    assert contract.validate(empty).empty
