"""`mlops-assets supply-chain`: what is installed was locked, may be used, and is not known to be at fault.

Nothing is asked over a network. Without advisories nothing was audited, and that is said: no finding is no proof.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import Distribution, PackageMetadata, distributions, requires
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

PINNED = re.compile(r"^(?P<name>[A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?(?P<exact>==(?P<version>[^\s;\\]+))?")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")
NEAR = 1
SHORT = 60
ALLOWED = re.compile(
    r"\b(MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla|Unlicense|CC0|0BSD|HPND|Zlib|Public Domain)\b",
    re.IGNORECASE,
)
# Looked at by a person, whose reason stands beside.
LET_IN: Mapping[str, str] = {
    "psycopg2-binary": "LGPL with exceptions: linked, not changed, and only where PostgreSQL is used",
    "huey": "MIT by the licence file in it; its metadata do not say",
    "skops": "MIT by the licence file in it; its metadata say 'OSI Approved'",
}


class SupplyChainError(ValueError):
    """A file that is to be examined is none that can be."""


@dataclass(frozen=True)
class Pin:
    """A package of the lock."""

    name: str
    version: str | None
    hashes: int

    @property
    def fault(self) -> str | None:
        """How it is not locked; None where it is."""
        if self.version is None:
            return f"{self.name} is not pinned to a version."
        return None if self.hashes else f"{self.name}=={self.version} has no hash: any bytes of that name would do."


@dataclass(frozen=True)
class Audit:
    """What was found. `audited` is how many pins were held against advisories; None where there were none to hold."""

    locked: int
    audited: int | None
    installed: int
    faults: tuple[str, ...] = field(default=())

    @property
    def sentence(self) -> str:
        """What was looked at."""
        if self.audited is None:
            told = "No advisories were given: none of them was audited. Give --advisories a folder of OSV files"
        else:
            told = f"{self.audited} were held against the advisories"
        return f"{self.locked} packages are locked, {self.installed} of them installed here. {told}."

    @property
    def is_proof(self) -> bool:
        """Whether nothing was found by a look at everything."""
        return not self.faults and self.audited == self.locked


def pins(lock: str) -> list[Pin]:
    """Every package of a requirements file. Raises SupplyChainError where it holds none."""
    found = [
        Pin(canonicalize_name(match["name"]), match["version"], len(HASH.findall(line)))
        for line in re.sub(r"\\\n", " ", lock).splitlines()
        if (match := PINNED.match(line))
    ]
    if not found:
        raise SupplyChainError("The lock names no package: nothing could be examined.")
    return found


def near(names: Iterable[str], declared: Iterable[str]) -> Iterator[str]:
    """Packages that are called nearly like one that was declared, and are not it."""
    wanted = {canonicalize_name(name) for name in declared}
    for name in sorted({canonicalize_name(name) for name in names} - wanted):
        for like in sorted(wanted):
            if distance(name, like) <= NEAR:
                yield f"{name} is called nearly like {like}, which was declared: is it somebody else's?"


def distance(one: str, other: str) -> int:
    """How many letters are to be put in, left out, exchanged or swapped with the next, to make one of the other."""
    rows = [list(range(len(other) + 1))]
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            best = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                best = min(best, rows[-2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]


def unlicensed(name: str, metadata: Mapping[str, str], classifiers: Iterable[str]) -> str | None:
    """Why a package's licence is not one that was let in; None where it is."""
    said = [metadata.get("License-Expression", ""), *(each for each in classifiers if each.startswith("License ::"))]
    said.append(metadata.get("License", "").strip()[:SHORT])
    told = [text for text in said if text]
    if name in LET_IN or any(ALLOWED.search(text) for text in told):
        return None
    return f"{name} is under {told[0]!r}, which was not let in." if told else f"{name} does not say its licence."


def advisories(path: Path) -> list[dict[str, Any]]:
    """The advisories of a file or folder of OSV's JSON. Raises SupplyChainError where there is none."""
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    found = []
    for file in files:
        try:
            content = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise SupplyChainError(f"{file} is no advisory of OSV's: {error}.") from error
        found += content if isinstance(content, list) else [content]
    whole = [each for each in found if isinstance(each, dict) and "id" in each and "affected" in each]
    if not whole or len(whole) < len(found):
        raise SupplyChainError(f"{path} holds {len(found)} entries, of which {len(whole)} are advisories of OSV's.")
    return whole


def known_faults(pin: Pin, known: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """What advisories say of this version of a package."""
    for advisory in known:
        for affected in advisory["affected"]:
            package = affected.get("package", {})
            ours = canonicalize_name(package.get("name", "")) == pin.name and package.get("ecosystem") == "PyPI"
            if ours and pin.version and _is_affected(pin.version, affected):
                yield f"{pin.name}=={pin.version}: {advisory['id']}: {advisory.get('summary', 'no summary')}"


def _is_affected(version: str, affected: Mapping[str, Any]) -> bool:
    if version in affected.get("versions", ()):
        return True
    ranges = [each for each in affected.get("ranges", ()) if each.get("type") == "ECOSYSTEM"]
    return any(_within(_version(version), each.get("events", ())) for each in ranges)


def _within(version: Version, events: Iterable[Mapping[str, str]]) -> bool:
    """Whether a version lies behind an introduction, and not behind the mending of it."""
    inside = False
    for event in events:
        if "introduced" in event and version >= _version(event["introduced"]):
            inside = True
        if "fixed" in event and version >= _version(event["fixed"]):
            inside = False
        if "last_affected" in event and version > _version(event["last_affected"]):
            inside = False
    return inside


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion as error:
        raise SupplyChainError(f"{text!r} is no version that can be compared.") from error


def audit(
    lock: str,
    declared: Iterable[str],
    known: Iterable[Mapping[str, Any]] | None,
    installed: Iterable[Distribution] | None = None,
) -> Audit:
    """Hold a lock against what was declared, what is installed here, and what is known of its versions."""
    locked = pins(lock)
    told_here = (each.metadata for each in installed or distributions())  # read anew whenever it is asked for
    here = {canonicalize_name(metadata["Name"]): metadata for metadata in told_here}
    faults = [pin.fault for pin in locked if pin.fault]
    faults += near((pin.name for pin in locked), (Requirement(each).name for each in declared))
    for pin in locked:
        faults += _of_installed(pin, here.get(pin.name))
    told = None if known is None else list(known)
    for pin in locked if told is not None else ():
        faults += known_faults(pin, told or ())
    return Audit(len(locked), None if told is None else len(locked), sum(p.name in here for p in locked), tuple(faults))


def lock_here() -> Path:
    """The lock of this package: inside an installed one, beside a checked-out one."""
    package = Path(__file__).parent
    inside = package / "requirements.txt"
    return inside if inside.exists() else package.parent / "requirements" / "runtime.txt"


def declared_here() -> list[str]:
    """What this package asks for, with all its extras."""
    return requires("mlops-assets") or []


def _of_installed(pin: Pin, found: PackageMetadata | None) -> Iterator[str]:
    if found is None:
        return
    version = found["Version"]
    if pin.version is not None and pin.version not in (version, version.partition("+")[0]):
        yield f"{pin.name} is locked as {pin.version}, and {version} is installed."
    fields = {name: str(found[name]) for name in ("License-Expression", "License") if name in found}
    if (fault := unlicensed(pin.name, fields, found.get_all("Classifier") or ())) is not None:
        yield fault
