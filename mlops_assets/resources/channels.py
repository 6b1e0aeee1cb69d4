"""Channels: where alerts are told, each a URI of apprise that may hold a secret and is never shown."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mlops_assets import settings

ENTRY = re.compile(
    r"^(?:(?P<name>[A-Za-z0-9_-]{1,40})?(?:\[(?P<only>[^\]\s]*)\])?=)?(?P<uri>(?P<scheme>[A-Za-z0-9]+)://\S+)$"
)
FILE = "file:"
CONNECT_SECONDS, READ_SECONDS, WHOLE_SECONDS = 5.0, 15.0, 40.0
LONGEST = 200
SECRET_LENGTH = 4
SENDING: ContextVar[bool] = ContextVar("sending", default=False)


class ChannelError(Exception):
    """A channel that cannot be used. The text names the channel or its place in the setting, never its URI."""


@dataclass(frozen=True)
class Channel:
    """A place where alerts are told. `only` limits it to severities, kinds, models or owners; empty takes all."""

    name: str
    only: frozenset[str]
    uri: str = field(repr=False)


@dataclass(frozen=True)
class Note:
    """What is sent to a channel. `key` is the same however often it is sent."""

    key: str
    subject: str
    body: str
    urgent: bool


def channels() -> tuple[Channel, ...]:
    """The channels of MLOPS_ALERTS, read anew each time. Raises ChannelError where an entry is none."""
    found, named = [], Counter[str]()
    for number, entry in enumerate(_entries(), 1):
        match = ENTRY.fullmatch(entry)
        if match is None:
            raise ChannelError(
                f"{settings.ALERTS.name}: entry {number} is no channel. It has to read scheme://..., "
                "name=scheme://... or name[urgent,team:shop]=scheme://..., without a space."
            )
        name = match["name"] or match["scheme"].lower()
        named[name] += 1
        only = frozenset(part for part in (match["only"] or "").split(",") if part)
        found.append(Channel(name if named[name] == 1 else f"{name}-{named[name]}", only, match["uri"]))
    return tuple(found)


def _entries() -> Iterator[str]:
    for entry in settings.ALERTS.value().split():
        if not entry.startswith(FILE):
            yield entry
            continue
        path = Path(entry.removeprefix(FILE))
        try:
            lines = path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ChannelError(f"{settings.ALERTS.name}: {path} cannot be read: {type(error).__name__}.") from None
        yield from (part for line in lines if not line.lstrip().startswith("#") for part in line.split())


def send(channel: Channel, note: Note) -> tuple[bool, str]:
    """Tell a channel, once. Whether it took it, and what it said, without any part of its URI. Never raises for it.

    A channel that does not answer ends this after CONNECT_SECONDS, or READ_SECONDS for an answer.
    """
    import apprise

    _keep_quiet()
    asset = apprise.AppriseAsset(
        app_id="mlops_assets",
        app_desc="mlops_assets",
        app_url=settings.DAGSTER_UI.value(),
        service_timeout=WHOLE_SECONDS,
    )
    service = apprise.Apprise.instantiate(channel.uri, asset=asset)
    if service is None:
        return False, "apprise knows no such channel: look at the URI of its documentation"
    _prepare(service, note.key)
    telling = apprise.Apprise(asset=asset)
    telling.add(service)
    kind = apprise.NotifyType.FAILURE if note.urgent else apprise.NotifyType.WARNING
    sending = SENDING.set(True)
    try:
        result = telling.notify(note.body, note.subject, kind, body_format=apprise.NotifyFormat.TEXT)
    finally:
        SENDING.reset(sending)
    if result:
        return True, "told"
    said = "; ".join(dict.fromkeys(entry.message for entry in result.logs()))
    return False, _scrubbed(said, channel.uri) or "it was not taken, for no reason given"


class _NotWhileSending(logging.Filter):
    """Drops what is logged on the way of a message: it may hold what the URI holds."""

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002
        """Whether the line is somebody else's."""
        return not SENDING.get()


QUIET = _NotWhileSending()


def _keep_quiet() -> None:
    """Keep the lines of apprise for ourselves, and drop those of the library below it."""
    logging.getLogger("apprise").propagate = False
    logging.getLogger("urllib3.connectionpool").addFilter(QUIET)


def _prepare(service: Any, key: str) -> None:
    """Limit the time that a service may take, and give it the key by which a receiver knows what it has."""
    service.socket_connect_timeout = min(service.socket_connect_timeout, CONNECT_SECONDS)
    service.socket_read_timeout = READ_SECONDS
    if isinstance(headers := getattr(service, "headers", None), dict):
        headers["Idempotency-Key"] = key
    if hasattr(service, "dedup"):
        service.dedup = service.dedup or key


def _scrubbed(text: str, uri: str) -> str:
    """The text in one line, without whatever stands in the URI after its scheme."""
    line = " ".join(text.split())
    secrets = {part for part in re.split(r"[/:@?&=,+;#]+", uri.partition("://")[2]) if len(part) >= SECRET_LENGTH}
    for secret in sorted(secrets | {unquote(part) for part in secrets}, key=len, reverse=True):
        line = line.replace(secret, "***")
    return line[:LONGEST]
