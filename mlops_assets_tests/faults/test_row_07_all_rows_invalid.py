"""Row 7: every row of two million is invalid."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_assets_tests import toy
from mlops_assets_tests.faults import forking, measured

ROWS = 2_000_000
NAME = "Ada Lovelace"


def inspected_apart(folder, table):
    path = folder / "shop.parquet"
    pq.write_table(table, path)
    output, errors = forking.run(measured.main, path, 2 * ROWS)
    return json.loads(output.splitlines()[-1]), len(output) + len(errors)


def table(bad):
    frame = toy.rows("2024-01", 1000)
    if bad:
        frame = frame.assign(kind=NAME, price=1e6, sales=-1.0)
    part = pa.Table.from_pandas(frame, preserve_index=False)
    return pa.concat_tables([part] * (ROWS // 1000))


@pytest.mark.fault(7)
def test_all_rows_invalid_are_counted_in_seconds_and_little_memory_without_quoting_them(tmp_path, record_figure):
    bad, log_bytes = inspected_apart(tmp_path, table(bad=True))
    good, _ = inspected_apart(tmp_path, table(bad=False))

    message = bad.pop("message")
    record_figure(bad=bad, good=good, log_bytes=log_bytes, message_bytes=len(message))
    assert (bad["rows_quarantined"], bad["rows_out"]) == (ROWS, 0)
    assert (good["rows_quarantined"], good["rows_out"]) == (0, ROWS)
    assert f"{ROWS} of {ROWS} rows (100.00%)" in message
    assert NAME not in message
    assert len(message) < 2000
    assert log_bytes < 4000
    assert bad["cpu_seconds"] < 10
    assert bad["more_mb"] < 2 * good["more_mb"]


@pytest.mark.fault(7)
def test_pandera_alone_quotes_every_row():
    from pandera.errors import SchemaErrors

    contract = toy.Contract.to_schema().select_columns(["price"])
    frame = toy.pd.DataFrame({"price": np.full(20_000, 1e6)})
    with pytest.raises(SchemaErrors) as failure:
        contract.validate(frame, lazy=True)
    assert len(failure.value.failure_cases) == 20_000
