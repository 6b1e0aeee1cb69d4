import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.resources.blobs import CorruptBytesError
from mlops_assets.resources.tables import ChangedTypeError, Tables
from mlops_assets_tests.s3 import s3_server


@pytest.fixture
def tables(tmp_path):
    return Tables(root=str(tmp_path))


@pytest.fixture
def s3_root(monkeypatch):
    with s3_server(monkeypatch, "mlops-tables") as uri:
        yield f"{uri}/home"


def rows(count, first=0, **columns):
    return pa.table({"x": np.arange(first, first + count), **columns})


def stored(tables):
    return DeltaTable(tables.uri("m", "a")).to_pyarrow_table().to_pandas()


def test_what_is_written_is_read_back_in_its_order(tables):
    written = rows(1000, kind=pa.array(["b", None, "a", "b"] * 250), share=np.linspace(0, 1, 1000))
    commit = tables.write("m", "a", "2024-01-01", written)

    read = tables.read("m", "a", commit.files)

    assert read["x"].tolist() == list(range(1000))
    assert read["kind"].dtype == "category"
    assert read["kind"].astype(object).where(read["kind"].notna(), None).tolist() == ["b", None, "a", "b"] * 250
    assert read["share"].tolist() == written["share"].to_pylist()


def test_times_come_back_in_utc(tables):
    times = pd.date_range("2024-03-31", periods=3, freq="h", tz="Europe/Berlin").as_unit("us")
    commit = tables.write("m", "a", "p", pa.table({"t": pa.array(times)}))

    read = tables.read("m", "a", commit.files)

    assert str(read["t"].dtype) == "datetime64[us, UTC]"
    assert read["t"].tolist() == times.tz_convert("UTC").tolist()


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_times_of_every_unit_are_stored_to_the_microsecond(tables, unit, zone):
    times = pd.date_range("2024-03-31", periods=3, freq="h", tz=zone).as_unit(unit)
    tables.write("m", "a", "p", rows(1))
    commit = tables.write("m", "a", "q", pa.table({"t": pa.array(times)}))

    assert tables.read("m", "a", commit.files)["t"].tolist() == list(times)
    assert stored(tables)["t"].dropna().tolist() == list(times)


def test_numbers_and_dates_are_stored_as_what_delta_lake_has(tables):
    written = pa.table({"u": pa.array([7], pa.uint64()), "d": pa.array([86_400_000], pa.date64())})
    tables.write("m", "a", "p", written)
    assert pa.schema(DeltaTable(tables.uri("m", "a")).schema().to_arrow()).field("u").type == pa.int64()
    assert stored(tables)["u"].tolist() == [7]


def test_only_the_columns_asked_for_are_read_in_the_order_asked_for(tables):
    commit = tables.write("m", "a", "p", rows(2, y=[1.5, 2.5], z=[True, False]))
    assert list(tables.read("m", "a", commit.files, ["z", "x"]).columns) == ["z", "x"]


def test_a_column_that_no_file_has_is_refused_by_name(tables):
    commit = tables.write("m", "a", "p", rows(2))
    with pytest.raises(KeyError, match="nothing_of_the_kind"):
        tables.read("m", "a", commit.files, ["nothing_of_the_kind"])


def test_files_are_read_together_with_their_categories_united(tables):
    one = tables.write("m", "a", "p1", rows(2, kind=["a", "b"]))
    two = tables.write("m", "a", "p2", rows(2, 2, kind=["c", "a"]))

    read = tables.read("m", "a", {**one.files, **two.files})

    assert read["kind"].tolist() == ["a", "b", "c", "a"]
    assert set(read["kind"].cat.categories) == {"a", "b", "c"}


def test_writing_a_partition_again_replaces_it_and_no_other(tables):
    tables.write("m", "a", "p1", rows(3))
    before = tables.write("m", "a", "p2", rows(5))
    after = tables.write("m", "a", "p2", rows(2, first=100))

    assert after.version > before.version
    assert stored(tables).sort_values("x")["x"].tolist() == [0, 1, 2, 100, 101]


def test_the_files_of_an_earlier_commit_still_read_as_they_were(tables):
    before = tables.write("m", "a", "p", rows(3))
    tables.write("m", "a", "p", rows(2, first=100))
    assert tables.read("m", "a", before.files)["x"].tolist() == [0, 1, 2]


def test_no_rows_remove_the_partition(tables):
    tables.write("m", "a", "p1", rows(3))
    tables.write("m", "a", "p2", rows(1, first=9))
    commit = tables.write("m", "a", "p1", rows(0))

    assert commit.files == {}
    assert stored(tables)["x"].tolist() == [9]


def test_no_rows_for_a_partition_that_has_none_change_nothing(tables):
    before = tables.write("m", "a", "p1", rows(3))
    assert tables.write("m", "a", "p2", rows(0)) == (before.version, {})


def test_a_new_column_joins_the_table_and_is_missing_in_earlier_rows(tables):
    before = tables.write("m", "a", "p1", rows(2))
    after = tables.write("m", "a", "p2", rows(2, first=2, new=[0.5, 0.75]))

    read = tables.read("m", "a", {**before.files, **after.files})

    assert read["new"].isna().tolist() == [True, True, False, False]
    assert stored(tables)["new"].isna().sum() == 2


def test_a_column_of_another_type_is_refused_where_delta_would_cut_it(tables, tmp_path):
    halves = pa.table({"x": [1.5, 2.5]})
    write_deltalake(tmp_path / "unguarded", rows(1))
    write_deltalake(tmp_path / "unguarded", halves, mode="append", schema_mode="merge")
    assert set(DeltaTable(tmp_path / "unguarded").to_pyarrow_table()["x"].to_pylist()) == {0, 1, 2}

    tables.write("m", "a", "p1", rows(1))
    with pytest.raises(ChangedTypeError, match="column 'x' is int64 in the table and double"):
        tables.write("m", "a", "p2", halves)


