from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_assets.ml.reading import UnreadableFileError, extract, read
from mlops_assets.ml.spec import FileSource, Value
from mlops_assets.resources.blobs import Blobs, CorruptBytesError
from mlops_assets.resources.records import Records

FLIPS = 200
TABLE = pa.table({"kind": [f"kind {number % 7}" for number in range(3000)], "price": [n / 7 for n in range(3000)]})


class Note(Value):
    """Something stored."""

    text: str
    number: float


def flipped(content, rng):
    at, bit = int(rng.integers(len(content))), int(rng.integers(8))
    return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]


def only_file(root):
    [path] = [path for path in Path(root).rglob("*") if path.is_file()]
    return path


def silent(path, load, refusals, seed):
    """How many of FLIPS flipped bits are read back without a word."""
    good, rng, missed = path.read_bytes(), np.random.default_rng(seed), 0
    for _ in range(FLIPS):
        path.write_bytes(flipped(good, rng))
        try:
            load()
        except refusals:
            continue
        missed += 1
    path.write_bytes(good)
    load()
    return missed


@pytest.mark.fault(2)
def test_no_flipped_bit_in_a_stored_blob_is_read_in_silence(tmp_path, record_figure):
    blobs = Blobs(root=str(tmp_path))
    sha256 = blobs.put_bytes(extract(TABLE))
    missed = silent(only_file(tmp_path), lambda: blobs.read(sha256), CorruptBytesError, seed=1)
    record_figure(artifact="blob", flips=FLIPS, silent=missed)
    assert missed == 0


@pytest.mark.fault(2)
def test_no_flipped_bit_in_a_record_is_read_in_silence(tmp_path, record_figure):
    records = Records(root=str(tmp_path))
    records.put("toy", "notes", Note(text="all is well" * 30, number=0.1))
    missed = silent(only_file(tmp_path), lambda: records.get(Note, "toy", "notes"), CorruptBytesError, seed=2)
    record_figure(artifact="record", flips=FLIPS, silent=missed)
    assert missed == 0


@pytest.mark.fault(2)
def test_the_pages_of_an_extract_notice_by_themselves_what_plain_parquet_does_not(tmp_path, record_figure):
    plain, ours = tmp_path / "plain.parquet", tmp_path / "ours.parquet"
    pq.write_table(TABLE, plain)
    ours.write_bytes(extract(TABLE))
    source = FileSource(uri="", files=("*",))

    def same_rows(path, load):
        def loaded():
            if load().to_pydict() == TABLE.to_pydict():
                raise UnreadableFileError(path.name, "is as it was")

        good = path.read_bytes()
        rng, missed = np.random.default_rng(3), 0
        for _ in range(FLIPS):
            path.write_bytes(flipped(good, rng))
            try:
                loaded()
            except (UnreadableFileError, OSError, pa.ArrowException, UnicodeDecodeError):
                continue
            missed += 1
        return missed

    def ours_loaded():
        with ours.open("rb") as stream:
            return read(stream, ours.name, source)

    unguarded = same_rows(plain, lambda: pq.read_table(plain))
    guarded = same_rows(ours, ours_loaded)
    record_figure(artifact="parquet pages", flips=FLIPS, silent=guarded, silent_without_checksums=unguarded)
    assert unguarded > FLIPS / 4
    assert guarded == 0
