import io
import json
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.ml.contracts import column_types, load_contract
from mlops_assets.ml.quarantine import LONGEST_VALUE, ROWS_IN_FULL
from mlops_assets.ml.reading import read
from mlops_assets.ml.validation import BrokenContractError, as_table, content_digest, judge
from mlops_assets_tests import toy

SPEC = toy.spec("landing")
CONTRACT = load_contract(SPEC.contract)
JANUARY = (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC))
TIME = "is from 2024-01-01 00:00 to before 2024-02-01 00:00 UTC"


def delivered(frame, contract=CONTRACT, spec=SPEC):
    """A frame as it is read when it is delivered as CSV."""
    content = io.BytesIO(frame.to_csv(index=False).encode())
    return read(content, "a.csv", spec.source, column_types(contract, spec))


def judged(frame, contract=CONTRACT, window=JANUARY):
    return judge({"a.csv": delivered(frame, contract)}, SPEC, contract, window)


def rows(**cells):
    """Five good rows, with the cells of the third row (number 3) replaced."""
    frame = toy.rows("2024-01", 5).astype(object)
    for name, value in cells.items():
        frame.loc[2, name] = value
    return frame


def test_good_rows_are_kept_in_order_of_time_and_typed_as_the_contract_says():
    frame = toy.rows("2024-01", 50)
    found = judged(frame.sample(frac=1, random_state=1))

    assert found.good.dtypes.astype(str).to_dict() == {
        "event_time": "datetime64[us, UTC]",
        "kind": "category",
        "price": "float64",
        "wind": "float64",
        "sales": "float64",
    }
    assert found.good["event_time"].is_monotonic_increasing
    assert sorted(found.good["price"]) == pytest.approx(sorted(frame["price"]))
    assert (found.rows_in, found.quarantined.num_rows, found.broken, found.bad_share) == (50, 0, (), 0)


@pytest.mark.parametrize(
    ("column", "cell", "rule", "shown"),
    [
        ("price", 100.5, "less_than_or_equal_to(100)", "100.5"),
        ("price", -0.5, "greater_than_or_equal_to(0)", "-0.5"),
        ("price", "cheap", "is a number", "cheap"),
        ("price", "1,5", "is a number", "1,5"),
        ("price", None, "is not missing", None),
        ("price", "1e400", "is finite", "inf"),
        ("wind", "inf", "is finite", "inf"),
        ("wind", "-inf", "is finite", "-inf"),
        ("kind", "d", "isin(['a', 'b', 'c'])", "d"),
        ("kind", None, "is not missing", None),
        ("kind", "a\u200b", "holds no control or invisible characters", "a\u200b"),
        ("ts", "2024-02-01", TIME, "2024-02-01"),
        ("ts", "2023-12-31 23:59:59", TIME, "2023-12-31 23:59:59"),
        ("ts", "2041-01-15", TIME, "2041-01-15"),
        ("ts", "1970-01-01", TIME, "1970-01-01"),
        ("ts", "soon", "is a time (ISO 8601)", "soon"),
        ("ts", None, "is not missing", None),
    ],
)
def test_a_broken_cell_quarantines_its_row_with_column_rule_value_and_number(column, cell, rule, shown):
    found = judged(rows(**{column: cell}))

    name = "event_time" if column == "ts" else column
    (row,) = found.quarantined.to_pylist()
    assert (row["file"], row["row_number"], row["column"], row["rule"], row["value"]) == ("a.csv", 3, name, rule, shown)
    assert json.loads(row["reasons"]) == [f"{name}: {rule}"]
    assert len(found.good) == 4
    (broken,) = found.broken
    assert (broken.column, broken.rule, broken.count, broken.rows) == (name, rule, 1, (3,))


@pytest.mark.parametrize(
    "cells",
    [
        {"price": 0},
        {"price": 100},
        {"price": "1e-400"},
        {"price": "-0"},
        {"price": "5e-324"},
        {"price": " 7.5 "},
        {"wind": None},
        {"wind": "NaN"},
        {"ts": "2024-01-01"},
        {"ts": "2024-01-31 23:59:59"},
    ],
)
def test_a_cell_at_the_border_of_its_rules_is_kept(cells):
    assert len(judged(rows(**cells)).good) == 5


def test_every_rule_that_a_row_breaks_is_a_reason():
    (row,) = judged(rows(kind="zz", price=500, wind="strong", ts="never")).quarantined.to_pylist()
    assert set(json.loads(row["reasons"])) == {
        "kind: isin(['a', 'b', 'c'])",
        "price: less_than_or_equal_to(100)",
        "wind: is a number",
        "event_time: is a time (ISO 8601)",
    }


