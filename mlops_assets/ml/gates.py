"""What a gate is held against, and whether that clears it. How each figure is measured stands in measuring and trying.

A figure that is missing, not a number, or of too few rows clears nothing, whatever the gate asks for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import Field

from mlops_assets.ml.charts import figure
from mlops_assets.ml.code import digest_of_files, source_file
from mlops_assets.ml.spec import (
    BehaviourGate,
    CalibrationGate,
    ChampionGate,
    FairnessGate,
    Gate,
    LatencyGate,
    MetricGate,
    ModelSpec,
    SizeGate,
    Value,
    WorstSliceGate,
    digest_of,
)

LIMITS = {"name", "at_least", "at_most", "at_most_ms", "at_most_bytes", "share", "min_cases"}
NEEDS_THE_MODEL = (LatencyGate, SizeGate, BehaviourGate)
QUANTILES = {"median": 0.5, "p95": 0.95, "p99": 0.99}


class Finding(Value):
    """A measured figure with its interval, the rows (or cases) behind it, and what it is about.

    `missing` is why there is none, `exempt` why the gate's question does not arise. `parts` are the figures that it
    came from, such as each group's. `of` says what was measured, and how: `measurement` of the gate.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    rows: int | None = None
    about: str = ""
    missing: str = ""
    exempt: str = ""
    parts: dict[str, float | None] = Field(default_factory=dict)
    of: str = ""


class GateResult(Finding):
    """One gate, the finding that it was held against, and whether it passed."""

    gate: Gate
    passed: bool

    @classmethod
    def of_finding(cls, gate: Gate, finding: Finding) -> GateResult:
        """The gate held against a finding."""
        return cls(gate=gate, passed=cleared(gate, finding), **finding.model_dump(include=set(Finding.model_fields)))

    def __str__(self) -> str:
        return f"{_subject(self)} is {measured(self)}, the gate asks for {bar(self.gate)}"


def cleared(gate: Gate, finding: Finding) -> bool:
    """Whether a finding clears the gate. One that is missing, not a number or infinite never does."""
    if finding.exempt and isinstance(gate, ChampionGate):
        return True
    if finding.missing or finding.value is None or not math.isfinite(finding.value):
        return False
    if isinstance(gate, ChampionGate):
        return _stands(gate, finding.low, finding.high)
    least, most = gate.limits
    return (least is None or finding.value >= least) and (most is None or finding.value <= most)


def measured(result: GateResult) -> str:
    """The figure in words, or why there is none."""
    if result.exempt:
        return f"not asked for ({_within(result.exempt)})"
    if result.missing:
        return f"undefined ({_within(result.missing)})"
    return "undefined" if result.value is None else written(result.gate, result.value)


def too_few(rows: int, least: int, what: str = "rows") -> str:
    """Why so few rows say nothing."""
    return f"{rows:,} {what} are fewer than the {least:,} that it takes"


def measurement(gate: Gate, spec: ModelSpec) -> str:
    """What a gate measures and how, without its limits: a bar may be raised and held against what was measured before.

    Empty for metrics and the comparison with the champion, which every report holds anyway.
    """
    context: Sequence[object] = ()
    match gate:
        case MetricGate() | ChampionGate():
            return ""
        case WorstSliceGate():
            context = (spec.evaluation.slices, spec.evaluation.min_slice_rows)
        case FairnessGate():
            context = (spec.evaluation.metric,)
        case BehaviourGate():
            context = (_source(gate.behaviour.rpartition(".")[0]),)
    return digest_of([gate.model_dump(mode="json", exclude=LIMITS), context])


def bar(gate: Gate) -> str:
    """What a gate asks for, in words."""
    if isinstance(gate, ChampionGate):
        least = f"one that is not below {figure(-gate.margin)}" if gate.margin else "one that is not below 0"
        asked = {"better": "one above 0", "not_worse": least, "undecided": "one that is not all below 0"}
        return f"{asked[gate.champion]}, by its interval"
    bounds = zip(("at least", "at most"), gate.limits, strict=True)
    return " and ".join(f"{word} {written(gate, bound)}" for word, bound in bounds if bound is not None)


def written(gate: Gate, value: float) -> str:
    """A figure of a gate, with its unit."""
    match gate:
        case LatencyGate():
            return f"{figure(value)} ms"
        case SizeGate():
            return f"{value:,.0f} bytes"
    return figure(value)


def promise(gate: Gate) -> str:
    """What is true when the gate is cleared, whatever the limit is today."""
    match gate:
        case MetricGate():
            return f"{gate.metric} on the unseen rows is {bar(gate)}."
        case ChampionGate():
            return f"The gain on the champion on the same rows is {bar(gate)}."
        case WorstSliceGate():
            return f"{gate.worst_slice} of the worst slice of {gate.column or 'all declared columns'} is {bar(gate)}."
        case FairnessGate():
            return f"{_measure(gate)} between the groups of {gate.between} is {bar(gate)}."
        case CalibrationGate():
            return f"{_words(gate.calibration).capitalize()} on the unseen rows is {bar(gate)}."
        case LatencyGate():
            return f"The {gate.latency} of the time for one prediction is {bar(gate)}."
        case SizeGate():
            return f"The stored artifact has {bar(gate)}."
        case BehaviourGate():
            return f"{_words(gate.behaviour.rpartition('.')[2])}: the share of cases where it holds is {bar(gate)}."


def _subject(result: GateResult) -> str:
    about = f" ({result.about})" if result.about else ""
    match result.gate:
        case MetricGate(metric=metric):
            return metric
        case ChampionGate():
            return f"the gain{about or ' on the champion'}"
        case WorstSliceGate(worst_slice=metric):
            return f"{metric} of the worst slice{about}"
        case FairnessGate(between=column) as gate:
            return f"{_measure(gate)} between the groups of {column}{about}"
        case CalibrationGate(calibration=measure):
            return f"{_words(measure)}{about}"
        case LatencyGate(latency=quantile):
            return f"the {quantile} of the time for one prediction"
        case SizeGate():
            return "the stored artifact"
        case BehaviourGate() as gate:
            return f"the share of cases where {gate.called} holds{about}"


def _measure(gate: FairnessGate) -> str:
    kind = gate.fairness.removeprefix("metric_")
    return _words(gate.fairness) if kind == gate.fairness else f"the {kind} of {gate.of or 'the metric that decides'}"


def _source(module: str) -> str:
    """The digest of a module's source; empty where there is no such module, which is found out when it is called."""
    try:
        return digest_of_files({module: source_file(module)})
    except (ImportError, ValueError):
        return ""


def _stands(gate: ChampionGate, low: float | None, high: float | None) -> bool:
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return False
    return {"better": low > 0, "not_worse": low >= -gate.margin, "undecided": high >= 0}[gate.champion]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _within(text: str) -> str:
    return text[:1].lower() + text[1:].rstrip(".")
