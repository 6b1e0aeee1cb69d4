"""Deliveries: what lies in a model's source, and its bytes kept as they are. Which runs follow is decided elsewhere."""

from __future__ import annotations

import hashlib
import json
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, BinaryIO, NamedTuple, TypeVar

import dagster as dg

from mlops_assets.ml import sources
from mlops_assets.ml.planning import Memory
from mlops_assets.ml.reading import extract
from mlops_assets.ml.sources import DONE, MANIFEST, DeliveredFile, Delivery, Promise, Sighting
from mlops_assets.ml.spec import FileSource, ModelSpec, SqlSource, digest_of
from mlops_assets.ml.splitting import split
from mlops_assets.ml.unpacking import EXTRACT, UnreadableFileError
from mlops_assets.ml.windows import Windows
from mlops_assets.resources.blobs import Blobs, write_atomically
from mlops_assets.resources.database import Database
from mlops_assets.resources.landing import ChangedWhileReadError, UnreachableSourceError, landing
from mlops_assets.resources.places import filesystem

Result = TypeVar("Result")
BYTES_A_LOOK = 2 << 30
WINDOWS_A_LOOK = 50
ROWS_A_LOOK = 2_000_000
SECONDS_A_LOOK = 20  # Dagster ends a look of a sensor after 60
SAVED_EVERY = 2
MAX_MANIFEST = 1 << 16
CHUNK = 1 << 20
Stopwatch = Callable[[], float]
RACY = timedelta(seconds=2)
REFUSED_FOR = timedelta(minutes=10)


class RefusedFileError(dg.DagsterError):
    """A file that is not what its producer promised."""


class PostponedError(dg.DagsterError):
    """A file that is left to a later look."""


@dataclass
class Look:
    """What lies in a source: the version of each delivery, and what waits or was refused with the reason."""

    where: str
    files: int = 0
    newest: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    growing: dict[str, tuple[int, int, float]] = field(default_factory=dict)
    looked_to: str | None = None


class Fetched(NamedTuple):
    """What was fetched, by partition, and the partitions that could not be, with the reason."""

    deliveries: dict[str, Delivery]
    problems: dict[str, str]


class Part(NamedTuple):
    """The rows of one partition that were cut out of a file: stored bytes, and the suffix that says what they are."""

    sha256: str
    bytes: int
    suffix: str


class Deliveries(dg.ConfigurableResource):
    """The sources of models. What is kept under `root/cache` only saves time: it can be deleted whenever."""

    root: str

    def look(
        self,
        spec: ModelSpec,
        blobs: Blobs,
        now: datetime,
        memory: Memory,
        again: Set[str] = frozenset(),
        stopwatch: Stopwatch = time.monotonic,
    ) -> Look:
        """What lies in the model's source at `now`. A database is asked for the windows in `again` as well.

        After SECONDS_A_LOOK by the `stopwatch` nothing new is begun; the next look goes on from there.
        """
        if isinstance(spec.source, FileSource):
            return _Files(spec, spec.source, blobs, now, self.root, memory, stopwatch).look()
        return _look_into_database(spec, spec.source, self.root, now, memory, again, stopwatch)

    def fetch(self, spec: ModelSpec, partitions: Sequence[str], blobs: Blobs, now: datetime) -> Fetched:
        """Store the bytes of these partitions' deliveries. One that cannot be fetched leaves the others alone."""
        if isinstance(spec.source, FileSource):
            return _Files(spec, spec.source, blobs, now, self.root, None).fetch(partitions)
        return _fetch_from_database(spec, spec.source, partitions, blobs, now)


