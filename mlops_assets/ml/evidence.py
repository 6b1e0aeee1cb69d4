"""What a decision about retraining looks at, gathered from the records that the stages of a model's life leave."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mlops_assets.ml.evaluation import EvaluationReport
from mlops_assets.ml.labels import LabelledPartition
from mlops_assets.ml.metrics import METRICS
from mlops_assets.ml.monitoring import DriftReport
from mlops_assets.ml.performance import PerformanceReport
from mlops_assets.ml.retraining import Evidence, PartitionFacts, TrainingFacts
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.training import NOTHING, Candidate
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.ml.windows import oldest_first, partitions_in

PARTITIONS, TRAININGS = 36, 50


@dataclass(frozen=True)
class Learned:
    """The newest training, as far as it came, and the MLflow run of the version that serves."""

    candidate: Candidate | None = None
    report: EvaluationReport | None = None
    champion: str | None = None

    @property
    def latest(self) -> str | None:
        """The newest candidate, by its MLflow run."""
        return self.candidate.mlflow_run_id if self.candidate else None

    def facts(self) -> TrainingFacts | None:
        """What it cost and how the candidate did, None where it was not judged."""
        candidate, report = self.candidate, self.report
        if candidate is None or report is None or report.mlflow_run_id != candidate.mlflow_run_id:
            return None
        holdout = report.metrics.get(report.metric)
        if holdout is None:
            return None
        judged = candidate.manifest.holdout_partitions[-1]
        return TrainingFacts(
            partition=judged,
            judged=judged,
            fitted=len(candidate.manifest.fitted_partitions),
            holdout=holdout,
            gain=report.champion.gain if report.champion else None,
            became_champion=self.champion == candidate.mlflow_run_id,
            cpu_seconds=candidate.cpu_seconds,
            gpu_seconds=candidate.gpu_seconds,
            gib_seconds=candidate.resources.usage.gib_seconds if candidate.resources else 0.0,
            candidate=candidate.mlflow_run_id,
            baseline=report.baseline[report.metric].value if report.metric in report.baseline else None,
        )


@dataclass(frozen=True)
class Watched:
    """What is known of the newest partitions, by partition.

    Where labels come later than the rows, `unlabelled` are those whose labels have not matured. `before` is how many
    partitions are older than these.
    """

    validated: Mapping[str, ValidatedPartition]
    drift: Mapping[str, DriftReport] = field(default_factory=dict)
    performance: Mapping[str, PerformanceReport] = field(default_factory=dict)
    labels: Mapping[str, LabelledPartition] = field(default_factory=dict)
    unlabelled: Collection[str] = ()
    before: int = 0

    def teaching(self) -> list[ValidatedPartition]:
        """What a training now could learn from or judge by."""
        broken = {facts.partition for facts in self.facts() if facts.broken}
        return [
            part
            for part in self.validated.values()
            if part.rows_out and part.partition not in broken and part.partition not in self.unlabelled
        ]

    def facts(self) -> tuple[PartitionFacts, ...]:
        """The facts of each partition that has rows, oldest first. What was said of an earlier delivery is left out.

        Drift is what was judged against the version that the newest partition was judged against: how far a partition
        lies from what an earlier champion had learned says nothing about this one.
        """
        parts = oldest_first(part for part in self.validated.values() if part.rows_out)
        judged = [self.drift[part.partition] for part in parts if _current(self.drift, part)]
        against = judged[-1].version if judged else None
        return tuple(self._of(part, against) for part in parts)

    def _of(self, part: ValidatedPartition, against: int | None) -> PartitionFacts:
        drift = self.drift[part.partition] if _current(self.drift, part) else None
        found = self.performance[part.partition] if _current(self.performance, part) else None
        counts = drift is not None and drift.version == against
        return PartitionFacts(
            partition=part.partition,
            first=part.first,
            rows=part.rows_out,
            version=found.version if found else (drift.version if drift else None),
            drift=drift.verdict if drift and counts else None,
            drifted_share=drift.weighted_share if drift and counts else None,
            cause=drift.cause if drift else None,
            measured=found.measured if found else None,
            labelled_share=found.labelled / found.rows if found and found.rows else 0.0,
            mature=found.mature if found else False,
            estimated=found.estimated if found else None,
            held=found.held if found else (0, 0),
            baseline=found.baseline if found else None,
        )


def gather(
    spec: ModelSpec,
    watched: Watched,
    learned: Learned,
    before: Sequence[TrainingFacts],
    stale: Iterable[str],
    at_hand: str | None = None,
) -> Evidence:
    """The evidence of this moment.

    `before` are the trainings that the last decision knew. `at_hand` is the newest partition that a training which it
    did not know can have had at hand, where that may be newer than any with labels; so may be what it left out.
    """
    metric, partitions, newest = spec.evaluation.metric, watched.facts(), learned.facts()
    keys = [facts.partition for facts in partitions]
    judged = learned.candidate if newest else None
    there = [*([at_hand] if at_hand else []), *(judged.manifest.left_out if judged else ())]
    return Evidence(
        model=spec.name,
        metric=metric,
        better=METRICS[spec.task][metric],
        partitions=partitions,
        trainings=remembered(before, newest and _dated(newest, there, keys)),
        n=spec.drift.n,
        k=spec.drift.k,
        stale=tuple(stale),
        fresh=fresh(judged, watched),
        latest=learned.latest,
        confidence=spec.evaluation.confidence,
        before=watched.before,
    )


def remembered(before: Sequence[TrainingFacts], newest: TrainingFacts | None) -> tuple[TrainingFacts, ...]:
    """The trainings known before with the newest one, which may have been known already and have come further since.

    What was at hand is what was said when it was first known.
    """
    if newest is None:
        return tuple(before[-TRAININGS:])
    others = [each for each in before if each.candidate != newest.candidate]
    known = next((each.partition for each in before if each.candidate == newest.candidate), newest.partition)
    return (*others, newest.model_copy(update={"partition": known}))[-TRAININGS:]


def _dated(training: TrainingFacts, at_hand: Iterable[str], keys: Sequence[str]) -> TrainingFacts:
    """A training with the newest that was at hand, which is never older than what it was judged on.

    `keys` are oldest first.
    """
    places = {key: place for place, key in enumerate(keys)}
    newest = max((key for key in at_hand if key in places), key=places.__getitem__, default=training.partition)
    if places.get(newest, 0) < places.get(training.partition, 0):
        return training
    return training.model_copy(update={"partition": newest})


def fresh(candidate: Candidate | None, watched: Watched) -> tuple[str, ...]:
    """What a training now would have and a candidate did not, by the deliveries of rows and labels, oldest first.

    Partitions before all that the candidate had lay outside its window.
    """
    teaching = oldest_first(watched.teaching())
    if candidate is None:
        return tuple(part.partition for part in teaching)
    begins = next((place for place, part in enumerate(teaching) if part.partition in candidate.manifest.deliveries), 0)
    return tuple(part.partition for part in teaching[begins:] if not had(candidate, part, watched.labels))


def had(candidate: Candidate, part: ValidatedPartition, labels: Mapping[str, LabelledPartition]) -> bool:
    """Whether a candidate learned from a partition, or was judged on it, as it is delivered and labelled now."""
    manifest, labelled = candidate.manifest, labels.get(part.partition)
    same = manifest.deliveries.get(part.partition) == part.delivery
    return same and (labelled is None or labelled.holds(manifest.labels.get(part.partition)))


def stale(
    candidate: Candidate, held: Mapping[str, str], labels: Mapping[str, LabelledPartition] = NOTHING
) -> tuple[str, ...]:
    """The partitions that a candidate learned from or was judged on, and of which something else holds now.

    That is another version of the rows, by `held`, or another label of one of them; labels that were only added to are
    no correction.
    """
    manifest = candidate.manifest
    relabelled = [key for key, version in manifest.labels.items() if key in labels and not labels[key].holds(version)]
    return tuple(dict.fromkeys([*differing(manifest.deliveries, held), *relabelled]))


def differing(learned: Mapping[str, str | None], held: Mapping[str, str]) -> tuple[str, ...]:
    """The partitions of which another version is held than was learned from."""
    return tuple(key for key, version in learned.items() if held.get(key, version) != version)


def depth(spec: ModelSpec) -> int:
    """How many of the newest partitions a decision looks at, beside those whose labels cannot have come yet."""
    unlabelled = partitions_in(spec.labels.delay_days, spec.partitions.every) if spec.labels else 0
    return unlabelled + max(PARTITIONS, spec.retraining.every + 1, spec.retraining.cooldown + 1, spec.drift.n)


def _current(reports: Mapping[str, DriftReport] | Mapping[str, PerformanceReport], part: ValidatedPartition) -> bool:
    report = reports.get(part.partition)
    return report is not None and report.delivery == part.delivery
