"""The resource card of a training: what it asked for and what it took, what that cost, and what would have sufficed."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from mlops_assets.ml.spec import Retraining, Value

HEADROOM = 1.25
GIB = 2**30
SLICE = re.compile(r"\.(\d+)gb")


class Offer(Value):
    """What a compute profile gives a step: CPU that it may exceed, and the rest, which it may not."""

    name: str
    cores: float
    memory: int
    seconds: float
    devices: int = 0
    device: str = ""

    def price(self, rule: Retraining) -> float:
        """What an hour of it costs."""
        return machines(3600 * self.cores, 3600 * self.devices, 3600 * self.memory / GIB, rule)


class Usage(Value):
    """What a training took. `memory` and `cores` are peaks of the process that it ran in, whatever else is in it.

    `card` is the accelerator that was used, if one was, `card_memory` the peak on it and `card_size` what it has.
    """

    seconds: float
    cpu_seconds: float
    cores: float
    memory: int
    devices: int = 0
    card: str = ""
    card_memory: int | None = None
    card_size: int | None = None

    @property
    def gib_seconds(self) -> float:
        """The memory at its peak, for as long as the training took."""
        return self.seconds * self.memory / GIB


class ResourceCard(Value):
    """What a training asked for (None where it asked for nothing), what it took, and the smallest profile for that."""

    asked: Offer | None
    usage: Usage
    cost: float
    currency: str
    smallest: str | None
    why: str


def machines(cpu_seconds: float, device_seconds: float, gib_seconds: float, rule: Retraining) -> float:
    """What machines cost at the declared prices."""
    priced = cpu_seconds * rule.cpu_hour + device_seconds * rule.gpu_hour + gib_seconds * rule.memory_hour
    return priced / 3600


def resource_card(usage: Usage, asked: str | None, offers: Sequence[Offer], rule: Retraining) -> ResourceCard:
    """The card of a training that asked for the profile `asked`, of those that there are."""
    mine = next((offer for offer in offers if offer.name == asked), None)
    fitting = [offer for offer in offers if shortage(usage, offer, mine) is None]
    smallest = min(fitting, key=lambda offer: (offer.price(rule), offer.memory, offer.name), default=None)
    held = mine.devices if mine else usage.devices
    return ResourceCard(
        asked=mine,
        usage=usage,
        cost=machines(usage.cpu_seconds, held * usage.seconds, usage.gib_seconds, rule),
        currency=rule.currency,
        smallest=smallest.name if smallest else None,
        why=_why(usage, mine, smallest, offers),
    )


def shortage(usage: Usage, offer: Offer, asked: Offer | None) -> str | None:
    """Why a training would not fit into a profile; None where it would, with HEADROOM for memory.

    Less CPU than it used makes it longer: by how much is estimated, and must stay within the profile's time. The
    memory of a device is known where it is a slice, which says so by its name, or of the kind that was used.
    """
    if offer.memory < HEADROOM * usage.memory:
        return f"{offer.name} has {gib(offer.memory)} of memory, and {gib(HEADROOM * usage.memory)} are needed"
    longer = max(usage.cpu_seconds / offer.cores, usage.seconds)
    if longer > offer.seconds:
        return (
            f"{offer.name} ends after {offer.seconds:,.0f} s, and {longer:,.0f} s are needed on {offer.cores:g} cores"
        )
    if usage.card_memory is None:
        return None
    if not offer.devices:
        return f"{offer.name} has no accelerator, and {usage.card} was used"
    size = _device_size(usage, offer, asked)
    if size is None or size < HEADROOM * usage.card_memory:
        known = "an unknown amount" if size is None else gib(size)
        return f"{offer.device} has {known} of memory, and {gib(HEADROOM * usage.card_memory)} are needed"
    return None


def _device_size(usage: Usage, offer: Offer, asked: Offer | None) -> float | None:
    if found := SLICE.search(offer.device):
        return int(found[1]) * 1e9
    return usage.card_size if asked is not None and offer.device == asked.device else None


def _why(usage: Usage, asked: Offer | None, smallest: Offer | None, offers: Sequence[Offer]) -> str:
    if smallest is None:
        largest = max(offers, key=lambda offer: offer.memory, default=None)
        short = shortage(usage, largest, asked) if largest else "there is none"
        return f"No profile would have fitted: {short}."
    longer = usage.cpu_seconds / smallest.cores
    slow = f" It would have taken about {longer:,.0f} s there." if longer > 1.1 * usage.seconds else ""
    if asked is None or asked == smallest:
        return f"{smallest.name} is the smallest profile that would have fitted.{slow}"
    if short := shortage(usage, asked, asked):
        return f"{asked.name} was too small: {short}. {smallest.name} is the smallest that would have fitted.{slow}"
    return f"{smallest.name} would have fitted, and {asked.name} was asked for.{slow}"


def markdown(card: ResourceCard) -> str:
    """The card as a table, as Dagster shows it."""
    asked, took = card.asked, card.usage
    lines = [
        ("CPU cores", f"{asked.cores:g}" if asked else "", f"{took.cores:.1f} at most, {_mean(took):.1f} on average"),
        ("memory", gib(asked.memory) if asked else "", f"{gib(took.memory)} at most"),
        ("accelerators", f"{asked.devices} {asked.device}".strip() if asked else "", _card(took)),
        ("time", f"{asked.seconds:,.0f} s at most" if asked else "", f"{took.seconds:,.1f} s"),
        ("cost", "", f"{card.cost:.4g} {card.currency}"),
    ]
    name = asked.name if asked else "no profile"
    table = [f"| | asked for ({name}) | took |", "|---|---|---|", *(f"| {' | '.join(line)} |" for line in lines)]
    return "\n".join([*table, "", card.why])


def sentence(card: ResourceCard) -> str:
    """What a training took, in a line."""
    took = card.usage
    on = f" and {gib(took.card_memory)} of {took.card}" if took.card_memory is not None else ""
    return f"{took.seconds:,.1f} s, {gib(took.memory)} of memory{on} at most, {card.cost:.4g} {card.currency}"


def figures(card: ResourceCard) -> dict[str, float]:
    """The card's figures by name, as they go into metadata and to MLflow."""
    took = card.usage
    found = {
        "fit_seconds": took.seconds,
        "fit_peak_cores": took.cores,
        "fit_peak_memory_bytes": float(took.memory),
        "fit_cost": card.cost,
    }
    return found | ({} if took.card_memory is None else {"fit_peak_gpu_memory_bytes": float(took.card_memory)})


def gib(size: float) -> str:
    """Bytes as a person reads them."""
    return f"{size / GIB:.2f} GiB" if size < 100 * GIB else f"{math.ceil(size / GIB)} GiB"


def _mean(took: Usage) -> float:
    return took.cpu_seconds / took.seconds if took.seconds else 0.0


def _card(took: Usage) -> str:
    if took.card_memory is None:
        return "none used"
    size = f" of {gib(took.card_size)}" if took.card_size else ""
    return f"{took.card}: {gib(took.card_memory)}{size} at most"
