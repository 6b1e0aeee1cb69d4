"""A run whose database goes away at one of its moments, where it waits until the file `go` is there: a program.

Each step writes a line when its work is done, so that work that is done twice is seen.
"""

import sys
import time
from pathlib import Path

import dagster as dg

MOMENTS = ("before the first step", "in the middle of a step", "when a step ends")
STEPS = ("first", "second", "third")
STORAGES = {
    "ours": "{module: mlops_assets.postgres_storage, class: PostgresStorage, config: {postgres_url: {env: MLOPS_URL}}}",
    "dagster": "{module: dagster_postgres, class: DagsterPostgresStorage, config: {postgres_url: {env: MLOPS_URL}}}",
}


def wait_at(folder: Path, moment: str, asked: str) -> None:
    """Say that the run is there, and wait until it may go on."""
    if moment == asked:
        (folder / "reached").touch()
        while not (folder / "go").exists():
            time.sleep(0.02)


def job(folder: Path, asked: str) -> dg.JobDefinition:
    """Three steps, one after the other."""

    def step(name: str) -> dg.OpDefinition:
        @dg.op(name=name, ins={"before": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing))
        def work(context: dg.OpExecutionContext) -> None:
            if name == "second":
                wait_at(folder, MOMENTS[1], asked)
                context.log.info("half of it is done")
            with (folder / "done").open("a") as stream:
                stream.write(f"{name}\n")
            if name == "second":
                wait_at(folder, MOMENTS[2], asked)

        return work

    @dg.graph(name="shop")
    def steps() -> None:
        before = None
        for name in STEPS:
            before = step(name)(before) if before is not None else step(name)()

    return steps.to_job(executor_def=dg.in_process_executor)


def main(folder: Path, asked: str) -> None:
    """Run it on the instance in `folder`."""
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        made = job(folder, asked)
        wait_at(folder, MOMENTS[0], asked)
        ended = made.execute_in_process(instance=instance, raise_on_error=False)
    sys.exit(0 if ended.success else 1)
