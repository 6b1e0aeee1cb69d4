import hashlib
import io
import json
from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest

from mlops_assets.ml.reading import UnreadableFileError, read
from mlops_assets_tests import toy
from mlops_assets_tests.resources.test_deliveries import LONG_AGO, Shop

CUTS = 50
FRAME = toy.rows("2024-01", count=200)
TYPES = {"ts": pa.string(), "kind": pa.string(), "price": pa.float64(), "wind": pa.float64(), "sales": pa.float64()}


def parquet(frame):
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(frame), sink)
    return sink.getvalue()


WHOLE = {
    "csv": FRAME.to_csv(index=False).encode(),
    "jsonl": FRAME.to_json(orient="records", lines=True).encode(),
    "parquet": parquet(FRAME),
}


def cuts(content):
    """CUTS shorter versions of a file: cut anywhere, at row boundaries, to nothing."""
    anywhere = np.random.default_rng(1).choice(len(content) - 1, CUTS - 6, replace=False)
    boundaries = [at + 1 for at in range(len(content)) if content[at : at + 1] == b"\n"]
    chosen = [0, 1, len(content) - 1, *(boundaries[-3:-1] or [2, 3]), len(content) // 2, *anywhere.tolist()]
    return [content[:at] for at in chosen]


def refused(content, suffix, spec):
    try:
        read(io.BytesIO(content), f"shop-2024-01.{suffix}", spec.source, TYPES)
    except UnreadableFileError:
        return True
    return False


@pytest.mark.fault(1)
@pytest.mark.parametrize("suffix", WHOLE)
def test_a_cut_file_with_a_manifest_is_always_caught_and_the_others_go_on(suffix, tmp_path, record_figure):
    shop = Shop(tmp_path)
    spec = shop.spec(f"shop-{{partition:%Y-%m}}.{suffix}")
    name, whole = f"shop-2024-01.{suffix}", WHOLE[suffix]
    said = {"bytes": len(whole), "sha256": hashlib.sha256(whole).hexdigest(), "rows": len(FRAME)}
    shop.drop(f"{name}.manifest.json", json.dumps(said).encode())
    shop.drop(f"shop-2024-02.{suffix}", whole + b" ")
    caught = unguarded = 0
    for number, content in enumerate(cuts(whole)):
        shop.drop(name, content, LONG_AGO + timedelta(seconds=number))
        look, fetched = shop.look(spec), shop.fetch("2024-01-01", "2024-02-01", spec=spec)
        caught += "its manifest promises" in look.refused.get(name, "") and [*fetched.problems] == ["2024-01-01"]
        assert [*look.versions] == [*fetched.deliveries] == ["2024-02-01"]
        unguarded += refused(content, suffix, spec)
    record_figure(format=suffix, cuts=CUTS, caught=caught / CUTS, caught_without_manifest=unguarded / CUTS)
    assert caught == CUTS
    assert unguarded < CUTS or suffix == "parquet"


@pytest.mark.fault(1)
def test_without_a_manifest_no_cut_of_parquet_or_within_a_json_line_passes(tmp_path):
    spec = toy.spec(tmp_path)
    assert all(refused(content, "parquet", spec) for content in cuts(WHOLE["parquet"]))
    for content in cuts(WHOLE["jsonl"]):
        assert refused(content, "jsonl", spec) or content.count(b"{") == content.count(b"}")


@pytest.mark.fault(1)
def test_garbage_is_refused_where_a_lenient_reader_takes_it(tmp_path, record_figure):
    spec = toy.spec(tmp_path)
    random = np.random.default_rng(2)
    garbage = [random.bytes(size) for size in (1, 10, 100, 1000, 100_000)]
    missed = [suffix for suffix in WHOLE for content in garbage if not refused(content, suffix, spec)]
    record_figure(garbage=len(garbage) * len(WHOLE), accepted=len(missed))
    assert missed == []
    ragged = b"ts,kind,price,wind,sales\n2024-01-01,a,1\n"
    assert refused(ragged, "csv", spec)
    assert len(pd.read_csv(io.BytesIO(ragged))) == 1
    unclosed = b'ts,kind,price,wind,sales\n2024-01-01,"a,1,2,3\n2024-01-02,b,1,2,3\n'
    assert refused(unclosed, "csv", spec)
    assert arrow_csv.read_csv(io.BytesIO(b'a,b\n1,"x\n2,y\n')).num_rows == 1
