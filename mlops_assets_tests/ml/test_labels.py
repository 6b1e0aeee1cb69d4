from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.ml.contracts import ContractError, load_contract, refuse_impossible
from mlops_assets.ml.labels import (
    CONFLICT,
    KNOWN,
    LABEL,
    STORED_KNOWN,
    STORED_LABEL,
    as_target,
    join,
    judge,
    matured,
    nothing,
    only_adds,
    settle,
    source_of,
)
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.validation import BrokenContractError
from mlops_assets_tests import late, toy

DAY = datetime(2024, 2, 1, tzinfo=UTC)
KEY = ["sale"]


def spec(task: str = "regression", **labels) -> ModelSpec:
    metric = {"regression": "mae", "binary": "roc_auc", "multiclass": "accuracy"}[task]
    return toy.spec("landing", **late.declared("labels", **labels), task=task, evaluation={"metric": metric}, gates=[])


def labels(*rows: tuple[int, float | str, int]) -> pd.DataFrame:
    """Labels as key, value and the day they were known."""
    frame = pd.DataFrame(rows, columns=["sale", LABEL, "day"])
    known = pd.Series([DAY + timedelta(days=int(day)) for day in frame.pop("day")], dtype="datetime64[us, UTC]")
    return frame.assign(**{KNOWN: known})


def judged(*files: pa.Table | dict, declared: ModelSpec | None = None, arrived: datetime = DAY):
    tables = {f"file {number}": pa.table(file) for number, file in enumerate(files)}
    declared = declared or spec()
    return judge(tables, dict.fromkeys(tables, arrived), declared, load_contract(declared.contract))


def kept(settled) -> dict[int, object]:
    return dict(zip(settled.labels["sale"], settled.labels[LABEL], strict=True))


def test_a_label_that_is_delivered_twice_was_known_since_the_first_time():
    settled = settle(labels((1, 5.0, 3), (1, 5.0, 1)), KEY)
    assert kept(settled) == {1: 5.0}
    assert settled.labels[KNOWN].tolist() == [pd.Timestamp(DAY + timedelta(days=1))]
    assert (settled.conflicting, settled.superseded) == (0, 0)


def test_of_two_labels_that_differ_the_one_known_later_counts():
    settled = settle(labels((1, 5.0, 1), (1, 6.0, 2), (2, 7.0, 1)), KEY)
    assert kept(settled) == {1: 6.0, 2: 7.0}
    assert (settled.conflicting, settled.superseded) == (0, 1)
    assert settled.labels.set_index("sale")[KNOWN][1] == pd.Timestamp(DAY + timedelta(days=2))


def test_two_labels_that_differ_and_were_known_together_are_none():
    settled = settle(labels((1, 5.0, 2), (1, 6.0, 2), (2, 7.0, 1)), KEY)
    assert kept(settled) == {2: 7.0}
    assert (settled.conflicting, sorted(settled.conflicts)) == (1, [0, 1])


def test_a_key_of_several_columns_is_one_key():
    frame = labels((1, 5.0, 1), (1, 6.0, 1)).assign(kind=pd.Categorical(["a", "b"]))
    assert len(settle(frame, ["sale", "kind"]).labels) == 2
    assert settle(frame, ["sale"]).conflicting == 1


rows = st.lists(st.integers(0, 30), max_size=40)
delivered = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2).map(float), st.integers(0, 3)), max_size=60)


@given(rows, delivered)
def test_every_row_has_one_label_or_none_and_every_label_that_counts_has_a_row_or_is_unknown(sales, found):
    settled = settle(labels(*found), KEY)
    joined = join(pd.DataFrame({"sale": np.array(sales, np.int64)}), settled.labels, KEY)
    has_one = np.array([label is not None for label in joined.table[STORED_LABEL].to_pylist()], bool)
    assert joined.table.num_rows == len(sales)
    assert joined.labelled == has_one.sum() == np.isin(sales, settled.labels["sale"]).sum()
    assert joined.unknown == len(set(settled.labels["sale"]) - set(sales))
    assert len(settled.labels) + settled.conflicting == len({sale for sale, *_ in found})
    known = joined.table[STORED_KNOWN].to_pylist()
    assert [each is not None for each in known] == has_one.tolist()


