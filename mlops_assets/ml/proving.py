"""Proving: one stored prediction is led back to who released its version, what that learned from, and all their bytes.

Every link is held against bytes that are stored, by their SHA-256. What was written a year ago is read as the text that
it is, never by the classes of today: a proof does not depend on what this package has become since.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlops_assets.ml.approvals import answers, objection
from mlops_assets.ml.code import UNLOCKED, BadArchiveError, code_path, digest_of_archive
from mlops_assets.ml.ledger import CROWNING, Entry, Link, reigns, verify
from mlops_assets.ml.prediction_id import PINNED, NoPredictionError, PredictionId
from mlops_assets.ml.proof import LINKS, BrokenLinkError, Explanation, Kept, Step
from mlops_assets.ml.spec import ReleaseRule, digest_of
from mlops_assets.ml.stored_rows import place_of, scores_at

ARTIFACT = "model.skops"
SPOKEN = frozenset({"approved", "refused", "waived", "reproduced"})


@dataclass
class Proof:
    """The chain behind one prediction, link by link. What an earlier link found, later ones are held against."""

    asked: PredictionId
    kept: Kept
    with_data: bool = True
    answer: dict[str, float] = field(default_factory=dict)
    predicted: dict[str, Any] = field(default_factory=dict)
    row: int = 0
    release: Link | None = None
    links: list[Link] = field(default_factory=list)
    candidate: dict[str, Any] = field(default_factory=dict)

    def explanation(self) -> Explanation:
        """Every link up to the first that is broken. Raises NoPredictionError where there is nothing to explain."""
        steps = list(self._steps())
        pin = digest_of(self.predicted)[:PINNED]
        name = self.asked.model_copy(update={"row": self.row or self.asked.row, "key": (), "pin": pin})
        return Explanation(prediction=str(name), answer=self.answer, steps=tuple(steps))

    def _steps(self) -> Iterator[Step]:
        found = {
            "prediction": self._prediction,
            "row": self._validated_row,
            "release": self._release,
            "approval": self._approval,
            "report": self._report,
            "manifest": self._manifest,
            "model": self._model,
            "data": self._data,
            "code": self._code,
            "lock": self._lock,
        }
        for link in LINKS:
            try:
                step = found[link]()
            except BrokenLinkError as error:
                yield Step(link=link, says=f"{error.file} is not what it should be.", broken=str(error))
                return
            yield step

    def _prediction(self) -> Step:
        """The stored score, in the file that the record of predictions names."""
        path, self.predicted = self._record()
        said, files = self.predicted, {}
        self.row = self.asked.row or place_of(self.asked, self._rows_files(), self._verified)
        if self.row > said["rows"]:
            raise NoPredictionError(f"{self.asked}: v{said['version']} scored {said['rows']:,} rows of this partition.")
        table = f"tables/{said['model']}/predictions"
        contents = {f"{table}/{name}": sha256 for name, sha256 in said["files"].items()}
        file, row = scores_at(self.row, contents, self._verified)
        files = {self.kept.where(path): digest_of(said), self.kept.where(file): contents[file]}
        if (row.pop("version"), row.pop("candidate")) != (said["version"], said["candidate"]):
            raise BrokenLinkError(self.kept.where(file), f"is not by v{said['version']}, which its record names.")
        self.answer = _named(row, said.get("classes") or ())
        shown = ", ".join(f"{name} {value:.6g}" for name, value in self.answer.items())
        by = f"v{said['version']}, which is model {said['candidate'][:PINNED]}"
        says = f"Row {self.row:,} of {said['rows']:,}: {shown}, by {by}."
        return Step(link="prediction", says=says, files=files)

    def _validated_row(self) -> Step:
        """The row that was scored, in the table of validated rows as it was then."""
        said, files = self.predicted, self._rows_files()
        for path, sha256 in files.items():
            self._whole(path, sha256)
        where = f"validated_features[{said['partition']}], content {said['rows_of'][:PINNED]}"
        told = f"It was made from row {self.row:,} of {where}, of delivery {said['delivery'][:PINNED]}."
        unknown = " Which files held them was not recorded then." if not files else ""
        return Step(link="row", says=told + unknown, files=self._shown(files))

    def _release(self) -> Step:
        """The entry of the ledger that made the version champion, in a ledger that is whole."""
        where, links, anchors = self.kept.ledger()
        if wrong := verify(links, anchors):
            raise BrokenLinkError(where, f"is broken: {wrong}")
        self.links = [link for link in links if link.model == self.asked.model]
        crowning = [link for link in self.links if link.entry.kind in CROWNING]
        crowned = [link for link in crowning if link.entry.version == self.asked.version]
        released = [link for link in crowned if link.entry.evidence]
        if not released:
            told = "adopted it without evidence" if crowned else "never released it"
            raise BrokenLinkError(where, f"{told}: v{self.asked.version} of {self.asked.model}.")
        self.release = next((link for link in released if self._is_of(link.entry)), released[0])
        entry = self.release.entry
        if not self._is_of(entry):
            raise BrokenLinkError(
                where,
                f"says in entry {self.release.sequence} that v{entry.version} is model {entry.evidence.get('model')}, "
                f"and the prediction is by model {self.predicted['candidate']}.",
            )
        says = (
            f"Entry {self.release.sequence} of {len(links)}: v{entry.version} was released "
            f"{entry.when:%Y-%m-%d %H:%M:%S} UTC by {entry.who}. {entry.why} {self._reigns()}"
        )
        return Step(link="release", says=says.strip(), files={where: self.release.hash})

    def _approval(self) -> Step:
        """What people said of the version before it was released, and the policy that it was released by."""
        rule = ReleaseRule.model_validate(self._of_evidence("policy").get("release") or {})
        said = [link for link in self.links if self._concerns(link)]
        told = [_told(link) for link in said if link.entry.kind in SPOKEN]
        by = self._approvers(rule) if rule.mode == "approval" else "By policy nobody had to be asked."
        says = " ".join([by, *told] if told else [by, "No gate was waived."])
        return Step(link="approval", says=says, files=self._evidence_file("policy"))

    def _approvers(self, rule: ReleaseRule) -> str:
        """Who approved, and how that is known. Raises BrokenLinkError where fewer did than the policy asks for."""
        where, trust = self.kept.ledger()[0], self.kept.trust()
        entry = self.release.entry if self.release else None
        asked = next((link for link in self.links if entry and link.sequence == entry.answers), None)
        if entry is None or asked is None or asked.entry.kind != "asked" or asked.entry.evidence != entry.evidence:
            raise BrokenLinkError(where, "released it by approval, and holds no question with the same evidence.")
        found = [each for each in answers(self.links, asked) if each.kind == "approved" and each.when <= entry.when]
        objections = [objection(each, asked, rule, trust) for each in found]
        people = dict.fromkeys(each.who for each, wrong in zip(found, objections, strict=True) if wrong is None)
        if len(people) < rule.approvals_needed:
            why = " ".join(filter(None, objections)) or "there are no others."
            raise BrokenLinkError(
                where, f"holds {len(people)} of the {rule.approvals_needed} approvals that the policy asks for: {why}"
            )
        checked = "signatures verified" if trust else "signatures not verified: no trusted keys are configured"
        return f"By policy people had to say yes, and {' and '.join(people)} did ({checked})."

    def _report(self) -> Step:
        """The report that it was released on."""
        report = self._of_evidence("report")
        self._same("report", report["candidate"], self.predicted["candidate"], "judged model")
        return Step(link="report", says=report["sentence"], files=self._evidence_file("report"))

    def _manifest(self) -> Step:
        """The manifest that the model was made from."""
        self.candidate = self._of_evidence("candidate")
        manifest, evidence = self.candidate["manifest"], self._evidence
        self._same("candidate", self.candidate["model_sha256"], self.predicted["candidate"], "is of model")
        self._same("candidate", digest_of(manifest), evidence["manifest"], "holds manifest")
        self._same("candidate", digest_of(manifest["contents"]), evidence["data"], "holds rows")
        says = (
            f"Manifest {evidence['manifest'][:PINNED]}: {manifest['spec'].get('estimator', {}).get('path')}, seed "
            f"{manifest['spec'].get('seed')}, learned from {_span(manifest['fitted_partitions'])}, judged on "
            f"{_span(manifest['holdout_partitions'])}."
        )
        return Step(link="manifest", says=says, files=self._evidence_file("candidate"))

    def _model(self) -> Step:
        """The bytes of the fitted model, and of all that lies in its folder."""
        expected = {ARTIFACT: self.predicted["candidate"]}
        folder = self.kept.folder(self.candidate)
        if folder is None:
            where, content = self.kept.artifact(self.candidate)
            if (found := hashlib.sha256(content).hexdigest()) != expected[ARTIFACT]:
                raise BrokenLinkError(where, f"has SHA-256 {found}, expected {expected[ARTIFACT]}.")
            says = f"The fitted model, {len(content):,} bytes, is the one that made the prediction."
            return Step(link="model", says=says, files={where: found})
        files = {f"{folder}/{name}": sha256 for name, sha256 in (self.candidate.get("files", {}) | expected).items()}
        sizes = {path: self._whole(path, sha256) for path, sha256 in files.items()}
        told = f"The fitted model, {sizes[f'{folder}/{ARTIFACT}']:,} bytes, is the one that made the prediction"
        says = f"{told}; all {len(files)} files of its folder are as they were stored."
        return Step(link="model", says=says, files=self._shown(files))

    def _data(self) -> Step:
        """The raw bytes that the row came from, and those that the model learned from and was judged on."""
        manifest = self.candidate["manifest"]
        wanted = [("raw_data", self.predicted["partition"], self.predicted["delivery"])]
        wanted += [("raw_data", *each) for each in manifest["deliveries"].items()]
        wanted += [("raw_labels", key, version) for key, version in manifest.get("labels", {}).items() if version]
        listed = dict(found for each in wanted for found in self._delivered(*each))
        if not self.with_data:
            says = f"{len(listed)} raw files in {len(wanted)} deliveries are named, and were not read."
            return Step(link="data", says=says)
        total = sum(self._whole(path, sha256) for sha256, path in listed.items())
        says = f"{len(listed)} raw files in {len(wanted)} deliveries, {total:,} bytes, are as they were delivered."
        return Step(link="data", says=says, files=self._shown({path: sha256 for sha256, path in listed.items()}))

    def _code(self) -> Step:
        """The source that fitted the model."""
        expected = self.candidate["manifest"]["code"]
        path = code_path(expected)
        try:
            found = digest_of_archive(self._bytes(path))
        except BadArchiveError as error:
            raise BrokenLinkError(self.kept.where(path), f"is no archive of source any more: {error}.") from error
        if found != expected:
            raise BrokenLinkError(self.kept.where(path), f"holds code {found}, expected {expected}.")
        says = f"The source that fitted it: code {expected[:PINNED]}."
        return Step(link="code", says=says, files={self.kept.where(path): expected})

    def _lock(self) -> Step:
        """The locked packages that it was fitted with."""
        manifest = self.candidate["manifest"]
        if manifest["lock"] == UNLOCKED:
            return Step(link="lock", says="It was fitted without locked requirements: packages by version only.")
        path = self.kept.blob(manifest["lock"])
        self._verified(path, manifest["lock"])
        python = manifest["environment"].get("python")
        says = f"The locked requirements that it was fitted with: lock {manifest['lock'][:PINNED]}, Python {python}."
        return Step(link="lock", says=says, files={self.kept.where(path): manifest["lock"]})

    def _record(self) -> tuple[str, dict[str, Any]]:
        """The record of predictions that is meant, and where it is."""
        if self.asked.pin:
            return self._pinned(self.asked.pin)
        path = f"records/{self.asked.model}/predictions/{self.asked.partition}.json"
        try:
            stored = _json(self.kept.read(path), self.kept.where(path))
        except FileNotFoundError as error:
            raise NoPredictionError(
                f"{self.asked}: nothing was predicted for {self.asked.partition} of {self.asked.model}: there is no "
                f"{self.kept.where(path)}."
            ) from error
        said = stored.get("value")
        if (found := digest_of(said)) != stored.get("sha256"):
            raise BrokenLinkError(self.kept.where(path), f"has SHA-256 {found}, expected {stored.get('sha256')}.")
        newest = said["version"]
        while said["version"] != self.asked.version:
            if not said.get("before"):
                raise NoPredictionError(
                    f"{self.asked}: v{self.asked.version} predicted nothing for this partition that is on record; the "
                    f"newest predictions are by v{newest}."
                )
            path = self.kept.blob(said["before"])
            said = _json(self._verified(path, said["before"]), self.kept.where(path))
        return path, said

    def _pinned(self, pin: str) -> tuple[str, dict[str, Any]]:
        found = self.kept.blobs(pin)
        if len(found) != 1:
            why = f"{len(found)} records begin with {pin}" if found else f"there is no record {pin}"
            raise NoPredictionError(f"{self.asked}: {why}.")
        path = self.kept.blob(found[0])
        said = _json(self._verified(path, found[0]), self.kept.where(path))
        about = (said.get("model"), said.get("partition"), said.get("version"))
        if about != (self.asked.model, self.asked.partition, self.asked.version):
            raise NoPredictionError(f"{self.asked}: {pin} is the record of something else.")
        return path, said

    def _delivered(self, asset: str, key: str, version: str) -> Iterator[tuple[str, str]]:
        """The digests and paths of the raw files of one delivery, as its version says them."""
        path = self.kept.blob(version)
        try:
            digests = _json(self._verified(path, version), self.kept.where(path))
        except BrokenLinkError:
            digests = self._from_record(asset, key, version)
            if digests is None:
                raise
        yield from ((sha256, self.kept.blob(sha256)) for sha256 in digests)

    def _from_record(self, asset: str, key: str, version: str) -> list[str] | None:
        """The digests of a delivery from before they were kept by its version, where it is still the newest one."""
        try:
            stored = _json(self.kept.read(f"records/{self.asked.model}/{asset}/{key}.json"), key)
        except FileNotFoundError:
            return None
        digests = sorted({file["sha256"] for file in stored["value"]["files"]})
        return digests if digest_of(digests) == version else None

    def _rows_files(self) -> dict[str, str]:
        table = f"tables/{self.asked.model}/validated_features"
        return {f"{table}/{name}": sha256 for name, sha256 in self.predicted.get("rows_files", {}).items()}

    @property
    def _evidence(self) -> Mapping[str, str]:
        return self.release.entry.evidence if self.release else {}

    def _of_evidence(self, name: str) -> dict[str, Any]:
        path = self.kept.blob(self._evidence[name])
        return _json(self._verified(path, self._evidence[name]), self.kept.where(path))

    def _evidence_file(self, name: str) -> dict[str, str]:
        return self._shown({self.kept.blob(self._evidence[name]): self._evidence[name]})

    def _is_of(self, entry: Entry) -> bool:
        return entry.evidence.get("model") == self.predicted["candidate"]

    def _concerns(self, link: Link) -> bool:
        """Whether an entry is about the released candidate, and was written before it was released."""
        entry = link.entry
        named = entry.candidate == self.predicted["candidate"] or entry.version == self.asked.version
        return named and self.release is not None and link.sequence < self.release.sequence

    def _reigns(self) -> str:
        """When the version served."""
        found = reigns(self.links, self.asked.model)
        ends = [*(f"{each.since:%Y-%m-%d %H:%M}" for each in found[1:]), "now"]
        spans = [
            f"{each.since:%Y-%m-%d %H:%M} to {end}"
            for each, end in zip(found, ends, strict=True)
            if each.version == self.asked.version
        ]
        return f"It was champion from {', and from '.join(spans)}."

    def _same(self, name: str, found: str, expected: str, what: str) -> None:
        if found != expected:
            where = self.kept.where(self.kept.blob(self._evidence[name]))
            raise BrokenLinkError(where, f"{what} {found}, expected {expected}.")

    def _bytes(self, path: str) -> bytes:
        try:
            return self.kept.read(path)
        except FileNotFoundError as error:
            raise BrokenLinkError(self.kept.where(path), "is gone.") from error

    def _verified(self, path: str, sha256: str) -> bytes:
        """The bytes of a file. Raises BrokenLinkError where they are others than they should be."""
        content = self._bytes(path)
        if (found := hashlib.sha256(content).hexdigest()) != sha256:
            raise BrokenLinkError(self.kept.where(path), f"has SHA-256 {found}, expected {sha256}.")
        return content

    def _whole(self, path: str, sha256: str) -> int:
        """The size of a file that is what it should be, however large it is."""
        try:
            found, size = self.kept.sha256(path)
        except FileNotFoundError as error:
            raise BrokenLinkError(self.kept.where(path), f"is gone, expected SHA-256 {sha256}.") from error
        if found != sha256:
            raise BrokenLinkError(self.kept.where(path), f"has SHA-256 {found}, expected {sha256}.")
        return size

    def _shown(self, files: Mapping[str, str]) -> dict[str, str]:
        return {self.kept.where(path): sha256 for path, sha256 in files.items()}


def _json(content: bytes, where: str) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise BrokenLinkError(where, f"is no JSON any more: {error}.") from error


def _named(scores: Mapping[str, float], classes: Sequence[Any]) -> dict[str, float]:
    """The scores of a row by what they are: the answer of a regression, or the probability of each class."""
    names = [str(name) for name in classes] or list(scores)
    return dict(zip(names, map(float, scores.values()), strict=True))


def _told(link: Link) -> str:
    entry = link.entry
    what = f"{entry.kind}{f' ({entry.gate})' if entry.gate else ''}"
    until = f", until {entry.expires:%Y-%m-%d %H:%M}" if entry.expires else ""
    return f"Entry {link.sequence}: {what} {entry.when:%Y-%m-%d %H:%M} UTC by {entry.who}{until}: {entry.why}"


def _span(partitions: Sequence[str]) -> str:
    """Partitions in a few words."""
    if len(partitions) < 3:
        return " and ".join(partitions)
    return f"{partitions[0]} to {partitions[-1]} ({len(partitions)} partitions)"
