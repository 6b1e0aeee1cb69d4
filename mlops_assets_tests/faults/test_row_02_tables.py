"""Row 2: bits of a stored table rot."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_assets.resources.blobs import CorruptBytesError
from mlops_assets.resources.tables import Tables

FLIPS = 200


def unguarded(content, truth):
    """What plain pyarrow makes of the bytes: the same rows, other rows without a word, or an error."""
    try:
        read = pq.read_table(pa.BufferReader(content)).to_pandas()
    except (pa.ArrowException, OSError, ValueError):
        return "error"
    return "same" if read.equals(truth) else "silent"


@pytest.mark.fault(2)
def test_no_flipped_bit_of_a_table_is_read_in_silence(tmp_path, record_figure):
    random = np.random.default_rng(2)
    tables = Tables(root=str(tmp_path))
    kinds = random.choice(["a", "b", "c"], 500)
    commit = tables.write("m", "a", "p", pa.table({"x": random.normal(size=500), "n": np.arange(500), "kind": kinds}))
    (file,) = commit.files
    path = tmp_path / "tables/m/a" / file
    sound = path.read_bytes()
    truth = pq.read_table(pa.BufferReader(sound)).to_pandas()

    silent, named, without_guard = 0, 0, []
    for bit in random.choice(len(sound) * 8, FLIPS, replace=False):
        flipped = bytearray(sound)
        flipped[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(flipped)
        without_guard.append(unguarded(bytes(flipped), truth))
        try:
            tables.read("m", "a", commit.files)
            silent += 1
        except CorruptBytesError as error:
            named += file in str(error) and commit.files[file] in str(error)
    path.write_bytes(sound)

    baseline = pd.Series(without_guard).value_counts().to_dict()
    record_figure(artifact="table", silent_loads=silent, flips=FLIPS, unguarded=baseline)
    assert (silent, named) == (0, FLIPS)
    assert baseline["silent"] > FLIPS / 2
    assert len(tables.read("m", "a", commit.files)) == 500
