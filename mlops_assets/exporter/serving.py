"""The exporter's process: looks when it is asked and the last look is old, and answers in Prometheus's format."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from mlops_assets.exporter import families
from mlops_assets.exporter.families import FAMILIES, Family
from mlops_assets.exporter.history import Files, Outbox, Releases
from mlops_assets.exporter.samples import Samples
from mlops_assets.exporter.storage import Storage
from mlops_assets.resources.postgresql import outages

if TYPE_CHECKING:
    from prometheus_client import Metric

FRESH_SECONDS = 15.0
METRICS, HEALTH = "/metrics", "/-/healthy"


@dataclass(frozen=True)
class Clocks:
    """A clock that only goes on, and the time of day."""

    steady: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclass(eq=False)
class Exporter:
    """Everything that is exported. A source that cannot be read keeps what it said, and is said to be down."""

    storage: Storage
    files: Files
    releases: Releases
    outbox: Outbox
    clocks: Clocks = field(default_factory=Clocks)
    fresh_seconds: float = FRESH_SECONDS
    own: Samples = field(default_factory=Samples)
    _looked: float | None = None
    _page: bytes = b""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def page(self) -> bytes:
        """What Prometheus reads, not older than `fresh_seconds`."""
        from prometheus_client import CollectorRegistry, generate_latest

        with self._lock:
            began = self.clocks.steady()
            if self._looked is None or began - self._looked >= self.fresh_seconds:
                self._look(began)
                registry = CollectorRegistry()
                registry.register(self)
                self._page, self._looked = generate_latest(registry), began
            return self._page

    def collect(self) -> Iterator[Metric]:
        """Every metric, by prometheus_client's protocol."""
        found: dict[Family, list[tuple[tuple[str, ...], float]]] = {family: [] for family in FAMILIES}
        for samples in (self.storage.samples, self.files.samples, self.releases.samples, self.outbox.samples, self.own):
            for family, labels, value in samples.series():
                found[family].append((labels, value))
        for family, series in found.items():
            metric = _empty(family)
            for labels, value in sorted(series):
                metric.add_metric(labels, value)
            yield metric

    def _look(self, began: float) -> None:
        now = self.clocks.now()
        self._ask("storage", self.storage.look)
        self._ask("records", lambda: self.files.look(self.storage.materialized, self.storage.seconds, now))
        self._ask("ledger", lambda: self.releases.look(now))
        self._ask("outbox", self.outbox.look)
        self.own.put(families.LOOK_SECONDS, (), self.clocks.steady() - began)
        self.own.put(families.LOOKED, (), now.timestamp())

    def _ask(self, source: str, look: Callable[[], None]) -> None:
        from dagster import DagsterError

        try:
            look()
        except (DagsterError, *outages()):
            self.own.put(families.SOURCE_UP, (source,), 0)
        else:
            self.own.put(families.SOURCE_UP, (source,), 1)


def _empty(family: Family) -> Any:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    made = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    return made(family.name, family.meaning, labels=family.labels)


def server(exporter: Exporter, host: str, port: int) -> ThreadingHTTPServer:
    """A server that answers /metrics, and /-/healthy as long as the process lives."""
    from prometheus_client import CONTENT_TYPE_LATEST

    class Handler(BaseHTTPRequestHandler):
        """One request."""

        def do_GET(self) -> None:
            """Answer it."""
            known = {METRICS: exporter.page, HEALTH: lambda: b"well\n"}
            answer = known.get(self.path.partition("?")[0])
            body = answer() if answer else b"There is /metrics, and /-/healthy.\n"
            self.send_response(200 if answer else 404)
            self.send_header("Content-Type", CONTENT_TYPE_LATEST if answer else "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing of each scrape."""

    return ThreadingHTTPServer((host, port), Handler)


def exporter_here(instance: Any) -> Exporter:
    """The exporter of the installation that the environment names."""
    from mlops_assets import settings
    from mlops_assets.resources.alerts import alerts_at
    from mlops_assets.resources.ledger import Ledger
    from mlops_assets.resources.records import Records

    home = settings.home()
    return Exporter(
        Storage(instance),
        Files(Records(root=home)),
        Releases(Ledger(uri=settings.ledger(), anchors=settings.ledger_anchors())),
        Outbox(alerts_at(home)),
    )


def run(host: str, port: int, say: Callable[[str], None]) -> None:
    """Serve until stopped. An exporter that waits for a database would tell nobody that it is away."""
    import os

    from mlops_assets import settings
    from mlops_assets.instance import prepare

    os.environ[settings.DATABASE_PATIENCE.name] = "1"
    prepare()
    import dagster as dg

    with dg.DagsterInstance.get() as instance, server(exporter_here(instance), host, port) as serving:
        say(f"http://{host}:{serving.server_port}{METRICS}")
        serving.serve_forever()
