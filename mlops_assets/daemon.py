"""`mlops-assets daemon` and `watch`: Dagster's daemon, of which an instance has one at most, and who looks after it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from mlops_assets import settings
from mlops_assets.instance import prepare
from mlops_assets.lease import lease

WORKSPACE = (
    "load_from:\n  - python_module:\n      module_name: mlops_assets.definitions\n      location_name: mlops_assets\n"
)


def run(workspace: Path | None = None) -> None:
    """Run Dagster's daemon in this process until it is stopped. Raises HeldError where the instance has one.

    Without a workspace file it loads the definitions itself, and again every minute; with one it asks the code servers
    named there.
    """
    home = prepare()
    import dagster as dg
    from dagster._daemon.cli import run_command

    with dg.DagsterInstance.get() as instance, lease(instance):
        run_command.main(["-w", str(workspace or write_workspace(home))], standalone_mode=False)


def look_after(say: Callable[[str], None]) -> None:
    """Watch the instance's daemon until stopped. A watch that waits for the database would see nothing meanwhile."""
    os.environ[settings.DATABASE_PATIENCE.name] = "1"
    prepare()
    import dagster as dg

    from mlops_assets.resources.alerts import alerts_at
    from mlops_assets.watchdog import watch

    with dg.DagsterInstance.get() as instance:
        watch(instance, alerts_at(settings.home()), say)


def write_workspace(home: Path) -> Path:
    """A workspace file that names this project's definitions, for processes that load them by themselves."""
    path = home / "workspace.yaml"
    path.write_text(WORKSPACE)
    return path
