"""The lease: one holder at a time, named to the next, and gone with its process."""

import multiprocessing
import os
import re
import signal
import sys
import time
from contextlib import contextmanager

import dagster as dg
import pytest
import sqlalchemy

from mlops_assets.lease import LOST, HeldError, lease
from mlops_assets_tests.postgres import postgres_server

STORAGE = "telemetry: {enabled: false}\nstorage: {postgres: {postgres_url: '%s'}}\n"


@pytest.fixture(scope="module")
def database():
    """The URL of a PostgreSQL server, for SQLAlchemy."""
    with postgres_server() as url:
        yield url.replace("postgresql://", "postgresql+psycopg2://")


@pytest.fixture(params=["sqlite", "postgres"])
def home(request, tmp_path):
    """An instance's folder, with its runs kept in either database."""
    text = "telemetry: {enabled: false}\n"
    if request.param == "postgres":
        text = STORAGE % request.getfixturevalue("database")
    (tmp_path / "dagster.yaml").write_text(text)
    return tmp_path


@pytest.fixture
def on_postgres(database, tmp_path):
    """An instance's folder with its runs in PostgreSQL."""
    (tmp_path / "dagster.yaml").write_text(STORAGE % database)
    return tmp_path


def hold(home, told):
    """What the holder does until it is killed."""
    sys.stderr = (home / "said").open("w")
    with dg.DagsterInstance.from_config(str(home)) as instance, lease(instance):
        told.send("held")
        signal.pause()


@contextmanager
def holder(home):
    """Another process that holds the lease."""
    forking = multiprocessing.get_context("fork")
    ours, theirs = forking.Pipe()
    process = forking.Process(target=hold, args=(home, theirs), daemon=True)
    process.start()
    try:
        assert ours.poll(60)
        assert ours.recv() == "held"
        yield process
    finally:
        process.kill()
        process.join()


def taken(home, seconds=10):
    """Whether the lease can be had within some seconds."""
    deadline = time.monotonic() + seconds
    with dg.DagsterInstance.from_config(str(home)) as instance:
        while time.monotonic() < deadline:
            try:
                with lease(instance):
                    return True
            except HeldError:
                time.sleep(0.1)
    return False


def test_a_second_holder_is_refused_and_told_who_the_first_is(home):
    with holder(home) as process, dg.DagsterInstance.from_config(str(home)) as instance:
        with pytest.raises(HeldError) as refused, lease(instance):
            pass
        assert re.match(
            rf"The daemon of this instance is process {process.pid} on \S+, since \d{{4}}-\d\d-\d\d [\d:]{{8}} \S+\. A"
            " second one would start runs twice: stop that process first.",
            str(refused.value),
        )


def test_the_lease_dies_with_a_process_that_is_killed(home):
    with holder(home) as process:
        assert not taken(home, 0.2)
        process.kill()
        assert taken(home)


def test_the_lease_can_be_had_again_when_it_was_given_back(home):
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for _ in range(2):
            with lease(instance):
                pass


def cut_off(database, times=1):
    """End the sessions that hold the lease, as a restart of the server does."""
    engine = sqlalchemy.create_engine(database)
    with engine.connect() as connection:
        for _ in range(times):
            ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'process %'"
            connection.execute(sqlalchemy.text(ended))
    engine.dispose()


def test_a_session_that_was_cut_off_takes_the_lease_again(on_postgres, database):
    with holder(on_postgres) as process:
        cut_off(database)
        deadline = time.monotonic() + 120
        while (free := taken(on_postgres, 0.05)) and time.monotonic() < deadline:
            time.sleep(2)
        assert not free
        assert process.is_alive()


def test_a_daemon_whose_lease_another_took_meanwhile_ends_at_once(on_postgres, database):
    with holder(on_postgres) as process, dg.DagsterInstance.from_config(str(on_postgres)) as instance:
        os.kill(process.pid, signal.SIGSTOP)
        cut_off(database)
        with lease(instance):
            os.kill(process.pid, signal.SIGCONT)
            process.join(20)
            assert process.exitcode == LOST
        said = (on_postgres / "said").read_text()
        assert f"The lease was lost with its session. The daemon of this instance is process {os.getpid()} on" in said
