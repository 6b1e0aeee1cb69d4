"""`mlops-assets alerts`: alerts, messages and channels as a person reads them in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mlops_assets import settings
from mlops_assets.ml.alerts import TITLES, Delivery, Known, Telling, subject
from mlops_assets.resources.channels import Note, channels, send

COLOURS = {"told": "green", "waiting": "yellow", "given_up": "red"}


def known_table(title: str, known: Sequence[Known]) -> Table | str:
    """Alerts with what they say and where to look."""
    table = Table("since", "what", "model", "partition", "sentence", title=title, title_justify="left", show_lines=True)
    for each in known:
        alert = each.alert
        times = f" ({each.times} times)" if each.times > 1 else ""
        over = f"\nuntil {_minute(each.resolved)}" if each.resolved else ""
        see = [alert.link, f"{settings.RUNBOOKS.value()}/{alert.kind}.md"]
        sentence = "\n".join([alert.sentence, *(part for part in see if part)])
        row = (f"{_minute(each.since)}{over}", f"{TITLES[alert.kind]}{times}", alert.model or "", alert.partition or "")
        table.add_row(*map(escape, (*row, sentence)))
    return table if known else f"{title}: none."


def messages_table(tellings: Sequence[Telling]) -> Table | str:
    """Messages with what became of them on the way to each channel."""
    table = Table("made", "message", "channels", title="Messages", title_justify="left", show_lines=True)
    for telling in tellings:
        ways = "\n".join(map(_way, telling.deliveries)) or f"kept: {settings.ALERTS.name} names no channel for it"
        table.add_row(_minute(telling.message.made), escape(subject(telling.message)), ways)
    return table if tellings else "Messages: none."


def try_channels(console: Console) -> bool:
    """Send a test message to every channel, and say what came of each. Whether all took it."""
    found = channels()
    if not found:
        console.print(f"{settings.ALERTS.name} names no channel.")
    outcomes = []
    for channel in found:
        now = datetime.now(UTC)
        body = f"This is a test of the channel {channel.name}, sent {now:%Y-%m-%d %H:%M} UTC. Nothing is wrong."
        taken, said = send(channel, Note(f"test-{now:%Y%m%dT%H%M%S%f}", "mlops_assets: a test", body, urgent=False))
        only = f" (only {', '.join(sorted(channel.only))})" if channel.only else ""
        colour = "green" if taken else "red"
        console.print(f"{escape(channel.name + only)}: [{colour}]{escape(said)}[/{colour}]", soft_wrap=True)
        outcomes.append(taken)
    return bool(outcomes) and all(outcomes)


def _way(delivery: Delivery) -> str:
    colour, tries = COLOURS[delivery.state], len(delivery.attempts)
    said = f": {delivery.attempts[-1].said}" if delivery.attempts and delivery.state != "told" else ""
    count = f" after {tries} attempts" if tries != 1 else ""
    return f"{escape(delivery.channel)} [{colour}]{delivery.state}[/{colour}]{count}{escape(said)}"


def _minute(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M}" if time else ""
