"""Compute profiles: read from profiles.yaml, checked, and rendered to the op tags that dagster-k8s reads.

Rendered here rather than by dagster-k8s, whose import of the Kubernetes client every process would pay for.
"""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, StringConstraints, model_validator

from mlops_assets import settings
from mlops_assets.ml.spec import Stage, Value

Provider = Literal["generic", "eks", "gke", "aks"]
Cpu = Annotated[str, StringConstraints(pattern=r"^[1-9]\d*m?$")]
Bytes = Annotated[str, StringConstraints(pattern=r"^[1-9]\d*[KMGT]i$")]
Duration = Annotated[str, StringConstraints(pattern=r"^[1-9]\d*[smhd]$")]
PROVIDERS: tuple[Provider, ...] = get_args(Provider)
LABEL = "mlops/compute-profile"
CONFIG, COMPUTE = "dagster-k8s/config", "mlops/compute"
ACCELERATED: tuple[Stage, ...] = ("training", "evaluation")
MOST_RETRIES = 10
BYTES = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Accelerator(Value):
    """Whole devices of one kind: Kubernetes gives no half of one."""

    resource: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]*\.[a-z]+/[A-Za-z0-9._-]+$")]
    count: int = Field(ge=1)

    @model_validator(mode="after")
    def _a_shared_device_is_asked_for_once(self) -> Self:
        if self.resource.endswith(".shared") and self.count != 1:
            raise ValueError(f"{self.resource}: two shares of a device are no more than one; count must be 1.")
        return self


class Profile(Value):
    """What one step asks of a cluster. `shm` is memory mounted at /dev/shm, and counts as the step's memory.

    `next_up` is the profile to try after this one ran out of memory, and is not inherited through `extends`.
    """

    cpu: Cpu
    memory: Bytes
    max_runtime: Duration
    accelerator: Accelerator | None = None
    shm: Bytes | None = None
    grace_seconds: int | None = Field(default=None, ge=1)
    capacity: tuple[str, ...] = ()
    pool: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_/-]*$")] | None = None
    retries: int = Field(default=0, ge=0, le=MOST_RETRIES)
    next_up: str | None = None
    in_run_pod: bool = False

    @model_validator(mode="after")
    def _shm_leaves_room(self) -> Self:
        if self.shm is not None and 2 * _bytes(self.shm) > _bytes(self.memory):
            raise ValueError(f"shm ({self.shm}) must not exceed half of memory ({self.memory}), of which it is a part.")
        return self

    @model_validator(mode="after")
    def _the_run_pod_has_no_accelerator(self) -> Self:
        if self.accelerator and self.in_run_pod:
            raise ValueError("in_run_pod cannot be: run pods have no accelerator.")
        return self

    @model_validator(mode="after")
    def _an_accelerator_is_shared_out_by_a_pool(self) -> Self:
        if self.accelerator and self.pool is None:
            raise ValueError("an accelerator needs a pool, so that steps wait for it before their pods do.")
        return self

    def smaller_than(self, other: Profile) -> bool:
        """Whether `other` has more memory, no less of anything else, and an accelerator only where this one has."""
        mine, theirs = (profile.accelerator.count if profile.accelerator else 0 for profile in (self, other))
        return (
            _bytes(self.memory) < _bytes(other.memory)
            and cores(self.cpu) <= cores(other.cpu)
            and mine <= theirs
            and bool(mine) == bool(theirs)
        )


class Catalog(Value):
    """Every profile, what stands under all of them, and what their capacities mean at each provider."""

    profiles: dict[str, Profile]
    common: dict[str, Any]
    capacity: dict[str, dict[Provider, dict[str, Any]]]

    @model_validator(mode="before")
    @classmethod
    def _extend(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Fill a profile that `extends` another with what it leaves unsaid."""
        profiles = {name: dict(fields) for name, fields in data["profiles"].items()}
        for name, fields in profiles.items():
            if base := fields.pop("extends", None):
                profiles[name] = {**profiles[base], "next_up": None, **fields}
        return {**data, "profiles": profiles}

    @model_validator(mode="after")
    def _capacity_is_known_everywhere(self) -> Self:
        for name, profile in self.profiles.items():
            for capacity in profile.capacity:
                missing = [provider for provider in PROVIDERS if provider not in self.capacity.get(capacity, {})]
                if missing:
                    raise ValueError(f"profile {name}: capacity {capacity!r} says nothing for {', '.join(missing)}.")
        return self

    @model_validator(mode="after")
    def _next_up_is_bigger(self) -> Self:
        """Each step up has more memory, so that no chain of them comes round again."""
        for name, profile in self.profiles.items():
            if profile.next_up is None:
                continue
            if profile.next_up not in self.profiles:
                raise ValueError(
                    f"profile {name}: next_up {profile.next_up!r} is no profile. Allowed: {', '.join(self.profiles)}."
                )
            if not profile.smaller_than(self.profiles[profile.next_up]):
                raise ValueError(
                    f"profile {name}: next_up {profile.next_up!r} must have more memory, no less CPU and no fewer "
                    "accelerators, and an accelerator only where this profile has one."
                )
        return self

    def render(self, name: str, provider: Provider) -> dict[str, Any]:
        """The profile as the value of the op tag `dagster-k8s/config`."""
        profile = self.profiles[name]
        fixed = {"memory": profile.memory}
        if profile.accelerator:
            fixed[profile.accelerator.resource] = str(profile.accelerator.count)
        container: dict[str, Any] = {"resources": {"requests": {"cpu": profile.cpu, **fixed}, "limits": fixed}}
        pod: dict[str, Any] = {}
        if profile.shm:
            container["volume_mounts"] = [{"name": "dshm", "mount_path": "/dev/shm"}]  # noqa: S108
            pod["volumes"] = [{"name": "dshm", "empty_dir": {"medium": "Memory", "size_limit": profile.shm}}]
        if profile.grace_seconds:
            pod["termination_grace_period_seconds"] = profile.grace_seconds
        label = {"labels": {LABEL: name}}
        rendered: dict[str, Any] = {
            "container_config": container,
            "pod_spec_config": pod,
            "job_spec_config": {"active_deadline_seconds": _seconds(profile.max_runtime)},
            "pod_template_spec_metadata": label,
            "job_metadata": label,
        }
        for layer in (self.common, *({"pod_spec_config": self.capacity[c][provider]} for c in profile.capacity)):
            rendered = _merged(rendered, layer)
        return copy.deepcopy(rendered)


@cache
def catalog() -> Catalog:
    """Every profile that a declaration may name."""
    import yaml

    return Catalog.model_validate(yaml.safe_load(Path(__file__).with_name("profiles.yaml").read_text()))


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


def cores(cpu: str) -> float:
    """How many cores a quantity of CPU is."""
    return int(cpu[:-1]) / 1000 if cpu.endswith("m") else float(cpu)


def _merged(under: Any, over: Any) -> Any:
    """Dictionaries merged, lists joined, anything else replaced: as dagster-k8s merges its own layers."""
    if isinstance(under, dict) and isinstance(over, dict):
        return {**under, **{key: _merged(under[key], over[key]) if key in under else over[key] for key in over}}
    return under + over if isinstance(under, list) and isinstance(over, list) else over


def _bytes(quantity: str) -> int:
    return int(quantity[:-2]) * BYTES[quantity[-2]]


def _seconds(duration: str) -> int:
    return int(duration[:-1]) * SECONDS[duration[-1]]
