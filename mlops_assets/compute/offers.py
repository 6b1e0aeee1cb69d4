"""Every compute profile as what it offers a training: what a resource card compares."""

from __future__ import annotations

from mlops_assets.compute.profiles import Profile, _bytes, _seconds, catalog, cores
from mlops_assets.ml.resource_card import Offer


def offers() -> tuple[Offer, ...]:
    """What each profile gives a step. What is mounted as /dev/shm is part of its memory."""
    return tuple(_offer(name, profile) for name, profile in catalog().profiles.items())


def _offer(name: str, profile: Profile) -> Offer:
    held = profile.accelerator
    return Offer(
        name=name,
        cores=cores(profile.cpu),
        memory=_bytes(profile.memory),
        seconds=_seconds(profile.max_runtime),
        devices=held.count if held else 0,
        device=held.resource if held else "",
    )