def test_a_quarantined_row_is_kept_as_it_was_delivered():
    (row,) = judged(rows(price="1e400", kind="zz")).quarantined.to_pylist()
    kept = json.loads(row["row"])
    assert list(kept) == ["ts", "kind", "price", "wind", "sales"]
    assert (kept["kind"], kept["price"]) == ("zz", "inf")


def test_long_values_are_cut_short():
    (row,) = judged(rows(kind="z" * 5000)).quarantined.to_pylist()
    assert row["value"] == "z" * LONGEST_VALUE


def test_personal_values_never_leave_the_raw_bytes():
    personal = CONTRACT.update_column("kind", metadata={"pii": "direct"})
    found = judged(rows(kind="Ada Lovelace", price=-1), personal)
    assert "Ada" not in str(found.quarantined.to_pylist())
    assert "Ada" not in str(found.broken)
    assert found.quarantined["value"].to_pylist() == ["(personal)"]


def test_row_numbers_count_within_each_file():
    tables = {
        "a.csv": delivered(rows()),
        "b.csv": delivered(rows(price=500)),
        "c.csv": delivered(rows(kind="zz", price=-1)),
    }
    found = judge(tables, SPEC, CONTRACT, JANUARY)

    places = [(row["file"], row["row_number"], row["value"]) for row in found.quarantined.to_pylist()]
    assert places == [("b.csv", 3, "500"), ("c.csv", 3, "zz")]
    assert sorted((each.file, each.column, each.count, each.rows) for each in found.broken) == [
        ("b.csv", "price", 1, (3,)),
        ("c.csv", "kind", 1, (3,)),
        ("c.csv", "price", 1, (3,)),
    ]
    assert len(found.good) == 13


def test_files_that_read_as_different_types_are_judged_together():
    found = judge({"a.csv": delivered(rows()), "b.csv": delivered(rows(price="abc"))}, SPEC, CONTRACT, JANUARY)
    assert len(found.good) == 9
    assert str(found.good["price"].dtype) == "float64"


def test_rows_beyond_the_bound_are_found_by_file_and_number_only():
    frame = toy.rows("2024-01", ROWS_IN_FULL + 5).assign(price=-1.0)
    found = judged(frame)
    texts = found.quarantined["row"]
    assert (found.quarantined.num_rows, texts.null_count) == (len(frame), 5)
    assert found.quarantined["row_number"].to_pylist() == list(range(1, len(frame) + 1))


def without(frame, name):
    return frame.drop(columns=name)


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (without(toy.rows("2024-01"), "wind"), "missing columns: 'wind'"),
        (toy.rows("2024-01").rename(columns={"wind": "Wind"}), "missing columns: 'wind'.*does not have: 'Wind'"),
        (toy.rows("2024-01").assign(extra=1), "columns that the contract does not have: 'extra'"),
        (toy.rows("2024-01").assign(wind=None, sales=None), "'sales' holds nothing at all, and it must not be missing"),
        (toy.rows("2024-01").assign(ts=None), "'event_time' holds nothing at all"),
    ],
)
def test_a_delivery_with_the_wrong_columns_is_refused_as_a_whole(frame, why):
    with pytest.raises(BrokenContractError, match=why):
        judged(frame)


def test_a_column_of_nulls_that_may_be_missing_is_kept():
    assert judged(toy.rows("2024-01").assign(wind=None)).good["wind"].isna().all()


def test_a_column_of_another_type_is_refused_as_a_whole():
    table = delivered(toy.rows("2024-01", 3))
    flags = table.set_column(table.schema.get_field_index("price"), "price", pa.array([True, False, True]))
    with pytest.raises(BrokenContractError, match="column 'price' holds bool where numbers are declared"):
        judge({"a.parquet": flags}, SPEC, CONTRACT, JANUARY)


def test_columns_named_twice_are_refused():
    table = delivered(toy.rows("2024-01", 3))
    with pytest.raises(BrokenContractError, match="columns named twice: 'price'"):
        judge({"a.parquet": table.append_column("price", table.column("price"))}, SPEC, CONTRACT, JANUARY)


def test_no_rows_are_called_empty_where_pandera_lets_them_pass():
    empty = delivered(toy.rows("2024-01", 3)).slice(0, 0)
    CONTRACT.validate(empty.to_pandas().assign(event_time=pd.Series(dtype="datetime64[us, UTC]")).drop(columns="ts"))
    with pytest.raises(BrokenContractError, match="EMPTY"):
        judge({"a.csv": empty}, SPEC, CONTRACT, JANUARY)


def test_a_file_without_its_header_is_refused_without_quoting_it():
    table = delivered(toy.rows("2024-01", 3)).rename_columns(["Ada", "Lovelace", "1815", "London", "x"])
    with pytest.raises(BrokenContractError, match="none of the expected columns") as refusal:
        judge({"a.csv": table}, SPEC, CONTRACT, JANUARY)
    assert "Ada" not in str(refusal.value)


