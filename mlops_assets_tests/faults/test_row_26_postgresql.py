"""Row 26: PostgreSQL ends in the middle of a run and comes back, or has no connection left to give."""

import os
import subprocess
import sys
import threading
import time
from collections import Counter

import dagster as dg
import pytest
import sqlalchemy

from mlops_assets.resources.postgresql import driven
from mlops_assets_tests.faults.outage import MOMENTS, STEPS, STORAGES
from mlops_assets_tests.postgres import running_postgres

pytestmark = [pytest.mark.fault(26), pytest.mark.timeout(600)]
OUTAGE_SECONDS = float(os.environ.get("MLOPS_OUTAGE_SECONDS", "8"))
DAGSTER_GIVES_UP_SECONDS = 8.0
NO_CONNECTION_LEFT = "too many connections for role"


@pytest.fixture(scope="module")
def server():
    """A server with a database of Dagster's, and a person who may open one connection."""
    with running_postgres() as running:
        running.create("dagster")
        yield running


class Run:
    """A run in a process of its own."""

    def __init__(self, folder, url, storage, moment):
        self.folder, self.url = folder, url
        folder.mkdir()
        (folder / "dagster.yaml").write_text(
            f"telemetry: {{enabled: false}}\nstorage: {{custom: {STORAGES[storage]}}}\n"
        )
        settings = {"MLOPS_URL": driven(url).render_as_string(False), "MLOPS_DATABASE_PATIENCE_SECONDS": "300"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlops_assets_tests.faults.outage", str(folder), moment],
            env=os.environ | settings, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.said = threading.Thread(target=self._read, daemon=True)
        self.error = ""
        self.said.start()

    def _read(self):
        self.error = self.process.stderr.read()

    def wait_until_reached(self):
        """Wait until it is at its moment."""
        while not (self.folder / "reached").exists():
            assert self.process.poll() is None, self.error
            time.sleep(0.05)

    def go(self):
        """Let it go on."""
        (self.folder / "go").touch()

    def ended(self):
        """Whether it succeeded, and how often each step did its work."""
        status = self.process.wait(300)
        self.said.join(30)
        done = self.folder / "done"
        return status == 0, Counter(done.read_text().split() if done.exists() else [])


def through_an_outage(server, folder, storage, moment, seconds):
    """What comes of a run whose database is away from a moment on, for so many seconds."""
    run = Run(folder, server.url("dagster"), storage, moment)
    run.wait_until_reached()
    server.go_away()
    run.go()
    time.sleep(seconds)
    server.come_back()
    return run.ended()


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_waits_for_a_database_that_is_away_and_does_nothing_twice(server, tmp_path, moment, record_figure):
    succeeded, done = through_an_outage(server, tmp_path / "run", "ours", moment, OUTAGE_SECONDS)
    twice = sum(count - 1 for count in done.values())
    record_figure(away=moment, seconds=OUTAGE_SECONDS, runs=1, succeeded=int(succeeded), done_twice=twice)
    assert succeeded
    assert done == dict.fromkeys(STEPS, 1)
    assert statuses(server, tmp_path / "run") == [dg.DagsterRunStatus.SUCCESS]


def test_without_waiting_the_run_is_lost_with_its_process(server, tmp_path, record_figure):
    seconds = max(OUTAGE_SECONDS, DAGSTER_GIVES_UP_SECONDS + 12)
    run = Run(tmp_path / "run", server.url("dagster"), "dagster", MOMENTS[2])
    run.wait_until_reached()
    server.go_away()
    run.go()
    until = time.monotonic() + seconds
    while run.process.poll() is None and time.monotonic() < until:
        time.sleep(0.1)
    server.come_back()
    succeeded, done = run.ended()
    record_figure(control=True, away=MOMENTS[2], runs=1, succeeded=int(succeeded))
    assert not succeeded
    assert done["third"] == 0, "its work is left, and that of the second is done anew by a retry"


def test_a_run_waits_for_a_connection_where_there_is_none_left(server, tmp_path, record_figure):
    url = server.url("dagster")
    owner = sqlalchemy.create_engine(driven(url), isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool)
    guest = url.replace("://postgres:", "://guest:")
    with owner.connect() as connection:
        connection.exec_driver_sql("CREATE ROLE guest LOGIN SUPERUSER")
    run = Run(tmp_path / "run", guest, "ours", MOMENTS[1])
    run.wait_until_reached()
    with owner.connect() as connection:
        connection.exec_driver_sql("ALTER ROLE guest NOSUPERUSER CONNECTION LIMIT 0")
        connection.exec_driver_sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO guest")
        connection.exec_driver_sql("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO guest")
    before = server.times_said(NO_CONNECTION_LEFT)
    run.go()
    while server.times_said(NO_CONNECTION_LEFT) < before + 3:
        assert run.process.poll() is None, run.error
        time.sleep(0.05)
    with owner.connect() as connection:
        connection.exec_driver_sql("ALTER ROLE guest CONNECTION LIMIT 5")
    succeeded, done = run.ended()
    record_figure(away="no connection left", refused=3, runs=1, succeeded=int(succeeded), done_twice=0)
    assert succeeded, run.error
    assert done == dict.fromkeys(STEPS, 1)


def statuses(server, folder):
    """How the newest run stands in the database."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOPS_URL", driven(server.url("dagster")).render_as_string(False))
        with dg.DagsterInstance.from_config(str(folder)) as instance:
            return [run.status for run in instance.get_runs(limit=1)]
