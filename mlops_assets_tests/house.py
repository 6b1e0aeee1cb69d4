"""Models on a home of their own, with a stand-in for the daemon: those that are shipped, or declared by a test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlops_assets import settings
from mlops_assets.components.declared import declared
from mlops_assets.definitions import defs
from mlops_assets.defs.resources import resources
from mlops_assets.demo.player import Player, Ran
from mlops_assets.lifecycle import lifecycle, watching
from mlops_assets.ml.spec import ModelSpec
from mlops_assets_tests import homes

LOOKS = 6
SOURCES = ("BIKE_DEMAND_URI", "ELECTRICITY_PRICE_URI")
DATA_VERSION = "dagster/data_version"


@dataclass
class House:
    """Definitions, instance and resources of one home. `player` stands in for the daemon."""

    home: Path
    instance: dg.DagsterInstance
    definitions: dg.Definitions

    @cached_property
    def player(self) -> Player:
        """The sensors, whose cursors it keeps."""
        return Player(self.definitions, self.instance)

    @cached_property
    def resources(self) -> dict[str, Any]:
        """The resources, to look with at what was made."""
        return resources(str(self.home), f"sqlite:///{self.home}/mlflow.db")

    def spec(self, model: str) -> ModelSpec:
        """A model's declaration, as this home fills it in."""
        return next(spec for spec in declared() if spec.name == model)

    def settle(self, model: str) -> list[Ran]:
        """Every run that the sensors for new data and new labels ask for, until they ask for no more."""
        runs: list[Ran] = []
        for _ in range(LOOKS):
            asked = [ran for sensor in (f"{model}_new_data", "new_labels") for ran in self.player.tick(sensor)]
            if not asked:
                return runs
            runs += asked
        raise AssertionError(f"{model} still asks for runs after {LOOKS} looks: {runs}")

    def run(
        self, model: str, partition: str | None, assets: Sequence[str], last: str | None = None
    ) -> dg.ExecuteInProcessResult:
        """Materialize some assets of one partition, or of all from it to the `last`, as a person would."""
        span = {"dagster/asset_partition_range_start": partition, "dagster/asset_partition_range_end": last}
        return self.definitions.resolve_job_def(f"{model}_lifecycle").execute_in_process(
            instance=self.instance,
            partition_key=None if last else partition,
            tags=span if last else None,
            asset_selection=[dg.AssetKey([model, asset]) for asset in assets],
            raise_on_error=False,
        )

    def data_versions(self, model: str, asset: str) -> dict[str, str]:
        """The newest data version of each partition of an asset, or of the asset itself under ""."""
        asset_key, kind = dg.AssetKey([model, asset]), dg.DagsterEventType.ASSET_MATERIALIZATION
        storage = self.instance.event_log_storage
        tags = storage.get_latest_tags_by_partition(asset_key, kind, [DATA_VERSION])
        if tags:
            return {partition: found[DATA_VERSION] for partition, found in tags.items()}
        event = self.instance.get_latest_materialization_event(asset_key)
        made = event.asset_materialization if event else None
        return {"": made.tags[DATA_VERSION]} if made and made.tags else {}


@contextmanager
def at_home(home: Path, *declarations: ModelSpec, **environment: str) -> Iterator[House]:
    """These models (the shipped ones by default) with MLOPS_HOME at `home`, and whatever else `environment` says."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (*(setting.name for setting in settings.ALL), *SOURCES):
            patch.setenv(name, "")
            patch.delenv(name)
        for name, value in {settings.HOME.name: str(home), **environment}.items():
            patch.setenv(name, value)
        with dg.DagsterInstance.from_config(str(homes.prepare(home))) as opened:
            yield House(home, opened, _built(home, declarations) if declarations else defs())


def _built(home: Path, declarations: Sequence[ModelSpec]) -> dg.Definitions:
    outside = resources(str(home), f"sqlite:///{home}/mlflow.db")
    wiring = dg.Definitions(resources=outside, executor=dg.in_process_executor)
    return dg.Definitions.merge(*map(lifecycle, declarations), watching(declarations), wiring)
