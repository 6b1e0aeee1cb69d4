"""`trained_model` of a network: interrupted in the middle and gone on with, and memory that does not suffice."""

import os
import signal

import dagster as dg
import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin

from mlops_assets.compute import profiles
from mlops_assets.compute.rules import amount
from mlops_assets.lifecycle.shortage import explained_shortage
from mlops_assets.ml.features import pipeline
from mlops_assets.ml.tabular import TorchTabularRegressor
from mlops_assets.ml.tabular_network import DeviceMemoryError
from mlops_assets.ml.training import Candidate, TrainingError
from mlops_assets_tests import toy
from mlops_assets_tests.lifecycle.stages import failure, metadata, run, validated
from mlops_assets_tests.ml.networks import needs_torch

pytestmark = needs_torch

HERE = "mlops_assets_tests.lifecycle.test_gpu_training"
PARAMS = {"hidden": [8], "epochs": 6, "batch_size": 64}
STEPS_UNTIL_THE_END = 35


class Interrupted(TorchTabularRegressor):
    """A network whose process is asked to end at its `last` forward pass, if ever."""

    passes = 0
    last: int | None = None

    @staticmethod
    def forward(weights, codes, numbers, dropout):
        Interrupted.passes += 1
        if Interrupted.passes == Interrupted.last:
            os.kill(os.getpid(), signal.SIGTERM)
        return TorchTabularRegressor.forward(weights, codes, numbers, dropout)


class Boosted(RegressorMixin, BaseEstimator):
    """A library of trees that computes where its own parameter says."""

    def __init__(self, device="cpu", n_estimators=3, **others):
        self.device, self.n_estimators = device, n_estimators

    def fit(self, rows, target):
        self.asked_, self.mean_ = self.device, float(target.mean())
        return self

    def predict(self, rows):
        return np.full(len(rows), self.mean_)


class Hungry(TorchTabularRegressor):
    """A network for which no batch is small enough."""

    @staticmethod
    def forward(weights, codes, numbers, dropout):
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory.")


def network(workshop, name, **changes):
    return validated(workshop(estimator={"path": f"{HERE}.{name}", "params": PARAMS}, **changes))


def candidate(shop):
    return shop.resources["records"].get(Candidate, "toy", "trained_model")


def states(shop):
    return sorted((shop.home / "checkpoints").glob("toy/*/*/*")) if (shop.home / "checkpoints").exists() else []


def test_a_training_that_is_asked_to_end_goes_on_from_where_it_was_to_the_same_model(workshop, monkeypatch):
    shop = network(workshop, "Interrupted")
    assert run(shop, "trained_model").success
    whole, steps = candidate(shop), Interrupted.passes
    assert states(shop) == []

    monkeypatch.setattr(Interrupted, "passes", 0)
    monkeypatch.setattr(Interrupted, "last", STEPS_UNTIL_THE_END)
    assert "DagsterExecutionInterruptedError" in failure(run(shop, "trained_model"))
    assert Interrupted.passes == STEPS_UNTIL_THE_END
    assert len(states(shop)) == 2

    result = run(shop, "trained_model")
    assert result.success
    assert Interrupted.passes == steps
    assert candidate(shop).model_sha256 == whole.model_sha256
    assert candidate(shop).mlflow_run_id != whole.mlflow_run_id
    assert states(shop) == []
    shown = metadata(result, "trained_model")
    assert shown["checkpoint_notes"][0].startswith("It goes on from checkpoints/toy/")
    assert shown["checkpoints_written"] == 1
    assert_a_card_is_shown(shown, candidate(shop))


def assert_a_card_is_shown(shown, made):
    """What a training took is told in metadata, in MLflow and in the candidate's record."""
    took = made.resources.usage
    assert took.seconds > 0
    assert took.memory > 100 * 2**20
    assert took.cpu_seconds == made.cpu_seconds
    assert made.resources.asked is None
    assert amount(profiles.named(made.resources.smallest).memory) >= took.memory
    assert f"| {took.memory / 2**30:.2f} GiB at most |" in shown["resource_card"]
    assert shown["fit_peak_memory_bytes"] == took.memory
    assert shown["fit_cost"] == made.resources.cost > 0


