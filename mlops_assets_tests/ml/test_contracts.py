import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pytest

from mlops_assets.ml.contracts import (
    ContractError,
    column_types,
    delivered,
    inputs,
    load_contract,
    pii_columns,
    refuse_impossible,
)
from mlops_assets_tests import toy

SPEC = toy.spec("landing")
CONTRACT = load_contract(SPEC.contract)


def test_a_contract_is_loaded_by_its_path():
    assert list(CONTRACT.columns) == ["event_time", "kind", "price", "wind", "sales"]


def test_deliveries_have_the_time_as_delivered_instead_of_the_parsed_one():
    assert delivered(CONTRACT, SPEC) == ["ts", "kind", "price", "wind", "sales"]
    kept = toy.spec("landing", time={"columns": ["event_time"]})
    assert delivered(CONTRACT, kept) == ["event_time", "kind", "price", "wind", "sales"]


def test_readers_are_told_text_times_and_numbers():
    assert column_types(CONTRACT, SPEC) == {
        "ts": pa.string(),
        "kind": pa.dictionary(pa.int32(), pa.string()),
        "price": pa.float64(),
        "wind": pa.float64(),
        "sales": pa.float64(),
    }


def test_a_model_is_given_all_but_the_target_and_the_excluded():
    assert inputs(CONTRACT, SPEC) == ("event_time", "kind", "price", "wind")
    assert inputs(CONTRACT, toy.spec("landing", exclude=["wind"])) == ("event_time", "kind", "price")


def test_personal_columns_are_the_marked_ones():
    marked = CONTRACT.update_column("kind", metadata={"pii": "quasi"}).update_column("wind", metadata={"unit": "m/s"})
    assert pii_columns(marked) == ("kind",)


def test_a_possible_contract_is_accepted():
    refuse_impossible(CONTRACT, SPEC)


@pytest.mark.parametrize(
    ("column", "why"),
    [
        (pandera.Column(int, nullable=True), "may be missing, which int64 cannot be"),
        (pandera.Column(bool, nullable=True), "may be missing, which bool cannot be"),
        (pandera.Column("category", pandera.Check.isin([1, 2])), "holds text, and its isin lists other things"),
        (pandera.Column(pd.DatetimeTZDtype("us", "Europe/Berlin")), "is a time without UTC"),
        (pandera.Column("datetime64[ns]"), "is a time without UTC"),
        (pandera.Column(float, pandera.Check.ge(0, raise_warning=True)), "has a check that only warns"),
        (pandera.Column(None), "must have a type"),
        (pandera.Column(float, required=False), "always be there"),
        (pandera.Column(float, regex=True), "a name of its own"),
    ],
)
def test_a_column_that_no_delivery_could_honour_is_refused(column, why):
    with pytest.raises(ContractError, match=f"(?s)'odd'.*{why}|{why}"):
        refuse_impossible(CONTRACT.add_columns({"odd": column}), SPEC)


@pytest.mark.parametrize(
    "column",
    [
        pandera.Column("Int64", nullable=True),
        pandera.Column("boolean", nullable=True),
        pandera.Column("category", pandera.Check.isin(["1", "2"])),
        pandera.Column(pd.DatetimeTZDtype("ns", "UTC")),
        pandera.Column("float32", nullable=True),
        pandera.Column(str),
    ],
)
def test_a_column_that_can_be_honoured_is_accepted(column):
    refuse_impossible(CONTRACT.add_columns({"fine": column}), SPEC)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"target": "profit"}, "target names 'profit'"),
        ({"exclude": ["colour"]}, "exclude names 'colour'"),
        ({"time": {"columns": ["ts"], "name": "moment"}}, "time.name names 'moment'"),
        ({"evaluation": {"metric": "mae", "slices": ["region"]}}, "evaluation.slices names 'region'"),
    ],
)
def test_a_declaration_that_names_other_columns_than_the_contract_is_refused(changes, why):
    with pytest.raises(ContractError, match=why):
        refuse_impossible(CONTRACT, toy.spec("landing", **changes))


def test_a_contract_that_lets_other_columns_pass_is_refused():
    loose = pandera.DataFrameSchema(CONTRACT.columns, strict=False, coerce=True)
    with pytest.raises(ContractError, match="strict"):
        refuse_impossible(loose, SPEC)
