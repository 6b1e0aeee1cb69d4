"""Memory that does not suffice for a training: what was held, and what to try, said in one failure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg

from mlops_assets.compute.profiles import named, next_up
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.tabular_network import DeviceMemoryError

SAID_BY_LIBRARIES = ("out of memory", "std::bad_alloc", "cudaerrormemoryallocation")


@contextmanager
def explained_shortage(spec: ModelSpec) -> Iterator[None]:
    """What is raised inside for want of memory is a failure that names the profile to try, and is not retried."""
    try:
        yield
    except Exception as error:
        if not is_shortage(error):
            raise
        profile = spec.compute.get("training")
        found = error if isinstance(error, DeviceMemoryError) else None
        raise dg.Failure(
            f"No model was trained: {str(error).rstrip('.')}. {advice(profile, error)}",
            metadata=_figures(found, next_up(profile) if profile else None),
            allow_retries=False,
        ) from error


def is_shortage(error: Exception) -> bool:
    """Whether memory was short, of the process or of a device, as Python, torch and other libraries say it."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(words in said for words in SAID_BY_LIBRARIES)


def advice(profile: str | None, error: Exception) -> str:
    """What to change. A bigger profile with more of the same cards is none to a network, which uses one."""
    batch = f"a batch_size below {error.batch:,}" if isinstance(error, DeviceMemoryError) else "smaller parameters"
    if profile is None:
        return f"Give the training a compute profile (compute.training) with more memory, or declare {batch}."
    bigger = next_up(profile)
    if bigger is None:
        return f"There is no bigger profile than {profile!r}: declare {batch}, or name one that you add."
    if isinstance(error, DeviceMemoryError) and _device(bigger) == _device(profile):
        return (
            f"The next profile up from {profile!r} is {bigger!r}, which has more cards of the same kind, and a network "
            f"uses one: declare {batch} or smaller layers, or add a profile with a larger card."
        )
    return f"Try the profile {bigger!r} in place of {profile!r} (compute.training), or declare {batch}."


def _device(profile: str) -> str | None:
    found = named(profile).accelerator
    return found.resource if found else None


def _figures(error: DeviceMemoryError | None, bigger: str | None) -> dict[str, Any]:
    tried = {"profile_to_try": bigger} if bigger else {}
    if error is None:
        return tried
    return tried | {
        "peak_bytes": error.peak,
        "batch_size": error.batch,
        "declared_batch_size": error.asked,
        "card": error.card,
        "card_bytes": error.card_bytes,
    }
