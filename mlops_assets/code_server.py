"""Dagster's code server, whose runs are forked from a process that has imported what they need.

Dagster starts each run in a Python of its own, which imports for seconds of CPU before the first step begins. What a
run loads of the project and of its models is what lies on disk then, as ever: only libraries are imported before.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

IMPORTS = "mlops_assets.code_server_imports"


def main() -> None:
    """Dagster's command line, with the server of `dagster api grpc` replaced in it and in the one that it starts.

    Only Linux can fork a process that has imported frameworks of the system: elsewhere runs start as Dagster has it.
    """
    from dagster._cli import main as command_line
    from dagster._grpc import server

    if sys.platform == "linux":
        vars(server).update(DagsterApiServer=_forking(), get_python_environment_entry_point=_ourselves)
    command_line()


def _forking() -> type:
    import multiprocessing
    from multiprocessing import forkserver

    from dagster._grpc.server import DagsterApiServer

    class ForkingApiServer(DagsterApiServer):
        """Has a process beside it, for as long as it lives, from which its runs are forked."""

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self._mp_ctx = multiprocessing.get_context("forkserver")
            self._mp_ctx.set_forkserver_preload([IMPORTS])
            forkserver.ensure_running()

    return ForkingApiServer


def _ourselves(executable: str) -> Sequence[str]:
    return [executable, "-m", "mlops_assets.code_server"]


if __name__ == "__main__":
    main()
