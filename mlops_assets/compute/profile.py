"""One compute profile: what a step asks of a cluster, and what it may not ask."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, field_validator, model_validator

from mlops_assets.compute import rules
from mlops_assets.ml.spec import Value

Provider = Literal["generic", "eks", "gke", "aks"]
PROVIDERS: tuple[Provider, ...] = get_args(Provider)
LABEL = "mlops/compute-profile"
SPOT = "spot"
MOST_RETRIES = 10
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
MIG = re.compile(r"nvidia\.com/mig-[1-7]g\.[1-9]\d*gb(-me)?(\.[a-z]+)*")


def _spelt(pattern: str, meant: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{text!r} is no {meant}.")
        return text

    return AfterValidator(check)


Cpu = Annotated[str, _spelt(r"[1-9]\d*m?", "amount of CPU above zero, such as 500m or 4")]
Bytes = Annotated[str, _spelt(r"[1-9]\d*[KMGT]i", "amount of memory above zero, such as 512Mi or 24Gi")]
Duration = Annotated[str, _spelt(r"[1-9]\d*[smhd]", "time above zero, such as 90m or 8h")]
Pool = Annotated[str, _spelt(r"[A-Za-z0-9_][A-Za-z0-9_/-]*", "name of a pool: letters, digits, _, - and /")]


def _device(resource: str) -> str:
    domain, slash, name = resource.partition("/")
    if not slash:
        raise ValueError(f"{resource!r} has no prefix: devices are called domain/name, such as nvidia.com/gpu.")
    if "." not in domain or not rules.SUBDOMAIN.fullmatch(domain) or not rules.WORD.fullmatch(name):
        raise ValueError(f"{resource!r} is no name of a device, such as nvidia.com/gpu.")
    if resource.startswith("nvidia.com/mig") and not MIG.fullmatch(resource):
        raise ValueError(
            f"{resource!r} is no slice: NVIDIA's plugin calls them nvidia.com/mig-<g>g.<m>gb, with the card's own "
            "numbers, such as nvidia.com/mig-1g.10gb, and with a dot for the + of an attribute: mig-1g.10gb.me."
        )
    return resource


Device = Annotated[str, AfterValidator(_device)]


class Accelerator(Value):
    """Whole devices of one kind: Kubernetes gives no half of one. `at` is what a provider calls them otherwise."""

    resource: Device
    count: int
    at: dict[Provider, Device] = Field(default={})

    @field_validator("count", mode="before")
    @classmethod
    def _devices_are_whole(cls, count: Any) -> Any:
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ValueError(
                f"{count!r} devices: they are whole, and at least 1. A part of one is a MIG slice or a share."
            )
        return count

    @model_validator(mode="after")
    def _a_shared_device_is_asked_for_once(self) -> Self:
        if self.resource.endswith(".shared") and self.count != 1:
            raise ValueError(f"{self.resource}: two shares of a device are no more than one; count must be 1.")
        return self

    def called(self, provider: Provider) -> str:
        """The device's name at a provider."""
        return self.at.get(provider, self.resource)


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
    pool: Pool | None = None
    retries: int = Field(default=0, ge=0, le=MOST_RETRIES)
    next_up: str | None = None
    in_run_pod: bool = False

    @model_validator(mode="after")
    def _shm_leaves_room(self) -> Self:
        if self.shm is not None and 2 * size(self.shm) > size(self.memory):
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

    @model_validator(mode="after")
    def _what_is_taken_away_is_tried_again(self) -> Self:
        if SPOT in self.capacity and not self.retries:
            raise ValueError("capacity spot is taken away at any time: retries must be 1 or more.")
        if SPOT in self.capacity and self.grace_seconds is None:
            raise ValueError("capacity spot needs grace_seconds: how long a step may take to leave its node.")
        return self

    @property
    def seconds(self) -> int:
        """How long a step may take, waiting for its node included."""
        return int(self.max_runtime[:-1]) * SECONDS[self.max_runtime[-1]]

    def smaller_than(self, other: Profile) -> bool:
        """Whether `other` has more memory, no less of anything else, and an accelerator only where this one has."""
        mine, theirs = (profile.accelerator.count if profile.accelerator else 0 for profile in (self, other))
        return (
            size(self.memory) < size(other.memory)
            and cores(self.cpu) <= cores(other.cpu)
            and mine <= theirs
            and bool(mine) == bool(theirs)
        )

    def asks(self, name: str, provider: Provider) -> dict[str, Any]:
        """The profile alone, as the value of the op tag `dagster-k8s/config`."""
        fixed = {"memory": self.memory}
        if self.accelerator:
            fixed[self.accelerator.called(provider)] = str(self.accelerator.count)
        container: dict[str, Any] = {"resources": {"requests": {"cpu": self.cpu, **fixed}, "limits": fixed}}
        pod: dict[str, Any] = {}
        if self.shm:
            container["volume_mounts"] = [{"name": "dshm", "mount_path": "/dev/shm"}]  # noqa: S108
            pod["volumes"] = [{"name": "dshm", "empty_dir": {"medium": "Memory", "size_limit": self.shm}}]
        if self.grace_seconds:
            pod["termination_grace_period_seconds"] = self.grace_seconds
        label = {"labels": {LABEL: name}}
        return {
            "container_config": container,
            "pod_spec_config": pod,
            "job_spec_config": {"active_deadline_seconds": self.seconds},
            "pod_template_spec_metadata": label,
            "job_metadata": label,
        }


def cores(cpu: str) -> float:
    """How many cores an amount of CPU is."""
    return rules.amount(cpu) or 0.0


def size(memory: str) -> float:
    """How many bytes an amount of memory is."""
    return rules.amount(memory) or 0.0
