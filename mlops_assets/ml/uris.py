"""URIs: what must not stand in one, because it would reach metadata, messages and the UI."""

from urllib.parse import urlsplit


def holds_password(uri: str) -> bool:
    """Whether a password stands before the host of a URI. A path of this machine holds none."""
    return "://" in uri and bool(urlsplit(uri).password)
