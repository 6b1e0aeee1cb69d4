"""PostgreSQL that is away for a while, and turns that hold over machines, on a real server."""

import subprocess
import sys
import threading
import time

import pytest
import sqlalchemy
from sqlalchemy.exc import OperationalError

from mlops_assets import settings
from mlops_assets.resources.postgresql import driven, is_postgresql, outages, turn, waits
from mlops_assets_tests.postgres import running_postgres

HOLD = """
import sys, time
from mlops_assets.resources.postgresql import turn
with turn(sys.argv[1], sys.argv[2], 60):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """As in an installation, and not as in other tests."""
    monkeypatch.setenv(settings.DATABASE_PATIENCE.name, settings.DATABASE_PATIENCE.default)


@pytest.fixture(scope="module")
def server():
    """A server of this file."""
    with running_postgres() as running:
        yield running


def patient(server):
    """An engine that waits."""
    return waits(sqlalchemy.create_engine(driven(server.url()), poolclass=sqlalchemy.NullPool))


def test_whoever_connects_waits_for_a_database_that_is_away_and_then_goes_on(server):
    server.go_away()
    back = threading.Timer(1.5, server.come_back)
    back.start()
    began = time.monotonic()
    with patient(server).connect() as connection:
        assert connection.scalar(sqlalchemy.text("SELECT 1")) == 1
    assert time.monotonic() - began >= 1
    back.join()


def test_one_that_stays_away_is_given_up_when_patience_is_over(server, monkeypatch):
    monkeypatch.setenv(settings.DATABASE_PATIENCE.name, "0.5")
    server.go_away()
    try:
        with pytest.raises(OperationalError):
            patient(server).connect()
    finally:
        server.come_back()


@pytest.mark.parametrize(("right", "wrong"), [("/postgres?", "/nothing?"), ("://postgres:", "://stranger:")])
def test_what_will_not_mend_itself_is_said_at_once(server, right, wrong):
    began = time.monotonic()
    with pytest.raises(OperationalError, match="does not exist"):
        waits(sqlalchemy.create_engine(driven(server.url().replace(right, wrong)))).connect()
    assert time.monotonic() - began < 60


def test_whoever_finds_no_connection_left_waits_until_one_is(server):
    url = server.url()
    with sqlalchemy.create_engine(driven(url), isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("CREATE ROLE guest LOGIN CONNECTION LIMIT 1")
    guest = url.replace("://postgres:", "://guest:")
    first = sqlalchemy.create_engine(driven(guest), poolclass=sqlalchemy.NullPool).connect()
    freed = threading.Timer(1.0, first.close)
    freed.start()
    with waits(sqlalchemy.create_engine(driven(guest), poolclass=sqlalchemy.NullPool)).connect() as second:
        assert second.scalar(sqlalchemy.text("SELECT 1")) == 1
    freed.join()


def holding(server, name):
    """Another process, that holds a turn until its input is closed or it dies."""
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, server.url(), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "held\n"
    return other


def test_a_turn_that_another_process_has_is_waited_for_and_another_name_is_another_turn(server):
    other = holding(server, "registry toy")
    with turn(server.url(), "registry bike", 1):
        pass
    with pytest.raises(OperationalError, match="lock timeout"), turn(server.url(), "registry toy", 1):
        raise AssertionError("two have the turn")
    other.stdin.close()
    with turn(server.url(), "registry toy", 60):
        pass
    other.wait(30)
    other.stdout.close()


def test_a_turn_is_over_when_the_process_that_had_it_dies(server):
    other = holding(server, "registry toy")
    other.kill()
    with turn(server.url(), "registry toy", 60):
        pass
    other.wait(30)
    other.stdin.close()
    other.stdout.close()


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("postgresql://user@host/db", True),
        ("postgresql+psycopg2://user@host/db", True),
        ("postgres://user@host/db", True),
        ("sqlite:////tmp/x.db", False),
        ("mysql://host/db", False),
        ("", False),
    ],
)
def test_postgresql_is_known_by_its_scheme(uri, expected):
    assert is_postgresql(uri) is expected


def test_an_outage_is_known_whoever_wraps_it():
    import dagster_postgres.utils

    assert dagster_postgres.utils.DagsterPostgresException in outages()
    assert issubclass(ConnectionRefusedError, outages())
