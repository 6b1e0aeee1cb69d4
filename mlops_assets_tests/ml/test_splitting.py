import gzip
import io
import json
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.ml.reading import read_text
from mlops_assets.ml.spec import FileSource, Partitions, Time
from mlops_assets.ml.splitting import split
from mlops_assets.ml.unpacking import EXTRACT, UnreadableFileError

NOW = datetime(2024, 6, 15, 12, tzinfo=UTC)
MONTHLY = Partitions(every="monthly", start=date(2024, 1, 1))
SOURCE = FileSource(uri="", files=("*",))
TIME = Time(columns=("ts",))
TEXTS = ["2023-11-30", "2024-01-01", "2024-01-31T23:00", "2024-02-10", "x", "2055-01-01", ""]


def csv(texts, end="\n"):
    return ("ts,row,note\n" + "".join(f"{text},{number},1.50{end}" for number, text in enumerate(texts))).encode()


def jsonl(texts):
    return "".join(json.dumps({"ts": text or None, "row": n}) + "\n" for n, text in enumerate(texts)).encode()


def parquet(texts):
    sink = io.BytesIO()
    pq.write_table(
        pa.table({"ts": pa.array([text or None for text in texts], pa.string()), "row": range(len(texts))}), sink
    )
    return sink.getvalue()


def quoted(texts):
    return csv(texts).replace(b"1.50", b'"1\n5"')


FORMATS = {
    "hour.csv": (csv, ".csv"),
    "hour.csv.gz": (lambda texts: gzip.compress(csv(texts, "\r\n")), ".csv"),
    "hour.jsonl": (jsonl, ".jsonl"),
    "hour.parquet": (parquet, EXTRACT),
    "quoted.csv": (quoted, EXTRACT),
}


def cut(content, name="hour.csv", time=TIME, **changes):
    return split(io.BytesIO(content), name, SOURCE, time, MONTHLY, NOW, **changes)


def rows(found):
    """The rows of each part, read back."""
    tables = {key: read_text(io.BytesIO(each.content), f"x{each.suffix}", SOURCE) for key, each in found.parts.items()}
    return {key: [int(row) for row in table["row"].to_pylist()] for key, table in tables.items()}


@pytest.mark.parametrize("name", FORMATS)
def test_rows_of_every_format_are_cut_into_windows_in_their_order(name):
    make, suffix = FORMATS[name]
    found = cut(make(["2024-02-01", "2024-01-31 23:59:59", "2024-02-29", "2024-01-01"]), name)
    assert rows(found) == {"2024-01-01": [1, 3], "2024-02-01": [0, 2]}
    assert {part.suffix for part in found.parts.values()} == {suffix}


@pytest.mark.parametrize("name", FORMATS)
@given(texts=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=12))
def test_splitting_loses_no_row_and_doubles_none(name, texts):
    try:
        found = cut(FORMATS[name][0](texts), name)
    except UnreadableFileError:
        assert set(texts) <= {"x", "2055-01-01", ""}
        return
    kept = [row for each in rows(found).values() for row in each]
    assert len(set(kept)) == len(kept) == len(texts) - found.before


def test_lines_are_kept_as_they_were_delivered():
    found = cut(csv(["2024-02-01", "2024-01-05"], "\r\n")[:-2])
    assert found.parts["2024-01-01"].content == b"ts,row,note\n2024-01-05,1,1.50\n"
    assert found.parts["2024-02-01"].content == b"ts,row,note\n2024-02-01,0,1.50\r\n"


def test_blank_lines_and_quoted_line_breaks_do_not_shift_rows():
    blank = b"ts,row\n2024-01-05,0\n\n2024-02-01,1\n"
    assert rows(cut(blank)) == {"2024-01-01": [0], "2024-02-01": [1]}
    breaks = b'ts,row,note\n2024-01-05,0,"a\nb"\n2024-02-01,1,"c"\n'
    assert rows(cut(breaks)) == {"2024-01-01": [0], "2024-02-01": [1]}
    both = b'ts,row,note\n2024-01-05,0,"a\nb"\n2024-02-01,1,"c"\r2024-03-01,2,d\n2024-01-06,3,e\n'
    assert rows(cut(both)) == {"2024-01-01": [0, 3], "2024-02-01": [1], "2024-03-01": [2]}


def test_quotes_alone_do_not_change_the_lines():
    found = cut(b'"ts","row"\n"2024-01-05",0\n"2024-02-01",1\n')
    assert found.parts["2024-01-01"].content == b'"ts","row"\n"2024-01-05",0\n'


def test_an_offset_and_the_declared_zone_decide_the_window():
    berlin = Time(columns=("ts",), timezone="Europe/Berlin")
    assert [*cut(csv(["2024-02-01T00:30"]), time=berlin).parts] == ["2024-01-01"]
    assert [*cut(jsonl(["2024-02-01T00:30:00Z"]), "hour.jsonl").parts] == ["2024-02-01"]


def test_a_row_without_a_usable_time_goes_with_the_row_above_it():
    found = cut(csv(["never", "2024-01-05", "", "2041-01-01", "2024-02-01", ""]))
    assert rows(found) == {"2024-01-01": [0, 1, 2, 3], "2024-02-01": [4, 5]}


def test_rows_before_the_start_are_counted_and_left_out():
    found = cut(csv(["2023-12-31", "2024-01-01"]))
    assert (rows(found), found.before) == ({"2024-01-01": [1]}, 1)


@pytest.mark.parametrize(
    ("content", "time", "reason"),
    [
        (csv(["2024-01-01"]), Time(columns=("when", "ts")), "hour.csv lacks the time column 'when'"),
        (csv(["x", ""]), TIME, "hour.csv has no row with a usable time in ts"),
        (csv(["2024-01-01"]) + b"2024-01-02\n", TIME, "hour.csv has rows with another number of fields"),
        (csv(["2024-01-01"]) + b"\xff,1,2\n", TIME, "hour.csv is not UTF-8 in line 3"),
        (b"", TIME, "hour.csv is empty"),
    ],
)
def test_a_file_that_cannot_be_split_is_refused_by_name(content, time, reason):
    with pytest.raises(UnreadableFileError) as error:
        cut(content, time=time)
    assert str(error.value).startswith(reason)


def test_rows_are_held_to_the_promise_of_the_producer():
    assert cut(csv(["2024-01-01"]), rows=1).before == 0
    with pytest.raises(UnreadableFileError, match="its manifest promises 2"):
        cut(csv(["2024-01-01"]), rows=2)
