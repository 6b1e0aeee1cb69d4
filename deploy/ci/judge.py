"""Judges a scan of an image: `judge.py SCAN.json LOCKS`. Ends with 1 and says why where the image may not be deployed.

A scan that looked at nothing finds nothing. So it has to name every package that the locks of the image pin; only then
do its findings count: no vulnerability that is HIGH or CRITICAL and was mended, no licence that asks for our source.
"""

import json
import re
import sys
from pathlib import Path

SEVERE = {"HIGH", "CRITICAL"}
REFUSED = re.compile(r"AGPL|SSPL|(?<![A-Z])GPL", re.IGNORECASE)
# GPL with an exception for those who link or import it, looked at one by one.
LOOKED_AT: frozenset[str] = frozenset()


def pinned(locks: Path) -> set[str]:
    """The packages of the locks that a file names, without those that only some platforms need."""
    texts = [Path(lock).read_text() for lock in locks.read_text().split()]
    pins = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==[^ ]+ \\$", "\n".join(texts), re.MULTILINE)
    return {_name(pin) for pin in pins}


def refusals(scan: dict, pins: set[str]) -> list[str]:
    """Why the image may not be deployed; empty where it may."""
    results = [each for each in scan.get("Results") or () if each.get("Class") != "license"]
    seen = {_name(package["Name"]) for each in results for package in each.get("Packages") or ()}
    missing = sorted(pins - seen)
    said = [f"not scanned: {len(missing)} of {len(pins)} locked packages, such as {missing[0]}"] if missing else []
    for each in results:
        for found in each.get("Vulnerabilities") or ():
            if found["Severity"] in SEVERE and found.get("FixedVersion"):
                name = f"{found['PkgName']} {found['InstalledVersion']}"
                said.append(f"{found['VulnerabilityID']} in {name}: mended in {found['FixedVersion']}")
    for each in scan.get("Results") or ():
        for found in each.get("Licenses") or ():
            package, licence = found.get("PkgName", ""), found.get("Name", "")
            of_python = each.get("Target", "").lower().startswith("python")
            if of_python and REFUSED.search(licence) and _name(package) not in LOOKED_AT:
                said.append(f"{package}: licence {licence}")
    return said


def _name(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def main(scan: str, locks: str) -> int:
    """Print what speaks against the image, and say whether anything does."""
    pins = pinned(Path(locks))
    said = refusals(json.loads(Path(scan).read_text()), pins)
    print("\n".join(said) or f"{len(pins)} locked packages were scanned; nothing speaks against the image.")
    return 1 if said or not pins else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
