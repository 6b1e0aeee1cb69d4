"""The stages from `trained_model` on, run on partitions that are validated already."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa

from mlops_assets.lifecycle.champion import champion
from mlops_assets.lifecycle.common import Clock, utc_now
from mlops_assets.lifecycle.evaluation import VALIDATED, evaluation
from mlops_assets.lifecycle.registration import registration
from mlops_assets.lifecycle.training import training
from mlops_assets.ml.planning import TRAINING
from mlops_assets.ml.profiles import profile
from mlops_assets.ml.spec import digest_of
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets_tests import toy
from mlops_assets_tests.toy import Workshop

MONTHS = toy.MONTHS[:3]


def validate(workshop: Workshop, month: str, frame: pd.DataFrame | None = None) -> ValidatedPartition:
    """Store a month of the toy's rows as `validated_features` would, with none quarantined."""
    partition = f"{month}-01"
    rows = toy.rows(month) if frame is None else frame
    rows = rows.rename(columns={"ts": "event_time"}).assign(kind=lambda part: part["kind"].astype("category"))
    rows["event_time"] = pd.to_datetime(rows["event_time"], utc=True).astype("datetime64[us, UTC]")
    commit = workshop.resources["tables"].write("toy", VALIDATED, partition, pa.Table.from_pandas(rows))
    record = ValidatedPartition(
        model="toy",
        partition=partition,
        delivery=digest_of([month, len(rows)]),
        delivered=rows["event_time"].iloc[-1],
        rows_in=len(rows),
        rows_out=len(rows),
        rows_quarantined=0,
        broken_rules=(),
        first=rows["event_time"].iloc[0],
        last=rows["event_time"].iloc[-1],
        table_version=commit.version,
        files=commit.files,
        content=digest_of(sorted(commit.files.values())),
        profile=profile(rows),
    )
    workshop.resources["records"].put("toy", VALIDATED, record, partition)
    return record


def validated(workshop: Workshop) -> Workshop:
    """The workshop with three months validated."""
    for month in MONTHS:
        validate(workshop, month)
    return workshop


def run(workshop: Workshop, *assets: str, clock: Clock = utc_now) -> dg.ExecuteInProcessResult:
    """Materialize assets from `trained_model` on (all by default) in one run, on what has been validated."""
    judging = (stage(workshop.spec, clock=clock) for stage in (evaluation, registration, champion))
    stages = dg.Definitions.merge(training(workshop.spec), *judging)
    chosen = assets or TRAINING
    return dg.materialize(
        list(stages.assets),
        instance=workshop.instance,
        resources=workshop.resources,
        selection=dg.AssetSelection.assets(*(["toy", asset] for asset in chosen)),
        raise_on_error=False,
    )


def train(workshop: Workshop) -> None:
    """A candidate of three months."""
    assert run(validated(workshop), "trained_model").success


def judge(workshop: Workshop) -> None:
    """Its report."""
    assert run(workshop, "evaluation_report").success


def register(workshop: Workshop) -> None:
    """A version of it."""
    assert run(workshop, "registered_version").success


def release(workshop: Workshop) -> None:
    """The version as champion."""
    assert run(workshop, "champion").success


LIFE = (train, judge, register, release)
"""How a first version comes to serve, each stage going on from the one before: what `lives` begin with."""


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """What a person sees of an asset of the run."""
    (event,) = [event for event in result.get_asset_materialization_events() if event.asset_key.path[-1] == asset]
    return {name: value.value for name, value in event.step_materialization_data.materialization.metadata.items()}


def materialized(result: dg.ExecuteInProcessResult) -> set[str]:
    """The assets that the run materialized."""
    return {event.asset_key.path[-1] for event in result.get_asset_materialization_events()}


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    """The checks of the run by name."""
    return {check.check_name: check for check in result.get_asset_check_evaluations()}


def failure(result: dg.ExecuteInProcessResult) -> str:
    """Why the run failed, as its events say it."""
    return " ".join(
        f"{event.step_failure_data.user_failure_data} {event.step_failure_data.error}"
        for event in result.all_events
        if event.is_step_failure
    )
