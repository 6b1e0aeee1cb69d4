import gzip
import io
import json
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.ml.reading import extract, read, read_text
from mlops_assets.ml.spec import FileSource, SqlSource
from mlops_assets.ml.unpacking import EXTRACT, UnreadableFileError, format_of

CATEGORY = pa.dictionary(pa.int32(), pa.string())
TYPES = {"price": pa.float64(), "count": pa.int64(), "kind": CATEGORY, "ts": pa.string()}
ROWS = {"ts": ["2024-01-01", None], "kind": ["a", "b"], "price": [1.5, -0.0], "count": [1, 2]}
CSV = b"ts,kind,price,count\n2024-01-01,a,1.5,1\nNA,b,-0.0,2\n"
JSONL = b'{"ts":"2024-01-01","kind":"a","price":1.5,"count":1}\n{"kind":"b","price":-0.0,"count":2}\n'


def source(**changes):
    return FileSource(uri="", files=("*",), **changes)


def load(content, name="shop.csv", types=None, rows=None, **changes):
    return read(io.BytesIO(content), name, source(**changes), TYPES if types is None else types, rows)


def zipped(**members):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name.replace("_", "."), content)
    return archive.getvalue()


def parquet(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("shop.csv", CSV),
        ("shop.CSV", b"\xef\xbb\xbf" + CSV.replace(b"\n", b"\r\n")),
        ("shop.csv.gz", gzip.compress(CSV)),
        ("shop.zip", zipped(shop_csv=CSV)),
        ("shop.jsonl", JSONL),
        ("shop.ndjson.gz", gzip.compress(b"\xef\xbb\xbf" + JSONL)),
        ("shop.parquet", parquet(pa.table(ROWS))),
        (
            "shop.parquet",
            parquet(pa.table({**ROWS, "price": ["1.5", " -0.0"], "kind": pa.array(["a", "b"], CATEGORY)})),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_format_gives_the_same_rows_and_types(name, content):
    table = load(content, name)
    assert table.to_pydict() == ROWS
    assert {field.name: field.type for field in table.schema} == TYPES


def test_a_declared_format_stands_above_the_name():
    assert load(CSV, "shop.data", format="csv").to_pydict() == ROWS
    assert load(CSV.replace(b",", b";"), delimiter=";").to_pydict() == ROWS
    with pytest.raises(UnreadableFileError, match=r"shop.data has the unknown suffix 'data'; known are csv"):
        load(CSV, "shop.data")


def test_our_own_extracts_are_parquet_whatever_the_source_is():
    assert format_of(f"hour.csv/2024-01-01{EXTRACT}", source(format="csv")) == "parquet"
    sql = SqlSource(url_env="SHOP", query="select 1 where :start < :end")
    assert read(io.BytesIO(extract(pa.table(ROWS))), f"2024{EXTRACT}", sql, TYPES).to_pydict() == ROWS


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("shop.csv", b"price,count\n1,1\nmuch,2\n3,2.5\n"),
        ("shop.jsonl", b'{"price":1,"count":1}\n{"price":"much","count":2}\n{"price":3,"count":2.5}\n'),
    ],
)
def test_a_column_with_a_cell_of_another_kind_stays_text_and_loses_nothing(name, content):
    table = load(content, name)
    assert table["price"].to_pylist() == ["1", "much", "3"]
    assert [float(value) for value in table["count"].to_pylist()] == [1, 2, 2.5]


@given(cells=st.lists(st.sampled_from(["1", " 2.5 ", "NA", "x", "1e400", "inf", "-7", "0x1"]), min_size=1, max_size=8))
def test_a_number_is_the_number_that_the_text_says_or_the_text_itself(cells):
    content = "price,kind\n" + "".join(f"{cell},a\n" for cell in cells)
    column = load(content.encode())["price"]
    for cell, value in zip(cells, column.to_pylist(), strict=True):
        if cell == "NA":
            assert value is None
        elif column.type == pa.float64():
            assert value == float(cell)
        else:
            assert value.strip() == cell.strip()
    assert (column.type == pa.float64()) == (not {"x", "0x1"} & set(cells))


