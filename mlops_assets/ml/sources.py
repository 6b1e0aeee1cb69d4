"""Deliveries: what arrived, which partition it belongs to, and whether it is whole. No network, no look at cells.

How bytes become tables is in reading.py, how one file becomes many in splitting.py, which runs follow in planning.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from mlops_assets.ml.spec import PARTITION_KEY, Partitions, Value, canonical, digest_of
from mlops_assets.ml.windows import Windows

MANIFEST, DONE = ".manifest.json", ".done"
DIRECTIVES = {"Y": r"\d{4}", "G": r"\d{4}", "j": r"\d{1,3}", "u": r"\d", "w": r"\d", "%": "%"} | dict.fromkeys(
    "BbAap", r"[^\W\d_]+"
)
WEEK, WEEKDAY = re.compile("%[VUW]"), re.compile("%[uwaA]")
PLACES = re.compile(r"\{partition(?::([^}]*))?\}|(\*)")


class DeliveredFile(Value):
    """One file as it arrived: its name relative to the source, the SHA-256 of its bytes, its size and age.

    `rows` is how many its producer promised in a manifest beside it.
    """

    name: str
    sha256: str
    bytes: int
    modified: datetime
    rows: int | None = None


class Delivery(Value):
    """What `raw_data` stores for one partition.

    `files` are the stored bytes that hold the partition's rows. Where rows were cut out of a larger file or came from a
    query, they are Parquet extracts and `origins` are the files they were cut from. `corrects` is the version of
    the delivery that this one replaces. `also_named` are files with the same bytes as one of `files`: they count once.
    """

    model: str
    partition: str
    files: tuple[DeliveredFile, ...]
    origins: tuple[DeliveredFile, ...] = ()
    corrects: str | None = None
    also_named: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """The data version: same bytes, same version, whatever the files are called and whenever they came."""
        return version_of(file.sha256 for file in self.files)


def version_of(digests: Iterable[str]) -> str:
    """The data version of files with these SHA-256 digests."""
    return digest_of(sorted(set(digests)))


def listing(delivery: Delivery) -> bytes:
    """The digests of a delivery's files, as text whose own SHA-256 is the delivery's version."""
    return canonical(sorted({file.sha256 for file in delivery.files})).encode()


class Sighting(NamedTuple):
    """A file that lies in the source: its name relative to it, its size, and when it was changed (nanoseconds)."""

    name: str
    bytes: int
    modified: int

    @property
    def changed(self) -> datetime:
        """When it was changed, in UTC."""
        return datetime.fromtimestamp(self.modified / 1e9, UTC)


@dataclass
class Sorted:
    """The files of a source: by partition, to be split by time, refused or waiting with the reason, or none of ours."""

    partitions: dict[str, list[Sighting]] = field(default_factory=dict)
    to_split: list[Sighting] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)


def sort_out(files: Iterable[Sighting], patterns: tuple[str, ...], partitions: Partitions, now: datetime) -> Sorted:
    """Give each file its partition by the first pattern that fits its name."""
    found = Sorted()
    compiled = [_compiled(pattern) for pattern in patterns]
    windows = None if partitions.every == "batch" else Windows.of(partitions)
    declared = range(windows.first(), windows.last(now) + 1) if windows else range(0)
    for file in sorted(files):
        if file.name.endswith((MANIFEST, DONE)) or any(part.startswith(".") for part in file.name.split("/")):
            continue
        fits = next(((match, form) for regex, form in compiled if (match := regex.fullmatch(file.name))), None)
        if not file.name.isprintable():
            found.refused[ascii(file.name)] = "its name holds characters that cannot be printed"
        elif fits is None:
            found.others.append(file.name)
        elif "partition" in fits[0].groupdict():
            if windows is None:
                _place_batch(found, file, fits[0]["partition"])
            else:
                _place_window(found, file, fits[0]["partition"], fits[1] or windows.key_format, windows, declared)
        elif windows is None:
            found.refused[file.name] = "it fits a pattern without {partition}, which would name its batch"
        else:
            found.to_split.append(file)
    return found


def _place_batch(found: Sorted, file: Sighting, key: str) -> None:
    if PARTITION_KEY.fullmatch(key):
        found.partitions.setdefault(key, []).append(file)
    else:
        found.refused[file.name] = (
            f"{key!r} cannot name a batch: letters A-Z, digits, dot, dash and underscore, at most 128 of them, "
            "no dot in front and no two in a row. Rename the file"
        )


def _place_window(found: Sorted, file: Sighting, text: str, form: str, windows: Windows, declared: range) -> None:
    try:
        number, key = _window(windows, text, form)
    except ValueError:
        found.refused[file.name] = f"{text!r} is no date of the form {form}"
        return
    if number < declared.start:
        found.refused[file.name] = f"{key} lies before the declared start {windows.start.astype('M8[D]')}"
    elif number >= declared.stop:
        found.waiting[file.name] = f"the window {key} is not over, or lies behind the declared end"
    else:
        found.partitions.setdefault(key, []).append(file)


@lru_cache(maxsize=1 << 16)
def _window(windows: Windows, text: str, form: str) -> tuple[int, str]:
    """The number and the key of the window that a date falls into. Raises ValueError when it is no date."""
    if WEEK.search(form) and not WEEKDAY.search(form):
        text, form = f"{text} 1", f"{form} %u"
    number = windows.number(datetime.strptime(text, form).replace(tzinfo=UTC))
    return number, windows.key(number)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> tuple[re.Pattern[str], str | None]:
    """The pattern as a regular expression, and the date format of its partition where it has one."""
    regex, form, at = "", None, 0
    for place in PLACES.finditer(pattern):
        regex += re.escape(pattern[at : place.start()])
        at = place.end()
        if place[2]:
            regex += "[^/]*"
            continue
        form = place[1]
        regex += f"(?P<partition>{_date_expression(form) if form else '[^/]+'})"
    return re.compile(regex + re.escape(pattern[at:])), form


def _date_expression(form: str) -> str:
    parts = re.split(r"%(.)", form)
    return "".join(
        DIRECTIVES.get(part, r"\d{1,2}") if number % 2 else re.escape(part) for number, part in enumerate(parts)
    )


def still_growing(
    file: Sighting, names: Collection[str], settle_seconds: float, now: datetime, first_seen: datetime | None
) -> bool:
    """Whether a file may still be written: it has no `.done` marker, and has not been quiet for `settle_seconds`.

    `first_seen` is when it was first seen with this size and time of change: for sources whose clock is ahead.
    """
    if file.name + DONE in names or not settle_seconds:
        return False
    quiet = timedelta(seconds=settle_seconds)
    age = now - file.changed
    return age < quiet and not (age < timedelta(0) and first_seen is not None and now - first_seen >= quiet)


class Promise(NamedTuple):
    """What a producer's manifest says of a file."""

    bytes: int | None = None
    sha256: str | None = None
    rows: int | None = None

    def broken_by(self, size: int, sha256: str) -> str | None:
        """Why a file of this size and digest is not the promised one, or None."""
        if self.bytes is not None and self.bytes != size:
            return f"it has {size} bytes, and its manifest promises {self.bytes}"
        if self.sha256 is not None and self.sha256.lower() != sha256:
            return f"its SHA-256 is {sha256}, and its manifest promises {self.sha256[:64]}"
        return None


def promise(text: str) -> Promise:
    """What a manifest says. Raises ValueError when it cannot be understood."""
    said: Any = json.loads(text)
    if not isinstance(said, dict) or not {"bytes", "sha256", "rows"} & said.keys():
        raise ValueError("a manifest is a JSON object with bytes, sha256 and rows, or some of them")
    for name, kind in {"bytes": int, "sha256": str, "rows": int}.items():
        if name in said and (not isinstance(said[name], kind) or isinstance(said[name], bool)):
            raise ValueError(f"{name} must be of type {kind.__name__}")
    return Promise(said.get("bytes"), said.get("sha256"), said.get("rows"))


def several(reasons: Mapping[str, str], shown: int = 3) -> str:
    """A few of many reasons, and how many more there are."""
    texts = [f"{name}: {reason}" for name, reason in list(reasons.items())[:shown]]
    more = f"; and {len(reasons) - shown} more" if len(reasons) > shown else ""
    return "; ".join(texts) + more
