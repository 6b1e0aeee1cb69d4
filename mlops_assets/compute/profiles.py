"""The catalog of compute profiles: read from files, checked as a whole, and rendered to tags for dagster-k8s.

Rendered here rather than by dagster-k8s, whose import of the Kubernetes client every process would pay for.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from mlops_assets import settings
from mlops_assets.compute import rules
from mlops_assets.compute.documents import Document, Where, read
from mlops_assets.compute.layering import Layer, as_job, in_part, lay, unknown
from mlops_assets.compute.profile import PROVIDERS, SPOT, Profile, Provider
from mlops_assets.ml.spec import Stage, Value

CONFIG, COMPUTE = "dagster-k8s/config", "mlops/compute"
ACCELERATED: tuple[Stage, ...] = ("training", "evaluation")
SPOT_NOTICE: dict[Provider, int] = {"generic": 30, "eks": 120, "gke": 30, "aks": 30}
"""Seconds between a provider's word that it takes a spot node back, and its doing so."""
SHIPPED = Path(__file__).with_name("profiles.yaml")


class Catalog(Value):
    """Every profile, what stands under all of them, and what their capacities mean at each provider."""

    profiles: dict[str, Profile]
    common: dict[str, Any] = Field(default={})
    capacity: dict[str, dict[Provider, dict[str, Any]]] = Field(default={})

    def layers(self, name: str, provider: Provider) -> list[Layer]:
        """The parts of a profile's Job, each over those before it."""
        profile = self.profiles[name]
        meant = [
            Layer(f"capacity {each} at {provider}", {"pod_spec_config": self.capacity[each][provider]})
            for each in profile.capacity
        ]
        return [Layer("common", self.common), *meant, Layer(f"profile {name}", profile.asks(name, provider))]

    def render(self, name: str, provider: Provider) -> dict[str, Any]:
        """The profile as the value of the op tag `dagster-k8s/config`."""
        return copy.deepcopy(lay(self.layers(name, provider)).config)

    def faults(self, here: Provider) -> Iterator[tuple[Where, str]]:
        """What is wrong between the parts of the catalog, and what Kubernetes would refuse, each with its field."""
        yield from ((("common", *where), reason) for where, reason in unknown(self.common))
        sound = True
        for fault in (*self._capacity_faults(), *self._next_up_faults(), *self._spot_faults(here)):
            sound = False
            yield fault
        if sound:
            told: dict[tuple[Where, str], str] = {}
            for name, provider in itertools.product(self.profiles, PROVIDERS):
                for fault in self._job_faults(name, provider):
                    told.setdefault(fault, f"(profile {name} at {provider})")
            yield from ((where, f"{reason} {context}") for (where, reason), context in told.items())

    def _capacity_faults(self) -> Iterator[tuple[Where, str]]:
        for name, meant in self.capacity.items():
            for provider, part in meant.items():
                for where, reason in unknown({"pod_spec_config": part}):
                    yield ("capacity", name, provider, *where[1:]), reason
        for name, profile in self.profiles.items():
            for capacity in profile.capacity:
                at: Where = ("profiles", name, "capacity")
                if capacity not in self.capacity:
                    yield at, f"{capacity!r} is no capacity. Allowed: {', '.join(self.capacity) or 'none'}."
                elif missing := [provider for provider in PROVIDERS if provider not in self.capacity[capacity]]:
                    yield at, f"capacity {capacity!r} says nothing for {', '.join(missing)}."

    def _next_up_faults(self) -> Iterator[tuple[Where, str]]:
        """Each step up has more memory, so that no chain of them comes round again."""
        for name, profile in self.profiles.items():
            at: Where = ("profiles", name, "next_up")
            if profile.next_up is None:
                continue
            if profile.next_up not in self.profiles:
                yield at, f"{profile.next_up!r} is no profile. Allowed: {', '.join(self.profiles)}."
            elif not profile.smaller_than(self.profiles[profile.next_up]):
                yield (
                    at,
                    f"{profile.next_up!r} must have more memory, no less CPU and no fewer accelerators, and an "
                    f"accelerator only where {name!r} has one.",
                )

    def _spot_faults(self, here: Provider) -> Iterator[tuple[Where, str]]:
        for name, profile in self.profiles.items():
            if SPOT in profile.capacity and (profile.grace_seconds or 0) > SPOT_NOTICE[here]:
                reason = f"{here} takes a spot node back {SPOT_NOTICE[here]} seconds after saying so."
                yield ("profiles", name, "grace_seconds"), f"{profile.grace_seconds} is too long: {reason}"

    def _job_faults(self, name: str, provider: Provider) -> Iterator[tuple[Where, str]]:
        laid = lay(self.layers(name, provider))
        job = as_job(laid.config)
        for fault in (*rules.kubernetes(job), *rules.ours(job)):
            path = in_part(fault.path)
            inside = (origin for leaf, origin in laid.origins.items() if leaf[: len(path)] == path)
            around = (laid.origins[path[:end]] for end in range(len(path), 0, -1) if path[:end] in laid.origins)
            layer, where = next(around, None) or next(inside, (f"profile {name}", path))
            yield _in_document(layer, where), fault.reason