def test_a_thousand_wrong_columns_make_a_short_message():
    table = delivered(toy.rows("2024-01", 3))
    for number in range(1000):
        table = table.append_column(f"column {number} {'x' * 100}", pa.nulls(3))
    with pytest.raises(BrokenContractError, match="and 980 more") as refusal:
        judge({"a.csv": table}, SPEC, CONTRACT, JANUARY)
    assert len(str(refusal.value)) < 2000


def test_the_order_of_columns_does_not_matter():
    frame = toy.rows("2024-01", 20)
    usual, other = judged(frame), judged(frame[frame.columns[::-1]])
    assert content_digest(as_table(usual.good)) == content_digest(as_table(other.good))


def with_columns(**columns):
    """The toy contract with more columns, and a judge of frames that have them."""
    contract = CONTRACT.add_columns(columns)
    return lambda **values: judged(toy.rows("2024-01", 5).astype(object).assign(**values), contract)


def test_whole_numbers_are_kept_exactly_and_fractions_quarantined():
    judge_counts = with_columns(count=pandera.Column("int64"))
    found = judge_counts(count=["9007199254740993", "3.0", "3.5", "many", "99999999999999999999"])
    assert found.good["count"].tolist() == [9007199254740993, 3]
    assert str(found.good["count"].dtype) == "int64"
    assert {each.rule: each.count for each in found.broken} == {"is a whole number": 3}


def test_whole_numbers_that_do_not_fit_are_quarantined_where_a_cast_would_wrap_them():
    assert np.array([300]).astype("int8")[0] == 44
    found = with_columns(small=pandera.Column("int8"))(small=[1, 127, 128, -129, 300])
    assert found.good["small"].tolist() == [1, 127]
    assert found.good["small"].dtype == "int8"


def test_numbers_too_large_for_a_narrow_float_are_quarantined():
    found = with_columns(narrow=pandera.Column("float32"))(narrow=[1.5, 3e38, 4e38, -4e38, 0])
    assert found.quarantined["row_number"].to_pylist() == [3, 4]


def test_missing_whole_numbers_stay_missing_where_they_may():
    found = with_columns(n=pandera.Column("Int64", nullable=True))(n=[1, None, 3, None, "x"])
    assert found.good["n"].tolist() == [1, pd.NA, 3, pd.NA]
    assert found.quarantined["value"].to_pylist() == ["x"]


def test_true_and_false_are_read_from_words_and_digits():
    found = with_columns(flag=pandera.Column(bool))(flag=["true", "FALSE", "1", "0", "maybe"])
    assert found.good["flag"].tolist() == [True, False, True, False]
    assert found.quarantined["rule"].to_pylist() == ["is true or false"]


def test_a_value_outside_declared_categories_is_quarantined_where_a_cast_would_lose_it():
    sizes = pd.CategoricalDtype(["s", "m"], ordered=True)
    assert pd.Series(["s", "xl"]).astype(sizes).isna().tolist() == [False, True]
    found = with_columns(size=pandera.Column(sizes, nullable=True))(size=["s", "m", "xl", None, "s"])
    assert found.good["size"].dtype == sizes
    assert found.quarantined["value"].to_pylist() == ["xl"]


def test_plain_text_columns_are_text():
    found = with_columns(note=pandera.Column(str, nullable=True))(note=["x", "y", None, "bell\a", "z"])
    assert found.good["note"].fillna("missing").tolist() == ["x", "y", "missing", "z"]
    assert found.good["note"].dtype == object


def test_names_in_either_unicode_form_are_one_category():
    found = with_columns(town=pandera.Column("category"))(
        town=["Orl\u00e9ans", "Orle\u0301ans", "Nice", "Nice", "Nice"]
    )
    assert sorted(found.good["town"].cat.categories) == ["Nice", "Orl\u00e9ans"]


def test_other_times_are_moments_too():
    found = with_columns(paid=pandera.Column(pd.DatetimeTZDtype("us", "UTC"), nullable=True))(
        paid=["2020-01-01", None, "2020-01-01T00:00:00Z", "later", "2020-01-01"]
    )
    assert found.quarantined["row_number"].to_pylist() == [4]
    assert found.good["paid"].notna().sum() == 3


def test_a_check_over_several_columns_quarantines_the_rows_that_break_it():
    at_most = pandera.Check(lambda frame: frame["price"] <= frame["sales"], name="price is at most sales")
    contract = pandera.DataFrameSchema(CONTRACT.columns, checks=at_most, strict=True, coerce=True)
    found = judged(rows(price=50, sales=49).assign(price=[1, 2, 50, 2, 1], sales=[1, 2, 49, 3, 4]), contract)
    (row,) = found.quarantined.to_pylist()
    assert (row["row_number"], row["column"], row["rule"], row["value"]) == (3, "", "price is at most sales", None)
    assert json.loads(row["reasons"]) == ["price is at most sales"]


