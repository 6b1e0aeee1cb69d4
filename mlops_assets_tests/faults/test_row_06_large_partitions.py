"""Row 6: a partition ten and a hundred times as large as usual."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_assets_tests import toy
from mlops_assets_tests.faults import forking, measured

USUAL = 20_000


def delivered(folder, rows, max_rows=10**8):
    part = pa.Table.from_pandas(toy.rows("2024-01", USUAL), preserve_index=False)
    path = folder / f"shop-{rows}.parquet"
    pq.write_table(pa.concat_tables([part] * (rows // USUAL)), path)
    [found] = forking.told(measured.main, path, max_rows)
    return found


@pytest.mark.fault(6)
def test_memory_grows_with_the_rows_and_no_faster(tmp_path, record_figure):
    sizes = [USUAL, 10 * USUAL, 100 * USUAL]
    found = {rows: delivered(tmp_path, rows) for rows in sizes}

    record_figure(
        **{f"rows_{rows}": {name: each[name] for name in ("more_mb", "seconds")} for rows, each in found.items()}
    )
    assert [each["rows_out"] for each in found.values()] == sizes
    bytes_a_row = found[sizes[2]]["more_mb"] * 2**20 / sizes[2]
    assert bytes_a_row < 400


@pytest.mark.fault(6)
def test_a_partition_above_the_stated_limit_is_refused_before_it_is_read(tmp_path, record_figure):
    found = delivered(tmp_path, 100 * USUAL, max_rows=10 * USUAL)

    record_figure(refusal_seconds=found["seconds"], refusal_mb=found["more_mb"])
    assert "source.max_rows is 200000" in found["message"]
    assert (found["rows_out"], found["rows_quarantined"]) == (0, 0)
    assert found["seconds"] < 1
    assert found["more_mb"] < 100
