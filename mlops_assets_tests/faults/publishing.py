"""A delivery published over an older one while the disk gives less and less: what is readable after each try.

A program, because a limit holds for a whole process: `python -m mlops_assets_tests.faults.publishing HOW FOLDER`.
`limits` caps the size of a file; `space` fills the file system that FOLDER is on, and at last makes it read-only.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from deltalake.exceptions import DeltaError

from mlops_assets.ml.spec import Value
from mlops_assets.resources.blobs import Blobs
from mlops_assets.resources.records import Records
from mlops_assets.resources.tables import Tables

PAGE = 4096
ROWS = 1500
CONTENT = 3 * PAGE


class Publication(Value):
    """What a reader starts from: a record that names the bytes and the rows."""

    version: int
    sha256: str
    files: dict[str, str]


class Store:
    """Bytes, rows and the record of both, the way the lifecycle keeps them, and the naive way beside it."""

    def __init__(self, root: Path | str) -> None:
        self.root = str(root)
        self.blobs, self.tables, self.records = Blobs(root=self.root), Tables(root=self.root), Records(root=self.root)
        self.naive = Path(root) / "naive.parquet"

    def publish(self, version: int) -> None:
        """Store a version's bytes, then its rows, and point the record at them last."""
        sha256 = self.blobs.put_bytes(version.to_bytes(4, "big") * (CONTENT // 4))
        commit = self.tables.write("shop", "rows", "2024", pa.table({"x": values(version)}))
        self.records.put("shop", "rows", Publication(version=version, sha256=sha256, files=commit.files))

    def readable(self) -> int:
        """The published version, having read everything that it names."""
        found = self.records.get(Publication, "shop", "rows")
        assert found is not None
        assert self.blobs.read(found.sha256) == found.version.to_bytes(4, "big") * (CONTENT // 4)
        assert (self.tables.read("shop", "rows", found.files)["x"] == values(found.version)).all()
        return found.version

    def publish_naively(self, version: int) -> None:
        """Write over the file that readers read."""
        pd.DataFrame({"x": values(version)}).to_parquet(self.naive)

    def naively_readable(self) -> bool:
        """Whether readers still find rows."""
        try:
            return len(pd.read_parquet(self.naive)) == ROWS
        except (OSError, pa.ArrowInvalid):
            return False


def values(version: int) -> np.ndarray:
    """A version's rows, which do not compress."""
    return np.random.default_rng(version).random(ROWS)


def tries(store: Store, harm: Callable[[int], None], mend: Callable[[], None]) -> Iterator[dict]:
    """Publish under less and less harm until it succeeds, reading after each try what is published."""
    store.publish(0)
    store.publish_naively(0)
    step, published = 0, 0
    while published == 0:
        harm(step)
        error = attempt(lambda: store.publish(1))
        naive_error = attempt(lambda: store.publish_naively(1))
        mend()
        naively_readable = store.naively_readable()
        store.publish_naively(0)
        published = store.readable()
        yield {
            "step": step,
            "published": published,
            "error": error,
            "naive_lost": naive_error is not None and not naively_readable,
        }
        step += 1


def attempt(act: Callable[[], None]) -> str | None:
    """The error that `act` failed with, if it is one that tells of a disk."""
    try:
        act()
    except (OSError, DeltaError) as error:
        return type(error).__name__
    return None


def under_limits(root: Path) -> Iterator[dict]:
    """No file may grow beyond a limit, 256 bytes more at each try."""
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield from tries(
        Store(root),
        harm=lambda step: resource.setrlimit(resource.RLIMIT_FSIZE, (step * 256, unlimited[1])),
        mend=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, unlimited),
    )


def without_space(root: Path) -> Iterator[dict]:
    """The file system is full but for some pages, one more at each try; then it is freed, and then read-only."""
    ballast = root / "ballast"

    def fill(step: int) -> None:
        free = os.statvfs(root).f_bavail * PAGE - step * PAGE
        with ballast.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, free)

    store = Store(root)
    yield from tries(store, harm=fill, mend=ballast.unlink)
    fill(0)
    refused = attempt(lambda: store.publish(2))
    started = time.perf_counter()
    ballast.unlink()
    store.publish(2)
    yield {"refused": refused, "recovered": store.readable() == 2, "recovery_seconds": time.perf_counter() - started}
    subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
    yield {"read_only": attempt(lambda: store.publish(3)), "published": store.readable()}


if __name__ == "__main__":
    how = {"limits": under_limits, "space": without_space}[sys.argv[1]]
    for line in how(Path(sys.argv[2])):
        sys.stdout.write(json.dumps(line) + "\n")
