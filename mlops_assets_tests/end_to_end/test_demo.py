"""`mlops-assets demo` and then `mlops-assets dev`, as a newcomer types them: what was played is there, and goes on."""

import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlops_assets.code_server import IMPORTS
from mlops_assets.ml.performance import PerformanceReport
from mlops_assets.ml.planning import DECISION, MONITORING, VALIDATION
from mlops_assets.ml.retraining import RetrainingDecision
from mlops_assets.resources.records import Records
from mlops_assets_tests.end_to_end.server import DevServer, deliver, dev_server, free_port
from mlops_assets_tests.end_to_end.watch import REACHED, watched
from mlops_assets_tests.resources.test_tracking_server import wait_until_healthy

pytestmark = pytest.mark.timeout(1800)
MLFLOW, REPORTS = "MLOPS_MLFLOW_UI", "MLOPS_REPORTS_UI"
BIKE, ELECTRICITY = "bike_demand", "electricity_price"
SENSORS = (f"{BIKE}_new_data", f"{ELECTRICITY}_new_data", "new_labels", "retrain_on_decision")
MONTH, NEWEST_WEEK, COMING_WEEK = "2012-02-01", "1997-05-26", "1997-06-02"


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Where the demo was played, and how it ended."""
    folder = tmp_path_factory.mktemp("demo")
    ended = subprocess.run(
        [sys.executable, "-m", "mlops_assets.cli", "demo", "--months", "4"],
        env=watched(folder / "watch") | {"MLOPS_HOME": str(folder / "home")}, cwd=folder,
        capture_output=True, text=True, timeout=1500, check=False,
    )  # fmt: skip
    return folder / "home", ended


def test_the_demo_plays_months_of_both_models_and_everything_that_should_work_does(played):
    home, ended = played
    said = ended.stdout
    assert ended.returncode == 0, said + ended.stderr
    assert "9 from 2011-01-01" in said
    assert "48 from 1996-05-06" in said
    assert re.search(r"labels to 1997-03-24 +0\.\d+ +v1, champion", said), "the first model waits for labels"
    assert re.search(r"2011-12-01 +7\d\d +\d+ *\n", said), "the dirty month is refused"
    assert re.search(r"2011-12-01, corrected +\d+ +\d+ +(stable|watch) .* WAIT", said)
    assert "quality.max_bad_share is 5.00%" in said
    assert re.search(r"1997-04-14, corrected +\d+ +\d+ +stable", said)
    assert re.search(r"1997-04-28 +336 +2 +stable \(0%\) +~0\.\d+ +WAIT", said), "estimated before labels"
    assert re.search(r"labels to 1997-04-28 +0\.\d+ +WAIT", said), "measured by labels a week later"
    assert re.search(r"1997-05-12 .*drifted .* WAIT", said)
    assert re.search(r"1997-05-19 .*drifted .* RETRAIN", said)
    assert re.search(r"1997-05-19, retrained .* v2, champion", said)
    assert "1997-05-19: RETRAIN: 3 of the newest 3 drift reports since the last training are drifted" in said
    assert "http://127.0.0.1:3000/assets/bike_demand/retraining_decision" in said
    assert (home / "demo.log").stat().st_size > 0
    assert "DEBUG" not in said + ended.stderr
    assert sorted((home / "reports").iterdir())


@dataclass
class Opened:
    """`mlops-assets dev` on the home of the demo: what is beside it, the runs that it found there, and what its sensors
    said of them."""

    server: DevServer
    beside: Mapping[str, str]
    before: Sequence[Mapping[str, Any]]
    said: Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def opened(played, tmp_path_factory):
    home, _ = played
    folder, beside = tmp_path_factory.mktemp("dev"), {ui: f"http://127.0.0.1:{free_port()}" for ui in (MLFLOW, REPORTS)}
    with dev_server(home, folder / "dev.log", watched(folder / "watch"), **beside) as server:
        before = server.runs()
        yield Opened(server, beside, before, {sensor: server.first_tick(sensor) for sensor in SENSORS})


def test_dev_opens_on_all_that_the_demo_did_and_does_none_of_it_again(opened):
    assert {tick["status"] for tick in opened.said.values()} == {"SKIPPED"}, opened.said
    assert opened.server.runs() == opened.before
    assert {run["tags"]["mlops/model"] for run in opened.before} == {BIKE, ELECTRICITY}
    assert len(opened.before) >= 16


def test_mlflow_and_the_reports_are_beside_it(opened):
    wait_until_healthy(opened.beside[MLFLOW], opened.server.process)
    with urllib.request.urlopen(f"{opened.beside[REPORTS]}/{BIKE}/drift/", timeout=30) as answer:
        assert b"2012-01-01" in answer.read()


@pytest.fixture(scope="module")
def delivered(opened):
    """The runs that one more delivery of each model brought about by itself, by model and reason."""
    before = opened.server.runs()
    for model in (BIKE, ELECTRICITY):
        deliver(opened.server.home, model, 1)
    made = opened.server.wait_for_runs(len(before) + 3)[: -len(before)]
    return {(run["tags"]["mlops/model"], run["tags"]["mlops/reason"]): run for run in made}


def test_a_dropped_file_becomes_a_decision_by_itself(opened, delivered):
    """One more month of bicycles: validated, held against the months before, and found to be no reason to train."""
    run = delivered[BIKE, "new_data"]
    assert (run["status"], run["tags"]["dagster/partition"]) == ("SUCCESS", MONTH)
    assert {asset["path"][1] for asset in run["assetSelection"]} == {*VALIDATION, *MONITORING}
    home = opened.server.home
    decision = Records(root=str(home)).get(RetrainingDecision, BIKE, DECISION)
    assert (decision.partition, decision.verdict) == (MONTH, "WAIT")
    told = opened.server.wait_for_ticks("retrain_on_decision", 1)[0]["skipReason"]
    assert f"{BIKE}: {MONTH}: {decision.sentence}" in told
    assert list((home / "reports" / BIKE / "drift").glob(f"{MONTH}*.html"))


def test_their_runs_are_forked_from_a_process_that_has_imported_libraries(opened, delivered):
    """It is the one that waited for processes that worked for a while."""
    ours = str(opened.server.home).encode()
    found = [each for each in Path("/proc").glob("[0-9]*") if _of(each, "cmdline", IMPORTS.encode())]
    [forker] = [each for each in found if _of(each, "environ", ours)]
    waited_for = (forker / "stat").read_text().rpartition(")")[2].split()[13:15]
    assert sum(map(int, waited_for)) / os.sysconf("SC_CLK_TCK") > len(delivered)


def _of(process: Path, file: str, part: bytes) -> bool:
    try:
        return part in (process / file).read_bytes()
    except OSError:
        return False


def test_rows_and_the_labels_of_the_weeks_before_are_seen_to_by_themselves(opened, delivered):
    """What was predicted for the newest week so far is measured, and the one that came is estimated."""
    assert delivered.keys() == {(BIKE, "new_data"), (ELECTRICITY, "new_data"), (ELECTRICITY, "new_labels")}
    assert {run["status"] for run in delivered.values()} == {"SUCCESS"}
    records = Records(root=str(opened.server.home))
    measured, estimated = (
        records.get(PerformanceReport, ELECTRICITY, "performance_report", week) for week in (NEWEST_WEEK, COMING_WEEK)
    )
    assert (measured.mature, measured.labelled > 300, measured.inside is not None) == (True, True, True)
    assert max(days for days, _ in measured.arrival) < 14 * 24
    assert (estimated.labelled, estimated.measured, estimated.estimated is not None) == (0, None, True)
    assert "nothing can be measured yet" in estimated.sentence


def test_the_same_bytes_under_another_name_renamed_or_only_touched_are_no_news(opened, delivered):
    server, landing = opened.server, opened.server.home / "landing" / BIKE
    before = server.runs()
    shutil.copy2(landing / "bike-2012-02.csv", landing / "bike-2012-03.csv")
    (landing / "bike-2012-01.csv").rename(landing / "bike-2012-04.csv")
    os.utime(landing / "bike-2011-11.csv", (0, 0))
    newest, last = server.wait_for_ticks(f"{BIKE}_new_data", 2)[:2]
    assert {newest["status"], last["status"]} == {"SKIPPED"}
    assert f"Nothing new among 15 deliveries in {landing}" in newest["skipReason"]
    for copy, original in (("2012-03-01", "2012-02-01"), ("2012-04-01", "2012-01-01")):
        assert f"{copy}: holds the same bytes as {original}: delivered twice, counted once" in newest["skipReason"]
    assert server.runs() == before


def test_neither_connects_to_anything_but_this_machine(played, opened, delivered):
    """Where somebody's process does, it ends, and says so where it speaks."""
    _, ended = played
    for said in (ended.stderr, opened.server.log.read_text()):
        assert REACHED not in said


@pytest.mark.parametrize(
    ("call", "address"),
    [('socket().connect(("192.0.2.1", 9))', "192.0.2.1"), ('getaddrinfo("example.invalid", 9)', "example.invalid")],
)
def test_a_program_that_reaches_out_ends_even_if_a_thread_does_in_what_it_started(tmp_path, call, address):
    program = f"import socket, threading; threading.Thread(target=lambda: socket.{call}).start()"
    started = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {program!r}]).returncode)"
    finished = subprocess.run(
        [sys.executable, "-c", started], env=watched(tmp_path / "watch"), capture_output=True, text=True, check=False
    )
    assert (finished.returncode, finished.stderr) == (3, f"{REACHED} {address}")
