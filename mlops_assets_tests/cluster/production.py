"""A code location as in production: a model's whole life, whose training learns a network on spot capacity."""

import os
import threading
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_assets.compute.executor import kubernetes_executor
from mlops_assets.defs.resources import resources
from mlops_assets.lifecycle import common, lifecycle
from mlops_assets.ml.tabular import TorchTabularRegressor
from mlops_assets_tests import toy

common.RETRY_DELAY = 1  # a node that comes back takes its time; here nobody need wait for it
LAST_PASS, LOOK_SECONDS, LOOKS = 40, 0.05, 4000
PARAMS = {"hidden": [8], "epochs": 6, "batch_size": 64}
UNDER_WAY, TAKEN_BACK = "under way", "taken back"


class Preempted(TorchTabularRegressor):
    """A network that stands still in the middle of its training, until its node was taken back."""

    passes = 0

    @staticmethod
    def forward(weights: Any, codes: Any, numbers: Any, dropout: Any) -> Any:
        """Dagster and torch do all else."""
        Preempted.passes += 1
        if Preempted.passes == LAST_PASS:
            home = Path(os.environ["MLOPS_HOME"])
            (home / UNDER_WAY).write_text(str(os.getpid()))
            for _ in range(LOOKS):
                if (home / TAKEN_BACK).exists():
                    break
                threading.Event().wait(LOOK_SECONDS)
        return TorchTabularRegressor.forward(weights, codes, numbers, dropout)


@dg.definitions
def defs() -> dg.Definitions:
    """The toy model, with the real resources on the home of this process."""
    home = os.environ["MLOPS_HOME"]
    declared = toy.spec(
        f"{home}/landing",
        estimator={"path": f"{__name__}.Preempted", "params": PARAMS},
        compute={"training": "gpu-spot"},
        gates=[],
    )
    wiring = dg.Definitions(
        resources=resources(home, f"sqlite:///{home}/mlflow.db"),
        executor=kubernetes_executor.configured({"check_interval_seconds": 1}),
    )
    return dg.Definitions.merge(lifecycle(declared), wiring)