class _Files:
    """One look into a folder or object store."""

    def __init__(
        self,
        spec: ModelSpec,
        source: FileSource,
        blobs: Blobs,
        now: datetime,
        root: str,
        memory: Memory | None,
        stopwatch: Stopwatch = time.monotonic,
    ) -> None:
        """`memory` is what the last look left; a fetch has none."""
        self._spec, self._source, self._blobs, self._now, self._root = spec, source, blobs, now, root
        self._memory, self._stopwatch = memory, stopwatch
        self._begun = self._saved = stopwatch()
        self._landing = landing(source.uri)
        listing = self._landing.list(depth=max(pattern.count("/") for pattern in source.files))
        self._there = {file.name: file for file in listing.files}
        self._sorted = sources.sort_out(listing.files, source.files, spec.partitions, now)
        self._cache = _Cache(root, digest_of([spec.name, source.uri])[:32])
        self._spent = 0
        data = [name for name in self._there if not name.endswith((MANIFEST, DONE))]
        self._found = Look(
            where=self._landing.where,
            files=len(data),
            newest=max(data, key=lambda name: self._there[name].modified, default=None),
            waiting=self._sorted.waiting,
            refused=listing.refused | self._sorted.refused,
            others=self._sorted.others,
        )

    def look(self) -> Look:
        """The version of each delivery. Unknown bytes are read up to BYTES_A_LOOK; the next look goes on from there."""
        digests: dict[str, list[str]] = {}
        for partition, files in self._sorted.partitions.items():
            known = self._each(files, self._digest)
            if len(known) == len(files):
                digests[partition] = known
        for parts in self._each(self._sorted.to_split, lambda file: self._parts(file, self._digest(file))):
            for partition, part in parts.items():
                digests.setdefault(partition, []).append(part.sha256)
        self._found.versions = {partition: sources.version_of(each) for partition, each in digests.items()}
        self._leave_open_windows()
        self._cache.save(self._there)
        return self._found

    def fetch(self, partitions: Sequence[str]) -> Fetched:
        """Store what lies there for `partitions`."""
        parts: dict[str, list[tuple[DeliveredFile, Part]]] = {}
        for origin, cut in self._each(self._sorted.to_split, self._kept_parts):
            for partition, part in cut.items():
                parts.setdefault(partition, []).append((origin, part))
        fetched = Fetched({}, {})
        for partition in partitions:
            files = self._sorted.partitions.get(partition, [])
            kept = self._each(files, self._kept)
            if len(kept) < len(files) or not (kept or partition in parts):
                fetched.problems[partition] = self._problem(files)
            else:
                fetched.deliveries[partition] = self._delivery(partition, kept, parts.get(partition, []))
        return fetched

    def _each(self, files: Iterable[Sighting], work: Callable[[Sighting], Result]) -> list[Result]:
        """The results for the files that can be worked on; the others are noted as waiting or refused."""
        results = []
        for file in files:
            try:
                self._refuse_unfit(file)
                results.append(work(file))
            except (PostponedError, ChangedWhileReadError) as error:
                self._found.waiting[file.name] = str(error)
            except (RefusedFileError, UnreadableFileError, UnreachableSourceError) as error:
                self._found.refused[file.name] = str(error).removeprefix(f"{file.name} ")
        return results

    def _refuse_unfit(self, file: Sighting) -> None:
        ahead = file.changed > self._now
        first_seen = self._first_seen(file)
        growing = sources.still_growing(file, self._there, self._source.settle_seconds, self._now, first_seen)
        if growing or (ahead and first_seen):
            self._found.growing[file.name] = (*file[1:], (first_seen or self._now).timestamp())
        if growing and not (ahead and self._memory is None):  # how long it has been the same, only looks can tell
            raise PostponedError(f"it may still grow: changed less than {self._source.settle_seconds:g} s ago")
        if file.bytes > self._source.max_bytes:
            raise RefusedFileError(f"it has {file.bytes} bytes; source.max_bytes is {self._source.max_bytes}")

    def _first_seen(self, file: Sighting) -> datetime | None:
        """When earlier looks first saw a file that they did not trust as it is now."""
        known = None if self._memory is None else self._memory.growing.get(file.name)
        return datetime.fromtimestamp(known[2], self._now.tzinfo) if known and known[:2] == file[1:] else None

    def _digest(self, file: Sighting) -> str:
        """The SHA-256 of a file that is what its manifest promises."""
        sha256 = self._remembered(file, _sha256)
        self._promise(file, sha256)
        return sha256

    def _remembered(self, file: Sighting, read: Callable[[BinaryIO], str]) -> str:
        """What `read` makes of a file, from an earlier look where it has not changed since."""
        known = self._cache.get(file)
        if known is not None:
            return known
        self._spend(file)
        with self._landing.opened(file.name) as stream:
            known = read(stream)
        if self._now - min(file.changed, self._first_seen(file) or file.changed) > RACY:
            self._cache.put(file, known)
            self._save_now_and_then()
        return known

    def _spend(self, file: Sighting) -> None:
        """Take the work on a file off what one look may do. The first work of a look always goes through."""
        late = self._stopwatch() - self._begun > SECONDS_A_LOOK
        if self._memory is not None and self._spent and (late or self._spent + file.bytes > BYTES_A_LOOK):
            raise PostponedError("it is new, and will be read at the next look")
        self._spent += file.bytes

    def _save_now_and_then(self) -> None:
        """Keep what was learned, in case the look is ended from outside."""
        if self._stopwatch() - self._saved > SAVED_EVERY:
            self._cache.save(self._there)
            self._saved = self._stopwatch()

    def _promise(self, file: Sighting, sha256: str) -> Promise:
        """What the manifest beside a file says, once size and digest are found to be as it promises."""
        manifest = self._there.get(file.name + MANIFEST)
        if manifest is None:
            return Promise()
        text = self._remembered(manifest, lambda stream: stream.read(MAX_MANIFEST).decode(errors="replace"))
        try:
            promise = sources.promise(text)
        except ValueError as error:
            raise RefusedFileError(f"its manifest cannot be understood: {error}") from error
        if broken := promise.broken_by(file.bytes, sha256):
            raise RefusedFileError(broken)
        return promise

    def _kept(self, file: Sighting) -> DeliveredFile:
        """Store a file's bytes, as they are at one moment."""
        with self._landing.opened(file.name) as stream:
            sha256, size = self._blobs.put(stream)
        if size != file.bytes:
            raise ChangedWhileReadError("it was written to while it was read.")
        rows = self._promise(file, sha256).rows
        return DeliveredFile(name=file.name, sha256=sha256, bytes=size, modified=file.changed, rows=rows)

    def _kept_parts(self, file: Sighting) -> tuple[DeliveredFile, dict[str, Part]]:
        origin = self._kept(file)
        return origin, self._parts(file, origin.sha256)

    def _parts(self, file: Sighting, sha256: str) -> dict[str, Part]:
        """The extracts that a file is cut into, by partition; cut again only when one is not stored any more."""
        path = self._path_of_parts(file, sha256)
        known = _load(self._root, path)
        if not self._holds(known):
            self._spend(file)
            known = self._cut_or_refusal(file, sha256)
            write_atomically(self._root, path, iter([json.dumps(known).encode()]))
        if "refused" in known:
            raise RefusedFileError(f"{file.name} {known['refused']}")
        if known["before"]:
            start = self._spec.partitions.start
            self._found.notes[file.name] = f"{known['before']} rows lie before the declared start {start}"
        return {partition: Part(*part) for partition, part in known["parts"].items()}

    def _path_of_parts(self, file: Sighting, sha256: str) -> str:
        read_as = self._source.model_dump(mode="json", exclude={"uri", "files", "settle_seconds"})
        cut_as = self._spec.model_dump(mode="json", include={"partitions", "time"})
        rows = self._promise(file, sha256).rows
        return f"cache/splits/{digest_of([sha256, file.name.rpartition('.')[2], read_as, cut_as, rows])}.json"

    def _holds(self, known: Mapping[str, Any]) -> bool:
        """Whether what is known of a file still stands: its parts are stored, or its refusal is not old."""
        if "refused" in known:
            return abs(self._now - datetime.fromisoformat(known["at"])) < REFUSED_FOR
        return "parts" in known and all(self._blobs.exists(sha256) for sha256, *_ in known["parts"].values())

    def _cut_or_refusal(self, file: Sighting, sha256: str) -> dict[str, Any]:
        try:
            parts, before = self._cut(file, sha256)
        except UnreadableFileError as error:
            return {"refused": str(error).removeprefix(f"{file.name} "), "at": self._now.isoformat()}
        return {"parts": parts, "before": before}

    def _cut(self, file: Sighting, sha256: str) -> tuple[dict[str, Part], int]:
        if not self._blobs.exists(sha256) and self._kept(file).sha256 != sha256:
            raise ChangedWhileReadError("it was replaced while it was read.")
        rows = self._promise(file, sha256).rows
        spec = self._spec
        with self._blobs.open(sha256) as stream:
            cut = split(stream, file.name, self._source, spec.time, spec.partitions, self._now, rows)
        stored = {
            partition: Part(self._blobs.put_bytes(part.content), len(part.content), part.suffix)
            for partition, part in cut.parts.items()
        }
        return stored, cut.before

    def _leave_open_windows(self) -> None:
        if not self._sorted.to_split:
            return
        windows = Windows.of(self._spec.partitions)
        for partition in list(self._found.versions):
            if windows.position(partition) > windows.last(self._now):
                del self._found.versions[partition]
                self._found.waiting[partition] = "its window is not over"

    def _delivery(
        self, partition: str, kept: Sequence[DeliveredFile], parts: Sequence[tuple[DeliveredFile, Part]]
    ) -> Delivery:
        cut = [
            DeliveredFile(
                name=f"{origin.name}/{partition}{part.suffix}",
                sha256=part.sha256,
                bytes=part.bytes,
                modified=origin.modified,
            )
            for origin, part in parts
        ]
        once = {file.sha256: file for file in reversed([*kept, *cut])}
        files = sorted(once.values(), key=lambda file: file.name)
        return Delivery(
            model=self._spec.name,
            partition=partition,
            files=tuple(files),
            origins=tuple(origin for origin, _ in parts),
            also_named=tuple(file.name for file in [*kept, *cut] if once[file.sha256] != file),
        )

    def _problem(self, files: Sequence[Sighting]) -> str:
        reasons = self._found.refused | self._found.waiting
        ours = {file.name: reasons[file.name] for file in files if file.name in reasons}
        if files:
            return sources.several(ours)
        others = f" ({sources.several(reasons)})" if reasons else ""
        return f"nothing is delivered for it among {self._found.files} files in {self._found.where}{others}"


