"""Where bytes are: a folder of this machine, or an object store. Imports nothing heavy: proofs are to be quick."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from mlops_assets import settings

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem, S3FileSystem

S3_CONNECT_SECONDS, S3_ANSWER_SECONDS = 5, 30


def filesystem(root: str) -> tuple[FileSystem, str]:
    """The file system of a path or object-store URI, and the path on it. Credentials come from the environment."""
    from pyarrow import fs

    if "://" not in root:
        return fs.LocalFileSystem(), str(Path(root).absolute())
    environment = tuple((name, value) for name, value in os.environ.items() if name.startswith("AWS_"))
    return _client(root, settings.store_attempts(), environment, os.getpid())


@lru_cache(maxsize=64)
def _client(uri: str, attempts: int, *_: object) -> tuple[FileSystem, str]:
    """The client of an object store, kept while nothing around it changes: to make one costs more than most requests.

    A forked process makes its own: connections and threads of its parent's are none of its.
    """
    from pyarrow import fs

    system, path = fs.FileSystem.from_uri(uri)
    if isinstance(system, fs.S3FileSystem):
        system = _patient_s3(uri, attempts, system.region)
    return system, path.rstrip("/")


def _patient_s3(uri: str, attempts: int, region: str) -> S3FileSystem:
    """The S3 of a URI that has been found to be one, which asks again where it is refused or not answered.

    The region is the one that was found: where nothing names it, Arrow asks AWS where the bucket is, for a URI alone.
    Before each attempt the SDK waits longer than before the last, by chance. A small object is one request instead of
    the three of an upload in parts.
    """
    from pyarrow import fs

    parts = urlsplit(uri)
    options = dict(parse_qsl(parts.query))
    scheme, _, host = _endpoint().partition("://")
    here = {"scheme": scheme, "endpoint_override": host.rstrip("/")} if host else {}
    named = here | {name: options[name] for name in ("scheme", "endpoint_override") if name in options}
    if parts.username and parts.password:
        named |= {"access_key": unquote(parts.username), "secret_key": unquote(parts.password)}
    return fs.S3FileSystem(
        **named,
        region=region,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=attempts),
        connect_timeout=S3_CONNECT_SECONDS,
        request_timeout=S3_ANSWER_SECONDS,
        allow_delayed_open=True,
    )


def _endpoint() -> str:
    """What stands in for AWS, by the variables that every other client reads too."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def blob_path(sha256: str) -> str:
    """Where the bytes of this digest are kept, below the storage root."""
    return f"raw/{sha256[:2]}/{sha256}"
