"""What is on record of a partition's feed and of the partitions before it, and the cause of drift found in that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg

from mlops_assets.lifecycle.common import key
from mlops_assets.ml.causes import Cause, Earlier, Feed, accepted, comparable, earlier, explain, feed
from mlops_assets.ml.monitoring import DriftReport, broken_feed, in_force
from mlops_assets.ml.sources import Delivery
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.resources.records import Records

RAW, VALIDATED, REPORT = "raw_data", "validated_features", "drift_report"
CODE_VERSION = "dagster/code_version"
EVENTS_A_PARTITION = 3


@dataclass
class Upstream:
    """The history of a model's deliveries, read as far as the partitions of a run need it, once."""

    spec: ModelSpec
    records: Records
    instance: dg.DagsterInstance
    keys: list[str] = field(default_factory=list)
    parts: dict[str, ValidatedPartition] = field(default_factory=dict)
    feeds: dict[str, Feed] = field(default_factory=dict)

    def explained(
        self, part: ValidatedPartition, report: DriftReport, judged: Mapping[str, DriftReport]
    ) -> DriftReport:
        """The report with why the partition is as it is, and which before it are thereby shown to be sound.

        `judged` are the reports of this run, which are not on record yet.
        """
        before = self._before(part)
        broken = self._broken(before.recent, judged)
        cause = self._cause(part, before.without(broken), report)
        accepts = {}
        if before.all_in(broken):
            sound = Earlier(self._sound(before.recent[0], judged), before.likewise)
            accepts = accepted(before.recent, cause, self._cause(part, sound, report))
        return report.model_copy(update={"cause": cause, "accepts": accepts})

    def _cause(self, part: ValidatedPartition, before: Earlier, report: DriftReport) -> Cause:
        self._learn_feeds([part, *before.recent])
        return explain(self.spec, part, before, self.feeds, report.moved)

    def _before(self, part: ValidatedPartition) -> Earlier:
        """What the partition is held against, of all that is on record."""
        self.keys = self.keys or self.records.partitions(self.spec.name, VALIDATED)
        if self.spec.partitions.every == "batch":
            return earlier({each.partition: each for each in self._some(self.keys)}, part, self.spec.partitions)
        recent, likewise = comparable(self.keys, part.partition, self.spec.partitions)
        return Earlier(self._some(recent), self._some(likewise))

    def _some(self, keys: Sequence[str]) -> list[ValidatedPartition]:
        missing = [each for each in keys if each not in self.parts]
        self.parts |= self.records.some(ValidatedPartition, self.spec.name, VALIDATED, missing)
        return [self.parts[each] for each in keys if each in self.parts]

    def _sound(self, first: ValidatedPartition, judged: Mapping[str, DriftReport]) -> list[ValidatedPartition]:
        """The recent ones of those before the first blamed one that are not blamed."""
        before = self._before(first).recent
        broken = self._broken(before, judged)
        return [each for each in before if each.partition not in broken]

    def _broken(self, recent: Sequence[ValidatedPartition], judged: Mapping[str, DriftReport]) -> list[str]:
        """Those of a broken feed, by what was said up to the last of them: one later may accept those before it."""
        keys = [each.partition for each in recent]
        known = self.records.some(DriftReport, self.spec.name, REPORT, [key for key in keys if key not in judged])
        reports = in_force(
            {key: {**known, **judged}[key] for key in keys if key in {**known, **judged}}, self.spec.drift
        )
        return [each.partition for each in recent if broken_feed(reports.get(each.partition), each.delivery)]

    def _learn_feeds(self, parts: Sequence[ValidatedPartition]) -> None:
        unknown = [part for part in parts if part.partition not in self.feeds]
        keys = [part.partition for part in unknown]
        deliveries = self.records.some(Delivery, self.spec.name, RAW, keys)
        code = {asset: self._code_versions(asset, keys) for asset in (RAW, VALIDATED)} if keys else {}
        for part in unknown:
            versions = {asset: known[part.partition] for asset, known in code.items() if part.partition in known}
            self.feeds[part.partition] = feed(part, deliveries.get(part.partition), versions)

    def _code_versions(self, asset: str, partitions: Sequence[str]) -> dict[str, str]:
        """The code that made each partition of an asset last, in one query. Not every event says it."""
        wanted = dg.AssetRecordsFilter(asset_key=key(self.spec, asset), asset_partitions=list(partitions))
        found = self.instance.fetch_materializations(wanted, limit=EVENTS_A_PARTITION * len(partitions)).records
        versions: dict[str, str] = {}
        for record in found:
            tags = (record.asset_materialization.tags if record.asset_materialization else None) or {}
            if record.partition_key is not None and CODE_VERSION in tags:
                versions.setdefault(record.partition_key, tags[CODE_VERSION])
        return versions
