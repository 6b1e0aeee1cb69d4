"""What is written down for people about a registered version: its model card, and the page that an approver reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pandas as pd

from mlops_assets import settings
from mlops_assets.lifecycle.approving import Desk
from mlops_assets.lifecycle.common import VALIDATED
from mlops_assets.lifecycle.judging import Reference
from mlops_assets.lifecycle.labelled import DRIFT, labels_of
from mlops_assets.lifecycle.releasing import evidence_of
from mlops_assets.lifecycle.report_metadata import path_of, pictures_of
from mlops_assets.lifecycle.waiving import waivers_in_force
from mlops_assets.ml.approvals import Standing
from mlops_assets.ml.card import Card, as_sections, chapters, markdown, parts_of, said_of
from mlops_assets.ml.contracts import load_contract, pii_columns
from mlops_assets.ml.evaluation import EvaluationReport
from mlops_assets.ml.labels import content_of
from mlops_assets.ml.ledger import Reign, champion
from mlops_assets.ml.monitoring import DriftReport, judge
from mlops_assets.ml.pages import page
from mlops_assets.ml.profiles import Profile
from mlops_assets.ml.registration import decide, refusal
from mlops_assets.ml.release_page import Case, html
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.training import Candidate
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.resources.blobs import Blobs
from mlops_assets.resources.records import Records
from mlops_assets.resources.registry import Version
from mlops_assets.resources.reports import Reports
from mlops_assets.resources.tables import Tables
from mlops_assets.resources.tracking import Tracking

CARD = "model_card"
LOOKED_AT = 12
OPEN = frozenset({"waiting", "approved"})


@dataclass(frozen=True)
class Dossier:
    """The pages about the versions of a model. They are written anew whenever something is said of a version."""

    desk: Desk
    reports: Reports

    @classmethod
    def at(cls, desk: Desk) -> Dossier:
        """The pages under the desk's own storage root."""
        return cls(desk, Reports(root=desk.blobs.root, ui=settings.REPORTS_UI.value()))

    @property
    def spec(self) -> ModelSpec:
        """The model's declaration."""
        return self.desk.spec

    def open(self, card: Card) -> dict[str, Any]:
        """Keep a card, and write its pages: what a person sees of it in Dagster."""
        self.desk.records.put(card.model, CARD, card, f"v{card.version}")
        return {**self.refresh(card.version), CARD: dg.MetadataValue.md(markdown(self._as_it_stands(card)))}

    def refresh(self, version: int) -> dict[str, Any]:
        """Write the pages of a version by what the ledger says now: links to them, none where it has no card."""
        kept = self.desk.records.get(Card, self.spec.name, CARD, f"v{version}")
        if kept is None:
            return {}
        card = self._as_it_stands(kept)
        owner = f"Model card, {card.spec.get('owner', '')}"
        told = page(card.name, owner, card.report.sentence, as_sections(chapters(card)))
        case = self._case(card)
        pages = {
            "model_card_page": self.reports.save(f"{card.model}/card/v{version}.html", told),
            "evidence_page": self.reports.save(
                f"{card.model}/release/v{version}.html", html(case, pictures_of(card.report, self.reports))
            ),
        }
        return {name: dg.MetadataValue.url(url) for name, url in pages.items()}

    def refresh_candidate(self, candidate: str) -> None:
        """Write the pages of the versions that hold a candidate."""
        for card in self.desk.records.all(Card, self.spec.name, CARD).values():
            if card.candidate.model_sha256 == candidate:
                self.refresh(card.version)

    def written(self, history: Sequence[Reign], version: int) -> dict[str, Any]:
        """Write the pages of the newest champions and of a version: the links to those of the version."""
        for each in dict.fromkeys(reign.version for reign in history[-2:]):
            self.refresh(each)
        return self.refresh(version)

    def _as_it_stands(self, card: Card) -> Card:
        """The card with what people have said since."""
        said = said_of(self.desk.ledger.links(card.model), card.model, card.version, card.candidate.model_sha256)
        return card.model_copy(update={"said": said})

    def _case(self, card: Card) -> Case:
        links = self.desk.ledger.links(card.model)
        reign = champion(links, card.model)
        advises, speaks_for = self._advice(card, reign)
        asked = self.desk.standing()
        asked = asked if asked and asked.version == card.version else None
        lacks, complete = self._lacks(card, reign, asked)
        rests_on = evidence_of(self.spec, card.candidate, card.report, self.desk.blobs)
        return Case(
            card=card,
            asks=_asks(card, reign),
            advises=advises,
            speaks_for=speaks_for,
            lacks=lacks,
            complete=complete,
            champion=reign.version if reign else None,
            champion_drift=self._drift_of(reign.version) if reign else None,
            commands=_commands(card) if asked and asked.state in OPEN else (),
            evidence=asked.question.entry.evidence if asked else rests_on,
            addresses=self._addresses(card),
            written=self.desk.clock(),
        )

    def _advice(self, card: Card, reign: Reign | None) -> tuple[str, bool]:
        """What the rules recommend, and whether that is to release it."""
        if reign and reign.version == card.version:
            return reign.why, True
        desk, judged = self.desk, card.candidate.model_sha256
        waived = waivers_in_force(self.spec, judged, card.report, desk.ledger, desk.keys, desk.clock)
        if reason := refusal(card.candidate, card.report, self.spec, waived):
            return f"Not to release it: {reason}", False
        decision = decide(card.report, reign.version if reign else None, self.spec)
        let_go = [f"{name} is {waiver}." for name, waiver in waived.items()]
        return " ".join([decision.sentence, *let_go]), decision.champion

    def _lacks(self, card: Card, reign: Reign | None, asked: Standing | None) -> tuple[str, bool]:
        """What is missing before the version serves, and whether nothing is."""
        if reign and reign.version == card.version:
            return f"It has been champion since {reign.since:%Y-%m-%d %H:%M} UTC, released by {reign.who}.", True
        if asked:
            return asked.sentence.partition(" `")[0], asked.state in {"approved", "over"}
        if self.spec.release.mode == "approval":
            return "By policy people have to say yes, and nobody has been asked about it yet.", False
        return "Nobody is asked: by policy the rules decide alone.", True

    def _drift_of(self, version: int) -> DriftReport | None:
        """The newest report on drift against a version."""
        keys = self.desk.records.partitions(self.spec.name, DRIFT)[-LOOKED_AT:]
        newest = self.desk.records.some(DriftReport, self.spec.name, DRIFT, keys).values()
        found = [each for each in newest if each.version == version]
        return max(found, key=lambda each: each.first, default=None)

    def _addresses(self, card: Card) -> dict[str, str]:
        return {
            "evaluation report": self.reports.url(f"{path_of(card.report)}.html"),
            "model card": self.reports.url(f"{card.model}/card/v{card.version}.html"),
        }


