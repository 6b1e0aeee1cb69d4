"""The servers beside Dagster: reports on an origin of their own, with a policy, and no trouble when a port is taken."""

import os
import socket
import sys
import urllib.error
import urllib.request

import pytest

from mlops_assets import development


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_reports_are_served_with_a_policy_and_nothing_outside_their_folder(home, port, monkeypatch):
    monkeypatch.setenv("MLOPS_REPORTS_UI", f"http://127.0.0.1:{port}")
    (home / "reports").mkdir()
    (home / "reports" / "page.html").write_text("<p>report")
    (home / "secret").write_text("not yours")
    with development.Beside() as beside:
        address = development._reports(beside)
        with urllib.request.urlopen(f"{address}/page.html", timeout=10) as answer:
            assert answer.read() == b"<p>report"
            assert answer.headers["Content-Security-Policy"] == development.POLICY
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
        for path in ("/../secret", "/%2e%2e/secret", "/..%2fsecret"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(address + path, timeout=10)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{address}/page.html", timeout=10)


def test_a_taken_port_is_said_and_is_no_reason_to_stop(home, monkeypatch):
    with socket.socket() as taken, development.Beside() as beside:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("MLOPS_REPORTS_UI", address)
        monkeypatch.setenv("MLOPS_MLFLOW_UI", address)
        assert "MLOPS_REPORTS_UI" in development._reports(beside)
        assert "MLOPS_MLFLOW_UI" in development._mlflow(beside)


def test_servers_that_are_elsewhere_are_not_started_here(home, monkeypatch):
    monkeypatch.setenv("MLOPS_REPORTS_UI", "https://reports.example.org")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    with development.Beside() as beside:
        assert "nothing is started here" in development._reports(beside)
        assert "nothing is started here" in development._mlflow(beside)


@pytest.mark.parametrize(
    ("named", "told"), [("", "http://127.0.0.1:4000"), ("https://dagster.example.org", "https://dagster.example.org")]
)
def test_dagster_is_told_its_own_address_unless_the_user_named_another(home, tmp_path, monkeypatch, named, told):
    monkeypatch.setenv("MLOPS_DAGSTER_UI", named)
    program = "from mlops_assets import settings; print(settings.DAGSTER_UI.value())"
    with (tmp_path / "said").open("w") as said:
        environment = development._environment(4000)
        with development.Beside() as beside:
            assert beside.start([sys.executable, "-c", program], environment, said.fileno()).wait(30) == 0
    assert (tmp_path / "said").read_text().strip() == told


def test_a_child_is_stopped_with_its_parent(home):
    with development.Beside() as beside:
        child = beside.start([sys.executable, "-c", "import signal; signal.pause()"])
        assert child.poll() is None
    assert child.poll() is not None


def test_a_child_that_was_asked_to_end_already_is_not_interrupted_in_it(home, tmp_path):
    go_on = tmp_path / "go_on"
    os.mkfifo(go_on)
    program = f"""
import signal
try:
    print("up", flush=True)
    signal.pause()
finally:
    print("ending", flush=True)
    open({str(go_on)!r}).readline()
    print("ended", flush=True)
"""
    read, write = os.pipe()
    with development.Beside() as beside, os.fdopen(read) as said, go_on.open("r+b", buffering=0) as going_on:
        child = beside.start([sys.executable, "-c", program], output=write)
        os.close(write)
        for word in ("up", "ending"):
            assert said.readline().strip() == word
            child.ask_to_end()
        going_on.write(b"now\n")
        assert said.readline().strip() == "ended"
