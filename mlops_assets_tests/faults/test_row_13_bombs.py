import gzip
import io
import json
import subprocess
import sys
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

MIB = 2**20
PEAK = """
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
"""
READ = f"""
import json, sys, time
import pyarrow.csv, pyarrow.json, pyarrow.parquet
from mlops_assets.ml.reading import UnreadableFileError, read
from mlops_assets.ml.spec import FileSource
{PEAK}
path, name = sys.argv[1:]
source = FileSource(uri="", files=("*",), max_bytes=2**28, max_rows=10**7)
before, begin, said = peak(), time.process_time(), None
try:
    with open(path, "rb") as stream:
        read(stream, name, source)
except UnreadableFileError as error:
    said = str(error)
print(json.dumps({{"said": said, "cpu": time.process_time() - begin, "mib": peak() - before}}))
"""
UNGUARDED = f"""
import gzip, json, sys
{PEAK}
before = peak()
gzip.decompress(open(sys.argv[1], "rb").read())
print(json.dumps({{"mib": peak() - before}}))
"""


def run(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def zipped(name, content):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, content)
    return archive.getvalue()


def parquet(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", **options)
    return sink.getvalue()


def many_rows():
    return parquet(pa.table({"a": np.zeros(20_000_000, np.int8)}))


def wide_cells():
    return parquet(pa.table({"a": ["x" * (16 * MIB)] * 20}), use_dictionary=False)


def nested():
    return zipped("inner.zip", zipped("a.csv", b"a\n1\n"))


BOMBS = {
    "bomb.csv.gz": (lambda: gzip.compress(b"0" * (256 * MIB), 1), "grows more than 200 times"),
    "bomb.zip": (lambda: zipped("a.csv", b"0" * (256 * MIB)), "grows more than 200 times"),
    "nested.zip": (nested, "holds an archive within the archive"),
    "rows.parquet": (many_rows, "holds 20000000 rows; source.max_rows is 10000000"),
    "cells.parquet": (wide_cells, "bytes when decoded; source.max_bytes is 268435456"),
    "wide.csv": (lambda: ",".join(map(str, range(10**6))).encode() + b"\n", "has 1000000 columns"),
    "deep.jsonl": (lambda: b'{"a":' + b"[" * 10**6 + b"]" * 10**6 + b"}", "lines that are not JSON objects"),
}


@pytest.mark.fault(13)
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_soon_and_in_little_memory(name, tmp_path, record_figure):
    make, reason = BOMBS[name]
    (tmp_path / "bomb").write_bytes(make())
    found = run(READ, tmp_path / "bomb", name)
    size = (tmp_path / "bomb").stat().st_size
    record_figure(bomb=name, bytes=size, cpu_seconds=round(found["cpu"], 3), mib=round(found["mib"]))
    assert found["said"] is not None
    assert reason in found["said"]
    assert found["cpu"] < 1
    assert found["mib"] < 200


@pytest.mark.fault(13)
def test_an_unguarded_reader_swells_with_the_bomb(tmp_path, record_figure):
    (tmp_path / "bomb").write_bytes(gzip.compress(b"0" * (256 * MIB), 1))
    found = run(UNGUARDED, tmp_path / "bomb")
    record_figure(bomb="bomb.csv.gz, unguarded", mib=round(found["mib"]))
    assert found["mib"] > 250
