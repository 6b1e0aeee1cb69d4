"""The sensor that trains where the newest decision of a model says RETRAIN: once a decision, for all models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import dagster as dg
from pydantic import Field

from mlops_assets.lifecycle import common
from mlops_assets.lifecycle.common import Clock, utc_now
from mlops_assets.lifecycle.endings import REQUEST, ended_at, ending
from mlops_assets.ml.planning import DECISION, TRAINING, UNFINISHED, attempts, pause
from mlops_assets.ml.registration import Champion
from mlops_assets.ml.retraining import RetrainingDecision
from mlops_assets.ml.spec import ModelSpec, Value
from mlops_assets.ml.training import Candidate
from mlops_assets.resources.blobs import CorruptBytesError
from mlops_assets.resources.records import Records
from mlops_assets.resources.registry import CHAMPION

EVERY_SECONDS = 10
SAID = 20


class Asked(Value):
    """What was asked for because of one decision (its digest): how often, and why no more, if so."""

    decision: str
    attempt: int = Field(ge=1)
    given_up: str | None = None


class Memory(Value):
    """What is remembered between two looks, of the models that were asked to train by their newest decision."""

    asked: dict[str, Asked] = Field(default_factory=dict)


@dataclass(frozen=True)
class Look:
    """What one look at one model came to: the request or why there is none, and what to remember."""

    model: str
    said: str
    asked: Asked | None = None
    request: dg.RunRequest | None = None


def retrain_on_decision(specs: Sequence[ModelSpec], clock: Clock = utc_now) -> dg.SensorDefinition:
    """One sensor for all models. While a run of a model is going on it waits, and a training makes no new decision."""
    trained = [common.key(spec, asset) for spec in specs for asset in TRAINING]

    @dg.sensor(
        name="retrain_on_decision",
        asset_selection=dg.AssetSelection.assets(*trained),
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Trains, judges, registers and releases where a model's newest decision says RETRAIN, once each.",
    )
    def look(context: dg.SensorEvaluationContext, records: dg.ResourceParam[Records]) -> dg.SensorResult:
        """Look at the newest decision of every model."""
        memory, looking = common.remembered(Memory, context.cursor), Looking(context.instance, records, clock())
        looks = [looking.at(spec, memory.asked.get(spec.name)) for spec in specs]
        for each in looks:
            if each.asked and each.asked.given_up and each.asked != memory.asked.get(each.model):
                context.log.error(f"{each.model}: {each.said}")
        cursor = Memory(asked={each.model: each.asked for each in looks if each.asked}).model_dump_json()
        requests = [each.request for each in looks if each.request]
        return dg.SensorResult(run_requests=requests, skip_reason=None if requests else _told(looks), cursor=cursor)

    return look


@dataclass
class Looking:
    """One look at all models."""

    instance: dg.DagsterInstance
    records: Records
    now: datetime

    @cached_property
    def busy(self) -> dict[str, str]:
        """The run of each model that is going on, asked for where a model needs it."""
        return common.all_going_on(self.instance)

    def at(self, spec: ModelSpec, before: Asked | None) -> Look:
        """What is to be done about the newest decision of a model. `before` is what was asked for by the last look."""
        try:
            decision = self.records.get(RetrainingDecision, spec.name, DECISION)
            if decision is None:
                return Look(spec.name, "nothing is decided yet")
            digest = decision.digest()[:16]
            asked = before if before and before.decision == digest else None
            if reason := _nothing_to_do(spec, decision, asked, self.records):
                return Look(spec.name, reason)
        except CorruptBytesError as error:
            return Look(spec.name, str(error), before)
        if run_id := self.busy.get(spec.name):
            return Look(spec.name, f"run {run_id} is going on; it is trained when that has ended", asked)
        settled = self._settled(spec, decision, asked) if asked else None
        return settled or _asking(spec, decision, Asked(decision=digest, attempt=asked.attempt + 1 if asked else 1))

    def _settled(self, spec: ModelSpec, decision: RetrainingDecision, asked: Asked) -> Look | None:
        """Why nothing is asked for again (yet); None where the last run came to nothing and has rested or is gone."""
        because, request = _because(decision), _run_key(spec, decision, asked)
        how = ending(self.instance, request)
        if how == "verdict":
            return Look(spec.name, f"{because} was asked for already", asked)
        if asked.given_up or how == "cancelled" or asked.attempt >= attempts(how):
            given_up = asked.given_up or UNFINISHED[how]
            reason = f"{because} is given up: {given_up}; materialize trained_model"
            return Look(spec.name, reason, asked.model_copy(update={"given_up": given_up}))
        ended = ended_at(self.instance, request)
        if ended and self.now < (again := ended + pause(asked.attempt)):
            return Look(spec.name, f"{because} came to nothing and is asked for again at {again:%H:%M:%S} UTC", asked)
        return None


def _nothing_to_do(spec: ModelSpec, decision: RetrainingDecision, asked: Asked | None, records: Records) -> str | None:
    """Why a decision asks for nothing, or for nothing any more; None where it does."""
    if decision.verdict != "RETRAIN":
        return f"{decision.partition}: {decision.sentence}"
    if spec.retraining.policy == "always":
        return f"{decision.partition}: it is trained in the run of each delivery"
    candidate = records.get(Candidate, spec.name, "trained_model")
    if candidate is None or candidate.mlflow_run_id == decision.evidence.latest:
        return None
    if asked and not _decided(candidate, records):
        return None
    return f"{decision.partition}: it has been trained since RETRAIN was decided"


def _decided(candidate: Candidate, records: Records) -> bool:
    """Whether it was decided if a candidate serves: if not, the run that trained it may have died on the way there."""
    found = records.get(Champion, candidate.model, CHAMPION)
    return found is not None and found.considered == candidate.model_sha256


def _asking(spec: ModelSpec, decision: RetrainingDecision, asking: Asked) -> Look:
    run_key = _run_key(spec, decision, asking)
    tags = {
        common.MODEL: spec.name,
        "mlops/reason": "decision",
        "mlops/because": decision.partition,
        REQUEST: run_key,
    }
    selection = [common.key(spec, asset) for asset in TRAINING]
    request = dg.RunRequest(run_key=run_key, tags=tags, asset_selection=selection)
    return Look(spec.name, _because(decision), asking, request)


def _because(decision: RetrainingDecision) -> str:
    return f"RETRAIN on {decision.partition}"


def _run_key(spec: ModelSpec, decision: RetrainingDecision, asked: Asked) -> str:
    return f"{spec.name}:{decision.partition}:{asked.decision}:{asked.attempt}"


def _told(looks: Sequence[Look]) -> str:
    """Why each model is not trained, those first that were asked to."""
    ordered = sorted(looks, key=lambda each: each.asked is None)
    said = [f"{each.model}: {each.said.rstrip('.')}." for each in ordered[:SAID]]
    more = [f"And {len(ordered) - SAID} more models are not asked to train."] if len(ordered) > SAID else []
    return "\n".join([*said, *more]) or "No model is declared."