@given(delivered, st.randoms(use_true_random=False))
def test_the_order_of_labels_does_not_matter(found, random):
    shuffled = list(found)
    random.shuffle(shuffled)
    sales = pd.DataFrame({"sale": np.arange(41)})
    one, other = (join(sales, settle(labels(*each), KEY).labels, KEY) for each in (found, shuffled))
    assert one.table.equals(other.table)
    assert one[1:] == other[1:]


def test_the_order_of_files_does_not_matter():
    files = [
        {"sale": [1, 2], "sales": [1.0, 2.0]},
        {"sale": [2, 3], "sales": [2.0, 4.0]},
        {"sale": [4], "sales": [9.0]},
    ]
    found = [kept(judged(*order).settled) for order in permutations(files)]
    assert all(each == {1: 1.0, 2: 2.0, 3: 4.0, 4: 9.0} for each in found)


def test_a_label_is_known_since_the_earlier_state_that_held_the_same_one():
    sales = pd.DataFrame({"sale": [1, 2, 3]})
    before = labels((1, 5.0, 0), (2, 5.0, 0))
    joined = join(sales, settle(labels((1, 5.0, 4), (2, 6.0, 4), (3, 7.0, 4)), KEY).labels, KEY, before)
    assert joined.table[STORED_KNOWN].to_pylist() == [DAY, DAY + timedelta(days=4), DAY + timedelta(days=4)]


def test_rows_without_any_label_say_so_and_store_nothing():
    found = join(pd.DataFrame({"sale": [1, 2]}), settle(labels((9, 1.0, 0)), KEY).labels, KEY)
    assert (found.labelled, found.unknown, found.stored.num_rows) == (0, 1, 0)
    assert found.table.equals(nothing(2).table)


def test_a_missing_label_is_one_that_has_not_come():
    found = judged({"sale": [1, 2], "sales": [None, 3.0]})
    assert kept(found.settled) == {2: 3.0}
    assert found.broken == 0


def test_labels_that_cannot_be_read_are_set_aside_with_the_reason_and_the_others_count():
    found = judged({"sale": ["1", "x", None], "sales": ["1", "2", "3"]}, {"sale": ["5", "6"], "sales": ["4", "many"]})
    assert kept(found.settled) == {1: 1.0, 5: 4.0}
    assert (found.rows, found.broken) == (5, 3)
    rules = dict(zip(found.quarantined["column"].to_pylist(), found.quarantined["rule"].to_pylist(), strict=True))
    assert rules == {"sale": "is not missing", "sales": "is a number"}
    assert found.quarantined["row_number"].to_pylist() == [2, 3, 2]


def test_labels_in_conflict_are_set_aside_and_not_counted_as_broken():
    found = judged({"sale": [1, 1, 2], "sales": [1.0, 2.0, 3.0]})
    assert (found.broken, found.settled.conflicting) == (0, 1)
    assert found.quarantined["rule"].to_pylist() == [CONFLICT, CONFLICT]


def test_a_label_that_was_known_after_it_was_delivered_does_not_count():
    known = ["2024-02-01 00:00:00", "2024-02-01 00:00:01"]
    found = judged({"sale": [1, 2], "sales": [1.0, 2.0], "known": known}, declared=spec(known="known"))
    assert kept(found.settled) == {1: 1.0}
    assert found.quarantined["rule"].to_pylist() == ["is not later than its delivery"]


def test_without_a_declared_time_a_label_is_known_from_its_delivery():
    found = judged({"sale": [1], "sales": [1.0]}, arrived=DAY)
    assert found.settled.labels[KNOWN].tolist() == [pd.Timestamp(DAY)]


def test_missing_columns_are_named_and_others_are_nobodys_business():
    with pytest.raises(BrokenContractError, match="file 0: missing columns: 'sales'"):
        judged({"sale": [1], "amount": [1.0]})
    assert kept(judged({"sale": [1], "sales": [1.0], "remark": ["fine"]}).settled) == {1: 1.0}


