"""Row 24: the code location is broken or unreachable, or the daemon is dead, and Dagster says nothing."""

import os
import subprocess
import sys

import pytest
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.server import wait_for_grpc_server

from mlops_assets_tests import toy
from mlops_assets_tests.faults import shop
from mlops_assets_tests.faults.clockwork import code, names, ticking

pytestmark = [pytest.mark.fault(24), pytest.mark.timeout(300)]
BROKEN = "mlops_assets_tests.faults.no_such_shop"
TWO_MINUTES = 120


@pytest.fixture
def clockwork(tmp_path, monkeypatch):
    """A daemon over the toy shop."""
    with ticking(tmp_path / "home", monkeypatch) as made:
        yield made


def lose(clockwork, month):
    """A delivery comes while nobody looks."""
    toy.deliver(clockwork.home / "landing", month)


def healthy(clockwork):
    """A minute in which all goes well, with one delivery."""
    toy.deliver(clockwork.home / "landing", "2024-01")
    clockwork.run(60)
    assert clockwork.executed() == {"2024-01-01": 1}
    assert clockwork.alerts == []


def told_within_two_minutes_and_nothing_lost(clockwork, broke_at, words):
    """One alert, in time, with the cause; over when it is repaired; and the delivery is executed once."""
    when, sentence = clockwork.first_alarm()
    assert words in sentence
    assert when - broke_at < TWO_MINUTES
    assert len(names(clockwork.alerts)) == 1
    clockwork.alerts.clear()
    clockwork.run(60)
    assert clockwork.alerts == []
    assert clockwork.executed() == {"2024-01-01": 1, "2024-03-01": 1}
    return when - broke_at


def test_a_deploy_that_cannot_be_loaded_is_told_although_the_heart_goes_on_beating(clockwork, record_figure):
    healthy(clockwork)
    clockwork.deploy(code(BROKEN))
    lose(clockwork, "2024-03")
    clockwork.run(150)
    assert clockwork.executed() == {"2024-01-01": 1}
    clockwork.deploy(code(shop.__name__))
    words = "No look of any sensor has ended well for 95 s although the daemon lives"
    seconds = told_within_two_minutes_and_nothing_lost(clockwork, 60, words)
    record_figure(fault="broken deploy", seconds_to_alarm=seconds, losses=0, duplicates=0)


def test_a_daemon_that_is_killed_is_told(clockwork, record_figure):
    healthy(clockwork)
    clockwork.alive = False
    lose(clockwork, "2024-03")
    clockwork.run(150)
    clockwork.start()
    words = "Dagster's daemon has given no sign for"
    seconds = told_within_two_minutes_and_nothing_lost(clockwork, 60, words)
    record_figure(fault="daemon killed", seconds_to_alarm=seconds, losses=0, duplicates=0)


def test_a_code_server_that_is_killed_is_told_with_what_its_ticks_say(clockwork, tmp_path, record_figure):
    socket = str(tmp_path / "code")
    command = [sys.executable, "-m", "dagster", "api", "grpc", "--socket", socket, "-m", shop.__name__]
    environment = os.environ | {"DAGSTER_HOME": str(clockwork.home / "dagster")}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    origin = GrpcServerCodeLocationOrigin(host="localhost", socket=socket, location_name="shop")
    with subprocess.Popen(command, env=environment, **quiet) as server:
        wait_for_grpc_server(server, DagsterGrpcClient(socket=socket), command, timeout=120)
        clockwork.deploy(origin)
        healthy(clockwork)
        server.kill()
    lose(clockwork, "2024-03")
    clockwork.run(150)
    clockwork.deploy(code(shop.__name__))
    seconds = told_within_two_minutes_and_nothing_lost(clockwork, 60, "toy_new_data: ")
    record_figure(fault="code server killed", seconds_to_alarm=seconds, losses=0, duplicates=0)


def test_five_healthy_minutes_raise_nothing(clockwork, record_figure):
    healthy(clockwork)
    clockwork.run(300)
    record_figure(healthy_minutes=5, false_alarms=len(clockwork.alerts))
    assert clockwork.alerts == []
