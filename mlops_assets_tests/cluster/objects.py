"""What objects of Kubernetes's API have in common: quantities, labels, conditions. Objects are their own JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

Object = dict[str, Any]
SUFFIXES = {"": Decimal(1), "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3")}
SUFFIXES |= {letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)}
SUFFIXES |= {f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)}
QUANTITY = re.compile(r"([+-]?[0-9]+(?:\.[0-9]*)?)([a-zA-Z]*)")
OVER = ("Succeeded", "Failed")


def quantity(text: str | int) -> Decimal:
    """What `500m`, `2Gi` or `1` stands for."""
    found = QUANTITY.fullmatch(str(text))
    if found is None or found[2] not in SUFFIXES:
        raise ValueError(f"quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*)$': {text!r}")
    return Decimal(found[1]) * SUFFIXES[found[2]]


def stamp(moment: datetime) -> str:
    """A moment as Kubernetes writes it: to the second."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def requested(pod_spec: Object) -> dict[str, Decimal]:
    """What a pod asks of its node: requests, or limits where nothing is requested."""
    total: dict[str, Decimal] = {}
    for container in pod_spec["containers"]:
        resources = container.get("resources") or {}
        for name, amount in {**(resources.get("limits") or {}), **(resources.get("requests") or {})}.items():
            total[name] = total.get(name, Decimal(0)) + quantity(amount)
    return total


def condition(thing: Object, kind: str) -> Object | None:
    """The condition of this type, whatever it says."""
    return next((each for each in thing["status"].get("conditions", ()) if each["type"] == kind), None)


def holds(thing: Object, kind: str) -> bool:
    """Whether the condition of this type is true."""
    found = condition(thing, kind)
    return found is not None and found["status"] == "True"


def set_condition(
    thing: Object, kind: str, status: bool, moment: datetime, reason: str = "", message: str = ""
) -> None:
    """Say a condition, in the place of what it said before."""
    said: Object = {"type": kind, "status": str(status), "lastTransitionTime": stamp(moment)}
    said |= {name: text for name, text in (("reason", reason), ("message", message)) if text}
    others = [each for each in thing["status"].get("conditions", ()) if each["type"] != kind]
    thing["status"]["conditions"] = [*others, said]


def owned(things: list[Object], owner: Object) -> list[Object]:
    """Those that `owner` controls."""
    uid = owner["metadata"]["uid"]
    return [each for each in things if any(ref["uid"] == uid for ref in each["metadata"].get("ownerReferences") or ())]


def is_deleted(thing: Object) -> bool:
    """Whether somebody asked that it go away; a pod is still there until its processes ended."""
    return "deletionTimestamp" in thing["metadata"]


def phase(pod: Object) -> str:
    """Pending, Running, Succeeded or Failed."""
    return pod["status"]["phase"]


def is_over(pod: Object) -> bool:
    """Whether nothing of the pod runs, or will."""
    return phase(pod) in OVER


def selected(thing: Object, fields: str, labels: str) -> bool:
    """Whether selectors as of `kubectl --field-selector` and `-l` mean this object."""
    said = thing["metadata"].get("labels") or {}
    by_field = all((_field(thing, path) == value) == wanted for path, wanted, value in _terms(fields))
    return by_field and all((said.get(name, "") == value) == wanted for name, wanted, value in _terms(labels))


def _terms(selector: str) -> Iterator[tuple[str, bool, str]]:
    for term in filter(None, selector.split(",")):
        name, sign, value = re.split(r"(!=|==|=)", term, maxsplit=1)
        yield name, sign != "!=", value


def _field(thing: Object, path: str) -> str:
    found: Any = thing
    for part in path.split("."):
        found = (found or {}).get(part)
    return found or ""