def _sha256(stream: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := stream.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


class _Cache:
    """What was made of files by name, valid as long as their size and time of change are the same."""

    def __init__(self, root: str, name: str) -> None:
        self._root, self._path = root, f"cache/deliveries/{name}.json"
        self._known = _load(root, self._path)
        self._learned = False

    def get(self, file: Sighting) -> str | None:
        size, modified, value = self._known.get(file.name, (None, None, None))
        return value if (size, modified) == file[1:] else None

    def put(self, file: Sighting, value: str) -> None:
        self._known[file.name] = [*file[1:], value]
        self._learned = True

    def save(self, there: Mapping[str, Sighting]) -> None:
        """Keep what was learned, and forget files that are gone."""
        if self._learned:
            kept = {name: known for name, known in self._known.items() if name in there}
            write_atomically(self._root, self._path, iter([json.dumps(kept).encode()]))
            self._learned = False


def _load(root: str, path: str) -> dict[str, Any]:
    """A file of the cache; nothing where there is none, or none that can be read."""
    system, base = filesystem(root)
    try:
        with system.open_input_file(f"{base}/{path}") as stream:
            return json.loads(stream.read())
    except (FileNotFoundError, ValueError):
        return {}


def _look_into_database(
    spec: ModelSpec, source: SqlSource, root: str, now: datetime, memory: Memory, again: Set[str], stopwatch: Stopwatch
) -> Look:
    """The windows since the last look, the newest `lookback` of those before, and those in `again`.

    The first new one comes first, so that each look gets on however much there is to look at again. Of those to look
    at again, the ones that the last look did not get to come first.
    """
    windows = Windows.of(spec.partitions)
    first, last = windows.first(), windows.last(now)
    fresh = first if memory.looked_to is None else windows.position(memory.looked_to) + 1
    newer = list(range(fresh, last + 1))[:WINDOWS_A_LOOK]
    older = {*range(max(first, last + 1 - source.lookback), min(fresh, last + 1)), *map(windows.position, again)}
    place = f"cache/databases/{digest_of([spec.name, source.model_dump(mode='json')])[:32]}.json"
    stopped = _load(root, place).get("stopped")
    turns = _from(stopped, sorted(older.difference(newer)))
    look = Look(f"the database in {source.url_env}", looked_to=memory.looked_to)
    rows, begun, late = 0, stopwatch(), False
    with Database(source, spec.time.timezone) as database:
        for number in [*newer[:1], *turns, *newer[1:]]:
            key = windows.key(number)
            if late:
                look.waiting[key] = "it will be asked for at the next look"
                continue
            table = database.window(*windows.bounds(key))
            rows += table.num_rows
            late = rows > ROWS_A_LOOK or stopwatch() - begun > SECONDS_A_LOOK
            look.looked_to = key if number in newer else look.looked_to
            if table.num_rows:
                look.files, look.newest = look.files + 1, max(look.newest or key, key, key=windows.position)
                look.versions[key] = sources.version_of([hashlib.sha256(extract(table)).hexdigest()])
    left = next((number for number in turns if windows.key(number) in look.waiting), None)
    if left != stopped:
        write_atomically(root, place, iter([json.dumps({"stopped": left}).encode()]))
    return look


def _from(start: int | None, numbers: Sequence[int]) -> list[int]:
    """Sorted numbers, those before `start` at the end."""
    at = 0 if start is None else bisect_left(numbers, start)
    return [*numbers[at:], *numbers[:at]]


def _fetch_from_database(
    spec: ModelSpec, source: SqlSource, partitions: Sequence[str], blobs: Blobs, now: datetime
) -> Fetched:
    windows = Windows.of(spec.partitions)
    fetched = Fetched({}, {})
    with Database(source, spec.time.timezone) as database:
        for partition in partitions:
            try:
                table = database.window(*windows.bounds(partition))
            except (UnreachableSourceError, UnreadableFileError) as error:
                fetched.problems[partition] = str(error)
                continue
            if not table.num_rows:
                fetched.problems[partition] = f"the query of {source.url_env} gives no rows for it"
                continue
            content = extract(table)
            file = DeliveredFile(
                name=f"{partition}{EXTRACT}", sha256=blobs.put_bytes(content), bytes=len(content), modified=now
            )
            fetched.deliveries[partition] = Delivery(model=spec.name, partition=partition, files=(file,))
    return fetched
