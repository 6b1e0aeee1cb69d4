"""Reading a sample: its delimiter, and the numbers that mean "missing"."""

import gzip
import zipfile

import numpy as np
import pandas as pd
import pytest

from mlops_assets.scaffold.sample import SENTINELS, ScaffoldError, read_sample

ROWS = pd.DataFrame({"ts": ["2024-01-01", "2024-01-02"], "x": [1, 2]})


def sample(folder, frame):
    path = folder / "sample.csv"
    frame.to_csv(path, index=False)
    return read_sample(path)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("kind", ["csv", "csv.gz", "zip"])
def test_the_delimiter_is_found_also_within_archives(tmp_path, delimiter, kind):
    path = tmp_path / f"sample.{kind}"
    text = ROWS.to_csv(index=False, sep=delimiter).encode()
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("inner.csv", text)
    else:
        path.write_bytes(gzip.compress(text) if kind.endswith("gz") else text)
    found = read_sample(path)
    assert found.table.column_names == ["ts", "x"]
    assert found.source.delimiter == delimiter


def test_json_lines_and_parquet_are_read_too(tmp_path):
    ROWS.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    ROWS.to_parquet(tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.parquet"):
        assert read_sample(tmp_path / name).table.num_rows == 2


@pytest.mark.parametrize("sentinel", SENTINELS)
def test_a_number_far_from_all_others_that_repeats_is_a_missing_value(tmp_path, sentinel):
    values = np.where(np.arange(100) % 10 == 0, sentinel, np.linspace(1, 50, 100))
    found = sample(tmp_path, pd.DataFrame({"x": values}))
    assert found.table.column("x").null_count == 10
    assert str(sentinel) in found.source.null_values


@pytest.mark.parametrize(
    "values",
    [
        [-200, *range(50)],
        [-200, -200, *range(50)],
        [*range(-205, -100), -200, -200, -200],
        [-200, -200, -200, 5, 900],
    ],
    ids=["once", "twice", "among its neighbours", "no further away than others"],
)
def test_a_number_that_is_rare_or_near_others_is_a_number(tmp_path, values):
    assert sample(tmp_path, pd.DataFrame({"x": values})).sentinels == {}


def test_three_times_and_alone_is_the_border(tmp_path):
    found = sample(tmp_path, pd.DataFrame({"x": [-200, -200, -200, *range(50)]}))
    assert found.sentinels == {"x": ("-200",)}


def test_a_sentinel_in_one_column_that_is_a_value_in_another_is_none(tmp_path):
    frame = pd.DataFrame({"x": [-200] * 3 + list(range(50)), "y": range(-250, -197)})
    assert sample(tmp_path, frame).sentinels == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a*.csv", b"a,b\n1,2\n", "rename"),
        ("a.csv", b"", "empty"),
        ("a.csv", b"a,b\n", "no rows"),
        ("a.csv", b"a,a\n1,2\n", "same name"),
        ("a.parquet", b"PAR1", "not a whole Parquet file"),
        ("a.xlsx", b"x", "suffix"),
        ("a.zip", b"PK", "archive"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ScaffoldError, match=message):
        read_sample(tmp_path / name)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ScaffoldError, match=r"there is no file .*none\.csv"):
        read_sample(tmp_path / "none.csv")
