"""What our own records, the ledger and the outbox say: drift, decisions, champions, approvals, alerts, cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import get_args

from pydantic import ValidationError

from mlops_assets.exporter import families
from mlops_assets.exporter.samples import Samples
from mlops_assets.ml.approvals import answers, newest_question
from mlops_assets.ml.ledger import Link, reigns
from mlops_assets.ml.monitoring import DriftReport
from mlops_assets.ml.monitoring import Verdict as DriftVerdict
from mlops_assets.ml.planning import DECISION
from mlops_assets.ml.retraining import RetrainingDecision
from mlops_assets.ml.retraining import Verdict as DecisionVerdict
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.training import Candidate
from mlops_assets.ml.windows import Windows
from mlops_assets.resources.alerts import Alerts
from mlops_assets.resources.blobs import CorruptBytesError
from mlops_assets.resources.ledger import Ledger
from mlops_assets.resources.outbox import Shelves
from mlops_assets.resources.records import Records

DRIFT, TRAINED, VALIDATED = "drift_report", "trained_model", "validated_features"
READ = (DRIFT, TRAINED, VALIDATED, DECISION)


@dataclass
class Files:
    """The records of every model. One is read again only when its asset was materialized since."""

    records: Records
    samples: Samples = field(default_factory=Samples)
    _read: dict[tuple[str, str], float] = field(default_factory=dict)
    _specs: dict[str, ModelSpec] = field(default_factory=dict)
    _newest: dict[str, str] = field(default_factory=dict)

    def look(self, materialized: Mapping[tuple[str, str], float], seconds: Mapping[str, float], now: datetime) -> None:
        """Read what is new, by when assets were materialized, and reckon what ended runs cost."""
        for (model, asset), when in materialized.items():
            if asset in READ and self._read.get((model, asset)) != when:
                self._read_anew(model, asset)
                self._read[model, asset] = when
        for model, spec in self._specs.items():
            self._reckon(model, spec, seconds.get(model, 0.0), now)

    def _read_anew(self, model: str, asset: str) -> None:
        try:
            if asset == DRIFT:
                self._drift(model)
            elif asset == DECISION and (decision := self.records.get(RetrainingDecision, model, DECISION)):
                self._one_of(families.DECISION, model, decision.verdict, get_args(DecisionVerdict))
            elif asset == TRAINED and (candidate := self.records.get(Candidate, model, TRAINED)):
                self._specs[model] = ModelSpec.model_validate(candidate.manifest.spec)
            elif asset == VALIDATED and (keys := self.records.partitions(model, VALIDATED)):
                self._newest[model] = keys[-1]
        except (CorruptBytesError, ValidationError):
            return  # damaged, or declared by another version of this package: whoever uses it says so

    def _drift(self, model: str) -> None:
        for report in self.records.all(DriftReport, model, DRIFT, newest=1).values():
            self._one_of(families.DRIFT, model, report.verdict, get_args(DriftVerdict))
            self.samples.put(families.DRIFT_SHARE, (model,), report.weighted_share)
            if report.prediction is not None:
                self.samples.put(families.PREDICTION_DRIFT, (model,), report.prediction.effect)

    def _one_of(self, family: families.Family, model: str, found: str, possible: Iterable[str]) -> None:
        for each in possible:
            self.samples.put(family, (model, each), float(each == found))

    def _reckon(self, model: str, spec: ModelSpec, seconds: float, now: datetime) -> None:
        rule = spec.retraining
        self.samples.put(families.COST, (model, rule.currency), seconds / 3600 * rule.cpu_hour)
        if model in self._newest and spec.partitions.every != "batch":
            windows = Windows.of(spec.partitions)
            behind = windows.last(now) - windows.position(self._newest[model])
            self.samples.put(families.BEHIND, (model,), max(0, behind))


@dataclass
class Releases:
    """The ledger: who serves, and who is waited for."""

    ledger: Ledger
    samples: Samples = field(default_factory=Samples)

    def look(self, now: datetime) -> None:
        """Read the whole ledger, which is short."""
        by_model: dict[str, list[Link]] = {}
        for link in self.ledger.links():
            by_model.setdefault(link.model, []).append(link)
        self.samples.clear(families.CHAMPION, families.CHAMPION_SINCE, families.WAITING, families.WAITING_SINCE)
        for model, links in by_model.items():
            if past := reigns(links, model):
                self.samples.put(families.CHAMPION, (model,), past[-1].version)
                self.samples.put(families.CHAMPION_SINCE, (model,), past[-1].since.timestamp())
            asked = waiting(links, model, now)
            self.samples.put(families.WAITING, (model,), float(asked is not None))
            if asked is not None:
                self.samples.put(families.WAITING_SINCE, (model,), asked.timestamp())


def waiting(links: list[Link], model: str, now: datetime) -> datetime | None:
    """Since when people are asked about a model; None where nobody is, or the time to answer is over."""
    question = newest_question(links, model)
    if question is None:
        return None
    asked = question.entry
    crowned = any(reign.sequence > question.sequence for reign in reigns(links, model))
    refused = any(entry.kind == "refused" for entry in answers(links, question))
    late = asked.expires is not None and now >= asked.expires
    return None if crowned or refused or late else asked.when


@dataclass
class Outbox:
    """The alerts that are open, and the messages on their way."""

    alerts: Alerts
    samples: Samples = field(default_factory=Samples)

    def look(self) -> None:
        """Read them."""
        self.samples.clear(families.ALERTS, families.ALERT_SINCE)
        oldest: dict[str, float] = {}
        for known in self.alerts.open():
            kind, since = known.alert.kind, known.since.timestamp()
            self.samples.count(families.ALERTS, (known.alert.model or "", kind))
            oldest[kind] = min(since, oldest.get(kind, since))
        for kind, since in oldest.items():
            self.samples.put(families.ALERT_SINCE, (kind,), since)
        self.samples.put(families.OUTBOX, (), len(Shelves(self.alerts.root).names("outbox")))
