"""Where keys come from: files that the environment names. None stands in code, in a run's configuration or in a log."""

from __future__ import annotations

import stat
from pathlib import Path

import dagster as dg

from mlops_assets import settings
from mlops_assets.ml.signing import SigningError, SigningKey, Trust, read_signing_key
from mlops_assets.resources.trusted import KeyUnavailableError, read_key, trust_at


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
        content = read_key(path, named)
        if path.stat().st_mode & stat.S_IRWXO:
            raise KeyUnavailableError(f"{named} can be read by everybody on this machine. chmod 600 it.")
        try:
            return read_signing_key(content, named)
        except SigningError as error:
            raise KeyUnavailableError(str(error)) from error

    def trust(self) -> Trust | None:
        """Whose signatures count, None where that is not configured: then nothing needs to be signed."""
        return trust_at(self.trusted) if self.trusted else None


def keys_here() -> Keys:
    """The keys that the environment names."""
    return Keys(signing=settings.signing_key(), trusted=settings.trusted_keys())
