"""Processes that release versions of one model at the same time, and one that dies in the middle of a release.

A program. The registry is a real MLflow in SQLite, the ledger is in either database.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from mlops_assets.lifecycle.releasing import LostError, Release, follow, release
from mlops_assets.ml.ledger import champion, reigns
from mlops_assets.resources.ledger import Ledger
from mlops_assets.resources.registry import CHAMPION, Registry, RegistryConflictError
from mlops_assets.resources.tracking import TrackingUnavailableError
from mlops_assets_tests.evidence import candidate
from mlops_assets_tests.faults.forking import forked, load, say
from mlops_assets_tests.homes import empty_database, without_waiting_for_the_disk

LIBRARIES = [f"mlflow.store.{name}.sqlalchemy_store" for name in ("model_registry", "tracking")]
PROCESSES, ROUNDS, UNGUARDED = 4, int(os.environ.get("MLOPS_RACES", "5")), 5
FORK = multiprocessing.get_context("fork")


def now() -> datetime:
    """The machine's clock."""
    return datetime.now(UTC)


def at(folder: Path, uri: str) -> tuple[Ledger, Registry]:
    """The ledger and the registry as a fresh process finds them."""
    registry = Registry(root=str(folder), tracking_uri=f"sqlite:///{folder}/mlflow.db")
    return Ledger(uri=uri, anchors=f"{folder}/anchors"), registry


def prepare(folder: Path) -> None:
    """Two versions for each process, none of them champion."""
    folder.mkdir(parents=True)
    (folder / "mlflow.db").write_bytes(empty_database())
    _, registry = at(folder, "")
    for number in range(1, 2 * PROCESSES + 1):
        registry.register(candidate(sha256=f"{number:064d}", run=f"run-{number}"))


def wish(version: int, judged_against: int | None) -> Release:
    """A release, judged better than the champion that was seen."""
    said = {"who": f"process {os.getpid()}", "why": "It is better.", "evidence": {"model": f"{version:064d}"}}
    return Release(model="toy", version=version, judged_against=judged_against, **said)


def guarded(folder: Path, uri: str, mine: tuple[int, int], together: Barrier) -> dict[str, Any]:
    """Release in every round against the champion that all of them have just seen."""
    (ledger, registry), told = at(folder, uri), {"won": 0, "lost": 0, "apart": 0}
    for _ in range(ROUNDS):
        seen = champion(ledger.links("toy"), "toy")
        version = mine[0] if seen is None or seen.version != mine[0] else mine[1]
        together.wait()
        try:
            release(wish(version, seen.version if seen else None), ledger, registry, now)
            told["won"] += 1
        except LostError:
            told["lost"] += 1
        together.wait()
        reign = champion(ledger.links("toy"), "toy")
        told["apart"] += registry.holder("toy") != (reign and reign.version)
        together.wait()
    return told


def unguarded(folder: Path, uri: str, mine: tuple[int, int], together: Barrier) -> dict[str, Any]:
    """The positive control: the champion is looked at, and the alias moved if it is the one that was seen."""
    (_, registry), won = at(folder, uri), 0
    for _ in range(UNGUARDED):
        seen = registry.holder("toy")
        version = mine[0] if seen != mine[0] else mine[1]
        together.wait()
        unchanged = registry.holder("toy") == seen
        together.wait()
        if unchanged:
            with suppress(RegistryConflictError, TrackingUnavailableError):
                registry._set_alias("toy", CHAMPION, version)
            won += 1
        together.wait()
    return {"won": won}


def racing(folder: Path, uri: str, run: Callable[..., dict[str, Any]]) -> list[dict[str, Any]]:
    """What each of the processes says."""
    together, answers = FORK.Barrier(PROCESSES), FORK.Queue()

    def racer(number: int) -> None:
        answers.put(run(folder, uri, (2 * number + 1, 2 * number + 2), together))

    racers = [FORK.Process(target=racer, args=(number,)) for number in range(PROCESSES)]
    for each in racers:
        each.start()
    said = [answers.get() for _ in racers]
    for each in racers:
        each.join()
    return said


def race(folder: Path, uri: str) -> dict[str, Any]:
    """Four processes, with the ledger."""
    began = time.perf_counter()
    said = racing(folder, uri, guarded)
    seconds = time.perf_counter() - began
    return {"seconds": round(seconds, 1), "said": said, **forked(lambda: outcome(folder, uri))}


def outcome(folder: Path, uri: str) -> dict[str, Any]:
    """What stands in the ledger and in the registry."""
    ledger, registry = at(folder, uri)
    links = ledger.links("toy")
    history = reigns(links, "toy")
    return {
        "broken": ledger.verify(),
        "kinds": [link.entry.kind for link in links],
        "reigns": [(reign.version, reign.previous) for reign in history],
        "unconfirmed": sum(reign.confirmed is None for reign in history),
        "holder": registry.holder("toy"),
    }


def die(home: Path, uri: str) -> Iterator[dict[str, Any]]:
    """One release, killed before each of its commits; what a fresh process makes of it; and the same release again."""
    kept = home.with_name("champion 1")

    def releasing(version: int, judged_against: int | None, dies_at: int | None = None) -> int:
        commits = 0

        def count(_: object) -> None:
            nonlocal commits
            commits += 1
            if commits == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)

        from sqlalchemy import Engine, event

        event.listen(Engine, "commit", count)
        ledger, registry = at(home, uri)
        release(wish(version, judged_against), ledger, registry, now)
        return commits

    def followed() -> dict[str, Any]:
        before = outcome(home, uri)
        follow("toy", *at(home, uri), now)
        return {"before": before, "after": outcome(home, uri)}

    def released_again() -> dict[str, Any]:
        releasing(2, 1)
        return outcome(home, uri)

    forked(lambda: releasing(1, None))
    shutil.copytree(home, kept)
    commits = forked(lambda: releasing(2, 1))
    for dies_at in range(1, commits + 1):
        lay_out(kept, home)
        killed = forked(lambda dies_at=dies_at: releasing(2, 1, dies_at)) is None
        yield {"dies_at": dies_at, "killed": killed, **forked(followed), "again": forked(released_again)}


def lay_out(kept: Path, home: Path) -> None:
    """Go back to what was kept: in the same place, for MLflow keeps absolute paths."""
    shutil.rmtree(home)
    shutil.copytree(kept, home)


def main(folder: Path, postgres: str) -> None:
    """The race with the ledger in either database and with none, and each of the deaths."""
    without_waiting_for_the_disk()
    load(LIBRARIES)
    home, kept = folder / "home", folder / "no champion"
    sqlite = f"sqlite:///{home}/ledger.db"
    forked(lambda: prepare(home))
    shutil.copytree(home, kept)
    for database, uri in (("sqlite", sqlite), ("postgres", postgres)):
        say(kind="race", database=database, **race(home, uri))
        lay_out(kept, home)
    say(kind="control", rounds=UNGUARDED, said=racing(home, sqlite, unguarded))
    lay_out(kept, home)
    for trial in die(home, sqlite):
        say(kind="trial", **trial)
