"""Real web servers on loopback over the toy model: Dagster's, and ours behind a proxy. Runs execute in this process."""

from __future__ import annotations

import json
import socket
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import uvicorn
import yaml

from mlops_assets_tests.end_to_end.server import OVER, free_port

NAMES = {"repositoryLocationName": "toy", "repositoryName": "__repository__"}
LAUNCH = """mutation($given: ExecutionParams!) { launchRun(executionParams: $given) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } } } }"""
LOADED = "{ repositoriesOrError { __typename ... on RepositoryConnection { nodes { name } } } }"


@dataclass
class Site:
    """The address of a web server, the instance that it serves, and the workspace by which a daemon starts runs."""

    url: str
    instance: dg.DagsterInstance
    process: Any

    def post(self, path: str, content: Any, **headers: str) -> Any:
        """The answer to a POST of JSON."""
        request = urllib.request.Request(
            f"{self.url}{path}", json.dumps(content).encode(), {"Content-Type": "application/json", **headers}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def ask(self, query: str, variables: Mapping[str, Any] | None = None, **headers: str) -> Any:
        """The `data` of a GraphQL answer."""
        return self.post("/graphql", {"query": query, "variables": dict(variables or {})}, **headers)["data"]

    def launch(
        self, job: str, config: Mapping[str, Any], tags: Mapping[str, str] | None = None, **headers: str
    ) -> dict[str, Any]:
        """What comes of launching a job as the launchpad does."""
        given = {
            "selector": {**NAMES, "jobName": job},
            "runConfigData": yaml.safe_dump(config),
            "executionMetadata": {"tags": [{"key": name, "value": value} for name, value in (tags or {}).items()]},
        }
        return self.ask(LAUNCH, {"given": given}, **headers)["launchRun"]

    def ended(self, launched: Mapping[str, Any]) -> dg.DagsterRun:
        """The run that was launched, once it was taken from the queue as the daemon does, and is over."""
        run_id = launched["run"]["runId"]
        self.instance.launch_run(run_id, self.process.create_request_context())
        run = self.instance.get_run_by_id(run_id)
        assert run
        assert run.status.value in OVER
        return run

    def why(self, run: dg.DagsterRun) -> str:
        """Why a run failed, as its events say it."""
        events = [log.dagster_event for log in self.instance.all_logs(run.run_id) if log.dagster_event]
        failures = [event.step_failure_data for event in events if event.is_step_failure]
        return " ".join(f"{each.user_failure_data} {each.error}" for each in failures)


@contextmanager
def code_location(instance: dg.DagsterInstance, definitions: Path) -> Iterator[Any]:
    """What web servers need of the code in `definitions`, a Python file."""
    from dagster._core.remote_origin import InProcessCodeLocationOrigin
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget

    code = LoadableTargetOrigin(executable_path=sys.executable, python_file=str(definitions))
    target = InProcessWorkspaceLoadTarget(InProcessCodeLocationOrigin(code, location_name="toy"))
    with WorkspaceProcessContext(instance, target) as process:
        yield process


class Announced(uvicorn.Server):
    """A server that says when it can be asked."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self.up.set()


@contextmanager
def serving(app: Any, process: Any) -> Iterator[Site]:
    """A web application in a thread of this process."""
    port = free_port()
    server = Announced(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert server.up.wait(60)
        site = Site(f"http://127.0.0.1:{port}", process.instance, process)
        assert site.ask(LOADED)["repositoriesOrError"]["__typename"] == "RepositoryConnection"
        yield site
    finally:
        server.should_exit = True
        thread.join(30)
