"""Every compute profile as what it offers a training at the provider here: what a resource card compares."""

from __future__ import annotations

from mlops_assets.compute.profile import Profile, Provider, cores, size
from mlops_assets.compute.profiles import catalog, provider_here
from mlops_assets.ml.resource_card import Offer


def offers() -> tuple[Offer, ...]:
    """What each profile gives a step. What is mounted as /dev/shm is part of its memory."""
    return tuple(_offer(name, profile, provider_here()) for name, profile in catalog().profiles.items())


def _offer(name: str, profile: Profile, provider: Provider) -> Offer:
    device = profile.accelerator
    return Offer(
        name=name,
        cores=cores(profile.cpu),
        memory=int(size(profile.memory)),
        seconds=profile.seconds,
        devices=device.count if device else 0,
        device=device.called(provider) if device else "",
    )
