"""`mlops-assets alerts`: alerts, messages and channels as a person reads them in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.markup import escape

from mlops_assets import settings
from mlops_assets.ml.alerts import TITLES, Delivery, Known, Telling, subject
from mlops_assets.resources.channels import Note, channels, send

COLOURS = {"told": "green", "waiting": "yellow", "given_up": "red"}


def alert_lines(title: str, known: Sequence[Known]) -> Iterator[str]:
    """Alerts with what they say, where to look and what to do."""
    yield f"[bold]{title}: {len(known) or 'none'}[/bold]"
    for each in known:
        alert = each.alert
        where = [part for part in (alert.model, alert.partition) if part]
        since = f"since {each.since:%Y-%m-%d %H:%M}" + (f", {each.times} times" if each.times > 1 else "")
        until = f", until {each.resolved:%Y-%m-%d %H:%M}" if each.resolved else ""
        yield f"\n[bold]{TITLES[alert.kind]}[/bold]: {escape(', '.join(where))} ({since}{until} UTC)"
        yield from (f"  {escape(line)}" for line in alert.sentence.splitlines())
        yield from (
            f"  {escape(part)}" for part in (alert.link, f"{settings.RUNBOOKS.value()}/{alert.kind}.md") if part
        )


def message_lines(tellings: Sequence[Telling]) -> Iterator[str]:
    """Messages with what became of them on the way to each channel."""
    yield f"\n[bold]Messages: {len(tellings) or 'none'}[/bold]"
    for telling in tellings:
        ways = "; ".join(map(_way, telling.deliveries)) or f"kept, {settings.ALERTS.name} names no channel for it"
        yield f"{telling.message.made:%Y-%m-%d %H:%M}  {escape(subject(telling.message))}: {ways}"


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
    said = f" ({delivery.attempts[-1].said})" if delivery.attempts and delivery.state != "told" else ""
    count = f" after {tries} attempts" if tries != 1 else ""
    state = delivery.state.replace("_", " ")
    return f"{escape(delivery.channel)} [{colour}]{state}[/{colour}]{count}{escape(said)}"