@given(
    texts=st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip), min_size=1, max_size=5
    )
)
def test_any_text_survives_csv_and_json(texts):
    frame = pd.DataFrame({"kind": texts, "price": 1.0})
    csv = load(frame.to_csv(index=False).encode(), null_values=("",))
    assert csv["kind"].to_pylist() == texts
    lines = "".join(json.dumps({"kind": text, "price": 1.0}, ensure_ascii=False) + "\n" for text in texts)
    assert load(lines.encode(), "shop.jsonl")["kind"].to_pylist() == texts


def test_quoted_line_breaks_and_delimiters_are_part_of_the_cell():
    assert load(b'kind,price\n"a,\nb",1\n')["kind"].to_pylist() == ["a,\nb"]


def test_nameless_columns_are_dropped_when_empty_and_named_by_place_when_not():
    assert load(b"price,,\n1,,\n2,,\n").column_names == ["price"]
    assert load(b"price,,\n1,,\n2,,x\n").column_names == ["price", "column_3"]


def test_times_keep_the_text_that_was_delivered():
    content = b'{"ts":"2024-01-01T00:00:00+02:00","other":"2024-01-01T00:00:00Z"}\n'
    assert load(content, "shop.jsonl").to_pydict() == {
        "ts": ["2024-01-01T00:00:00+02:00"],
        "other": ["2024-01-01T00:00:00Z"],
    }


def test_text_reading_leaves_every_cell_as_it_was_delivered():
    table = read_text(io.BytesIO(b"price,code\n1.50,007\nNA,x\n"), "shop.csv", source())
    assert table.to_pydict() == {"price": ["1.50", None], "code": ["007", "x"]}
    assert set(table.schema.types) == {pa.string()}


def test_columns_without_a_type_are_inferred():
    assert load(b"price,code\n1.5,7\n", types={})["code"].type == pa.int64()


