"""The deep look at declarations: every fault is found, with the field that holds it."""

import pandera.pandas as pa
import pytest
from pandera.typing import Series

from mlops_assets.components.declared import declared, faults
from mlops_assets_tests import late, toy


class WithoutStrict(pa.DataFrameModel):
    """A contract that lets anything else pass."""

    event_time: Series[float]
    sales: Series[float]


HERE = "mlops_assets_tests.components.test_declared"


def test_the_toy_declaration_and_every_shipped_one_are_without_fault():
    assert faults(toy.spec("x")) == []
    shipped = {spec.name: faults(spec) for spec in declared()}
    assert shipped.keys() >= {"bike_demand", "electricity_price"}
    assert not any(shipped.values())


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"contract": "mlops_assets_tests.nowhere.Contract"}, "contract", "ModuleNotFoundError"),
        ({"contract": "mlops_assets_tests.toy.Contrakt"}, "contract", "Contrakt"),
        ({"contract": f"{HERE}.WithoutStrict"}, "contract", "strict"),
        ({"contract": f"{HERE}.HERE"}, "contract", "is no pandera"),
        ({"target": "profit"}, "contract", "profit"),
        ({"exclude": ["wnid"]}, "contract", "wnid"),
        ({"evaluation": {"metric": "mae", "slices": ["kidn"]}}, "contract", "kidn"),
        ({"calendar": ["month"]}, "calendar", "'month'"),
        ({"drift": {"columns": {"pirce": {"threshold": 1}}}}, "drift.columns", "'pirce'"),
        ({"training": {"known_in_advance": ["x"]}}, "training.known_in_advance", "'x'"),
        ({"exclude": ["kind", "price", "wind"], "features": []}, "exclude", "no column is left"),
        ({"estimator": {"path": "sklearn.linear_model.Rigde"}}, "estimator", "Rigde"),
        ({"estimator": {"path": "sklearn.linear_model.LogisticRegression"}}, "estimator", "regression"),
        ({"estimator": {"path": "sklearn.linear_model.Ridge", "params": {"alhpa": 1}}}, "estimator", "alhpa"),
        ({"estimator": {"path": "sklearn.linear_model.Ridge", "params": {"alpha": "x"}}}, "estimator.params", "alpha"),
        ({"features": [{"path": "mlops_assets_tests.toy.nothing"}]}, "estimator or features", "nothing"),
        ({"gates": [{"behaviour": "mlops_assets_tests.toy.nothing"}]}, "gates", "nothing"),
        ({"gates": [{"behaviour": "mlops_assets_tests.toy.MONTHS"}]}, "gates", "is not a function"),
        (
            {"gates": [{"fairness": "metric_ratio", "between": "knid", "at_least": 0.5}]},
            "gates",
            "'knid', which is not a column of the contract: event_time, kind",
        ),
        ({"compute": {"training": "warp-drive"}}, "compute.training", "warp-drive"),
    ],
)
def test_every_fault_is_found_with_the_field_that_holds_it(changes, field, said):
    found = faults(toy.spec("x", **changes))
    assert any(fault.startswith((f"{field}: ", f"{field} ")) for fault in found), found
    assert any(said in fault for fault in found), found


@pytest.mark.parametrize(("lookback", "found"), [(1, 1), (2, 0)])
def test_a_database_of_late_labels_must_be_looked_at_again_for_as_long_as_labels_come(lookback, found):
    query = "SELECT * FROM sold WHERE ts >= :start AND ts < :end"
    source = {"url_env": "LABELS_URL", "query": query, "lookback": lookback}
    faulty = faults(toy.spec("x", **late.declared("labels", source=source)))
    assert len(faulty) == found
    assert all("labels come up to 10 days after their window, so at least the newest 2 " in each for each in faulty)


def test_late_labels_and_a_contract_without_the_target_are_without_fault():
    assert faults(toy.spec("x", **late.declared("labels"))) == []
    [fault] = faults(toy.spec("x", **late.declared("labels", key=["ticket"])))
    assert "labels.key names 'ticket', which is not a column of the contract" in fault


def test_all_faults_are_told_at_once():
    found = faults(toy.spec("x", calendar=["a", "b"], compute={"training": "warp-drive"}))
    assert len(found) == 3
