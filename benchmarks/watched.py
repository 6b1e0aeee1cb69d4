"""The loop by itself: 24 weeks of one model under `mlops-assets dev`, with faults, and nobody touching it.

Run: python -m benchmarks.watched [--weeks 24] [--keep FOLDER]. The provider of `electricity_price` sends week after
week; some deliveries are spoiled, the daemon, a run and the channel of alerts are taken away for a while. What the
sensors made of it is printed week by week, then what was lost or done twice.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from mlops_assets.ml.monitoring import DriftReport
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.resources.records import Records
from mlops_assets.simulation.delivery import LABELS
from mlops_assets.simulation.electricity import ElectricityWorld
from mlops_assets_tests.end_to_end.server import OVER, DevServer, dev_server
from mlops_assets_tests.sinks import Sink, http_sink

MODEL = "electricity_price"
HISTORY = 46
QUIET_SECONDS, LONGEST_SECONDS, DAEMON_LOOKS = 24, 420, 4
Run = dict[str, Any]
Spoil = Callable[[pd.DataFrame], pd.DataFrame]


def other_unit(rows: pd.DataFrame) -> pd.DataFrame:
    """Demand in a unit ten times as large."""
    return rows.assign(nswdemand=(pd.to_numeric(rows["nswdemand"], errors="coerce") / 10).round(6))


def null_burst(rows: pd.DataFrame) -> pd.DataFrame:
    """Most of a column missing."""
    return rows.assign(vicdemand=rows["vicdemand"].where(rows.index % 5 == 0))


def half_empty(rows: pd.DataFrame) -> pd.DataFrame:
    """Every second row missing."""
    return rows.iloc[::2]


def broken(rows: pd.DataFrame) -> pd.DataFrame:
    """A demand that the contract refuses, in every row."""
    return rows.assign(nswdemand=7.0)


SPOILED: dict[int, tuple[str, Spoil]] = {
    3: ("another unit", other_unit),
    6: ("null burst", null_burst),
    9: ("half empty", half_empty),
    12: ("all broken", broken),
}
CORRECTED = {4: 3, 7: 6, 13: 12}
DAEMON_KILLED, RUN_KILLED, GROWING, TWICE = 14, 16, 18, 20
DEAF = range(9, 12)


@dataclass
class Loop:
    """The provider, and what is seen of the loop from outside."""

    home: Path
    world: ElectricityWorld
    sink: Sink
    seen: set[str] = field(default_factory=set)
    told: int = 0

    def send(self, start: date, spoil: Spoil | None = None) -> None:
        """Deliver a week, whole at once, and the labels of earlier ones that come together with it."""
        self._write(self.world.file_name(start), self._content(start, spoil))
        self._send_labels(start)

    def send_slowly(self, start: date) -> None:
        """Deliver a week in two halves, some seconds apart."""
        content = self._content(start, None)
        for part in (content[: len(content) // 2], content):
            (self._landing / self.world.file_name(start)).write_bytes(part)
            time.sleep(6)
        self._send_labels(start)

    def wait(self, server: DevServer) -> list[Run]:
        """The runs that are new and over, once nothing has happened for QUIET_SECONDS."""
        deadline, since, before = time.monotonic() + LONGEST_SECONDS, time.monotonic(), None
        fresh: list[Run] = []
        while time.monotonic() < deadline:
            fresh = [run for run in server.runs() if run["runId"] not in self.seen]
            now = [(run["runId"], run["status"]) for run in fresh]
            if now != before or any(run["status"] not in OVER for run in fresh):
                since, before = time.monotonic(), now
            elif time.monotonic() - since > QUIET_SECONDS:
                break
            time.sleep(1)
        self.seen |= {run["runId"] for run in fresh}
        return fresh

    def week(self, number: int) -> date:
        """The first day of a week that is played; week 0 is the last of the history."""
        return self.world.starts()[HISTORY + number - 1]

    def alerts(self) -> list[str]:
        """What was told since the last call."""
        fresh, self.told = self.sink.taken[self.told :], len(self.sink.taken)
        return [str(each.get("title") or each.get("message"))[:110] for each in fresh]

    @property
    def _landing(self) -> Path:
        return self.home / "landing" / MODEL

    def _content(self, start: date, spoil: Spoil | None) -> bytes:
        rows = self.world.partition(start, self.world.attempts(start) - 1).drop(columns=list(self.world.late))
        return _compressed(spoil(rows) if spoil else rows)

    def _send_labels(self, start: date) -> None:
        for name, labels in self.world.labels(start).items():
            self._write(f"{LABELS}/{name}", _compressed(labels))

    def _write(self, name: str, content: bytes) -> None:
        path = self._landing / name
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.part")
        aside.write_bytes(content)
        aside.rename(path)


def _compressed(rows: pd.DataFrame) -> bytes:
    return gzip.compress(rows.to_csv(index=False).encode(), mtime=0)


def kill(server: DevServer, words: str) -> int:
    """Kill -9 the processes under the server whose command line holds `words`; how many there were."""
    children = psutil.Process(server.process.pid).children(recursive=True)
    alive = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
    found = [child for child in alive if words in " ".join(child.cmdline())]
    for child in found:
        os.kill(child.pid, signal.SIGKILL)
    return len(found)


def main() -> None:
    """Play, and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--weeks", type=int, default=24)
    arguments.add_argument("--keep", type=Path, help="a folder to play in, which is kept")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder, http_sink() as channel:
        loop = Loop((options.keep or Path(folder)) / "home", ElectricityWorld(), channel)
        runs = _first_sitting(loop, min(options.weeks, DAEMON_KILLED - 1))
        if options.weeks >= DAEMON_KILLED:
            runs += _second_sitting(loop, options.weeks)
        _close(loop, runs)