def _asks(card: Card, reign: Reign | None) -> str:
    """The question in one sentence."""
    if reign and reign.version == card.version:
        return f"{card.name} is champion"
    instead = f"instead of champion v{reign.version}" if reign else "as the first champion"
    return f"May {card.name} serve, {instead}?"


def _commands(card: Card) -> tuple[str, ...]:
    """What a person types to say yes or no."""
    return tuple(f'mlops-assets {verb} {card.model} {card.version} --reason "..."' for verb in ("approve", "refuse"))


@dataclass(frozen=True)
class Maker:
    """What a card is made from, when its version was just registered."""

    spec: ModelSpec
    records: Records
    tables: Tables
    blobs: Blobs
    tracking: Tracking

    def card(self, version: Version, candidate: Candidate, report: EvaluationReport) -> Card:
        """The card of a version, with no word of a person yet."""
        keys = [*candidate.manifest.fitted_partitions, *candidate.manifest.holdout_partitions]
        known = self.records.some(ValidatedPartition, self.spec.name, VALIDATED, keys)
        labels = labels_of(self.spec, self.records, known)
        contents = {key: content_of(part, labels.get(key)) for key, part in known.items()}
        newest = keys[-1]
        unchanged = contents.get(newest) == candidate.manifest.contents.get(newest)
        return Card(
            model=self.spec.name,
            version=version.number,
            registered=version.registered,
            candidate=candidate,
            report=report,
            parts=parts_of(candidate, known, contents),
            drift=self._drift(version.number, candidate, known[newest]) if unchanged else None,
        )

    def _drift(self, version: int, candidate: Candidate, part: ValidatedPartition) -> DriftReport:
        """How far the newest partition that judged a candidate lies from those that it learned from."""
        profile = Profile.model_validate_json(self.blobs.read(candidate.reference))
        reference = Reference(version, candidate, self.tracking.load(candidate), profile, pd.DataFrame())
        rows = self.tables.read(self.spec.name, VALIDATED, part.files, list(candidate.inputs))
        return judge(
            self.spec,
            reference.about(part),
            profile,
            rows,
            reference.predicted(rows, self.spec),
            candidate.importance,
            pii_columns(load_contract(self.spec.contract)),
        )
