"""Approving: where people are asked before a version serves, where they answer, and where enough answers release it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from getpass import getuser

import dagster as dg

from mlops_assets.lifecycle.common import Clock
from mlops_assets.lifecycle.releasing import NotApprovedError, Release, evidence_of, release
from mlops_assets.lifecycle.waiving import Signed, waivers_in_force
from mlops_assets.ml.approvals import Standing, Verdict, answer, answers, newest_question, objection, standing
from mlops_assets.ml.code import digest_of_files, source_file
from mlops_assets.ml.evaluation import EvaluationReport
from mlops_assets.ml.ledger import Entry, Link, Reign
from mlops_assets.ml.registration import refusal
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.training import Candidate
from mlops_assets.resources.blobs import Blobs, CorruptBytesError
from mlops_assets.resources.keys import Keys, KeyUnavailableError
from mlops_assets.resources.ledger import BrokenLedgerError, Ledger, LedgerUnavailableError
from mlops_assets.resources.records import Records
from mlops_assets.resources.registry import Registry, RegistryConflictError
from mlops_assets.resources.tracking import TrackingUnavailableError

UNDECIDED = (
    BrokenLedgerError,
    CorruptBytesError,
    KeyUnavailableError,
    LedgerUnavailableError,
    RegistryConflictError,
    TrackingUnavailableError,
)

REPORT = "evaluation_report"
STARTED_BY, STAMP = "mlops/started_by", "mlops/signature"
BY_ITSELF = {"dagster/sensor_name", "dagster/schedule_name"}
DECIDING = ("approvals", "evaluation", "gates", "ledger", "registration", "signed", "signing", "waivers")
CODE = [f"mlops_assets.ml.{name}" for name in DECIDING]


@dataclass(frozen=True)
class Desk:
    """Where the releases of one model are asked for, answered and made."""

    spec: ModelSpec
    ledger: Ledger
    registry: Registry
    records: Records
    blobs: Blobs
    keys: Keys
    clock: Clock

    def ask(self, wish: Release, candidate: Candidate, trained_by: Sequence[str]) -> Standing:
        """Ask whether a version may serve, once for the same evidence unless nobody answered in time."""
        evidence = wish.evidence | {"code": code()}
        with self.ledger.turn() as turn:
            before = self._standing(turn.links(self.spec.name), evidence)
            if before is None or not _is_the_same(before, wish, evidence):
                now = self.clock()
                entry = Entry(
                    kind="asked",
                    model=wish.model,
                    version=wish.version,
                    who=wish.who,
                    why=wish.why,
                    when=now,
                    evidence=evidence,
                    previous=wish.judged_against,
                    candidate=candidate.model_sha256,
                    expires=now + self.spec.release.lasts,
                    trained_by=tuple(trained_by),
                )
                turn.append(entry)
            return self._sure(self._standing(turn.links(self.spec.name), evidence))

    def answer(self, kind: Verdict, version: int, who: str, why: str, signed: Signed) -> Standing:
        """Write down what a person says, once. Raises NotApprovedError, and writes nothing, where it cannot count."""
        evidence = self._evidence()
        with self.ledger.turn() as turn:
            links = turn.links(self.spec.name)
            now, entry = self._said(links, kind, version, who, why, signed, evidence)
            before = answers(links, now.question)
            if not any((each.who, each.kind) == (entry.who, kind) and self._counts(each, now) for each in before):
                turn.append(entry)
            return self._sure(self._standing(turn.links(self.spec.name), evidence))

    def draft(self, kind: Verdict, version: int, who: str, why: str, signed: Signed) -> Entry:
        """What would be written down, where it would count."""
        links = self.ledger.links(self.spec.name)
        return self._said(links, kind, version, who, why, signed, self._evidence())[1]

    def question(self, version: int) -> Standing:
        """The question about a version. Raises NotApprovedError where it cannot be answered (any more)."""
        return self._open(self.ledger.links(self.spec.name), version, self._evidence())

    def standing(self) -> Standing | None:
        """How it stands with the newest question. What it rests on is looked at only where that matters."""
        links = self.ledger.links(self.spec.name)
        found = self._standing(links, None)
        if found is None or found.state not in {"waiting", "approved"}:
            return found
        return self._standing(links, self._evidence())

    def settle(self) -> Reign | None:
        """Release what was approved. None where nothing was; all is asked again while the ledger stands still."""
        found = self.standing()
        if found is None or found.state != "approved":
            return None
        asked, evidence = found.question.entry, self._evidence()
        candidate = self._candidate(found.version)
        report = self._report(candidate, asked)
        waived = waivers_in_force(self.spec, candidate.model_sha256, report, self.ledger, self.keys, self.clock)
        if reason := refusal(candidate, report, self.spec, waived):
            raise NotApprovedError(f"v{found.version} of {self.spec.name} was approved, and is not released: {reason}")
        said = answers(self.ledger.links(self.spec.name), found.question)
        wish = Release(
            model=self.spec.name,
            version=found.version,
            judged_against=asked.previous,
            who=", ".join(found.people),
            why=" ".join([asked.why, *(f"{each.who}: {each.why}" for each in said if self._counts(each, found))]),
            evidence=asked.evidence,
            answers=found.question.sequence,
        )
        return release(wish, self.ledger, self.registry, self.clock, lambda links: self._unapproved(links, evidence))

    def _standing(self, links: Sequence[Link], evidence: dict[str, str] | None) -> Standing | None:
        spec = self.spec
        if newest_question(links, spec.name) is None:
            return None
        return standing(links, spec.name, spec.release, self.keys.trust(), evidence, self.clock())

    def _open(self, links: Sequence[Link], version: int, evidence: dict[str, str] | None) -> Standing:
        """The question about a version, which can be answered."""
        now = self._standing(links, evidence)
        if now is None or now.version != version:
            waits = f"What was asked about last is v{now.version}." if now else "Nobody was asked about any version."
            raise NotApprovedError(f"v{version} of {self.spec.name} does not wait for approval. {waits}")
        if now.state not in {"waiting", "approved"}:
            raise NotApprovedError(now.sentence)
        return now

    def _said(
        self,
        links: Sequence[Link],
        kind: Verdict,
        version: int,
        who: str,
        why: str,
        signed: Signed,
        evidence: dict[str, str] | None,
    ) -> tuple[Standing, Entry]:
        """The question, and the answer to it, which counts."""
        now = self._open(links, version, evidence)
        entry = signed(answer(now.question, kind, who, why, self.clock()))
        if reason := objection(entry, now.question, self.spec.release, self.keys.trust()):
            raise NotApprovedError(f"v{version} of {self.spec.name} is not {kind}: {reason}")
        return now, entry

    def _unapproved(self, links: Sequence[Link], evidence: dict[str, str] | None) -> str | None:
        now = self._standing(links, evidence)
        return None if now and now.state == "approved" else now.sentence if now else "nobody was asked."

    def _counts(self, entry: Entry, now: Standing) -> bool:
        return objection(entry, now.question, self.spec.release, self.keys.trust()) is None

    def _evidence(self) -> dict[str, str] | None:
        """What the release that was asked about last would rest on now; None where nothing was asked."""
        question = newest_question(self.ledger.links(self.spec.name), self.spec.name)
        if question is None or question.entry.version is None:
            return None
        candidate = self._candidate(question.entry.version)
        report = self._report(candidate, question.entry)
        return evidence_of(self.spec, candidate, report, self.blobs) | {"code": code()}

    def _candidate(self, version: int) -> Candidate:
        return self.registry.candidate(self.registry.version(self.spec.name, version))

    def _report(self, candidate: Candidate, asked: Entry) -> EvaluationReport:
        """The newest report on a candidate: the one of its question, unless it was judged anew since."""
        newest = self.records.get(EvaluationReport, self.spec.name, REPORT)
        if newest and (newest.candidate, newest.mlflow_run_id) == (candidate.model_sha256, candidate.mlflow_run_id):
            return newest
        return EvaluationReport.model_validate_json(self.blobs.read(asked.evidence["report"]))

    @staticmethod
    def _sure(found: Standing | None) -> Standing:
        if found is None:
            raise NotApprovedError("a question was just written into the ledger, and is not there.")
        return found


def code() -> str:
    """SHA-256 of the source that decides whether a version may serve."""
    return digest_of_files({module: source_file(module) for module in CODE})


def people_who_trained(instance: dg.DagsterInstance, runs: Iterable[str], started: dg.DagsterRun) -> tuple[str, ...]:
    """Who is known to have started the runs in which a version was made, and this one.

    Known are the person that a web server or a run's tag names, and the user of this process where no sensor and no
    schedule asked for the run.
    """
    found = [started, *(run for run in map(instance.get_run_by_id, dict.fromkeys(runs)) if run)]
    named = [run.tags[STARTED_BY] for run in found if run.tags.get(STARTED_BY)]
    if not BY_ITSELF & set(started.tags):
        named += [user] if (user := system_user()) else []
    return tuple(dict.fromkeys(named))


def system_user() -> str | None:
    """The operating system's user of this process; None in a container that has no name for it."""
    try:
        return getuser()
    except (KeyError, OSError, ImportError):
        return None


def _is_the_same(before: Standing, wish: Release, evidence: dict[str, str]) -> bool:
    """Whether a question that was asked is still the same one. Nobody's answer in time is none: it is asked again."""
    asked = before.question.entry
    same = (asked.version, asked.previous, asked.evidence) == (wish.version, wish.judged_against, evidence)
    return same and before.state in {"waiting", "approved", "refused"}
