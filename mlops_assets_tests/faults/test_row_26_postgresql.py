"""Row 26: PostgreSQL ends in the middle of a run and comes back, or has no connection left to give."""

import os
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy

from mlops_assets.resources.postgresql import driven
from mlops_assets_tests.faults import forking, outage
from mlops_assets_tests.faults.forking import Running
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


@dataclass
class Run:
    """A run in a process of its own."""

    folder: Path
    program: Running

    def wait_until_reached(self):
        """Wait until it is at its moment."""
        while not (self.folder / "reached").exists():
            assert self.program.process.is_alive(), self.program.errors
            time.sleep(0.05)

    def go(self):
        """Let it go on."""
        (self.folder / "go").touch()

    def ended(self):
        """Whether it succeeded, and how often each step did its work."""
        status, done = self.program.ended(), self.folder / "done"
        return status == 0, Counter(done.read_text().split() if done.exists() else [])


@contextmanager
def running(folder, url, storage, moment):
    """A run on an instance in `folder`, whose databases are at `url`."""
    folder.mkdir(exist_ok=True)
    (folder / "dagster.yaml").write_text(f"telemetry: {{enabled: false}}\nstorage: {{custom: {STORAGES[storage]}}}\n")
    settings = {"MLOPS_URL": driven(url).render_as_string(False), "MLOPS_DATABASE_PATIENCE_SECONDS": "300"}
    with forking.started(outage.main, folder, moment, **settings) as program:
        yield Run(folder, program)


@pytest.fixture(scope="module")
def through_an_outage(server, tmp_path_factory):
    """What came of a run at each of the moments, whose database was away for so many seconds; and their statuses."""
    folders = {moment: tmp_path_factory.mktemp("run") for moment in MOMENTS}
    url = server.url("dagster")
    with ExitStack() as stack:
        runs = {}
        for moment, folder in folders.items():  # one after the other: the first makes the tables
            runs[moment] = stack.enter_context(running(folder, url, "ours", moment))
            runs[moment].wait_until_reached()
        server.go_away()
        for run in runs.values():
            run.go()
        time.sleep(OUTAGE_SECONDS)
        server.come_back()
        return {moment: run.ended() for moment, run in runs.items()}, statuses(server, folders[MOMENTS[0]])


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_waits_for_a_database_that_is_away_and_does_nothing_twice(through_an_outage, moment, record_figure):
    ended, found = through_an_outage
    succeeded, done = ended[moment]
    twice = sum(count - 1 for count in done.values())
    record_figure(away=moment, seconds=OUTAGE_SECONDS, runs=1, succeeded=int(succeeded), done_twice=twice)
    assert succeeded
    assert done == dict.fromkeys(STEPS, 1)
    assert found == [dg.DagsterRunStatus.SUCCESS] * len(MOMENTS)


def test_without_waiting_the_run_is_lost_with_its_process(server, tmp_path, record_figure):
    seconds = max(OUTAGE_SECONDS, DAGSTER_GIVES_UP_SECONDS + 12)
    with running(tmp_path, server.url("dagster"), "dagster", MOMENTS[2]) as run:
        run.wait_until_reached()
        server.go_away()
        run.go()
        run.program.process.join(seconds)
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
    with running(tmp_path, guest, "ours", MOMENTS[1]) as run:
        run.wait_until_reached()
        with owner.connect() as connection:
            connection.exec_driver_sql("ALTER ROLE guest NOSUPERUSER CONNECTION LIMIT 0")
            connection.exec_driver_sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO guest")
            connection.exec_driver_sql("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO guest")
        before = server.times_said(NO_CONNECTION_LEFT)
        run.go()
        while server.times_said(NO_CONNECTION_LEFT) < before + 3:
            assert run.program.process.is_alive(), run.program.errors
            time.sleep(0.05)
        with owner.connect() as connection:
            connection.exec_driver_sql("ALTER ROLE guest CONNECTION LIMIT 5")
        succeeded, done = run.ended()
        errors = run.program.errors
    record_figure(away="no connection left", refused=3, runs=1, succeeded=int(succeeded), done_twice=0)
    assert succeeded, errors
    assert done == dict.fromkeys(STEPS, 1)


def statuses(server, folder):
    """How the runs stand in the database."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOPS_URL", driven(server.url("dagster")).render_as_string(False))
        with dg.DagsterInstance.from_config(str(folder)) as instance:
            return [run.status for run in instance.get_runs()]
