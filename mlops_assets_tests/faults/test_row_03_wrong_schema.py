"""Row 3: columns are missing, extra, renamed, reordered, named twice or of another type.

MLOPS_MUTATIONS says how many of each kind of frame are tried.
"""

import io
import os

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_assets.ml.contracts import column_types, load_contract
from mlops_assets.ml.reading import UnreadableFileError, read
from mlops_assets.ml.validation import BrokenContractError, judge
from mlops_assets_tests import toy

SPEC = toy.spec("landing")
CONTRACT = load_contract(SPEC.contract)
TYPES = column_types(CONTRACT, SPEC)
FRAME = toy.rows("2024-01", 12).astype({"wind": "float64"})
SECRET = "Ada Lovelace"
COLUMNS = list(FRAME.columns)
MUTATIONS = int(os.environ.get("MLOPS_MUTATIONS", "150"))

column = st.sampled_from(COLUMNS)
number = st.sampled_from(["price", "wind", "sales"])
other_name = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=',"\r\n'), min_size=1, max_size=9
)


def renamed(frame, old, new):
    return frame.rename(columns={old: new})


BAD = st.one_of(
    column.map(lambda name: FRAME.drop(columns=name)),
    other_name.filter(lambda name: name not in COLUMNS).map(lambda name: FRAME.assign(**{name: SECRET})),
    st.tuples(column, other_name).filter(lambda each: each[1] not in COLUMNS).map(lambda each: renamed(FRAME, *each)),
    column.map(lambda name: renamed(FRAME, name, name.upper())),
    st.tuples(column, column).filter(lambda each: each[0] != each[1]).map(lambda each: renamed(FRAME, *each)),
    column.map(lambda name: pd.concat([FRAME, FRAME[[name]]], axis=1)),
    number.map(lambda name: FRAME.assign(**{name: SECRET})),
    number.map(lambda name: FRAME.assign(**{name: FRAME[name].gt(0)})),
    number.map(lambda name: FRAME.assign(**{name: pd.Timestamp("2024-01-05")})),
    st.just(FRAME.assign(kind=1.5)),
    st.just(FRAME.assign(ts=1704412800)),
)
GOOD = st.one_of(
    st.permutations(COLUMNS).map(lambda names: FRAME[names]),
    st.permutations(range(len(FRAME))).map(lambda order: FRAME.iloc[order]),
    st.sampled_from(["float32", "float64"]).map(lambda width: FRAME.assign(price=FRAME["price"].astype(width))),
    st.sampled_from(["int8", "uint16", "int64"]).map(lambda width: FRAME.assign(sales=FRAME["sales"].astype(width))),
    st.just(FRAME.assign(ts=pd.to_datetime(FRAME["ts"]))),
    st.just(FRAME.assign(ts=pd.to_datetime(FRAME["ts"], utc=True))),
    st.just(FRAME.assign(price=FRAME["price"].astype(str))),
    st.just(FRAME.assign(kind=FRAME["kind"].astype("category"))),
    st.just(FRAME.assign(wind=None)),
)


def accepted(frame, form):
    """How many rows pass, and what is said where none does."""
    content = io.BytesIO()
    if form == "csv":
        frame.to_csv(content, index=False)
    else:
        names = list(map(str, frame.columns))
        pq.write_table(pa.table([pa.array(frame.iloc[:, each]) for each in range(len(names))], names), content)
    try:
        table = read(content, f"a.{form}", SPEC.source, TYPES)
        found = judge({f"a.{form}": table}, SPEC, CONTRACT)
    except (BrokenContractError, UnreadableFileError) as refusal:
        return 0, str(refusal)
    return len(found.good), ""


@pytest.mark.fault(3)
def test_no_wrong_schema_is_accepted_and_no_right_one_refused(record_figure):
    counts = {"false_accepts": 0, "false_rejects": 0, "values_in_messages": 0, "mutations": 0}
    examples = settings(max_examples=MUTATIONS, deadline=None, database=None, suppress_health_check=list(HealthCheck))

    @examples
    @given(frame=BAD, form=st.sampled_from(["csv", "parquet"]))
    def bad(frame, form):
        rows, message = accepted(frame, form)
        counts["mutations"] += 1
        counts["false_accepts"] += rows > 0
        counts["values_in_messages"] += SECRET in message

    @examples
    @given(frame=GOOD, form=st.sampled_from(["csv", "parquet"]))
    def good(frame, form):
        counts["mutations"] += 1
        counts["false_rejects"] += accepted(frame, form)[0] != len(FRAME)

    bad()
    good()
    record_figure(**counts)
    assert {**counts, "mutations": 0} == dict.fromkeys(counts, 0)
    assert counts["mutations"] >= 2 * MUTATIONS


@pytest.mark.fault(3)
def test_without_the_guard_a_wrong_schema_does_pass():
    shifted = io.StringIO("a,b\n1,2,3\n4,5,6\n")
    assert list(pd.read_csv(shifted)["a"]) == [2, 5]
    assert list(pd.read_csv(io.StringIO("a,a\n1,2\n")).columns) == ["a", "a.1"]
