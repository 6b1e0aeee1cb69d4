"""Networks over tables: scikit-learn's contract, the same bits twice, resuming, and memory that does not suffice."""

import hashlib
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

from mlops_assets.ml.artifacts import dump_model, load_model, trusted_types
from mlops_assets.ml.checkpoints import kept_by
from mlops_assets.ml.features import pipeline
from mlops_assets.ml.tabular import TorchTabularClassifier, TorchTabularRegressor
from mlops_assets.ml.tabular_network import DeviceError, DeviceMemoryError, TorchMissingError
from mlops_assets_tests import toy
from mlops_assets_tests.ml.networks import SMALL, CutOffError, Memory, needs_torch, regressor, table

pytestmark = needs_torch

REGRESSOR = "mlops_assets.ml.tabular.TorchTabularRegressor"
QUICK = {"hidden": (12,), "epochs": 20, "learning_rate": 0.1, "dropout": 0.0, "validation_fraction": 0.0}
EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": "rows are dealt into batches, which repeated rows change",
}
STEPS = 4 * 9 + 1


def digest(model):
    return hashlib.sha256(dump_model(model)).hexdigest()


@pytest.fixture(scope="module")
def whole():
    return digest(regressor().fit(*table()))


class Hungry(TorchTabularRegressor):
    """A network whose device has room for batches of `room` rows."""

    room = 8

    @staticmethod
    def forward(weights, codes, numbers, dropout):
        if len(codes) > Hungry.room:
            import torch

            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return TorchTabularRegressor.forward(weights, codes, numbers, dropout)


@pytest.mark.parametrize("kind", [TorchTabularRegressor, TorchTabularClassifier])
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_both_keep_scikit_learns_contract(kind):
    results = check_estimator(kind(**QUICK, random_state=0), expected_failed_checks=EXPECTED, on_skip=None)
    assert {each["check_name"] for each in results if each["status"] == "xfail"} <= set(EXPECTED)
    assert sum(each["status"] == "passed" for each in results) > 40


def test_the_same_rows_and_seed_are_the_same_bytes_and_another_seed_or_row_is_not(whole):
    rows, target = table()
    assert digest(regressor().fit(rows, target)) == whole
    assert digest(clone(regressor()).fit(rows, target)) == whole
    assert digest(regressor(random_state=8).fit(rows, target)) != whole
    assert digest(regressor().fit(*table(seed=1))) != whole


@settings(max_examples=12, deadline=None)
@given(dies_after=st.integers(1, STEPS - 1), every=st.integers(1, 12))
def test_a_fit_that_is_cut_off_anywhere_goes_on_to_the_same_bytes(whole, dies_after, every):
    rows, target = table()
    memory = Memory(dies_after, every)
    with kept_by(memory), pytest.raises(CutOffError):
        regressor().fit(rows, target)
    assert len(memory.states) == dies_after // every
    memory.dies_after = None
    with kept_by(memory):
        assert digest(regressor().fit(rows, target)) == whole


def test_a_fit_that_had_ended_is_not_fitted_again(whole):
    memory = Memory()
    for _ in range(2):
        with kept_by(memory):
            assert digest(regressor().fit(*table())) == whole
    assert memory.offers == STEPS - 1


def test_it_learns_what_is_to_be_learned_and_stops_when_it_gets_no_better():
    model = regressor(hidden=(32,), epochs=200, batch_size=32, learning_rate=0.01, patience=4).fit(*table(1000))
    rows, target = table(400, seed=1)
    assert np.mean((model.predict(rows) - target) ** 2) < 0.1 * np.var(target)
    assert model.epochs_ == model.best_epoch_ + 4 < 200
    assert min(model.validation_losses_) == model.validation_losses_[model.best_epoch_ - 1]


def test_rows_that_say_when_to_stop_are_the_last_ones_in_time_and_are_not_learned_from():
    rows, number = table()
    target = np.where(number > np.median(number), "much", "little")
    network = TorchTabularClassifier(**{**SMALL, "epochs": 1}, time_ordered=True)
    plain = network.fit(rows, target).weights_
    late, early = target.copy(), target.copy()
    late[-16:] = np.where(target[-16:] == "much", "little", "much")
    early[-17] = "little" if target[-17] == "much" else "much"
    assert all(np.array_equal(array, plain[name]) for name, array in clone(network).fit(rows, late).weights_.items())
    learned = clone(network).fit(rows, early).weights_
    assert not all(np.array_equal(array, plain[name]) for name, array in learned.items())


