"""Work in a child process that may be killed, without paying for the imports of each child.

A program, a function that writes lines of JSON, is run in a process that is forked from one that has imported what
programs need and opened nothing; what it does in processes that die is forked again.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from mlops_assets import sqlite_storage
from mlops_assets.ml.importing import for_good
from mlops_assets_tests import homes

IMPORTED = ("mlops_assets_tests.faults.preloaded",)
WRITTEN = ("output", "errors")
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(list(IMPORTED))


def told(program: Callable[..., None], *arguments: Any, **environment: str) -> list[dict[str, Any]]:
    """What a program says; `environment` is added to this one's."""
    output, _ = run(program, *arguments, **environment)
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def run(program: Callable[..., None], *arguments: Any, **environment: str) -> tuple[str, str]:
    """All that a program writes: its output and its errors."""
    with started(program, *arguments, **environment) as running:
        assert running.ended() == 0, running.errors[-5000:]
        return running.output, running.errors


@dataclass(frozen=True)
class Running:
    """A program in its process, and the folder that holds what it writes."""

    process: BaseProcess
    folder: Path

    def ended(self) -> int | None:
        """Its status, once it is over."""
        self.process.join()
        return self.process.exitcode

    def kill(self) -> None:
        """End it at once, and nothing that it started."""
        self.process.kill()
        self.process.join()

    @property
    def output(self) -> str:
        """What it has written so far."""
        return (self.folder / "output").read_text()

    @property
    def errors(self) -> str:
        """What it has said so far of what went wrong."""
        return (self.folder / "errors").read_text()


@contextlib.contextmanager
def started(program: Callable[..., None], *arguments: Any, **environment: str) -> Iterator[Running]:
    """A program that goes on beside the test, and no longer."""
    with tempfile.TemporaryDirectory() as folder:
        process = PROCESSES.Process(
            target=_become, args=(program, arguments, {**os.environ, **environment}, Path(folder))
        )
        for name in WRITTEN:
            (Path(folder) / name).touch()
        process.start()
        running = Running(process, Path(folder))
        try:
            yield running
        finally:
            running.kill()


def command(folder: Path, name: str, *words: str) -> None:
    """Be a command that is installed, in a folder: a program."""
    os.chdir(folder)
    sys.argv = [name, *words]
    [found] = entry_points(group="console_scripts", name=name)
    found.load()()


def say(**what: Any) -> None:
    """A line of a program's answer."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _become(
    program: Callable[..., None], arguments: Iterable[Any], environment: Mapping[str, str], folder: Path
) -> None:
    """Be the program. Garbage is looked for as seldom as in the tests, and not in what was imported before."""
    for number, name in enumerate(WRITTEN, 1):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    gc.freeze()
    gc.set_threshold(50_000)
    program(*arguments)


def load(libraries: Iterable[str]) -> None:
    """Import what the children will need, and work out what SQLAlchemy's tables mean, how Dagster makes the file of a
    run and which of MLflow's migrations is the newest: each takes longer than what they do."""
    import sqlalchemy.orm
    from mlflow.store.db import utils

    with for_good():
        for name in libraries:
            importlib.import_module(name)
    sqlalchemy.orm.configure_mappers()
    homes.without_reading_migrations_again()
    sqlite_storage._no_events()
    utils._get_latest_schema_revision()
    gc.collect()
    gc.freeze()


def forked(act: Callable[[], Any]) -> Any:
    """What `act` returns in a process of its own; None where it was killed.

    What the child had to import is imported here too, so that the children to come find it.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            said = json.dumps([act(), sorted(sys.modules)], default=str)
            with os.fdopen(write, "w") as stream:
                stream.write(said)
            os._exit(0)
        finally:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    os.close(write)
    with os.fdopen(read) as stream:
        said = stream.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return None
    if status:
        raise ChildProcessError(f"a process of the trial ended with status {status}")
    result, modules = json.loads(said)
    _take_over(modules)
    return result


def _take_over(modules: Iterable[str]) -> None:
    missing = [name for name in modules if name not in sys.modules]
    for name in missing:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if missing:
        gc.collect()
        gc.freeze()
