"""What Dagster's storage says: runs, materializations, checks, daemons and sensors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import SensorInstigatorData
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, AssetKeyTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.runs.schema import RunsTable, RunTagsTable
from dagster._core.storage.runs.sql_run_storage import SqlRunStorage
from dagster._core.storage.schedules.schema import JobTickTable
from dagster._core.storage.schedules.sql_schedule_storage import SqlScheduleStorage

from mlops_assets.exporter import families
from mlops_assets.exporter.following import CHUNK, Follower
from mlops_assets.exporter.samples import Samples

if TYPE_CHECKING:
    import dagster as dg
    import sqlalchemy

MODEL, FAILURE = "mlops/model", "mlops/step_failure"
OVER = {"SUCCESS", "FAILURE", "CANCELED"}
JUDGED = {"SUCCEEDED", "FAILED"}
CAUSES = {"oom", "preempted", "evicted", "deadline", "image", "configuration", "unschedulable", "error", "unknown"}


@dataclass
class Storage:
    """An instance's storage, looked at again and again. `materialized` is what the records are read anew by."""

    instance: dg.DagsterInstance
    samples: Samples = field(default_factory=Samples)
    seconds: dict[str, float] = field(default_factory=dict)
    materialized: dict[tuple[str, str], float] = field(default_factory=dict)
    _runs: Follower = field(
        default_factory=lambda: Follower(
            RunsTable, ("run_id", "pipeline_name", "status", "start_time", "end_time"), lambda row: row.status in OVER
        )
    )
    _checks: Follower = field(
        default_factory=lambda: Follower(
            AssetCheckExecutionsTable,
            ("asset_key", "check_name", "execution_status", "evaluation_event_timestamp"),
            lambda row: row.execution_status in JUDGED,
        )
    )
    _ticks: Follower = field(
        default_factory=lambda: Follower(
            JobTickTable, ("selector_id", "status"), lambda row: row.status not in {"STARTED"}
        )
    )

    def look(self) -> None:
        """Count what is new."""
        self._look_at_runs()
        self._look_at_assets()
        self._look_at_daemons()
        self._look_at_sensors()

    def _look_at_runs(self) -> None:
        samples = self.samples
        with cast("SqlRunStorage", self.instance.run_storage).connect() as connection:
            ended = self._runs.over(connection)
            going_on = list(self._runs.pending.values())
            tags = _tags(connection, [row.run_id for row in (*ended, *going_on)])
        for row in ended:
            self._count_run(row, tags.get(row.run_id, {}))
        samples.clear(families.RUNS_UNDER_WAY)
        for row in going_on:
            samples.count(families.RUNS_UNDER_WAY, (tags.get(row.run_id, {}).get(MODEL, ""), row.status))

    def _count_run(self, row: Any, tags: Mapping[str, str]) -> None:
        model, job = tags.get(MODEL, ""), row.pipeline_name
        self.samples.count(families.RUNS, (model, job, row.status))
        for cause in filter(None, tags.get(FAILURE, "").split(", ")):
            self.samples.count(families.STEP_FAILURES, (model, cause if cause in CAUSES else "unknown"))
        if row.end_time is None:
            return
        self.samples.put(families.RUN_ENDED, (model, job, row.status), row.end_time)
        if row.start_time is not None:
            seconds = max(0.0, row.end_time - row.start_time)
            self.samples.count(families.RUN_SECONDS, (model, job), seconds)
            self.seconds[model] = self.seconds.get(model, 0.0) + seconds

    def _look_at_assets(self) -> None:
        import sqlalchemy

        columns = AssetKeyTable.c.asset_key, AssetKeyTable.c.last_materialization_timestamp
        with cast("SqlEventLogStorage", self.instance.event_log_storage).index_connection() as connection:
            rows = connection.execute(sqlalchemy.select(*columns)).all()
            judged = self._checks.over(connection)
        self.materialized = {
            named: _seconds(row.last_materialization_timestamp)
            for row in rows
            if row.last_materialization_timestamp is not None and (named := _named(row.asset_key)) is not None
        }
        self.samples.clear(families.MATERIALIZED)
        for named, when in self.materialized.items():
            self.samples.put(families.MATERIALIZED, named, when)
        for row in judged:
            if (named := _named(row.asset_key)) is not None:
                labels = (*named, row.check_name)
                self.samples.put(families.CHECK_PASSED, labels, float(row.execution_status == "SUCCEEDED"))
                self.samples.put(families.CHECKED, labels, _seconds(row.evaluation_event_timestamp))

    def _look_at_daemons(self) -> None:
        self.samples.clear(families.HEARTBEAT, families.DAEMON_ERRORS)
        for name, beat in self.instance.get_daemon_heartbeats().items():
            self.samples.put(families.HEARTBEAT, (name,), beat.timestamp)
            self.samples.put(families.DAEMON_ERRORS, (name,), len(beat.errors or ()))

    def _look_at_sensors(self) -> None:
        states = self.instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
        names = {state.selector_id: state.instigator_name for state in states}
        self.samples.clear(families.SENSOR_SUCCEEDED)
        for state in states:
            data = state.instigator_data
            self.samples.count(families.TICKS_FAILED, (state.instigator_name,), 0)
            if isinstance(data, SensorInstigatorData) and data.last_tick_success_timestamp:
                self.samples.put(families.SENSOR_SUCCEEDED, (state.instigator_name,), data.last_tick_success_timestamp)
        with cast("SqlScheduleStorage", self.instance.schedule_storage).connect() as connection:
            ended = self._ticks.over(connection)
        for row in ended:
            if row.status == "FAILURE" and row.selector_id in names:
                self.samples.count(families.TICKS_FAILED, (names[row.selector_id],))


def _tags(connection: sqlalchemy.Connection, runs: list[str]) -> dict[str, dict[str, str]]:
    """The tags of ours that runs have."""
    import sqlalchemy

    found: dict[str, dict[str, str]] = {}
    columns = RunTagsTable.c.run_id, RunTagsTable.c.key, RunTagsTable.c.value
    asked = sqlalchemy.select(*columns).where(RunTagsTable.c.key.in_([MODEL, FAILURE]))
    for some in _chunks(runs):
        for run, key, value in connection.execute(asked.where(RunTagsTable.c.run_id.in_(some))):
            found.setdefault(run, {})[key] = value
    return found


def _chunks(names: list[str]) -> Iterable[list[str]]:
    return (names[start : start + CHUNK] for start in range(0, len(names), CHUNK))


def _named(text: str) -> tuple[str, str] | None:
    """Model and asset of a key as Dagster stores it; None for one that is not of a model."""
    path = json.loads(text)
    return (path[0], path[1]) if len(path) == 2 else None


def _seconds(moment: datetime) -> float:
    """Seconds since 1970. Dagster keeps times in UTC, and says so nowhere."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
