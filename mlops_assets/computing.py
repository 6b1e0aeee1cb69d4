"""What `mlops-assets compute` shows: the profiles, and the Job of a profile or a step with the layer of each field."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets import settings
from mlops_assets.compute import rules
from mlops_assets.compute.documents import DocumentError, read
from mlops_assets.compute.offers import offers
from mlops_assets.compute.profile import PROVIDERS, Provider
from mlops_assets.compute.profiles import COMPUTE, catalog, named, provider_here
from mlops_assets.compute.rendering import (
    NoLauncherError,
    Rendered,
    commented,
    launcher_config,
    location_config,
    misspelt,
    rendered,
)
from mlops_assets.ml.spec import Retraining

if TYPE_CHECKING:
    from rich.table import Table

    from mlops_assets.ml.spec import ModelSpec

REFUSALS = (DocumentError, NoLauncherError, ValueError)
COLUMNS = ("profile", "cpu", "memory", "accelerator", "shm", "capacity", "at most", "pool", "retries", "next up")
MODELS = Path(__file__).parent / "defs" / "models"


class NoStepError(ValueError):
    """There is no such asset, or no such provider."""


def table() -> Table:
    """Every profile, as this deployment has it, and what an hour of it costs where a model declares no prices."""
    from rich.table import Table

    usual = Retraining()
    title = f"Compute profiles at {provider_here()}"
    shown = Table(*COLUMNS, f"{usual.currency} an hour", title=title, title_justify="left")
    for offer in offers():
        each = named(offer.name)
        held = f"{offer.devices} x {offer.device}" if offer.devices else ""
        asked = (each.cpu, each.memory, held, each.shm, ", ".join(each.capacity), each.max_runtime)
        cells = (*asked, each.pool, str(each.retries), each.next_up, f"{offer.price(usual):.2f}")
        shown.add_row(offer.name, *(cell or "-" for cell in cells))
    return shown


def misspelt_fields() -> list[str]:
    """The fields of profiles that only the Kubernetes client knows not to exist: it is not imported at load."""
    found = [fault for name in catalog().profiles for fault in misspelt(catalog().render(name, provider_here()))]
    return list(dict.fromkeys(f"{'.'.join(map(str, where))}: {reason}" for where, reason in found))


def shown(profile: str, provider: str | None) -> Iterator[str]:
    """The Job of a step with this profile, under what the instance and the code location here say."""
    named(profile)
    yield from _told(_rendered(profile, _known(provider)))


def explained(asset: str, specs: list[ModelSpec], provider: str | None) -> Iterator[str]:
    """The Job of the step that makes an asset, with the name of its profile and where it is declared."""
    spec, stage, profile = _step(asset, specs)
    if profile is None:
        yield f"# {asset} has no profile: compute.{stage} is not declared in {_declared(spec, None)}."
    else:
        yield f"# {asset} has the profile {profile}: compute.{stage} in {_declared(spec, stage)}."
        price = next(offer.price(spec.retraining) for offer in offers() if offer.name == profile)
        yield f"# An hour of it costs {price:.2f} {spec.retraining.currency} at the prices of {spec.name}.retraining."
    yield from _told(_rendered(profile, _known(provider), asset.replace("/", "__")))


def _rendered(profile: str | None, provider: Provider, step: str = "step") -> Rendered:
    launcher = launcher_config(Path(settings.dagster_home()) / "dagster.yaml")
    location = location_config(settings.CONTAINER_CONTEXT.value())
    return rendered(profile, provider, launcher, location, step)


def _told(found: Rendered) -> Iterator[str]:
    """The Job, and before it what would refuse it: the layers outside a profile are only known here."""
    for fault in rules.kubernetes(found.job):
        yield f"# Kubernetes would refuse it: {fault}"
    for fault in rules.restricted(found.job):
        yield f"# Pod Security (restricted) would refuse it: {fault}"
    yield from commented(found)


def _known(provider: str | None) -> Provider:
    if provider is None:
        return provider_here()
    found = next((each for each in PROVIDERS if each == provider), None)
    if found is None:
        raise NoStepError(f"There is no provider {provider!r}. There are: {', '.join(PROVIDERS)}.")
    return found


def _step(asset: str, specs: list[ModelSpec]) -> tuple[ModelSpec, str, str | None]:
    """The model, the stage and the profile of an asset, as its step has them."""
    import dagster as dg

    from mlops_assets.lifecycle import lifecycle

    model, _, name = asset.partition("/")
    spec = next((each for each in specs if each.name == model), None)
    if spec is None:
        raise NoStepError(f"There is no model {model!r}. There are: {', '.join(each.name for each in specs)}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        assets = [each for each in lifecycle(spec).assets or () if isinstance(each, dg.AssetsDefinition)]
    made = {key.path[-1]: each for each in assets for key in each.keys}
    if name not in made:
        raise NoStepError(f"{model} has no asset {name!r}. It has: {', '.join(made)}.")
    step = made[name]
    return spec, next(iter(step.specs)).tags["mlops/stage"], step.op.tags.get(COMPUTE)


def _declared(spec: ModelSpec, stage: str | None) -> str:
    path = MODELS / spec.name / "defs.yaml"
    if not path.is_file():
        return f"the declaration of {spec.name}"
    return read(path).place(("attributes", "compute", stage)).removesuffix(": ") if stage else str(path)
