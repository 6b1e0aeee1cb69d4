"""Records made by hand: what tests of the later stages and of what watches them hand around."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from mlops_assets.ml.evaluation import Comparison, Estimate, EvaluationReport
from mlops_assets.ml.ledger import Entry, Link, reigns
from mlops_assets.ml.monitoring import DriftReport
from mlops_assets.ml.performance import PerformanceReport
from mlops_assets.ml.profiles import Profile
from mlops_assets.ml.registration import Champion
from mlops_assets.ml.retraining import TrainingFacts
from mlops_assets.ml.training import Candidate, Manifest
from mlops_assets.ml.validation import ValidatedPartition


def candidate(
    sha256: str = "c" * 64,
    run: str = "run-1",
    fitted: tuple[str, ...] = ("2024-01-01", "2024-02-01"),
    holdout: tuple[str, ...] = ("2024-03-01",),
    target: str = "sales",
    **changes: Any,
) -> Candidate:
    """A candidate of the toy model, with any field replaced."""
    manifest = Manifest(
        model="toy",
        spec={"target": target},
        deliveries={},
        contents={},
        table_version=0,
        fitted_partitions=fitted,
        holdout_partitions=holdout,
        code="0",
        lock="0",
        environment={},
    )
    fields: dict[str, Any] = {
        "model": "toy",
        "mlflow_run_id": run,
        "model_uri": "file:///nowhere",
        "model_sha256": sha256,
        "manifest": manifest,
        "inputs": ("event_time", "kind", "price", "wind"),
        "fitted_rows": 600,
        "importance": {},
        "reference": "",
        "reference_sample": "",
        "cpu_seconds": 1.0,
    }
    return Candidate.model_validate({**fields, **changes})


def about(value: float, spread: float = 0.5) -> Estimate:
    """A figure with an interval around it."""
    return Estimate(value=value, low=value - spread, high=value + spread)


def comparison(gain: float, version: int = 1) -> Comparison:
    """A comparison with champion `version` that the candidate wins by `gain`."""
    return Comparison(
        champion_version=version,
        partitions=("2024-03-01",),
        rows=300,
        champion=about(4.0),
        candidate=about(4.0 - gain),
        gain=about(gain),
        verdict="undecided",
    )


def report(of: Candidate, mae: float = 3.0, **changes: Any) -> EvaluationReport:
    """A report on a candidate, with any field replaced."""
    fields: dict[str, Any] = {
        "model": "toy",
        "candidate": of.model_sha256,
        "mlflow_run_id": of.mlflow_run_id,
        "partitions": of.manifest.holdout_partitions,
        "rows": 300,
        "metric": "mae",
        "confidence": 0.95,
        "metrics": {"mae": about(mae)},
        "baseline": {"mae": about(6.0)},
        "baseline_name": "the training median",
        "skill": 1 - mae / 6,
        "champion": None,
        "champion_absent": "There is no champion yet.",
        "slices": (),
        "gates": (),
        "sentence": "Judged by hand.",
    }
    return EvaluationReport.model_validate({**fields, **changes})


def _of(month: str) -> dict[str, Any]:
    first = datetime.fromisoformat(f"{month}-01T00:00:00+00:00")
    return {"model": "toy", "partition": f"{month}-01", "first": first, "delivery": f"bytes of {month}"}


def validated(month: str, **changes: Any) -> ValidatedPartition:
    """A month of 300 rows as validated, with any field replaced."""
    about = _of(month)
    fields: dict[str, Any] = {
        **about,
        "delivered": about["first"],
        "last": about["first"],
        "rows_in": 300,
        "rows_out": 300,
        "rows_quarantined": 0,
        "broken_rules": (),
        "table_version": 0,
        "files": {},
        "content": f"rows of {month}",
        "profile": Profile(rows=300, columns={}),
    }
    return ValidatedPartition.model_validate({**fields, **changes})


def drift(month: str, verdict: str, **changes: Any) -> DriftReport:
    """A month judged against version 1, with any field replaced."""
    fields: dict[str, Any] = {
        **_of(month),
        "version": 1,
        "rows": 300,
        "usual_rows": 300,
        "reference_rows": 600,
        "columns": (),
        "left_out": {},
        "prediction": None,
        "weighted_share": {"stable": 0.0, "watch": 0.2, "drifted": 0.7}[verdict],
        "verdict": verdict,
        "sentence": f"{verdict}: by hand.",
    }
    return DriftReport.model_validate({**fields, **changes})


def performance(month: str, mae: float | None = 3.0, **changes: Any) -> PerformanceReport:
    """A month measured on mature labels, version 1 having had 3 at registration; with any field replaced."""
    fields: dict[str, Any] = {
        **_of(month),
        "version": 1,
        "labels": None,
        "metric": "mae",
        "rows": 300,
        "labelled": 300,
        "mature": True,
        "metrics": {} if mae is None else {"mae": about(mae)},
        "at_registration": about(3.0),
        "sentence": f"mae is {mae}: by hand.",
    }
    return PerformanceReport.model_validate({**fields, **changes})


FIRST = TrainingFacts(
    partition="2023-12-01",
    fitted=2,
    holdout=about(3.0),
    gain=None,
    became_champion=True,
    cpu_seconds=1.0,
    candidate="run-0",
)


def champion(candidate: Candidate, version: int = 2, considered: Candidate | None = None) -> Champion:
    """The record of a version that holds a candidate, released by hand."""
    wish = Entry(kind="released", model="toy", version=version, who="ada", why="By hand.", when=datetime.now(UTC))
    [reign] = reigns([Link.after(None, wish)], "toy")
    return Champion(
        model="toy",
        version=version,
        candidate=candidate.model_sha256,
        mlflow_run_id=candidate.mlflow_run_id,
        reign=reign,
        considered=(considered or candidate).model_sha256,
        sentence="By hand.",
    )
