"""A process that has imported what pods need, and becomes a pod by forking: seconds of imports are paid once.

Started with a socket. Each message that it reads names a command, its environment and where its output goes; each line
that it writes says that a process started or ended. It kills what still runs when the socket closes, however its
other end died.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from mlops_assets.ml.importing import for_good

IGNORED = (signal.SIGINT, signal.SIGTERM)  # its other end is told as well, and then closes the socket
PR_SET_PDEATHSIG = 1
COMMANDS = ("dagster", "dagster-daemon", "mlops-assets")


def serve(control: socket.socket) -> dict[str, Any] | None:
    """Start processes until the other end is gone. In each of them this returns what it is to be, here None."""
    wake, woken = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno())
    living: set[int] = set()
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        for ready in iter(selector.select, None):
            sources = [key.fileobj for key, _ in ready]
            if woken in sources:
                woken.recv(4096)
                _report_ended(control, living)
            if control in sources:
                request = _read(control)
                if request is None:
                    _kill(living)
                    return None
                if (pid := os.fork()) == 0:
                    signal.set_wakeup_fd(-1)
                    for each in (control, wake, woken):
                        each.close()
                    return request
                with contextlib.suppress(PermissionError, ProcessLookupError):  # it has begun to be another, or is over
                    os.setpgid(pid, pid)
                living.add(pid)
                _say(control, started=request["id"], pid=pid)
    return None


def become(request: dict[str, Any], commands: Mapping[str, EntryPoint]) -> Callable[[], Any]:
    """Make this process the one that was asked for, and return its command."""
    for number in (signal.SIGCHLD, *IGNORED):  # who started the tests may have had them ignored, or held back
        signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.setpgid(0, 0)
    _die_with_the_warm_process()
    output = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["folder"])
    command, *_ = sys.argv = request["argv"]
    if command in commands:
        return commands[command].load()
    return partial(os.execvpe, command, request["argv"], request["env"])


def _read(control: socket.socket) -> dict[str, Any] | None:
    """One request, whose length stands before it. None where the other end is gone."""
    length = control.recv(4, socket.MSG_WAITALL)
    if len(length) < 4:
        return None
    return json.loads(control.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL))


def _report_ended(control: socket.socket, living: set[int]) -> None:
    while living:
        pid, status, used = os.wait4(-1, os.WNOHANG)
        if not pid:
            return
        living.discard(pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        _say(control, ended=pid, code=os.waitstatus_to_exitcode(status), peak=used.ru_maxrss * 1024,
             cpu=used.ru_utime + used.ru_stime)  # fmt: skip


def _say(control: socket.socket, **said: Any) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        control.sendall(json.dumps(said).encode() + b"\n")


def _kill(living: set[int]) -> None:
    for pid in living:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _die_with_the_warm_process() -> None:
    """Where Linux offers it: whoever kills the warm process, its pods go too."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Import, say so, serve; in a child: run."""
    control = socket.socket(fileno=int(sys.argv[1]))
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    with for_good():
        for module in sys.argv[2:]:
            importlib.import_module(module)
    commands = {each.name: each for each in entry_points(group="console_scripts") if each.name in COMMANDS}
    gc.set_threshold(50_000)
    _say(control, imported=len(sys.modules))
    request = serve(control)
    if request is not None:
        sys.exit(become(request, commands)())


if __name__ == "__main__":
    main()
