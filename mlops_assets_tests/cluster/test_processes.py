"""Pods are processes: each its own, with its own output and end, and none is left over."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from mlops_assets_tests.cluster.processes import ROOT, warmed
from mlops_assets_tests.cluster.waiting import until

OWNER = """
import os, sys
from pathlib import Path
from mlops_assets_tests.cluster.processes import warmed
folder = Path(sys.argv[1])
with warmed(folder / "warm.log", []) as warm:
    process = warm.start(["sleep", "600"], dict(os.environ), folder, folder / "log")
    print(process.pid, flush=True)
    os.kill(os.getpid(), 9)
"""


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    with warmed(tmp_path_factory.mktemp("warm") / "warm.log", []) as opened:
        yield opened


def env(**more):
    """What a pod of the test knows."""
    return {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **more}


def running(pid):
    """Whether a process runs; one that nobody has buried does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_process_has_its_own_id_environment_output_and_exit_code(warm, tmp_path):
    code = "import os, sys; print(os.getpid(), dict(os.environ).get('WHO'), sys.argv[1]); sys.exit(3)"
    process = warm.start(["python", "-c", code, "word"], env(WHO="pod"), tmp_path, tmp_path / "log")
    assert process.ended.wait(60)
    assert (tmp_path / "log").read_text() == f"{process.pid} pod word\n"
    assert process.code == 3
    assert process.peak > 2**20


def test_a_killed_process_says_by_which_signal_and_leaves_no_children(warm, tmp_path):
    process = warm.start(["sh", "-c", "sleep 600 & echo $!; wait"], env(), tmp_path, tmp_path / "log")
    log = tmp_path / "log"
    child = until(lambda: log.exists() and log.read_text().strip(), "a child")
    assert process.memory() > 0
    process.signal(signal.SIGTERM)
    assert process.ended.wait(60)
    assert process.code == -signal.SIGTERM
    until(lambda: not running(int(child)), "the child's end")


def test_a_command_that_is_not_there_is_an_error_of_the_process(warm, tmp_path):
    process = warm.start(["no-such-command"], env(), tmp_path, tmp_path / "log")
    assert process.ended.wait(60)
    assert process.code == 1
    assert "FileNotFoundError" in (tmp_path / "log").read_text()


def test_nothing_is_left_when_a_test_ends_or_fails(tmp_path):
    def fail():
        with warmed(tmp_path / "warm.log", []) as warm:
            started.append(warm.start(["sleep", "600"], env(), tmp_path, tmp_path / "log"))
            raise ZeroDivisionError

    started = []
    with pytest.raises(ZeroDivisionError):
        fail()
    assert not running(started[0].pid)


def test_a_warm_process_outlives_what_a_terminal_sends_to_all_and_takes_its_own_along_when_killed(tmp_path):
    with warmed(tmp_path / "warm.log", []) as warm:
        started = warm.start(["sleep", "600"], env(), tmp_path, tmp_path / "log")
        parent = psutil.Process(started.pid).parent()
        for number in (signal.SIGINT, signal.SIGTERM):
            parent.send_signal(number)
        assert warm.start(["true"], env(), tmp_path, tmp_path / "log").ended.wait(60)
        parent.kill()
        until(lambda: not running(started.pid), "the end of what it started")


def test_nothing_is_left_when_the_test_s_own_process_is_killed(tmp_path):
    owner = subprocess.run(
        [sys.executable, "-c", OWNER, str(tmp_path)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert owner.returncode == -signal.SIGKILL, owner.stderr
    until(lambda: not running(int(owner.stdout)), "the end of what it started")
