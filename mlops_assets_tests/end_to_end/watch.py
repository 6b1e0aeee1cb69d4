"""An environment as where nothing is set, in which no Python program lives that reaches for another machine."""

from __future__ import annotations

import os
from pathlib import Path

from mlops_assets import settings

REACHED = "reached for"
WATCH = f"""
import os
import sys
LOOPBACK = (None, "127.0.0.1", "::1", "localhost")
def watch(event, arguments):
    reached = None
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        reached = arguments[1][0]
    elif event == "socket.getaddrinfo":
        reached = arguments[0]
    if reached not in LOOPBACK:
        os.write(2, f"{REACHED} {{reached}}".encode())
        os._exit(3)
sys.addaudithook(watch)
"""


def watched(folder: Path) -> dict[str, str]:
    """The environment. Python imports what `folder` is given, in this program and in all that it starts."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WATCH)
    ours = {setting.name for setting in (*settings.ALL, *settings.LIBRARIES)}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    paths = [str(folder), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths)}