@pytest.mark.parametrize("partition", ["", "a b", "x'; DROP", "../up", "a/b", "é", "x" * 129])
def test_a_partition_that_is_no_key_is_refused(tables, partition):
    with pytest.raises(ValueError, match="is not a partition key"):
        tables.write("m", "a", partition, rows(1))


@settings(max_examples=25, deadline=None)
@given(key=st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9_-]{0,18}(\.[A-Za-z0-9_-]{1,3})?", fullmatch=True))
def test_every_key_is_its_own_partition(tmp_path_factory, key):
    tables = Tables(root=str(tmp_path_factory.mktemp("tables")))
    tables.write("m", "a", "other", rows(1, first=7))
    commit = tables.write("m", "a", f"{key}-", rows(2))

    assert tables.read("m", "a", commit.files)["x"].tolist() == [0, 1]
    assert len(stored(tables)) == 3


def test_a_file_that_is_gone_is_reported_by_name(tables, tmp_path):
    commit = tables.write("m", "a", "p", rows(2))
    (file,) = commit.files
    (tmp_path / "tables/m/a" / file).unlink()
    with pytest.raises(CorruptBytesError, match=f"{file} is gone"):
        tables.read("m", "a", commit.files)


@pytest.mark.parametrize("partition_of", [lambda writer: f"p{writer}", lambda writer: "shared"])
def test_writers_at_once_lose_nothing_even_while_the_table_is_new(tables, partition_of):
    start, commits = threading.Barrier(8), {}

    def write(writer):
        start.wait()
        commits[writer] = tables.write("m", "a", partition_of(writer), rows(3, first=10 * writer))

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()

    last = {partition_of(writer): writer for writer in sorted(commits, key=lambda each: commits[each].version)}
    assert len(commits) == 8
    assert sorted(stored(tables)["x"]) == sorted(10 * writer + each for writer in last.values() for each in range(3))
    for writer, commit in commits.items():
        assert tables.read("m", "a", commit.files)["x"].tolist() == [10 * writer, 10 * writer + 1, 10 * writer + 2]


def test_who_read_the_table_before_another_wrote_to_it_looks_again(tables, monkeypatch):
    tables.write("m", "a", "p1", rows(1))
    stale = DeltaTable(tables.uri("m", "a"))
    tables.write("m", "a", "p2", rows(1, first=1))
    opened = iter([stale])
    monkeypatch.setattr("mlops_assets.resources.tables._opened", lambda uri: next(opened, None) or DeltaTable(uri))

    commit = tables.write("m", "a", "p3", rows(1, first=2))

    assert commit.version == DeltaTable(tables.uri("m", "a")).version()
    assert sorted(stored(tables)["x"]) == [0, 1, 2]
    assert len(list(Path(tables.uri("m", "a")).rglob("*.parquet"))) == 3


def test_the_rows_of_a_large_partition_lie_in_groups(tables, monkeypatch):
    monkeypatch.setattr("mlops_assets.resources.tables.ROW_GROUP_ROWS", 400)
    commit = tables.write("m", "a", "p", rows(1000, kind=["a", "b"] * 500))
    (file,) = commit.files
    found = pq.ParquetFile(Path(tables.uri("m", "a"), file)).metadata
    assert [found.row_group(number).num_rows for number in range(found.num_row_groups)] == [400, 400, 200]
    assert tables.read("m", "a", commit.files)["x"].tolist() == list(range(1000))


def test_other_engines_see_the_table_as_delta_lake(tables):
    tables.write("m", "a", "p", rows(2, kind=pa.array(["a", "b"]).dictionary_encode()))
    found = stored(tables)
    assert found["partition"].tolist() == ["p", "p"]
    assert found["kind"].tolist() == ["a", "b"]


def test_numbers_are_not_dictionary_encoded_and_text_is(tables, tmp_path):
    commit = tables.write("m", "a", "p", rows(100, kind=["a", "b"] * 50))
    (file,) = commit.files
    group = pq.ParquetFile(tmp_path / "tables/m/a" / file).metadata.row_group(0)
    encodings = {group.column(each).path_in_schema: group.column(each).encodings for each in range(2)}
    assert "RLE_DICTIONARY" in encodings["kind"]
    assert "RLE_DICTIONARY" not in encodings["x"]


def test_tables_live_on_object_stores_too(s3_root):
    tables = Tables(root=s3_root)
    tables.write("m", "a", "p1", rows(3, kind=["a", "b", "a"]))
    commit = tables.write("m", "a", "p1", rows(2, first=5, kind=["b", "b"]))

    read = tables.read("m", "a", commit.files, ["x", "kind"])

    assert read["x"].tolist() == [5, 6]
    assert read["kind"].tolist() == ["b", "b"]


def test_writers_at_once_on_an_object_store_lose_nothing(s3_root):
    """The first writers make the table: those who lose that race too are a third of all rounds."""
    for number in range(10):
        tables, start = Tables(root=f"{s3_root}/{number}"), threading.Barrier(3)

        def write(writer, tables=tables, start=start):
            start.wait()
            return tables.write("m", "a", f"p{writer}", rows(2, first=10 * writer))

        with ThreadPoolExecutor(3) as pool:
            commits = list(pool.map(write, range(3)))

        assert sorted(stored(tables)["x"]) == [0, 1, 10, 11, 20, 21]
        assert sorted(commit.version for commit in commits) == [1, 2, 3]
