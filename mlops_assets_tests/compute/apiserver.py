"""A Kubernetes API on loopback that plays what a test tells it: Jobs that live and die as scripted, and bad moments."""

from __future__ import annotations

import base64
import json
import threading
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import dagster as dg
import yaml
from dagster._core.execution.plan.objects import StepSuccessData
from dagster._core.execution.plan.outputs import StepOutputData, StepOutputHandle
from dagster._grpc.types import ExecuteStepArgs
from dagster._serdes import deserialize_value

Manifest = dict[str, Any]
COMPLETE = {"conditions": [{"type": "Complete", "status": "True"}], "succeeded": 1}
Script = Callable[["Api", Manifest], None]


@dataclass
class Api:
    """What the server holds. `scripts` play, by step, the Jobs that are created for it, one after the other."""

    jobs: dict[str, Manifest] = field(default_factory=dict)
    pods: dict[str, list[Manifest]] = field(default_factory=lambda: defaultdict(list))
    events: list[Manifest] = field(default_factory=list)
    scripts: dict[str, list[Script]] = field(default_factory=dict)
    created: list[Manifest] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    faults: list[tuple[str, int, str]] = field(default_factory=list)

    def steps(self) -> list[str]:
        """The steps that Jobs were created for, in order."""
        return [job["metadata"]["labels"]["dagster/op"] for job in self.created]

    def add(self, job: Manifest) -> None:
        """Take a Job and play its script."""
        job["metadata"]["creationTimestamp"] = ago(0)
        job["status"] = {"startTime": ago(0), "active": 1}
        self.jobs[job["metadata"]["name"]] = job
        self.created.append(job)
        scripts = self.scripts.get(job["metadata"]["labels"]["dagster/op"])
        (scripts.pop(0) if scripts else work)(self, job)


def ago(seconds: float) -> str:
    """A time as Kubernetes writes it."""
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds").replace("+00:00", "Z")


def work(api: Api, job: Manifest) -> None:
    """The pod does its step, which has one output, and says so in the event log. It never logs: see `run_pod.py`."""
    output = StepOutputData(StepOutputHandle(job["metadata"]["labels"]["dagster/op"], "result"))
    tell(job, (dg.DagsterEventType.STEP_OUTPUT, output), (dg.DagsterEventType.STEP_SUCCESS, StepSuccessData(1.0)))
    job["status"] = COMPLETE


def tell(job: Manifest, *told: tuple[dg.DagsterEventType, Any]) -> None:
    """Write to the event log that the Job's step began, and what else its process tells."""
    container = job["spec"]["template"]["spec"]["containers"][0]
    env = {each["name"]: each.get("value", "") for each in container["env"]}
    packed = zlib.decompress(base64.b64decode(env["DAGSTER_COMPRESSED_EXECUTE_STEP_ARGS"])).decode()
    args = deserialize_value(packed, ExecuteStepArgs)
    (step,) = args.step_keys_to_execute
    attempt = args.known_state.get_retry_state().get_attempt_count(step)
    start = dg.DagsterEventType.STEP_RESTARTED if attempt else dg.DagsterEventType.STEP_START
    with dg.DagsterInstance.from_ref(args.instance_ref) as instance:
        for kind, data in ((start, None), *told):
            event = dg.DagsterEvent(kind.value, job_name="job", step_key=step, event_specific_data=data)
            instance.report_dagster_event(event, args.run_id)


def pod(job: Manifest, status: Manifest, **spec: Any) -> Manifest:
    """A pod of a Job, in a state."""
    name = f"{job['metadata']['name']}-{spec.pop('suffix', 'x')}"
    made = ago(spec.pop("age", 0))
    template = {**job["spec"]["template"]["spec"], **spec}
    return {"metadata": {"name": name, "creationTimestamp": made}, "spec": template, "status": status}


@contextmanager
def serving(api: Api, folder: Path) -> Iterator[Path]:
    """Serve it, and give the kubeconfig that leads there."""
    handler = type("Handler", (_Handler,), {"api": api})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    kubeconfig = folder / "kubeconfig"
    address = f"http://127.0.0.1:{server.server_address[1]}"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "here", "cluster": {"server": address}}],
                "users": [{"name": "me", "user": {}}],
                "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
                "current-context": "here",
            }
        )
    )
    try:
        yield kubeconfig
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    api: Api
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self._fails():
            return
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if "/jobs/" in parts.path:
            name = parts.path.split("/jobs/")[1].split("/")[0]
            job = self.api.jobs.get(name)
            self._answer(200, job) if job else self._refuse(404, f'jobs.batch "{name}" not found')
        elif parts.path.endswith("/pods"):
            self._answer(200, {"items": self.api.pods[query["labelSelector"].removeprefix("job-name=")]})
        else:
            about = query["fieldSelector"].removeprefix("involvedObject.name=")
            self._answer(200, {"items": [each for each in self.api.events if each["involvedObject"]["name"] == about]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._fails():
            return
        job = json.loads(body)
        if job["metadata"]["name"] in self.api.jobs:
            self._refuse(409, "already exists")
            return
        self.api.add(job)
        self._answer(201, job)

    def do_DELETE(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self._fails():
            return
        name = self.path.split("/")[-1].split("?")[0]
        self.api.deleted.append(name)
        self.api.jobs.pop(name, None)
        self.api.pods.pop(name, None)
        self._answer(200, {"status": "Success"})

    def _fails(self) -> bool:
        """Play the next fault, where it is one of this request's method: an answer, or 0 for a broken connection."""
        if not self.api.faults or self.api.faults[0][0] != self.command:
            return False
        _, status, message = self.api.faults.pop(0)
        if status:
            self._refuse(status, message)
        else:
            self.close_connection = True
            self.connection.close()
        return True

    def _refuse(self, status: int, message: str) -> None:
        self._answer(status, {"kind": "Status", "status": "Failure", "message": message, "code": status})

    def _answer(self, status: int, body: Manifest) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""
