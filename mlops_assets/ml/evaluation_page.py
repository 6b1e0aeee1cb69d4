"""The page that shows an evaluation report to a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlops_assets.ml.charts import figure
from mlops_assets.ml.evaluation import Comparison, Estimate, EvaluationReport
from mlops_assets.ml.gates import measured, promise, written
from mlops_assets.ml.holdout import listed
from mlops_assets.ml.metrics import MEANING
from mlops_assets.ml.pages import Html, page, section, table, verdict


def html(report: EvaluationReport, pictures: Sequence[str]) -> str:
    """The report as a page that needs nothing else; `pictures` are SVG."""
    return page(
        f"{report.model}: evaluation report",
        f"candidate {report.candidate[:12]}, MLflow run {report.mlflow_run_id}, judged on {listed(report.partitions)}",
        report.sentence,
        sections(report, pictures),
    )


def sections(report: EvaluationReport, pictures: Sequence[str]) -> Iterator[Html]:
    """What the report says, gates first; `pictures` are SVG."""
    if report.gates:
        rows = [
            (
                promise(g.gate),
                measured(g),
                "" if g.low is None or g.high is None else f"{written(g.gate, g.low)} to {written(g.gate, g.high)}",
                verdict("passed" if g.passed else "failed", good=g.passed),
            )
            for g in report.gates
        ]
        yield section("Gates", table(("gate", "is", "interval", "verdict"), rows, numeric=4))
    yield section("Metrics", _metrics(report), *(f"{name}: {why}." for name, why in report.absent.items()))
    yield section(
        f"Against the champion: {report.champion.verdict}" if report.champion else "Against the champion",
        _comparison(report.champion, report.metric) if report.champion else str(report.champion_absent),
    )
    if pictures:
        yield section("Pictures", *(Html(f"<p>{picture}</p>") for picture in pictures))
    if report.slices:
        yield section("Slices", _slices(report))
    if report.notes:
        yield section("Notes", *report.notes)


def _metrics(report: EvaluationReport) -> Html:
    level = f"{report.confidence:.0%} interval"
    rows = [
        (name, MEANING[name], figure(estimate.value), _range(estimate), _figure(_value(report.baseline.get(name))))
        for name, estimate in report.metrics.items()
    ]
    return table(("metric", "meaning", "candidate", level, f"naive: {report.baseline_name}"), rows, numeric=2)


def _comparison(against: Comparison, metric: str) -> Html:
    rows = [
        (f"champion v{against.champion_version}", figure(against.champion.value), _range(against.champion)),
        ("candidate", figure(against.candidate.value), _range(against.candidate)),
        ("gain (positive is better)", figure(against.gain.value), _range(against.gain)),
    ]
    return table((f"{metric} on the same {against.rows:,} rows", metric, "interval"), rows)


def _slices(report: EvaluationReport) -> Html:
    names = list(report.metrics)
    rows = [
        (part.column, part.value, f"{part.rows:,}", *(_figure(part.metrics.get(name)) for name in names))
        for part in report.slices
    ]
    return table(("column", "value", "rows", *names), rows, numeric=2)


def _range(estimate: Estimate) -> str:
    return f"{figure(estimate.low)} to {figure(estimate.high)}"


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value


def _figure(value: float | None) -> str:
    return "undefined" if value is None else figure(value)
