"""The API as clients see it: HTTP on loopback, so much of Kubernetes's as dagster-k8s, the executor and kubectl ask."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from mlops_assets_tests.cluster.objects import Object, selected, stamp
from mlops_assets_tests.cluster.store import API_VERSIONS, NAMESPACED, RefusedError, plural

if TYPE_CHECKING:
    from mlops_assets_tests.cluster.simulated import Cluster

PATH = re.compile(
    r"/(?P<api>api/v1|apis/batch/v1)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<part>log|status|eviction))?"
)
READ = ("Pod", "Job", "Event", "Secret", "ConfigMap", "Node", "ResourceQuota", "ServiceAccount", "Namespace")
KINDS = {plural(kind): kind for kind in READ}
RESET = "reset"


@dataclass
class Trouble:
    """The next `times` requests that `concerns` go wrong: with an HTTP status, or a connection that is reset."""

    concerns: Callable[[str, str], bool]
    status: int | str
    times: int


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    cluster: Cluster

    def log_message(self, *said: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer every method alike."""
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        status = self.cluster.troubled(self.command, self.path)
        if status == RESET:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        try:
            if status is not None:
                raise RefusedError(int(status), "InternalError", "the simulated cluster was told to fail")
            code, answer = self._answer(body or {})
        except RefusedError as refused:
            words = {"reason": refused.reason, "message": refused.message, "code": refused.status}
            code, answer = refused.status, {"kind": "Status", "apiVersion": "v1", "status": "Failure", **words}
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain" if isinstance(answer, bytes) else "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a pod that was killed while it asked
            self.wfile.write(content)

    do_POST = do_DELETE = do_GET  # noqa: N815

    def _answer(self, body: Object) -> tuple[int, Object | bytes]:
        address = urlsplit(self.path)
        if address.path == "/version":
            version = self.cluster.admission.version
            return 200, {"major": "1", "minor": version.split(".")[1], "gitVersion": f"v{version}.0+simulated"}
        found = PATH.fullmatch(address.path)
        kind = KINDS.get(found["plural"]) if found else None
        if found is None or kind is None:
            raise RefusedError(404, "NotFound", "the server could not find the requested resource")
        with self.cluster.store.lock:
            return self._on(kind, found, dict(parse_qsl(address.query)), body)

    def _on(self, kind: str, found: re.Match[str], query: dict[str, str], body: Object) -> tuple[int, Object | bytes]:
        namespace, name, store = found["namespace"] or "", found["name"], self.cluster.store
        if self.command == "POST" and found["part"] == "eviction":
            self.cluster.nodes.drain(store.get("Pod", name, namespace))
            return 201, {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        if self.command == "POST":
            return 201, self._create(kind, namespace, body)
        if self.command == "DELETE":
            return 200, self._delete(store.get(kind, name, namespace), {**query, **body})
        if name and found["part"] == "log":
            return 200, self._log(store.get("Pod", name, namespace), query)
        if name:
            return 200, store.get(kind, name, namespace)
        things = [
            each for each in store.list(kind, namespace if kind in NAMESPACED else "")
            if selected(each, query.get("fieldSelector", ""), query.get("labelSelector", ""))
        ]  # fmt: skip
        return 200, {"kind": f"{kind}List", "apiVersion": API_VERSIONS.get(kind, "v1"), "metadata": {}, "items": things}

    def _create(self, kind: str, namespace: str, thing: Object) -> Object:
        thing = {"apiVersion": API_VERSIONS.get(kind, "v1"), "kind": kind, **thing}
        thing["metadata"].setdefault("namespace", namespace)
        if kind in ("Job", "Pod"):
            return self.cluster.admission.job(thing) if kind == "Job" else self.cluster.admission.pod(thing)
        return self.cluster.store.create(thing)

    def _delete(self, thing: Object, options: dict[str, Any]) -> Object:
        store, now = self.cluster.store, stamp(self.cluster.store.clock())
        if thing["kind"] == "Pod":
            thing["metadata"].setdefault("deletionTimestamp", now)
            if options.get("gracePeriodSeconds") is not None:
                thing["metadata"]["deletionGracePeriodSeconds"] = int(options["gracePeriodSeconds"])
            return thing
        store.remove(thing)
        if thing["kind"] == "Job":
            self.cluster.orphan_or_delete(thing, options.get("propagationPolicy", "Orphan"))
        return {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def _log(self, pod: Object, query: dict[str, str]) -> bytes:
        path, container = self.cluster.kubelet.log(pod), pod["spec"]["containers"][0]["name"]
        if not path.exists():
            said = f'container "{container}" in pod "{pod["metadata"]["name"]}" is waiting to start'
            raise RefusedError(400, "BadRequest", said)
        lines = path.read_bytes().splitlines(keepends=True)
        return b"".join(lines[-int(query["tailLines"]) :] if "tailLines" in query else lines)


@contextmanager
def served(cluster: Cluster) -> Iterator[str]:
    """The address at which a cluster's API answers."""
    handler = type("HandlerOfThis", (Handler,), {"cluster": cluster})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def write_kubeconfig(path: Path, address: str, namespace: str) -> None:
    """The file by which clients find a cluster."""
    import yaml

    here = {"cluster": "simulated", "user": "anybody", "namespace": namespace}
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "simulated",
                "clusters": [{"name": "simulated", "cluster": {"server": address}}],
                "users": [{"name": "anybody", "user": {}}],
                "contexts": [{"name": "simulated", "context": here}],
            }
        )
    )
