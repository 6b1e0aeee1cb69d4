"""The code location of a shared installation: the toy model in the settings of the environment, and one that stops
where a test wants to look. `MLOPS_TEST_LANDING` is where deliveries are dropped, `MLOPS_TEST_STOPS` a folder of stops.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_assets import settings
from mlops_assets.defs.resources import resources
from mlops_assets.lifecycle import lifecycle, watching
from mlops_assets.resources.ledger import Ledger
from mlops_assets.resources.records import UNPARTITIONED, Records
from mlops_assets_tests import toy

LANDING, STOPS = "MLOPS_TEST_LANDING", "MLOPS_TEST_STOPS"
DECLARED: dict[str, Any] = {"retraining": {"policy": "never"}}


class StoppingRecords(Records):
    """Records, of which one that is about to be written waits for as long as a stop of its asset's name stands."""

    def put(self, model: str, asset: str, value: Any, partition: str = UNPARTITIONED) -> None:
        """Wait, and write."""
        stop = Path(os.environ[STOPS]) / asset
        if stop.exists():
            stop.with_suffix(".reached").touch()
            while stop.exists():
                time.sleep(0.05)
        super().put(model, asset, value, partition)


@dg.definitions
def defs() -> dg.Definitions:
    """Every stage of the toy model and what watches it."""
    settings.set_library_defaults()
    spec = toy.spec(os.environ[LANDING], **DECLARED)
    ledger = Ledger(uri=settings.ledger(), anchors=settings.ledger_anchors())
    made = resources(settings.home(), settings.tracking_uri(), ledger)
    made["io_manager"] = made["records"] = StoppingRecords(root=settings.home())
    wiring = dg.Definitions(resources=made, executor=dg.in_process_executor)
    return dg.Definitions.merge(lifecycle(spec), watching([spec]), wiring)
