"""What Dagster's UI shows of an evaluation report: the sentence, links, pictures and tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg

from mlops_assets.ml.charts import markdown
from mlops_assets.ml.evaluation import Comparison, EvaluationReport
from mlops_assets.ml.evaluation_page import html
from mlops_assets.ml.gates import GateResult, bar, measured
from mlops_assets.ml.spec import ChampionGate
from mlops_assets.ml.waivers import Waiver
from mlops_assets.resources.reports import Reports

PICTURES = ".pictures"


def shown(report: EvaluationReport, drawn: Mapping[str, str], reports: Reports) -> dict[str, Any]:
    """What a person sees of a report in Dagster, saved as a page and as JSON on the way."""
    path = path_of(report)
    reports.save(f"{path}{PICTURES}", json.dumps(list(drawn.values())))
    page = reports.save(f"{path}.html", html(report, list(drawn.values())))
    record = reports.save(f"{path}.json", report.model_dump_json(indent=1))
    return {
        "summary": dg.MetadataValue.text(report.sentence),
        "report": dg.MetadataValue.url(page),
        "report_json": dg.MetadataValue.url(record),
        **{name: dg.MetadataValue.md(markdown(svg, name.replace("_", " "))) for name, svg in drawn.items()},
        "metrics": _metric_table(report),
        "against_champion": _champion_table(report.champion) if report.champion else report.champion_absent,
        "gates": gate_table(report) if report.gates else "none declared",
        "slices": _slice_table(report) if report.slices else "none",
        "notes": " ".join(report.notes) or "none",
        "candidate": dg.MetadataValue.text(report.candidate),
        "judged_partitions": dg.MetadataValue.text(", ".join(report.partitions)),
        "judged_rows": report.rows,
        **report.figures,
    }


def path_of(report: EvaluationReport) -> str:
    """Where the pages of a report are, without their suffix."""
    return f"{report.model}/evaluation/{report.digest()[:16]}"


def pictures_of(report: EvaluationReport, reports: Reports) -> list[str]:
    """The pictures that were drawn when the report was made, as SVG; none where they are gone."""
    return json.loads(reports.read(f"{path_of(report)}{PICTURES}") or "[]")


def gate_table(report: EvaluationReport) -> dg.TableMetadataValue:
    """Every gate with the figure that it was held against."""
    return _table(
        {
            "gate": g.gate.called,
            "asks_for": bar(g.gate),
            "is": measured(g),
            "low": g.low,
            "high": g.high,
            "passed": g.passed,
        }
        for g in report.gates
    )


def gate_metadata(result: GateResult, waiver: Waiver | None) -> dict[str, Any]:
    """The numbers of one gate: its figure, limit and interval, what it came from, and who let it go."""
    least, most = (None, None) if isinstance(result.gate, ChampionGate) else result.gate.limits
    limits = {"at_least": least, "at_most": most}
    numbers = {"value": result.value, "low": result.low, "high": result.high, "rows": result.rows, **limits}
    return {
        **{name: value for name, value in numbers.items() if value is not None},
        "asks_for": bar(result.gate),
        **({"about": result.about} if result.about else {}),
        **({"missing": result.missing} if result.missing else {}),
        **(
            {"parts": _table({"of": name, "value": part} for name, part in result.parts.items())}
            if result.parts
            else {}
        ),
        **({"waived": str(waiver), "waiver_entry": waiver.sequence} if waiver else {}),
    }


def _metric_table(report: EvaluationReport) -> dg.TableMetadataValue:
    naive = {name: found.value for name, found in report.baseline.items()}
    return _table(
        {"metric": name, **found.model_dump(), "naive": naive.get(name)} for name, found in report.metrics.items()
    )


def _champion_table(against: Comparison) -> dg.TableMetadataValue:
    champion = f"champion v{against.champion_version}"
    who = {champion: against.champion, "candidate": against.candidate, "gain": against.gain}
    return _table({"of": name, **found.model_dump()} for name, found in who.items())


def _slice_table(report: EvaluationReport) -> dg.TableMetadataValue:
    return _table(
        {"column": part.column, "value": part.value, "rows": part.rows}
        | {name: part.metrics.get(name) for name in report.metrics}
        for part in report.slices
    )


def _table(rows: Iterable[Mapping[str, str | float | None]]) -> dg.TableMetadataValue:
    """A table whose numbers are short enough to be read in columns."""
    return dg.MetadataValue.table([dg.TableRecord({name: _short(cell) for name, cell in row.items()}) for row in rows])


def _short(cell: str | float | None) -> str | float | None:
    return float(f"{cell:.4g}") if isinstance(cell, float) else cell
