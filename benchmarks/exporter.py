"""How long the exporter takes, on an instance made for it: `python benchmarks/exporter.py [MODELS] [RUNS]`."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import sqlalchemy
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, AssetKeyTable
from dagster._core.storage.runs.schema import RunsTable, RunTagsTable

from mlops_assets.exporter.history import Files, Outbox, Releases
from mlops_assets.exporter.serving import Exporter
from mlops_assets.exporter.storage import Storage
from mlops_assets.ml.ledger import Entry
from mlops_assets.resources.alerts import alerts_at
from mlops_assets.resources.ledger import Ledger
from mlops_assets.resources.records import Records
from mlops_assets_tests.homes import instance_at, without_waiting_for_the_disk

ASSETS, CHECKS = 15, 15
BEGAN = 1_700_000_000.0


def filled(instance, ledger, models, runs):
    """Rows as so many models and runs leave them behind."""
    names = [f"model_{number}" for number in range(models)]
    rows = [
        {"run_id": f"run-{number}", "pipeline_name": f"{names[number % models]}_lifecycle", "run_body": "",
         "status": "FAILURE" if number % 20 == 0 else "SUCCESS", "start_time": BEGAN + number,
         "end_time": BEGAN + number + 40}
        for number in range(runs)
    ]  # fmt: skip
    tags = [{"run_id": row["run_id"], "key": "mlops/model", "value": row["pipeline_name"][:-10]} for row in rows]
    with instance.run_storage.connect() as connection:
        connection.execute(sqlalchemy.insert(RunsTable), rows)
        connection.execute(sqlalchemy.insert(RunTagsTable), tags)
    keys = [f'["{name}", "asset_{number}"]' for name in names for number in range(ASSETS)]
    when = sqlalchemy.func.current_timestamp()
    checks = [
        {"asset_key": f'["{names[number % models]}", "asset_0"]', "check_name": f"check_{check}",
         "run_id": f"run-{number}", "execution_status": "SUCCEEDED"}
        for number in range(runs) for check in range(CHECKS)
    ]  # fmt: skip
    with instance.event_log_storage.index_connection() as connection:
        made = sqlalchemy.insert(AssetKeyTable).values(last_materialization_timestamp=when)
        connection.execute(made, [{"asset_key": key} for key in keys])
        connection.execute(sqlalchemy.insert(AssetCheckExecutionsTable).values(evaluation_event_timestamp=when), checks)
    for name in names:
        ledger.append(
            Entry(kind="released", model=name, version=1, who="bench", why="bench", when="2024-01-01T00:00:00Z")
        )


def timed(act):
    """Wall and CPU seconds of an act, and what it gives."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = act()
    return round(time.perf_counter() - wall, 3), round(time.process_time() - cpu, 3), found


def main(models=200, runs=10_000):
    """The first scrape after a start, the next ones, and one within the time that a look is fresh."""
    without_waiting_for_the_disk()
    with tempfile.TemporaryDirectory() as folder, instance_at(Path(folder)) as instance:
        home = f"{folder}/home"
        ledger = Ledger(uri=f"sqlite:///{home}/ledger.db", anchors=f"{home}/ledger")
        filled(instance, ledger, models, runs)
        exporter = Exporter(
            Storage(instance), Files(Records(root=home)), Releases(ledger), Outbox(alerts_at(home)), fresh_seconds=0
        )
        for name in ("first", "second", "third"):
            wall, cpu, page = timed(exporter.page)
            print(f"{name}: {wall} s, {cpu} s of CPU, {len(page.splitlines())} lines, {len(page)} bytes")
        exporter.fresh_seconds = 60
        wall, cpu, _ = timed(exporter.page)
        print(f"kept: {wall} s, {cpu} s of CPU")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