@pytest.mark.parametrize(
    ("task", "values", "expected"),
    [
        ("regression", ["1.5", "2"], [1.5, 2.0]),
        ("binary", [0, 1], [0, 1]),
        ("binary", [True, False], [True, False]),
        ("multiclass", ["up", "down"], ["up", "down"]),
    ],
)
def test_labels_have_the_type_that_the_task_asks_for(task, values, expected):
    settled = judged({"sale": [1, 2], "sales": values}, declared=spec(task)).settled
    joined = join(pd.DataFrame({"sale": [1, 2, 3]}), settled.labels, KEY)
    target = as_target(joined.stored.to_pandas()[STORED_LABEL], task)
    assert target.tolist()[:2] == expected
    assert target.isna().tolist() == [False, False, True]


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_a_label_that_is_no_number_among_numbers_is_set_aside_and_the_others_stay_numbers(task):
    found = judged({"sale": [1, 2, 3, 4], "sales": ["1", "0", None, "n/a?"]}, declared=spec(task))
    assert kept(found.settled) == {1: 1, 2: 0}
    assert found.broken == 1
    assert found.quarantined["rule"].to_pylist() == ["is a whole number"]
    assert found.quarantined["column"].to_pylist() == ["sales"]


@pytest.mark.parametrize("values", [["1", "high"], ["1", "high", "low"], ["high", "low", None], ["1+", "2+", "3"]])
def test_labels_of_which_no_more_than_half_are_numbers_are_text(values):
    found = judged({"sale": list(range(len(values))), "sales": values}, declared=spec("multiclass"))
    assert list(kept(found.settled).values()) == [value for value in values if value is not None]
    assert found.broken == 0


def test_files_that_do_not_agree_on_a_kind_are_read_as_text():
    found = judged({"sale": [1], "sales": [1]}, {"sale": [2], "sales": ["many"]}, declared=spec("multiclass"))
    assert kept(found.settled) == {1: "1", 2: "many"}


def test_the_moment_of_a_row_can_be_its_key():
    declared = spec(key=["event_time", "kind"])
    times = ["2024-01-01 00:00:00", "2024-01-01 01:00:00"]
    found = judged({"ts": times, "kind": ["a", "a"], "sales": [1.0, 2.0]}, declared=declared)
    assert found.settled.labels["event_time"].tolist() == [pd.Timestamp(time, tz="UTC") for time in times]


@pytest.mark.parametrize(("labelled", "enough"), [(269, False), (270, True), (300, True), (0, False)])
def test_labels_have_matured_from_the_declared_share_on(labelled, enough):
    assert matured(spec(matured=0.9), labelled, 300) == enough


def test_labels_that_come_with_their_rows_are_mature_at_once():
    assert matured(toy.spec("landing"), 1, 300)
    assert not matured(toy.spec("landing"), 0, 300)


def test_the_source_of_labels_is_looked_into_as_a_source_of_its_own():
    view = source_of(spec(time={"columns": ["sold_at"], "timezone": "Europe/Berlin"}))
    assert view.source.uri == "labels"
    assert view.time.columns == ("sold_at",)
    assert source_of(spec()).time == spec().time
    assert (view.name, view.partitions) == ("toy", spec().partitions)


def test_the_contract_of_rows_without_target_is_sound_and_one_with_target_is_not():
    refuse_impossible(load_contract("mlops_assets_tests.late.Contract"), spec())
    with pytest.raises(ContractError, match="'sales' comes with the labels: leave it out"):
        refuse_impossible(load_contract("mlops_assets_tests.toy.Contract"), spec(key=["price"]))
    with pytest.raises(ContractError, match=r"labels\.key names 'ticket'"):
        refuse_impossible(load_contract("mlops_assets_tests.late.Contract"), spec(key=["ticket"]))


@pytest.mark.parametrize("labels", [{"key": ["sales"]}, {"known": "sales"}])
def test_the_target_is_neither_key_nor_time(labels):
    with pytest.raises(ValueError, match="'sales' is the target"):
        spec(**labels)


@pytest.mark.parametrize(
    ("before", "now", "adds"),
    [
        ([1.0, None], [1.0, 2.0], True),
        ([1.0, 2.0], [1.0, 2.0], True),
        ([None, None], [1.0, None], True),
        ([1.0, None], [1.5, 2.0], False),
        ([1.0, 2.0], [1.0, None], False),
    ],
)
@pytest.mark.parametrize("kind", ["float64", "Int64", "category", object])
def test_labels_only_add_where_each_that_was_known_is_the_same(before, now, adds, kind):
    scale = 2 if kind == "Int64" else 1
    as_kind = [pd.Series([None if each is None else each * scale for each in side]) for side in (before, now)]
    assert only_adds(*(side.astype(float).astype(kind) for side in as_kind)) == adds