def test_classes_are_told_apart_with_shares_that_add_up():
    rows, number = table(600)
    target = np.where(number > np.median(number), "much", "little")
    model = TorchTabularClassifier(**{**SMALL, "epochs": 30, "learning_rate": 0.01}).fit(rows, target)
    likely = model.predict_proba(rows)
    assert list(model.classes_) == ["little", "much"]
    assert likely.shape == (600, 2)
    assert np.allclose(likely.sum(axis=1), 1)
    assert (model.predict(rows) == target).mean() > 0.85


def test_what_no_row_had_is_answered_like_the_mean_of_what_they_had():
    rows, target = table()
    model = regressor().fit(rows, target)
    stranger = rows.head(3).assign(kind=["never seen", None, "a"], price=[20.0, np.nan, 20.0])
    assert np.isfinite(model.predict(stranger)).all()
    embeddings = model.weights_["embeddings"]
    assert np.array_equal(embeddings[0], embeddings[1])
    assert model.gaps_ == [2]
    without = rows.drop(columns="kind")
    assert np.isfinite(regressor().fit(without, target).predict(without)).all()


def test_text_and_categories_and_nullable_numbers_are_the_same_to_it():
    rows, target = table()
    expected = regressor().fit(rows, target).predict(rows)
    plain = rows.assign(kind=rows["kind"].astype(object), wind=rows["wind"].astype("Float64"))
    assert np.array_equal(regressor().fit(plain, target).predict(rows), expected)
    assert np.array_equal(regressor().fit(plain, target).predict(plain), expected)


def test_it_answers_without_torch_and_says_what_is_missing_where_it_is_to_learn(monkeypatch):
    rows, target = table()
    content = dump_model(regressor().fit(rows, target))
    expected = regressor().fit(rows, target).predict(rows)
    monkeypatch.setitem(sys.modules, "torch", None)
    served = load_model(content, hashlib.sha256(content).hexdigest(), [REGRESSOR])
    assert np.array_equal(served.predict(rows), expected)
    with pytest.raises(TorchMissingError, match=r"install the extra mlops-assets\[torch\]"):
        regressor().fit(rows, target)


def test_a_device_that_is_not_here_is_refused_and_auto_takes_what_is_here():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(DeviceError, match="torch finds no CUDA device here"):
        regressor(device="cuda").fit(*table())
    assert TorchTabularRegressor.environment({})["device"] == "cpu"
    assert TorchTabularRegressor.environment({"device": "cuda"})["device"] == "no CUDA here"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be above 0; it is 0"),
        ({"learning_rate": -1.0}, "learning_rate must be above 0"),
        ({"dropout": 1.0}, "dropout must be from 0 to below 1"),
        ({"validation_fraction": 1.0}, "validation_fraction must be from 0 to below 1"),
        ({"device": "gpu"}, "device must be one of auto, cpu, cuda; it is 'gpu'"),
        ({"precision": "int8"}, "precision must be one of auto, float32"),
        ({"hidden": (8, 0)}, "hidden must be sizes of layers from 1 on"),
        ({"loss": "none"}, "loss must be one of auto, squared_error, absolute_error"),
        ({"learning_rate": 1e18}, "the network diverged"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_parameters_that_mean_nothing_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        regressor(**{"validation_fraction": 0.0, **changes}).fit(*table())


def test_a_batch_that_does_not_fit_is_halved_once_and_that_is_on_record():
    model = Hungry(**SMALL).fit(*table())
    assert (model.batch_size, model.batch_size_) == (16, 8)


def test_where_half_a_batch_does_not_fit_either_it_says_what_it_tried():
    with pytest.raises(DeviceMemoryError) as raised:
        Hungry(**{**SMALL, "batch_size": 18}).fit(*table())
    assert (raised.value.asked, raised.value.batch) == (18, 9)
    assert "with batches of 9 rows, halved once from 18" in str(raised.value)


def test_a_declared_network_takes_categories_itself_and_rows_in_order_of_time():
    spec = toy.spec("/nowhere", estimator={"path": REGRESSOR, "params": {"epochs": 2, "hidden": [8]}})
    made = pipeline(spec)
    assert list(made.named_steps) == ["features", "categories", "estimator"]
    assert (made["estimator"].time_ordered, made["estimator"].random_state) == (True, 7)
    rows = toy.rows("2024-01").rename(columns={"ts": "event_time"})
    rows = rows.assign(event_time=pd.to_datetime(rows["event_time"], utc=True))
    fitted = made.fit(rows.drop(columns="sales"), rows["sales"])
    content = dump_model(fitted)
    trusted = trusted_types(spec.model_dump(mode="json"))
    served = load_model(content, hashlib.sha256(content).hexdigest(), trusted)
    assert np.array_equal(served.predict(rows), fitted.predict(rows))
