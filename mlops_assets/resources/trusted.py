"""Whose signatures count: public keys in a file or a folder, read without Dagster, whose import takes a second."""

from __future__ import annotations

from pathlib import Path

from mlops_assets import settings
from mlops_assets.ml.signing import SigningError, Trust, read_people, read_public_keys

SUFFIX = ".pub"
TAKEN_BACK = "revoked"


class KeyUnavailableError(Exception):
    """A file of keys cannot be read, or holds none."""


def trust_at(trusted: str) -> Trust:
    """The keys in a file of many people, or in a folder with a file a person."""
    path, named = Path(trusted), f"{settings.TRUSTED_KEYS.name} ({trusted})"
    try:
        if not path.is_dir():
            return Trust(keys=read_people(read_key(path, named).decode("utf-8", "replace"), named))
        files = [(each, False) for each in sorted(path.glob(f"*{SUFFIX}"))]
        files += [(each, True) for each in sorted((path / TAKEN_BACK).glob(f"*{SUFFIX}"))]
        keys = []
        for each, revoked in files:
            text = read_key(each, str(each)).decode("utf-8", "replace")
            keys += read_public_keys(text, each.name.removesuffix(SUFFIX), str(each), revoked=revoked)
        return Trust(keys=tuple(keys))
    except SigningError as error:
        raise KeyUnavailableError(str(error)) from error


def read_key(path: Path, named: str) -> bytes:
    """The bytes of a file of keys. Raises KeyUnavailableError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyUnavailableError(f"{named} cannot be read: {error.strerror}.") from error
