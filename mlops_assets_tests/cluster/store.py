"""Where the simulated cluster's objects are: one store, one lock, and the events that tell what happened to them."""

from __future__ import annotations

import copy
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from mlops_assets_tests.cluster.objects import Object, stamp

NAMESPACED = {"Pod", "Job", "Event", "Secret", "ConfigMap", "ResourceQuota", "ServiceAccount"}
API_VERSIONS = {"Job": "batch/v1", "RuntimeClass": "node.k8s.io/v1"}
Clock = Callable[[], datetime]
Key = tuple[str, str, str]


class RefusedError(Exception):
    """What the API answers instead of doing what it was asked: an HTTP status, and Kubernetes's words."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


def utc_now() -> datetime:
    """The clock of a cluster that is not told another."""
    return datetime.now(UTC)


class Store:
    """Objects by kind, namespace and name. Whoever reads or changes them holds `lock`."""

    def __init__(self, clock: Clock = utc_now) -> None:
        self.clock, self.lock = clock, threading.RLock()
        self.created: list[Object] = []
        self._objects: dict[Key, Object] = {}
        self._version = 0

    def create(self, thing: Object) -> Object:
        """Add an object, with what the API server gives each."""
        kind, meta = thing["kind"], thing["metadata"]
        key = self._key(kind, meta.get("namespace", ""), meta["name"])
        with self.lock:
            if key in self._objects:
                raise RefusedError(409, "AlreadyExists", f'{plural(kind)} "{meta["name"]}" already exists')
            self._version += 1
            meta |= {
                "uid": str(uuid.uuid4()),
                "creationTimestamp": stamp(self.clock()),
                "resourceVersion": str(self._version),
            }
            self._objects[key] = thing
            if kind != "Event":
                self.created.append(copy.deepcopy(thing))
        return thing

    def put(self, kind: str, name: str, namespace: str = "", **rest: object) -> Object:
        """Create an object whose words nobody checks: a node, a secret, a quota."""
        meta = {"name": name} | ({"namespace": namespace} if kind in NAMESPACED else {})
        return self.create({"apiVersion": API_VERSIONS.get(kind, "v1"), "kind": kind, "metadata": meta, **rest})

    def get(self, kind: str, name: str, namespace: str = "") -> Object:
        """One object. RefusedError where there is none."""
        with self.lock:
            found = self._objects.get(self._key(kind, namespace, name))
        if found is None:
            raise RefusedError(404, "NotFound", f'{plural(kind)} "{name}" not found')
        return found

    def has(self, kind: str, name: str, namespace: str = "") -> bool:
        """Whether there is such an object."""
        with self.lock:
            return self._key(kind, namespace, name) in self._objects

    def list(self, kind: str, namespace: str = "") -> list[Object]:
        """Every object of a kind, of all namespaces where none is named."""
        with self.lock:
            found = [each for (is_kind, *_), each in self._objects.items() if is_kind == kind]
            return [each for each in found if namespace in ("", each["metadata"].get("namespace"))]

    def remove(self, thing: Object) -> None:
        """Forget an object."""
        meta = thing["metadata"]
        with self.lock:
            self._objects.pop(self._key(thing["kind"], meta.get("namespace", ""), meta["name"]), None)

    def tell(self, about: Object, reason: str, message: str, component: str, warning: bool = True) -> None:
        """An event about an object. The same again is the same event, once more."""
        meta, now = about["metadata"], stamp(self.clock())
        with self.lock:
            for event in self.list("Event", meta["namespace"]):
                if (event["involvedObject"]["uid"], event["reason"], event["message"]) == (
                    meta["uid"],
                    reason,
                    message,
                ):
                    event |= {"count": event["count"] + 1, "lastTimestamp": now}
                    return
            involved = {"kind": about["kind"], **{field: meta[field] for field in ("name", "namespace", "uid")}}
            self.put("Event", f"{meta['name']}.{uuid.uuid4().hex[:16]}", meta["namespace"], involvedObject=involved,
                     reason=reason, message=message, type="Warning" if warning else "Normal", count=1,
                     firstTimestamp=now, lastTimestamp=now, source={"component": component})  # fmt: skip

    @staticmethod
    def _key(kind: str, namespace: str, name: str) -> Key:
        return kind, namespace if kind in NAMESPACED else "", name


def plural(kind: str) -> str:
    """A kind as addresses name it."""
    return kind.lower() + ("es" if kind.endswith("s") else "s")
