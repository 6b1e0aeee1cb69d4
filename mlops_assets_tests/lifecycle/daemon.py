"""What Dagster's daemon does for a sensor, in this process: it looks, keeps the cursor and runs what is asked for."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import dagster as dg

from mlops_assets.lifecycle.common import utc_now
from mlops_assets.lifecycle.data import lifecycle_job
from mlops_assets.lifecycle.sensors.new_data import new_data
from mlops_assets_tests.toy import Workshop

RESOURCES = ("deliveries", "blobs", "records")


@dataclass
class Daemon:
    """One sensor of a workshop. Requests whose run key has been used start nothing, as in the real daemon.

    `late` is by how much the clock of `toy_new_data` is ahead.
    """

    shop: Workshop
    late: timedelta = timedelta(0)
    cursor: str | None = None
    used: set[str] = field(default_factory=set)
    said: str = ""
    logged: str = ""
    sensor: str = "toy_new_data"

    def look(self) -> list[dg.RunRequest]:
        """One tick: the requests that would start a run. What it said instead is in `said`."""
        log = io.StringIO()
        repository = self.shop.definitions.get_repository_def()
        context = dg.SensorEvaluationContext(
            instance_ref=self.shop.instance.get_ref(),
            instance=self.shop.instance,
            cursor=self.cursor,
            repository_name=repository.name,
            repository_def=repository,
            sensor_name=self.sensor,
            resources={name: self.shop.resources[name] for name in RESOURCES},
        )
        with context:
            context.log.addHandler(logging.StreamHandler(log))
            seen = self._sensor(repository).evaluate_tick(context)
        self.cursor, self.said = seen.cursor, seen.skip_message or ""
        self.logged = log.getvalue()
        for request in seen.dynamic_partitions_requests or []:
            self.shop.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
        fresh = [request for request in seen.run_requests or [] if request.run_key not in self.used]
        self.used |= {request.run_key for request in fresh}
        return fresh

    def _sensor(self, repository: dg.RepositoryDefinition) -> dg.SensorDefinition:
        """As it is wired, but for its clock."""
        if not self.late:
            return repository.get_sensor_def(self.sensor)
        return new_data(self.shop.spec, lifecycle_job(self.shop.spec), lambda: utc_now() + self.late)

    def run(self, request: dg.RunRequest, assets: Sequence[str] = ()) -> dg.ExecuteInProcessResult:
        """Run what was asked for, or only some of its assets."""
        chosen = [key for key in request.asset_selection if not assets or key.path[-1] in assets]
        return self.shop.definitions.resolve_job_def("toy_lifecycle").execute_in_process(
            instance=self.shop.instance,
            partition_key=request.partition_key,
            tags=request.tags,
            asset_selection=chosen,
            raise_on_error=False,
        )

    def settle(self, assets: Sequence[str] = (), looks: int = 4) -> list[dg.RunRequest]:
        """Look and run until nothing is asked for, at most `looks` times; every request that started a run."""
        started = []
        for _ in range(looks):
            asked = self.look()
            started += asked
            for request in asked:
                self.run(request, assets)
            if not asked:
                break
        return started
