"""Where keys come from: files that the environment names. None stands in code, in a run's configuration or in a log."""

from __future__ import annotations

import stat
from pathlib import Path

import dagster as dg

from mlops_assets import settings
from mlops_assets.ml.signing import (
    SigningError,
    SigningKey,
    Trust,
    read_people,
    read_public_keys,
    read_signing_key,
)

SUFFIX = ".pub"
TAKEN_BACK = "revoked"


class KeyUnavailableError(dg.DagsterError):
    """A file of keys cannot be read, or holds none."""


class Keys(dg.ConfigurableResource):
    """The private key of whoever acts, and whose signatures count; both by path, and read when they are needed.

    So a key that is revoked counts no more from that moment on, without a restart.
    """

    signing: str = ""
    trusted: str = ""

    def signer(self) -> SigningKey | None:
        """The key to sign with, None where none is configured."""
        if not self.signing:
            return None
        path, named = Path(self.signing), f"{settings.SIGNING_KEY.name} ({self.signing})"
        content = _read(path, named)
        if path.stat().st_mode & stat.S_IRWXO:
            raise KeyUnavailableError(f"{named} can be read by everybody on this machine. chmod 600 it.")
        try:
            return read_signing_key(content, named)
        except SigningError as error:
            raise KeyUnavailableError(str(error)) from error

    def trust(self) -> Trust | None:
        """Whose signatures count, None where that is not configured: then nothing needs to be signed."""
        if not self.trusted:
            return None
        path, named = Path(self.trusted), f"{settings.TRUSTED_KEYS.name} ({self.trusted})"
        try:
            if not path.is_dir():
                return Trust(keys=read_people(_read(path, named).decode("utf-8", "replace"), named))
            files = [(each, False) for each in sorted(path.glob(f"*{SUFFIX}"))]
            files += [(each, True) for each in sorted((path / TAKEN_BACK).glob(f"*{SUFFIX}"))]
            keys = []
            for each, revoked in files:
                text = _read(each, str(each)).decode("utf-8", "replace")
                keys += read_public_keys(text, each.name.removesuffix(SUFFIX), str(each), revoked=revoked)
            return Trust(keys=tuple(keys))
        except SigningError as error:
            raise KeyUnavailableError(str(error)) from error


def keys_here() -> Keys:
    """The keys that the environment names."""
    return Keys(signing=settings.signing_key(), trusted=settings.trusted_keys())


def _read(path: Path, named: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyUnavailableError(f"{named} cannot be read: {error.strerror}.") from error