def test_a_rule_about_all_rows_together_refuses_the_delivery_by_name():
    mean = pandera.Check(lambda column: column.mean() < 10, name="costs less than 10 on average")
    dear = CONTRACT.update_column("price", checks=[mean])
    with pytest.raises(BrokenContractError, match="price: costs less than 10 on average"):
        judged(toy.rows("2024-01"), dear)


@pytest.mark.parametrize(("report", "kept"), [("all", 3), ("exclude_first", 4), ("exclude_last", 4)])
def test_rows_that_stand_twice_are_quarantined_as_the_contract_says(report, kept):
    unique = CONTRACT.update_column("event_time", unique=True, report_duplicates=report)
    frame = rows()
    frame["ts"] = ["2024-01-01", "2024-01-02", "2024-01-02", "2024-01-03", "2024-01-04"]
    assert len(judged(frame, unique).good) == kept


def test_a_row_that_is_broken_anyway_is_no_ones_double():
    unique = CONTRACT.update_column("event_time", unique=True)
    frame = rows(price=-1)
    frame["ts"] = ["2024-01-01", "2024-01-02", "2024-01-02", "2024-01-03", "2024-01-04"]
    assert judged(frame, unique).quarantined["row_number"].to_pylist() == [3]


def test_the_same_rows_have_the_same_digest_and_others_another():
    digests = [content_digest(as_table(judged(toy.rows("2024-01", 30, seed)).good)) for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_the_input_is_left_alone():
    table = delivered(rows(price=-1))
    before = table.to_pylist()
    judge({"a.csv": table}, SPEC, CONTRACT, JANUARY)
    assert table.to_pylist() == before


BREAKING = {
    "price": st.sampled_from([-1, 100.01, 1e9, "x", None, "inf", "1e400"]),
    "kind": st.sampled_from(["d", "A", "a\u200b", "a ", "\u0430", None]),
    "sales": st.sampled_from([-0.001, "ten", None, "-inf"]),
    "wind": st.sampled_from([51, -51, "calm", "inf"]),
    "ts": st.sampled_from(["never", None, "2041-01-01", "1970-01-01", "2024-01-15T10:00:00+05:00"]),
}
HARMLESS = {
    "price": st.floats(0, 100),
    "kind": st.sampled_from(["a", "b", "c"]),
    "sales": st.floats(0, 1e300),
    "wind": st.one_of(st.none(), st.floats(-50, 50)),
    "ts": st.datetimes(datetime(2024, 1, 1), datetime(2024, 1, 31, 23)).map(lambda each: each.isoformat(" ")),  # noqa: DTZ001
}


def mutations(cells):
    cell = st.sampled_from(list(cells)).flatmap(lambda name: st.tuples(st.integers(0, 39), st.just(name), cells[name]))
    return st.lists(cell, max_size=12)


@settings(max_examples=60, deadline=None)
@given(harmless=mutations(HARMLESS), breaking=mutations(BREAKING))
def test_exactly_the_broken_rows_are_quarantined(harmless, breaking):
    frame = toy.rows("2024-01", 40).astype(object)
    for row, name, value in [*harmless, *breaking]:
        frame.loc[row, name] = value

    found = judged(frame)

    broken = {row + 1 for row, _, _ in breaking}
    assert set(found.quarantined["row_number"].to_pylist()) == broken
    assert found.rows_in == len(found.good) + found.quarantined.num_rows == 40
    assert bool(found.broken) == bool(broken)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.one_of(st.floats(), st.text(max_size=8), st.integers(), st.none()), min_size=1, max_size=20),
    names=st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=20),
)
def test_whatever_is_delivered_rows_in_are_rows_good_and_rows_quarantined(values, names):
    count = min(len(values), len(names))
    table = pa.table(
        {
            "ts": ["2024-01-05"] * count,
            "kind": pa.array(names[:count]),
            "price": pa.array([None if each is None else str(each) for each in values[:count]], pa.string()),
            "wind": pa.array([each if isinstance(each, float) else None for each in values[:count]], pa.float64()),
            "sales": [1.0] * count,
        }
    )
    if table.column("price").null_count == count:
        return
    found = judge({"a": table}, SPEC, CONTRACT, JANUARY)
    assert found.rows_in == len(found.good) + found.quarantined.num_rows == count
    assert np.isfinite(found.good[["price", "sales"]].to_numpy()).all()
    assert set(found.good["kind"]) <= {"a", "b", "c"}
