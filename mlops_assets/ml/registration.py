"""Whether a candidate may be registered, and whether it takes the champion's place. Pure decisions with reasons."""

from __future__ import annotations

from collections.abc import Mapping

from mlops_assets.ml.charts import figure
from mlops_assets.ml.evaluation import Comparison, EvaluationReport
from mlops_assets.ml.ledger import Reign
from mlops_assets.ml.spec import ModelSpec, Value, digest_of
from mlops_assets.ml.training import Candidate
from mlops_assets.ml.waivers import Waiver, unwaived


class RegisteredVersion(Value):
    """A numbered version in the registry, and the candidate it holds."""

    model: str
    version: int
    candidate: str
    mlflow_run_id: str
    sentence: str


class Champion(Value):
    """The version that serves, by which entry of the ledger, and what was decided about `considered`, the newest one.

    `candidate` and `considered` are models by their SHA-256.
    """

    model: str
    version: int
    candidate: str
    mlflow_run_id: str
    reign: Reign
    considered: str
    sentence: str


class Decision(Value):
    """Whether a registered version becomes champion, and the sentence that says why."""

    champion: bool
    sentence: str


def identity(candidate: Candidate) -> str:
    """What makes two candidates the same: what they are made of, wherever that is stored, and the bytes made from it.

    Materializing the same rows again moves a table to a new version, and makes no new candidate. Versions that were
    registered before `left_out` was known keep their identity.
    """
    unsaid = {"table_version"} if candidate.manifest.left_out else {"table_version", "left_out"}
    made_of = candidate.manifest.model_dump(mode="json", exclude=unsaid)
    return digest_of([made_of, candidate.model_sha256])


def refusal(
    candidate: Candidate, report: EvaluationReport, spec: ModelSpec, waived: Mapping[str, Waiver] | None = None
) -> str | None:
    """Why the candidate may not be registered on the strength of this report; None when it may.

    The gates are the declaration's, held once more against the figures of the report: a report from before a gate was
    raised or declared does not pass it. `waived` are the waivers in force, by the gate's name.
    """
    if report.model != spec.name or candidate.model != spec.name:
        return f"the report is of {report.model!r} and the candidate of {candidate.model!r}."
    if (report.candidate, report.mlflow_run_id) != (candidate.model_sha256, candidate.mlflow_run_id):
        return (
            f"the report judged candidate {report.candidate[:12]} of run {report.mlflow_run_id}, and this is "
            f"{candidate.model_sha256[:12]} of run {candidate.mlflow_run_id}. Materialize evaluation_report again."
        )
    manifest = candidate.manifest
    if not report.rows or set(report.partitions) != set(manifest.holdout_partitions):
        return (
            f"the report judged {report.rows} rows of {', '.join(report.partitions) or 'no partition'}, and the "
            f"candidate's hold-out is {', '.join(manifest.holdout_partitions)}. Materialize evaluation_report again."
        )
    if seen := sorted(set(report.partitions) & set(manifest.fitted_partitions)):
        return f"it was judged on rows that it was fitted on: {', '.join(seen)}."
    results = report.held(spec)
    if failed := unwaived(results, waived or {}):
        return f"{len(failed)} of {len(results)} gates failed: {'; '.join(map(str, failed))}."
    return None


def decide(report: EvaluationReport, champion: int | None, spec: ModelSpec) -> Decision:
    """Whether a version that cleared its gates takes the place of `champion`, the version that serves now.

    The first one does. A later one must be better on the same rows, and by at least the declared margin.
    """
    margin, metric = spec.registration.margin, report.metric
    if champion is None:
        return Decision(champion=True, sentence="It is the first version that cleared its gates: champion.")
    against = report.champion
    if against is None:
        return _stays(f"it was not compared with champion v{champion}: {report.champion_absent}")
    if against.champion_version != champion:
        return _stays(
            f"it was compared with v{against.champion_version}, and the champion is v{champion} now. "
            "Materialize evaluation_report, registered_version and champion again."
        )
    gain = against.gain.value
    if gain > 0 and gain >= margin:
        return Decision(champion=True, sentence=f"It takes the place of champion {_figures(against, metric, margin)}")
    return _stays(f"it is not better enough than champion {_figures(against, metric, margin)}")


def _stays(reason: str) -> Decision:
    return Decision(champion=False, sentence=f"It stays challenger: {reason}")


def _figures(against: Comparison, metric: str, margin: float) -> str:
    return (
        f"v{against.champion_version}: {metric} {figure(against.candidate.value)} against "
        f"{figure(against.champion.value)} on the same {against.rows:,} rows, a gain of {against.gain}; "
        f"the margin is {figure(margin)}{' and the gain must be above 0' if not margin else ''}."
    )
