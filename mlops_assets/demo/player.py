"""Sensors evaluated and their runs executed in this process, as the daemon would, with what came of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import dagster as dg
from dagster._core.storage.tags import RUN_KEY_TAG, SENSOR_NAME_TAG

CHECK_FAILED = "DagsterAssetCheckFailedError"


@dataclass(frozen=True)
class Ran:
    """One run of a model: the partitions of each asset that it made ("" where it has none), and what failed with why.

    `crashed` are the assets that broke with an error that nobody raised on purpose.
    """

    model: str
    because: str
    made: Mapping[str, tuple[str, ...]]
    failed: Mapping[str, str]
    crashed: tuple[str, ...]


class Player:
    """Stands in for the daemon: remembers each sensor's cursor, and tags runs so that the daemon knows them."""

    def __init__(self, definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self._repository = definitions.get_repository_def()
        self._instance = instance
        self._cursors: dict[str, str | None] = {}

    def tick(self, sensor_name: str) -> list[Ran]:
        """One look of a sensor, and the runs that it asked for."""
        sensor = self._repository.get_sensor_def(sensor_name)
        resources = self._repository.get_top_level_resources()
        with dg.build_sensor_context(
            instance=self._instance,
            cursor=self._cursors.get(sensor_name),
            repository_def=self._repository,
            sensor_name=sensor_name,
            resources={name: resources[name] for name in sensor.required_resource_keys},
        ) as context:
            seen = sensor.evaluate_tick(context)
        self._cursors[sensor_name] = seen.cursor
        return [self._run(sensor, request) for request in seen.run_requests or []]

    def _run(self, sensor: dg.SensorDefinition, request: dg.RunRequest) -> Ran:
        key = {RUN_KEY_TAG: request.run_key} if request.run_key else {}
        job = self._repository.get_job(request.job_name or sensor.job_name)  # ty: ignore[invalid-argument-type]
        result = job.execute_in_process(
            instance=self._instance,
            run_config=request.run_config,
            partition_key=request.partition_key,
            tags={**request.tags, **key, SENSOR_NAME_TAG: sensor.name},
            asset_selection=list(request.asset_selection) if request.asset_selection else None,
            raise_on_error=False,
        )
        return _told(request.tags, result)


def _told(tags: Mapping[str, str], result: dg.ExecuteInProcessResult) -> Ran:
    made: dict[str, list[str]] = {}
    failed: dict[str, str] = {}
    crashed: list[str] = []
    for event in result.all_events:
        if event.is_step_materialization and event.asset_key:
            made.setdefault(event.asset_key.path[-1], []).append(event.partition or "")
        elif event.is_step_failure:
            asset = (event.step_key or "").rpartition("__")[2]
            error, said = event.step_failure_data.error, event.step_failure_data.user_failure_data
            description = said.description if said else None
            failed[asset] = description or (error.message.strip() if error else "unknown")
            if said is None and (error is None or error.cls_name != CHECK_FAILED):
                crashed.append(asset)
    parts = {asset: tuple(dict.fromkeys(keys)) for asset, keys in made.items()}
    return Ran(tags.get("mlops/model", ""), tags.get("mlops/because", ""), parts, failed, tuple(crashed))
