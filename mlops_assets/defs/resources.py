"""Which implementation of the outside world runs here: everything under MLOPS_HOME, tracking by MLFLOW_TRACKING_URI."""

from __future__ import annotations

from typing import Any

import dagster as dg

from mlops_assets import settings
from mlops_assets.compute.where import executor_here
from mlops_assets.resources.alerts import alerts_at
from mlops_assets.resources.blobs import Blobs
from mlops_assets.resources.checkpoints import Checkpoints
from mlops_assets.resources.deliveries import Deliveries
from mlops_assets.resources.keys import keys_here
from mlops_assets.resources.ledger import Ledger
from mlops_assets.resources.records import Records
from mlops_assets.resources.registry import Registry
from mlops_assets.resources.reports import Reports
from mlops_assets.resources.tables import Tables
from mlops_assets.resources.tracking import Tracking


def resources(home: str, tracking_uri: str, ledger: Ledger | None = None) -> dict[str, Any]:
    """Every resource that the lifecycle needs, with its state under `home`."""
    records, keys = Records(root=home), keys_here()
    ledger = ledger or Ledger(uri=f"sqlite:///{home}/ledger.db", anchors=f"{home}/ledger")
    registry = Registry(
        root=home, tracking_uri=tracking_uri, signing=keys.signing, trusted=keys.trusted, ledger=ledger.uri
    )
    return {
        "alerts": alerts_at(home),
        "io_manager": records,
        "records": records,
        "blobs": Blobs(root=home),
        "checkpoints": Checkpoints(root=home, seconds=settings.checkpoint_seconds()),
        "tables": Tables(root=home),
        "deliveries": Deliveries(root=home),
        "reports": Reports(root=home, ui=settings.REPORTS_UI.value()),
        "tracking": Tracking(root=home, tracking_uri=tracking_uri),
        "registry": registry,
        "keys": keys,
        "ledger": ledger,
    }


@dg.definitions
def defs() -> dg.Definitions:
    """The resources, and the executor that MLOPS_COMPUTE names."""
    ledger = Ledger(uri=settings.ledger(), anchors=settings.ledger_anchors())
    return dg.Definitions(
        resources=resources(settings.home(), settings.tracking_uri(), ledger), executor=executor_here()
    )