def _in_document(layer: str, where: Where) -> Where:
    """The field of the catalog that a field of a layer comes from."""
    kind, *words = layer.split()
    if kind == "capacity":
        return ("capacity", words[0], words[2], *where[1:])
    return ("common", *where) if kind == "common" else ("profiles", words[0])


def catalog_of(document: Document, here: Provider) -> Catalog:
    """The catalog that a document says. What is wrong with it is told at once, each with file, line and field."""
    try:
        catalog = Catalog.model_validate(_extended(document))
    except ValidationError as error:
        faults = ((each["loc"], each["msg"].removeprefix("Value error, ")) for each in error.errors())
        raise document.refuse(faults) from None
    if faults := list(catalog.faults(here)):
        raise document.refuse(faults)
    return catalog


def _extended(document: Document) -> Any:
    """The data, with each profile that `extends` another filled with what it leaves unsaid."""
    if not isinstance(document.data, dict) or not isinstance(document.data.get("profiles"), dict):
        raise document.refuse([(("profiles",), "must hold profiles by their names.")])
    given: dict[str, Any] = document.data["profiles"]
    return {**document.data, "profiles": {name: _filled(document, given, name, ()) for name in given}}


def _filled(document: Document, given: dict[str, Any], name: str, below: tuple[str, ...]) -> Any:
    fields, at = given[name], ("profiles", name)
    if not isinstance(fields, dict):
        raise document.refuse([(at, "must hold fields, such as cpu and memory.")])
    fields = dict(fields)
    base = fields.pop("extends", None)
    if base is None:
        return fields
    if base in (*below, name):
        raise document.refuse([((*at, "extends"), f"comes round again: {' -> '.join((*below, name, base))}.")])
    if base not in given:
        raise document.refuse([((*at, "extends"), f"{base!r} is no profile. Allowed: {', '.join(given)}.")])
    return {**_filled(document, given, base, (*below, name)), "next_up": None, **fields}


def catalog() -> Catalog:
    """Every profile that a declaration may name: the shipped ones, and over them those of MLOPS_COMPUTE_PROFILES."""
    return _read(settings.compute_profiles(), provider_here())


@cache
def _read(own: str, here: Provider) -> Catalog:
    shipped = read(SHIPPED)
    return catalog_of(shipped.under(read(Path(own))) if own else shipped, here)


def names() -> tuple[str, ...]:
    """What the profiles are called."""
    return tuple(catalog().profiles)


def named(profile: str) -> Profile:
    """A profile by its name."""
    if profile not in names():
        raise ValueError(f"{profile!r} is not a compute profile. Allowed: {', '.join(names())}.")
    return catalog().profiles[profile]


def provider_here() -> Provider:
    """The provider that COMPUTE_PROVIDER names."""
    provider = settings.COMPUTE_PROVIDER.value()
    if provider not in PROVIDERS:
        raise ValueError(f"{settings.COMPUTE_PROVIDER.name} is {provider!r}. Allowed: {', '.join(PROVIDERS)}.")
    return provider


def op_tags(profile: str) -> dict[str, Any]:
    """The op tags that give a step this profile, rendered for the provider here."""
    named(profile)
    return {CONFIG: catalog().render(profile, provider_here()), COMPUTE: profile}


def refusal(stage: Stage, profile: str) -> str | None:
    """Why the steps of a stage may not have this profile; None where they may."""
    if profile not in names():
        return f"{profile!r} is not a compute profile. Allowed: {', '.join(names())}."
    if stage not in ACCELERATED and named(profile).accelerator:
        fit = ", ".join(name for name in names() if not named(name).accelerator)
        return (
            f"{profile!r} holds an accelerator, which {stage} would leave idle: only {' and '.join(ACCELERATED)} run "
            f"the estimator alone. Allowed: {fit}."
        )
    return None


def devices(profile: str | None) -> int:
    """How many accelerators a step of this profile holds for as long as it runs."""
    found = named(profile).accelerator if profile else None
    return found.count if found else 0


def next_up(profile: str) -> str | None:
    """The profile to try after this one ran out of memory; None where none is bigger."""
    return named(profile).next_up


def fits_run_pod(profile: str) -> bool:
    """Whether a step of this profile runs in the run's own pod, without a Job of its own."""
    return named(profile).in_run_pod
