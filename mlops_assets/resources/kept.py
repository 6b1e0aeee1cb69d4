"""What is kept, as a proof reads it: bytes, the ledger, its anchors. Without Dagster, whose import takes a second."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mlops_assets.ml.ledger import Anchor, Link
from mlops_assets.ml.proof import BrokenLinkError
from mlops_assets.ml.signing import Trust
from mlops_assets.resources.places import blob_path, filesystem
from mlops_assets.resources.trusted import KeyUnavailableError, trust_at

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

TABLE = "mlops_ledger"
COLUMNS = "sequence, model, payload, hash"
ANCHOR = re.compile(r"(\d{9,})-([0-9a-f]{64})")
SQLITE = "sqlite:///"
MODEL = "models:/"


class UnreadableError(Exception):
    """Something that a proof needs cannot be read at all."""


@dataclass(frozen=True)
class Stored:
    """Everything under a storage root, with the ledger, its anchors, and MLflow where a server keeps the artifacts."""

    root: str
    ledger_uri: str
    anchors: str
    tracking_uri: str
    trusted_keys: str = ""

    def where(self, path: str) -> str:
        """The path as a person finds it."""
        return f"{self.root}/{path}"

    def read(self, path: str) -> bytes:
        """The bytes of a file."""
        system, base = self._filesystem
        with system.open_input_file(f"{base}/{path}") as stream:
            return stream.read()

    def sha256(self, path: str) -> tuple[str, int]:
        """The SHA-256 (hex) of a file, however large, and its size."""
        system, base = self._filesystem
        with system.open_input_file(f"{base}/{path}") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest(), stream.size()

    def blob(self, sha256: str) -> str:
        """The path of the bytes with this digest."""
        return blob_path(sha256)

    def blobs(self, beginning: str) -> list[str]:
        """The digests of stored bytes that begin so."""
        from pyarrow import fs

        system, base = self._filesystem
        folder = f"{base}/{blob_path(beginning).rpartition('/')[0]}"
        found = system.get_file_info(fs.FileSelector(folder, allow_not_found=True))
        return sorted(info.base_name for info in found if info.base_name.startswith(beginning))

    def folder(self, candidate: Mapping[str, Any]) -> str | None:
        """The path of the folder of a fitted model, None where it is not here and MLflow's server keeps it."""
        path = f"mlflow/{candidate['model']}/models/{candidate['model_uri'].removeprefix(MODEL)}/artifacts"
        system, base = self._filesystem
        here = system.get_file_info(f"{base}/{path}").type.name == "Directory"
        return path if here or not self.tracking_uri.startswith(("http://", "https://")) else None

    def artifact(self, candidate: Mapping[str, Any]) -> tuple[str, bytes]:
        """Where MLflow's server keeps a fitted model, and its bytes."""
        from mlops_assets.ml.artifacts import UnsafeModelError
        from mlops_assets.ml.training import Candidate
        from mlops_assets.resources.tracking import Tracking, TrackingUnavailableError

        tracking = Tracking(root=self.root, tracking_uri=self.tracking_uri)
        try:
            return candidate["model_uri"], tracking.artifact(Candidate.model_validate(candidate))
        except UnsafeModelError as error:
            raise BrokenLinkError(candidate["model_uri"], f"is not what was stored: {error}") from error
        except TrackingUnavailableError as error:
            raise UnreadableError(str(error)) from error

    def ledger(self) -> tuple[str, Sequence[Link], Sequence[Anchor]]:
        """Where the ledger is, all its links, and the heads that were anchored."""
        if self.ledger_uri.startswith(SQLITE):
            path = self.ledger_uri.removeprefix(SQLITE)
            return path, sqlite_links(path), anchors_in(self.anchors)
        from mlops_assets.resources.ledger import Ledger

        return self.ledger_uri, Ledger(uri=self.ledger_uri, anchors=self.anchors).links(), anchors_in(self.anchors)

    def trust(self) -> Trust | None:
        """Whose signatures count, None where that is not configured."""
        if not self.trusted_keys:
            return None
        try:
            return trust_at(self.trusted_keys)
        except KeyUnavailableError as error:
            raise UnreadableError(str(error)) from error

    @cached_property
    def _filesystem(self) -> tuple[FileSystem, str]:
        return filesystem(self.root)


def sqlite_links(path: str) -> tuple[Link, ...]:
    """Every link of a ledger in SQLite, oldest first, read without SQLAlchemy; none where there is no ledger yet.

    Text that is no text any more is read all the same, and found to be another than was written.
    """
    import sqlite3

    try:
        connection = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)
        connection.text_factory = lambda stored: stored.decode("utf-8", "replace")
        try:
            rows = connection.execute(f"SELECT {COLUMNS} FROM {TABLE} ORDER BY sequence").fetchall()  # noqa: S608
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise UnreadableError(f"The ledger at {path} cannot be read: {error}.") from error
    return tuple(Link(sequence=row[0], model=row[1], payload=row[2], hash=row[3]) for row in rows)


def anchors_in(where: str) -> list[Anchor]:
    """The heads that were kept in a folder or under an object store's URI, oldest first."""
    from pyarrow import fs

    system, base = filesystem(where)
    names = [info.base_name for info in system.get_file_info(fs.FileSelector(base, allow_not_found=True))]
    found = [ANCHOR.fullmatch(name) for name in sorted(names)]
    return [Anchor(sequence=int(name[1]), hash=name[2]) for name in found if name]
