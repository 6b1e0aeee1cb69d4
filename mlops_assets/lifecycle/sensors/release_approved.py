"""The sensor that releases what people approved, and says who has to do what."""

from collections.abc import Iterator, Sequence

import dagster as dg
from pydantic import Field

from mlops_assets.lifecycle.approving import UNDECIDED, Desk
from mlops_assets.lifecycle.champion import WAITS, recorded, shown
from mlops_assets.lifecycle.common import DATA_VERSION, Clock, key, remembered, utc_now
from mlops_assets.lifecycle.dossier import Dossier
from mlops_assets.lifecycle.releasing import follow
from mlops_assets.ml.alerts import Alert, Kind
from mlops_assets.ml.approvals import Standing, newest_question
from mlops_assets.ml.ledger import reigns
from mlops_assets.ml.registration import Champion
from mlops_assets.ml.spec import ModelSpec, Value
from mlops_assets.resources.alerts import Alerts
from mlops_assets.resources.blobs import Blobs
from mlops_assets.resources.keys import Keys
from mlops_assets.resources.ledger import Ledger
from mlops_assets.resources.records import Records
from mlops_assets.resources.registry import CHAMPION, Registry

EVERY_SECONDS = 30
KIND: Kind = "approval_wanted"


class Memory(Value):
    """How it stood at the last look, by model."""

    stood: dict[str, str] = Field(default_factory=dict)


def release_approved(specs: Sequence[ModelSpec], clock: Clock = utc_now) -> dg.SensorDefinition:
    """One sensor for all models: it releases what enough people approved, and tells those who have to answer."""
    asking = [spec for spec in specs if spec.release.mode == "approval"]

    @dg.sensor(
        name="release_approved",
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Makes a version champion as soon as enough people have approved it, and says who has to answer.",
    )
    def look(
        context: dg.SensorEvaluationContext,
        records: dg.ResourceParam[Records],
        blobs: Blobs,
        registry: Registry,
        ledger: Ledger,
        alerts: Alerts,
        keys: Keys,
    ) -> dg.SensorResult:
        """Look at the newest question of every model. What cannot be looked at now stands as it did."""
        before, stood, unknown = remembered(Memory, context.cursor).stood, {}, {}
        events, wanted = [], []
        for spec in asking:
            desk = Desk(spec, ledger, registry, records, blobs, keys, clock)
            try:
                events += _released(desk)
                now = desk.standing()
            except UNDECIDED as error:
                unknown[spec.name] = f"{spec.name}: {error}"
                stood |= {spec.name: before[spec.name]} if spec.name in before else {}
                continue
            if now is None:
                continue
            stood[spec.name] = now.sentence
            events += [_evaluation(spec, now)] if now.sentence != before.get(spec.name) else []
            wanted += [_alert(spec, now, alerts, clock)] if now.pending else []
        if asking or before:
            _tell(wanted, alerts, clock, all_known=not unknown)
        told = "\n".join([*unknown.values(), *stood.values()]) or "Nobody is asked to approve anything."
        return dg.SensorResult(skip_reason=told, asset_events=events, cursor=Memory(stood=stood).model_dump_json())

    return look


def _released(desk: Desk) -> Iterator[dg.AssetMaterialization]:
    """Release what was approved, and show the champion where it is another one than the newest run has shown."""
    spec = desk.spec
    desk.settle()
    follow(spec.name, desk.ledger, desk.registry, desk.clock)
    history = reigns(desk.ledger.links(spec.name), spec.name)
    before = desk.records.get(Champion, spec.name, CHAMPION)
    if not history or (before and before.reign.hash == history[-1].hash):
        return
    question = newest_question(desk.ledger.links(spec.name), spec.name)
    asked = question.entry.candidate if question else None
    considered = before.considered if before else asked or ""
    sentence = f"{spec.name} v{history[-1].version} serves. {history[-1].why}"
    record = recorded(spec, history, considered, sentence, desk.registry)
    if record:
        desk.records.put(spec.name, CHAMPION, record)
        metadata = shown(record, history, desk.registry) | Dossier.at(desk).written(history, record.version)
        tags = {DATA_VERSION: record.reign.hash, "dagster/data_version_is_user_provided": "true"}
        yield dg.AssetMaterialization(key(spec, CHAMPION), metadata=metadata, tags=tags)


def _evaluation(spec: ModelSpec, now: Standing) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=key(spec, CHAMPION),
        check_name=WAITS,
        passed=not now.pending,
        severity=dg.AssetCheckSeverity.WARN,
        description=now.sentence,
    )


def _alert(spec: ModelSpec, now: Standing, alerts: Alerts, clock: Clock) -> Alert:
    """What people have to do about a question: to answer, told once, or to ask anew."""
    waits = now.state in {"waiting", "approved"}
    return Alert(
        kind=KIND,
        model=spec.name,
        partition=None,
        about=f"{now.question.hash} {'asked' if waits else now.state}",
        sentence=now.sentence,
        link=alerts.asset_url(key(spec, CHAMPION), check=WAITS),
        raised=now.question.entry.when if waits else clock(),
    )


def _tell(wanted: Sequence[Alert], alerts: Alerts, clock: Clock, *, all_known: bool) -> None:
    """Raise the alerts, and end those that are over: where all could be looked at, any other."""
    if all_known:
        alerts.hold((KIND,), wanted, clock())
    else:
        for alert in wanted:
            alerts.raise_(alert)
