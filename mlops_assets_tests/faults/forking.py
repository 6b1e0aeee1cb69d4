"""Work in a child process that may be killed, without paying for the imports of each child."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any


def load(libraries: Iterable[str]) -> None:
    """Import what the children will need, and work out what SQLAlchemy's tables mean: both take longer than they do."""
    import sqlalchemy.orm

    for name in libraries:
        importlib.import_module(name)
    sqlalchemy.orm.configure_mappers()
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
