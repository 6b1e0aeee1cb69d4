"""What may not be loaded: tags that no cluster can follow, and accelerators that nothing limits.

dagster-k8s finds a misspelt field only when it launches a step. Which executor runs a step is the matter of where.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from mlops_assets.compute.layering import as_job, unknown
from mlops_assets.compute.profiles import COMPUTE, CONFIG, catalog
from mlops_assets.compute.rules import is_extended, kubernetes

SAID_OTHERWISE = ("merge_behavior", "job_config")


def faults(definitions: dg.Definitions) -> list[str]:
    """Every step and job that must not be loaded, with the reason."""
    catalog()
    assets = [each for each in definitions.assets or () if isinstance(each, dg.AssetsDefinition) and each.is_executable]
    steps = {name: op for asset in assets for name, op in _steps(asset)}
    return [
        *(f"{name}: {reason}" for name, op in steps.items() for reason in _tag_faults(op.tags)),
        *(f"{name}: {reason}" for name, op in steps.items() for reason in _accelerator_faults(op)),
        *(f"job {job.name}: {reason}" for job in definitions.jobs or () for reason in _tag_faults(job.tags or {})),
    ]


def check(definitions: dg.Definitions) -> dg.Definitions:
    """The definitions, unless something in them must not be loaded."""
    if found := faults(definitions):
        raise dg.DagsterInvalidDefinitionError("\n".join(found))
    return definitions


def accelerators(tags: Mapping[str, Any]) -> dict[str, str]:
    """The devices that a step's tags ask a cluster for."""
    limits = (_config(tags).get("container_config") or {}).get("resources", {}).get("limits", {})
    return {name: str(count) for name, count in limits.items() if is_extended(name)}


def _steps(asset: dg.AssetsDefinition) -> Iterator[tuple[str, dg.OpDefinition]]:
    name = min(key.to_user_string() for key in (*asset.keys, *(check.asset_key for check in asset.check_keys)))
    for op in asset.node_def.iterate_op_defs():
        yield (name if len(list(asset.node_def.iterate_op_defs())) == 1 else f"{name} ({op.name})"), op


def _config(tags: Mapping[str, Any]) -> dict[str, Any]:
    raw = tags.get(CONFIG, {})
    return json.loads(raw) if isinstance(raw, str) else dict(raw)


def _tag_faults(tags: Mapping[str, Any]) -> Iterator[str]:
    if CONFIG not in tags:
        return
    try:
        config = _config(tags)
    except (json.JSONDecodeError, TypeError, ValueError) as error:
        yield f"{CONFIG} is not JSON: {error}"
        return
    parts = {name: fields for name, fields in config.items() if name not in SAID_OTHERWISE}
    misspelt = [f"{CONFIG}: {'.'.join(map(str, where))}: {reason}" for where, reason in unknown(parts)]
    yield from misspelt
    if not misspelt:
        yield from (f"{CONFIG}: {fault}" for fault in kubernetes(as_job(parts)))


def _accelerator_faults(op: dg.OpDefinition) -> Iterator[str]:
    if not accelerators(op.tags):
        return
    if COMPUTE not in op.tags:
        held = ", ".join(accelerators(op.tags))
        yield f"asks for {held} in a raw {CONFIG}: name a profile, which has a pool and an end."
    elif op.pool is None:
        yield f"holds an accelerator (profile {op.tags[COMPUTE]}) and has no pool, so that nothing limits how many do."
