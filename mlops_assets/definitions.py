"""The code location: everything under `defs/`."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from mlops_assets import settings
from mlops_assets.compute.guards import check
from mlops_assets.compute.where import guarded


@dg.definitions
def defs() -> dg.Definitions:
    """Every model, resource and automation declared under `mlops_assets/defs`, unless a cluster could not run it."""
    settings.set_library_defaults()
    return check(guarded(dg.load_from_defs_folder(path_within_project=Path(__file__).parent)))