DEEP = b'{"price":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
TWICE = parquet(pa.table([pa.array([1]), pa.array([2])], names=["price", "price"]))
WHOLE = parquet(pa.table(ROWS))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("shop.csv", b"", "is empty"),
        ("shop.csv", b" \n\n", "is empty"),
        ("shop.csv", b"ts,kind\n", "has columns and no rows"),
        ("shop.parquet", parquet(pa.table(ROWS).slice(0, 0)), "has columns and no rows"),
        ("shop.csv", b"a,b,a\n1,2,3\n", "has columns of the same name: 'a'"),
        ("shop.parquet", TWICE, "has columns of the same name: 'price'"),
        (
            "shop.csv",
            b"a,b\n1,2\n3\n4,5\n6,7,8\n",
            "has rows with another number of fields than its header, 2 in all: row 3, 5",
        ),
        ("shop.csv", b'a,b\n1,"2\n3,4\n', "has a quoted field that is never closed"),
        ("shop.csv", b"a,b\n1,\xe9\n", "is not UTF-8 in line 2"),
        ("shop.jsonl", b'{"a":1}\n{"a":"\xff"}\n', "is not UTF-8 in line 2"),
        ("shop.csv", CSV.decode().encode("utf-16"), "is UTF-16"),
        ("shop.csv", b"a,b\n1,2\0\n", "holds a NUL byte in line 2"),
        ("shop.jsonl", b'{"a":1}\nrubbish\n{"a":\n', "has lines that are not JSON objects, 2 in all: line 2, 3"),
        ("shop.jsonl", b'{"a":1,"a":2}\n', "has lines that are not JSON objects, 1 in all: line 1"),
        ("shop.jsonl", b"[1]\n", "has lines that are not JSON objects, 1 in all: line 1"),
        ("shop.jsonl", DEEP, "has lines that are not JSON objects, 1 in all: line 1"),
        ("shop.parquet", WHOLE[:-20], "is not a whole Parquet file"),
        ("shop.parquet", b"PAR1" + b"\0" * 60 + b"PAR1", "is not a whole Parquet file"),
        ("shop.parquet", CSV, "is not a whole Parquet file"),
        ("shop.csv.gz", gzip.compress(CSV * 50)[:-12], "is not a whole .gz archive"),
        ("shop.csv.gz", CSV, "is not a whole .gz archive"),
        ("shop.zip", zipped(shop_csv=CSV)[:-9], "is not a whole .zip archive"),
        ("shop.zip", zipped(a_csv=CSV, b_csv=CSV), "holds 2 files; one is expected"),
        ("shop.zip", zipped(inner_zip=zipped(shop_csv=CSV)), "holds an archive within the archive"),
        ("shop.csv", ",".join(f"c{n}" for n in range(10_001)).encode() + b"\n", "has 10001 columns"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_cannot_be_read_whole_is_refused_by_name_with_the_reason(name, content, reason):
    with pytest.raises(UnreadableFileError) as error:
        load(content, name)
    assert str(error.value).startswith(f"{name} {reason}")
    assert str(error.value).endswith(".")


LONG_CSV = CSV + b"2024-01-02,a,2.5,3\n" * 50
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def zipped_by(method):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", method) as file:
        file.writestr("sh\xf6p.csv", LONG_CSV)
    return archive.getvalue()


ZIPPED = {method: zipped_by(method) for method in METHODS}


def outcome(content):
    """What becomes of a zip file: refused by name, the whole table, or another one."""
    try:
        table = load(content, "shop.zip")
    except UnreadableFileError as error:
        return "refused" if str(error).startswith("shop.zip ") else f"refused without its name: {error}"
    return "whole" if table.equals(load(LONG_CSV)) else "another table"


@pytest.mark.parametrize("method", METHODS)
def test_every_byte_of_a_zip_file_can_be_damaged_and_it_is_refused_or_whole(method):
    archive = ZIPPED[method]
    damaged = [
        archive[:at] + bytes([archive[at] ^ mask]) + archive[at + 1 :]
        for at in range(len(archive))
        for mask in (0x01, 0x80)
    ]
    assert {outcome(each) for each in damaged} == {"refused", "whole"}


@given(st.sampled_from(METHODS), st.dictionaries(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=1)))
def test_a_zip_file_with_some_bytes_replaced_is_refused_or_whole(method, changes):
    content = bytearray(ZIPPED[method])
    for place, byte in changes.items():
        content[int(place * len(content))] = byte[0]
    assert outcome(bytes(content)) in {"refused", "whole"}


def test_rows_are_held_to_the_promise_of_the_producer():
    assert load(CSV, rows=2).num_rows == 2
    for promised in (1, 3):
        with pytest.raises(UnreadableFileError, match=f"holds 2 rows, and its manifest promises {promised}"):
            load(CSV, rows=promised)


def test_limits_hold_exactly():
    assert load(CSV, max_bytes=len(CSV), max_rows=2).num_rows == 2
    for name, content in (("shop.csv", CSV), ("shop.csv.gz", gzip.compress(CSV))):
        with pytest.raises(UnreadableFileError, match=f"holds more than {len(CSV) - 1} bytes"):
            load(content, name, max_bytes=len(CSV) - 1)
    for name, content in (("shop.csv", CSV), ("shop.parquet", WHOLE)):
        with pytest.raises(UnreadableFileError, match=r"source\.max_rows is 1"):
            load(content, name, max_rows=1)


def test_equal_rows_make_equal_extracts_and_other_rows_others():
    table = pa.table(ROWS)
    assert extract(table) == extract(pa.concat_tables([table.slice(0, 1), table.slice(1)]))
    assert extract(table) != extract(table.slice(1))
    assert pq.read_table(io.BytesIO(extract(table))).equals(table)


def test_strings_of_parquet_arrive_as_categories_when_the_contract_says_text():
    kinds = np.random.default_rng(0).choice(["a", "b", "c"], 1000)
    table = load(parquet(pa.table({"kind": kinds, "note": kinds})), "shop.parquet")
    assert table["kind"].type == CATEGORY
    assert len(table["kind"].unify_dictionaries().chunk(0).dictionary) == 3
