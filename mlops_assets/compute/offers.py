"""Every compute profile as what it offers a training at the provider here: what a resource card compares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlops_assets.compute.profiles import CONFIG, names, op_tags
from mlops_assets.ml.resource_card import Offer

SCALES = {"m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def offers() -> tuple[Offer, ...]:
    """What each profile gives a step. What is mounted as /dev/shm is part of its memory."""
    return tuple(_offer(name, op_tags(name)[CONFIG]) for name in names())


def _offer(name: str, rendered: Mapping[str, Any]) -> Offer:
    """A profile, read from what is asked of Kubernetes for it."""
    asked = dict(rendered["container_config"]["resources"]["requests"])
    cores, memory = amount(asked.pop("cpu")), amount(asked.pop("memory"))
    device, count = next(iter(asked.items()), ("", "0"))
    return Offer(
        name=name,
        cores=cores,
        memory=int(memory),
        seconds=rendered["job_spec_config"]["active_deadline_seconds"],
        devices=int(count),
        device=device,
    )


def amount(quantity: str) -> float:
    """How much a quantity is, as Kubernetes writes it."""
    for unit, scale in SCALES.items():
        if quantity.endswith(unit):
            return int(quantity.removesuffix(unit)) * scale
    return float(quantity)