def _first_sitting(loop: Loop, weeks: int) -> list[Run]:
    """The history at once, then week by week until the daemon is killed while it has a new delivery before it."""
    for start in loop.world.starts()[:HISTORY]:
        loop.send(start)
    with _server(loop) as server:
        runs = _told(loop, 0, "history", loop.wait(server))
        for number in range(1, weeks + 1):
            runs += _week(loop, server, number)
        if weeks == DAEMON_KILLED - 1:
            loop.send(loop.week(DAEMON_KILLED))
            time.sleep(DAEMON_LOOKS)
            kill(server, "mlops_assets.cli daemon")
    return runs


def _second_sitting(loop: Loop, weeks: int) -> list[Run]:
    """All is started again, and goes on."""
    with _server(loop) as server:
        runs = _told(loop, DAEMON_KILLED, "daemon killed, all started again", loop.wait(server))
        for number in range(DAEMON_KILLED + 1, weeks + 1):
            runs += _week(loop, server, number)
    return runs


def _server(loop: Loop) -> AbstractContextManager[DevServer]:
    told = {"MLOPS_ALERTS": loop.sink.uri}
    return dev_server(loop.home, loop.home.parent / "dev.log", **told)


def _week(loop: Loop, server: DevServer, number: int) -> list[Run]:
    """One week delivered, with its fault, and what the sensors made of it."""
    loop.sink.answer = 503 if number in DEAF else 200
    start, said = loop.week(number), []
    if number in SPOILED:
        said.append(SPOILED[number][0])
    if number in CORRECTED:
        loop.send(loop.week(CORRECTED[number]))
        said.append(f"week {CORRECTED[number]} corrected")
    if number == GROWING:
        loop.send_slowly(start)
        said.append("a file that grew")
    else:
        loop.send(start, SPOILED[number][1] if number in SPOILED else None)
    if number == TWICE:
        loop.send(start)
        said.append("the same bytes twice")
    if number == RUN_KILLED:
        said.append(f"{_kill_run(server)} run killed")
    if number in DEAF:
        said.append("channel deaf")
    return _told(loop, number, ", ".join(said), loop.wait(server))


def _kill_run(server: DevServer) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not any(run["status"] == "STARTED" for run in server.runs()):
        time.sleep(0.2)
    time.sleep(2)
    return kill(server, "spawn_main")


def _told(loop: Loop, number: int, what: str, runs: list[Run]) -> list[Run]:
    """Print what became of a week, and return its runs."""
    start, records = loop.week(number), Records(root=str(loop.home))
    drift = records.get(DriftReport, MODEL, "drift_report", start.isoformat())
    decision = _decision(records)
    told = {
        "week": number,
        "of": start.isoformat(),
        "fault": what,
        "runs": dict(Counter(f"{run['tags'].get('mlops/reason', '?')} {run['status']}" for run in runs)),
        "seconds": [round(run["endTime"] - run["startTime"]) for run in runs if run["startTime"] and run["endTime"]],
        "drift": f"{drift.verdict}, {drift.cause.likely if drift.cause else '-'}" if drift else None,
        "decision": decision,
        "told": loop.alerts(),
    }
    print(json.dumps(told), flush=True)
    return runs


def _decision(records: Records) -> str | None:
    from mlops_assets.ml.retraining import RetrainingDecision

    found = records.get(RetrainingDecision, MODEL, "retraining_decision")
    return None if found is None else f"{found.partition} {found.sentence}"


def _close(loop: Loop, runs: list[Run]) -> None:
    records = Records(root=str(loop.home))
    kept = records.all(ValidatedPartition, MODEL, "validated_features")
    done = Counter(run["tags"].get("mlops/request") for run in runs if run["status"] == "SUCCESS")
    seconds = [run["endTime"] - run["startTime"] for run in runs if run["startTime"] and run["endTime"]]
    waited = [run["startTime"] - run["creationTime"] for run in runs if run["startTime"]]
    print(
        json.dumps(
            {
                "validated": len(kept),
                "runs": dict(Counter(run["status"] for run in runs)),
                "requests done twice": sum(count > 1 for request, count in done.items() if request),
                "working_s": round(statistics.median(seconds), 1),
                "starting_s": round(statistics.median(waited), 1),
                "told": len(loop.sink.taken),
                "same told twice": sum(count > 1 for count in Counter(loop.sink.keys).values()),
                "at": datetime.now(UTC).replace(microsecond=0).isoformat(),
            }
        )
    )


if __name__ == "__main__":
    sys.exit(main())
