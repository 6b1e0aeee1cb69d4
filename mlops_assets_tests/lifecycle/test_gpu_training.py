"""`trained_model` of a network: interrupted in the middle and gone on with, and memory that does not suffice."""

import os
import signal

import pytest

from mlops_assets.ml.tabular import TorchTabularRegressor
from mlops_assets.ml.training import Candidate
from mlops_assets_tests.lifecycle.stages import failure, metadata, run, validated

torch = pytest.importorskip("torch", reason="the extra mlops-assets[torch] is not installed")

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


class Hungry(TorchTabularRegressor):
    """A network for which no batch is small enough."""

    @staticmethod
    def forward(weights, codes, numbers, dropout):
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