def test_a_library_with_a_device_setting_of_its_own_is_given_it_and_holds_its_card(workshop):
    boosted = {"path": f"{HERE}.Boosted", "params": {"device": "cuda:0", "n_estimators": 5}}
    shop = validated(workshop(estimator=boosted, compute={"training": "gpu"}))
    result = run(shop, "trained_model")
    assert result.success
    made = candidate(shop)
    assert shop.resources["tracking"].load(made)["estimator"].asked_ == "cuda:0"
    assert made.gpu_seconds == made.resources.usage.seconds > 0
    assert made.resources.asked.device == "nvidia.com/gpu"
    assert "checkpoint_notes" not in metadata(result, "trained_model")


@pytest.mark.parametrize(
    ("library", "path", "params"),
    [
        ("xgboost", "xgboost.XGBRegressor", {"device": "cuda"}),
        ("lightgbm", "lightgbm.LGBMRegressor", {"device_type": "cuda"}),
    ],
)
def test_a_library_that_is_installed_is_given_its_device(library, path, params):
    pytest.importorskip(library, reason=f"{library} is not installed")
    made = pipeline(toy.spec("/nowhere", estimator={"path": path, "params": params}))["estimator"]
    assert made.get_params().items() >= params.items()


@pytest.mark.parametrize(
    ("profile", "advice"),
    [
        (
            None,
            "Give the training a compute profile (compute.training) with more memory, or declare a batch_size below 32",
        ),
        (
            "gpu-mig",
            "Try the profile 'gpu' in place of 'gpu-mig' (compute.training), or declare a batch_size below 32.",
        ),
        (
            "gpu",
            "'gpu-4x', which has more cards of the same kind, and a network uses one: declare a batch_size below 32",
        ),
        ("gpu-4x", "There is no bigger profile than 'gpu-4x': declare a batch_size below 32"),
    ],
)
def test_where_no_batch_fits_the_failure_says_what_was_tried_and_what_to_try(profile, advice):
    spec = toy.spec("/nowhere", compute={"training": profile} if profile else {})
    error = DeviceMemoryError(asked=64, batch=32, peak=3 * 2**30, card="NVIDIA T4", card_bytes=16 * 2**30)
    with pytest.raises(dg.Failure) as raised, explained_shortage(spec):
        raise error
    assert advice in raised.value.description
    assert "(NVIDIA T4, 16.00 GiB) did not suffice" in raised.value.description
    assert "3,221,225,472 bytes (3.00 GiB), with batches of 32 rows, halved once from 64" in raised.value.description
    assert raised.value.allow_retries is False
    assert raised.value.metadata["peak_bytes"].value == 3 * 2**30


class BoostError(Exception):
    """What a library of trees raises."""


@pytest.mark.parametrize(
    "error",
    [
        BoostError("[03:12:01] cudaErrorMemoryAllocation: out of memory: peak 79 GiB"),
        MemoryError("Unable to allocate 12.0 GiB for an array"),
        TrainingError("toy: the pipeline cannot be fitted: std::bad_alloc."),
    ],
)
def test_other_libraries_that_run_out_of_memory_get_the_profile_to_try_too(error):
    spec = toy.spec("/nowhere", compute={"training": "gpu"})
    with (
        pytest.raises(dg.Failure, match=r"Try the profile 'gpu-4x' in place of 'gpu'") as raised,
        explained_shortage(spec),
    ):
        raise error
    assert str(error).rstrip(".") in raised.value.description
    assert raised.value.metadata["profile_to_try"].value == "gpu-4x"


def test_what_is_no_want_of_memory_stays_what_it_is():
    with pytest.raises(TrainingError), explained_shortage(toy.spec("/nowhere")):
        raise TrainingError("toy: nothing to learn.")


def test_a_training_that_no_batch_fits_leaves_no_candidate_and_is_not_retried(workshop):
    shop = network(workshop, "Hungry", compute={"training": "gpu-spot"})
    result = run(shop, "trained_model")
    assert "with batches of 32 rows, halved once from 64" in failure(result)
    assert [event.event_type_value for event in result.all_events if "RETRY" in event.event_type_value] == []
    assert candidate(shop) is None
