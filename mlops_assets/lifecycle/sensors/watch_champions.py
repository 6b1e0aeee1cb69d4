"""The sensor that ends releases that were cut off, and finds aliases that were moved by hand."""

from collections.abc import Sequence

import dagster as dg
from pydantic import Field

from mlops_assets.lifecycle.champion import SERVES, what_is_wrong
from mlops_assets.lifecycle.common import Clock, key, remembered, utc_now
from mlops_assets.lifecycle.releasing import follow
from mlops_assets.ml.alerts import Alert
from mlops_assets.ml.ledger import reigns
from mlops_assets.ml.registration import RegisteredVersion
from mlops_assets.ml.spec import ModelSpec, Value
from mlops_assets.resources.alerts import Alerts
from mlops_assets.resources.ledger import Ledger, LedgerUnavailableError
from mlops_assets.resources.records import Records
from mlops_assets.resources.registry import CHAMPION, Registry, RegistryConflictError
from mlops_assets.resources.tracking import TrackingUnavailableError

EVERY_SECONDS = 30


class Memory(Value):
    """What the last look found wrong, by model."""

    wrong: dict[str, str] = Field(default_factory=dict)


def watch_champions(specs: Sequence[ModelSpec], clock: Clock = utc_now) -> dg.SensorDefinition:
    """One sensor for all models: it ends releases that were cut off, and finds aliases that were moved by hand."""

    @dg.sensor(
        name="watch_champions",
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Lets MLflow's alias champion follow the ledger after a release that was cut off, and says where "
        "somebody moved it by hand.",
    )
    def look(
        context: dg.SensorEvaluationContext,
        records: dg.ResourceParam[Records],
        registry: Registry,
        ledger: Ledger,
        alerts: Alerts,
    ) -> dg.SensorResult:
        """Look at the champion of every model. What cannot be looked at now is as it was."""
        before, wrong, events, said = remembered(Memory, context.cursor).wrong, {}, [], []
        for spec in specs:
            try:
                now = _looked(spec, records, registry, ledger, clock)
            except (TrackingUnavailableError, LedgerUnavailableError, RegistryConflictError) as error:
                said.append(f"{spec.name}: {error}")
                now = before.get(spec.name)
            if now != before.get(spec.name):
                events.append(_evaluation(spec, now))
                _tell(spec, now, alerts, clock)
            if now is not None:
                wrong[spec.name] = now
        said += [f"{model}: {text}" for model, text in wrong.items()]
        told = "\n".join(said) or "Every champion is the one that was released."
        return dg.SensorResult(skip_reason=told, asset_events=events, cursor=Memory(wrong=wrong).model_dump_json())

    return look


def _looked(spec: ModelSpec, records: Records, registry: Registry, ledger: Ledger, clock: Clock) -> str | None:
    """What is wrong with a model's champion after a release that was cut off has been ended."""
    history = reigns(ledger.links(spec.name), spec.name)
    if not history and records.get(RegisteredVersion, spec.name, "registered_version") is None:
        return None
    broken = ledger.verify()
    if broken is None and follow(spec.name, ledger, registry, clock):
        history = reigns(ledger.links(spec.name), spec.name)
    return what_is_wrong(spec, broken, history, registry)


def _evaluation(spec: ModelSpec, wrong: str | None) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=key(spec, CHAMPION), check_name=SERVES, passed=wrong is None, description=wrong
    )


def _tell(spec: ModelSpec, wrong: str | None, alerts: Alerts, clock: Clock) -> None:
    """Raise the alert of a failed check, or end it: a sensor's look is no run, whose end is seen by another sensor."""
    alert = Alert(
        kind="failed_check",
        model=spec.name,
        partition=None,
        about=f"{CHAMPION} {SERVES}",
        sentence=f"{spec.name}/{CHAMPION} fails the check {SERVES}: {wrong}",
        link=alerts.asset_url(key(spec, CHAMPION), check=SERVES),
        raised=clock(),
    )
    if wrong is None:
        alerts.resolve([alert.name], alert.raised)
    else:
        alerts.raise_(alert)
