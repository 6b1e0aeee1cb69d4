"""Reproducing: what is said of a version that was built anew, and what is to blame where another model came out."""

from __future__ import annotations

import importlib.metadata
import math
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from pydantic import Field

from mlops_assets.ml.sources import Delivery
from mlops_assets.ml.spec import Value
from mlops_assets.ml.training import Manifest

TOLERANCE = 1e-6
SHOWN = 5
DIGEST = 12
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)
SEED = re.compile(r"(?:.*__)?random_state")
MACHINE = ("python", "machine")

Verdict = Literal["equal digest", "equal metrics", "different"]
Suspect = Literal[
    "manifest",
    "raw bytes",
    "python",
    "machine",
    "packages",
    "lock",
    "code",
    "seed",
    "parameters",
    "table files",
    "building",
    "unknown",
]
EQUAL: frozenset[Verdict] = frozenset({"equal digest", "equal metrics"})


class NotRebuiltError(Exception):
    """A model could not be built anew at all, with the reason."""


class Order(Value):
    """What a clean process is told: where stored bytes are, where it may write, and what to build from which of them.

    `deliveries` and `labels` are, by partition, the files that the manifest means.
    """

    home: str
    room: str
    manifest: Manifest
    model_sha256: str
    deliveries: dict[str, Delivery]
    labels: dict[str, Delivery] = Field(default_factory=dict)


class Rebuilt(Value):
    """What came out: the artifact's digest, the metrics on the hold-out, and by what it was built.

    `contents` are the digests of the rebuilt rows, as in a manifest. `settings` are those of the stored model's that a
    model by the manifest does not have: as it was built, and as the manifest says.
    """

    model_sha256: str
    code: str
    environment: dict[str, str]
    contents: dict[str, str]
    metrics: dict[str, float]
    fitted_rows: int
    settings: dict[str, tuple[str, str]] = Field(default_factory=dict)


class Cause(Value):
    """One thing that is not as it was when the version was trained."""

    suspect: Suspect
    says: str

    def __str__(self) -> str:
        return f"{self.suspect}: {self.says}"


class Reproduction(Value):
    """What was found when a version was built anew.

    `metrics` are, by name, the figure of its report and the one now. `causes` are why it is different, the first being
    the first to look at; `notes` are what was different and did not matter. `stamp` is the entry of the ledger.
    """

    model: str
    version: int
    verdict: Verdict
    expected: str
    found: str | None = None
    metrics: dict[str, tuple[float, float | None]] = Field(default_factory=dict)
    tolerance: float = TOLERANCE
    causes: tuple[Cause, ...] = ()
    notes: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
    code: str | None = None
    seconds: float = 0
    stamp: int | None = None

    @property
    def is_equal(self) -> bool:
        """Whether the version can be had again."""
        return self.verdict in EQUAL

    @property
    def sentence(self) -> str:
        """What was found, in a sentence."""
        name = f"{self.model} v{self.version}"
        if self.verdict == "equal digest":
            return f"{name} was built anew with an equal digest: {self.expected}."
        if self.verdict == "equal metrics":
            return (
                f"{name} was built anew with equal metrics: its bytes differ ({self.expected[:DIGEST]} -> "
                f"{str(self.found)[:DIGEST]}), and each of {len(self.metrics)} metrics is the same within "
                f"{self.tolerance:g} of its size."
            )
        return f"{name} is different: {' '.join(map(str, self.causes))}"


def environment_now(recorded: Mapping[str, str]) -> dict[str, str]:
    """What a manifest says of its environment, as it is in this process."""
    own = {"python": platform.python_version(), "machine": platform.machine()}
    return {name: own.get(name) or installed(name) or "not installed" for name in recorded}


def installed(package: str) -> str | None:
    """The installed version of a package, None where there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def moved(recorded: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """What is at another version than recorded, each as `1.0 -> 1.1`."""
    return {name: f"{was} -> {now[name]}" for name, was in recorded.items() if name in now and now[name] != was}


def pins(lock: str) -> dict[str, frozenset[str]]:
    """The versions that locked requirements allow of each package: several where they depend on the platform."""
    found: dict[str, set[str]] = {}
    for name, version in PIN.findall(lock):
        found.setdefault(name, set()).add(version)
    return {name: frozenset(versions) for name, versions in found.items()}


def unpinned(lock: str) -> dict[str, str]:
    """The packages that are installed here at another version than a lock allows, each as `1.0 -> 1.1`."""
    here = {name: installed(name) for name in pins(lock)}
    return {
        name: f"{' or '.join(sorted(versions))} -> {here[name]}"
        for name, versions in pins(lock).items()
        if here[name] is not None and here[name] not in versions
    }


def environment_causes(recorded: Mapping[str, str], now: Mapping[str, str], others: Mapping[str, str]) -> list[Cause]:
    """How an environment differs from a manifest's; `others` are packages of the lock that moved as well."""
    found = moved(recorded, now)
    causes: list[Cause] = []
    if "python" in found:
        causes.append(Cause(suspect="python", says=f"Python {found['python']}."))
    if "machine" in found:
        causes.append(Cause(suspect="machine", says=f"the machine is {found['machine']}."))
    packages = {name: change for name, change in found.items() if name not in MACHINE}
    if packages:
        causes.append(Cause(suspect="packages", says=f"different environment: {named(packages)}."))
    if rest := {name: change for name, change in others.items() if name not in found}:
        causes.append(Cause(suspect="lock", says=f"different environment: {named(rest)}."))
    return causes


def named(changes: Mapping[str, str]) -> str:
    """A few of many changes, and how many more there are."""
    few = ", ".join(f"{name} {change}" for name, change in list(changes.items())[:SHOWN])
    return few + (f" and {len(changes) - SHOWN} more" if len(changes) > SHOWN else "")


def same_metrics(
    report: Mapping[str, float], now: Mapping[str, float], tolerance: float
) -> tuple[dict[str, tuple[float, float | None]], bool]:
    """Each metric of a report beside the one now, and whether there are any and all are the same within a tolerance."""
    beside = {name: (value, now.get(name)) for name, value in report.items()}
    return beside, bool(beside) and all(_close(then, found, tolerance) for then, found in beside.values())


def _close(then: float, now: float | None, tolerance: float) -> bool:
    return now is not None and math.isclose(then, now, rel_tol=tolerance, abs_tol=tolerance * 1e-3)


def causes_of(manifest: Manifest, rebuilt: Rebuilt, surroundings: Iterable[Cause]) -> tuple[Cause, ...]:
    """Why another model came out, the first suspect first: `surroundings` is what was different from the start."""
    found = [*surroundings, *_settings(rebuilt), *_rows(manifest, rebuilt)]
    unknown = "nothing that is recorded differs, so fitting itself does not give the same twice."
    return tuple(found) or (Cause(suspect="unknown", says=unknown),)


def _settings(rebuilt: Rebuilt) -> Iterator[Cause]:
    for name, (was, now) in rebuilt.settings.items():
        suspect: Suspect = "seed" if SEED.fullmatch(name) else "parameters"
        yield Cause(suspect=suspect, says=f"the stored model has {name} {was}, its manifest says {now}.")


def _rows(manifest: Manifest, rebuilt: Rebuilt) -> Iterator[Cause]:
    differ = [key for key, content in manifest.contents.items() if rebuilt.contents.get(key) != content]
    if differ:
        few = ", ".join(differ[:SHOWN]) + (f" and {len(differ) - SHOWN} more" if len(differ) > SHOWN else "")
        yield Cause(suspect="table files", says=f"the same raw bytes gave other rows for {few}.")
