"""What gates measure on the rows that judge a candidate: its worst slice, its fairness between groups, its calibration.

Intervals are over replicates of blocks of neighbours in time, as everywhere (metrics.py). The worst of several slices,
and the widest gap between several groups, come out larger in small samples than they are: the more groups, the more so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mlops_assets.ml import metrics
from mlops_assets.ml.gates import Finding, measurement, too_few
from mlops_assets.ml.holdout import Trial, groups
from mlops_assets.ml.spec import CalibrationGate, FairnessGate, Gate, WorstSliceGate

MOST_PARTS = 50
RATES = {"demographic_parity": ("selected",), "equal_opportunity": ("found",), "equalized_odds": ("found", "wrongly")}


@dataclass(frozen=True)
class Group:
    """Some of the rows, and what they are called."""

    name: str
    where: np.ndarray

    @property
    def rows(self) -> int:
        """How many they are."""
        return int(self.where.sum())


def measured(trial: Trial, predicted: np.ndarray, personal: Collection[str]) -> dict[str, Finding]:
    """The finding of every declared gate that is about slices, groups or calibration, by the gate's name."""
    found = {gate.called: (gate, _finding(gate, trial, predicted, personal)) for gate in trial.spec.gates}
    return {
        name: finding.model_copy(update={"of": measurement(gate, trial.spec)})
        for name, (gate, finding) in found.items()
        if finding is not None
    }


def _finding(gate: Gate, trial: Trial, predicted: np.ndarray, personal: Collection[str]) -> Finding | None:
    match gate:
        case WorstSliceGate():
            return worst_slice(gate, trial, predicted, personal)
        case FairnessGate():
            return fairness(gate, trial, predicted, personal)
        case CalibrationGate():
            return calibration(gate, trial, predicted)
    return None


def worst_slice(gate: WorstSliceGate, trial: Trial, predicted: np.ndarray, personal: Collection[str]) -> Finding:
    """The metric of the slice where it is worst, of all with enough rows; each of them must define it."""
    spec, metric, fewest = trial.spec, gate.worst_slice, trial.spec.evaluation.min_slice_rows
    columns = (gate.column,) if gate.column else spec.evaluation.slices
    parts: dict[str, float | None] = {}
    slices: dict[str, Group] = {}
    for column in columns:
        large = [part for part in _groups(trial, column, personal) if part.rows >= fewest]
        if not large:
            return Finding(missing=f"no slice of {column} has {fewest} rows")
        slices |= {f"{column} = {part.name}": part for part in large}
    for name, part in slices.items():
        values = metrics.values(spec.task, trial.actual[part.where], predicted[part.where])
        if metric not in values:
            return Finding(missing=f"{metric} is not defined on the {part.rows:,} rows where {name}", rows=part.rows)
        parts[name] = values[metric]
    worst = max(parts, key=lambda name: float(metrics.loss(spec.task, metric, float(parts[name] or 0))))
    part = slices[worst]
    drawn = trial.scores(predicted[part.where], part.where).replicates[metric]
    shown = dict(list(parts.items())[:MOST_PARTS])
    return _estimated(trial, parts[worst], drawn, part.rows, f"{worst}, {part.rows:,} rows", shown)


def fairness(gate: FairnessGate, trial: Trial, predicted: np.ndarray, personal: Collection[str]) -> Finding:
    """The figure of fairlearn between the groups; each has to have enough rows, and all that its rate is made of."""
    if gate.between not in trial.holdout.frame.columns:
        return Finding(missing=f"validated_features has no column {gate.between}")
    parts = list(_groups(trial, gate.between, personal, gate.groups))
    if wrong := _unusable(gate, trial, parts):
        return Finding(missing=wrong)
    inside = np.logical_or.reduce([part.where for part in parts])
    labels = np.select([part.where for part in parts], [part.name for part in parts], "")[inside]
    if gate.fairness.startswith("metric_"):
        value, by_group = _metric_gap(gate, trial, predicted, inside, labels)
        drawn = {"metric": [trial.scores(predicted[p.where], p.where).replicates[_metric(gate, trial)] for p in parts]}
    else:
        value, by_group = _parity(gate, trial.actual[inside], predicted[inside].argmax(axis=1), labels)
        drawn = _rates(gate, trial, predicted, parts)
    gaps = [_gap(np.array(each), ratio=gate.fairness.endswith("_ratio")) for each in drawn.values()]
    widest = np.minimum if gate.fairness.endswith("_ratio") else np.maximum
    rows = min(part.rows for part in parts)
    return _estimated(
        trial, value, widest.reduce(gaps), int(inside.sum()), f"{len(parts)} groups of {rows:,} rows and more", by_group
    )


def calibration(gate: CalibrationGate, trial: Trial, predicted: np.ndarray) -> Finding:
    """How far what was said is from what came, on all rows.

    Expected calibration error: the mean over rows of |how often it came - what was said|, within bins of equal width of
    the probability said of the positive class, or of the likeliest where there are more than two (Naeini et al. 2015,
    doi:10.1609/aaai.v29i1.9602; Guo et al. 2017, arXiv:1706.04599). Brier score: the mean squared error of the
    probability, summed over classes where there are more than two (Brier 1950). Mean bias: |mean of said - came|.
    """
    rows = len(trial.actual)
    if rows < gate.min_rows:
        return Finding(missing=too_few(rows, gate.min_rows), rows=rows)
    summed, combine = _calibration_sums(gate, trial.actual, predicted)
    blocks = np.add.reduceat(summed, trial.how.starts, axis=0)
    value = float(combine(blocks.sum(axis=0)))
    drawn = combine(np.tensordot(trial.how.weights, blocks, axes=1))
    about = ""
    if gate.calibration == "mean_bias" and value:
        about = "the answers are too high" if summed[:, 1].sum() > 0 else "the answers are too low"
    return _estimated(trial, value, drawn, rows, about, {})


def _calibration_sums(
    gate: CalibrationGate, actual: np.ndarray, predicted: np.ndarray
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Terms of each row, and the measure as a function of their sums (in the last axis)."""
    ones = np.ones(len(actual))
    if gate.calibration == "mean_bias":
        return np.column_stack([ones, predicted - actual]), lambda sums: np.abs(sums[..., 1] / sums[..., 0])
    if gate.calibration == "brier_score":
        binary = predicted.shape[1] == 2
        off = predicted - np.eye(predicted.shape[1])[actual]
        squared = off[:, 1] ** 2 if binary else (off**2).sum(axis=1)
        return np.column_stack([ones, squared]), lambda sums: sums[..., 1] / sums[..., 0]
    two = predicted.shape[1] == 2
    said = predicted[:, 1] if two else predicted.max(axis=1)
    came = actual == 1 if two else predicted.argmax(axis=1) == actual
    cell = np.minimum((said * gate.bins).astype(int), gate.bins - 1)
    inside = np.eye(gate.bins)[cell] * (came - said)[:, None]
    return np.column_stack([ones, inside]), lambda sums: np.abs(sums[..., 1:]).sum(axis=-1) / sums[..., 0]


def _groups(trial: Trial, column: str, personal: Collection[str], named: Sequence[str] = ()) -> Iterator[Group]:
    """The groups of a column: those that are named, or all there are. Personal values are called by their place."""
    values, hidden = trial.holdout.frame[column], column in personal
    if not named:
        yield from (Group(name, where) for name, where in groups(values, hidden=hidden))
        return
    texts = values.astype(str)
    for place, name in enumerate(named, start=1):
        yield Group(f"group {place}" if hidden else name, (texts == name).to_numpy())


def _unusable(gate: FairnessGate, trial: Trial, parts: Sequence[Group]) -> str | None:
    """Why the groups cannot be compared."""
    for part in parts:
        if part.rows < gate.min_rows:
            named = "" if gate.groups else "; name those to compare in `groups`"
            return f"{gate.between} = {part.name}: {too_few(part.rows, gate.min_rows)}{named}"
    if len(parts) < 2:
        return f"{gate.between} has one group only"
    if not gate.groups and sum(part.rows for part in parts) < len(trial.actual):
        return f"{gate.between} has more than {len(parts)} groups: name those to compare in `groups`"
    classes = {"equal_opportunity": (1,), "equalized_odds": (0, 1)}.get(_family(gate), ())
    for part in parts:
        for label in classes:
            if not (trial.actual[part.where] == label).any():
                return f"no row where {gate.between} = {part.name} is {trial.classes[label]}"
    return None


def _parity(
    gate: FairnessGate, actual: np.ndarray, said: np.ndarray, labels: np.ndarray
) -> tuple[float, dict[str, float | None]]:
    from fairlearn import metrics as fair

    value = getattr(fair, gate.fairness)(actual, said, sensitive_features=labels)
    rates = {"selected": fair.selection_rate, "found": fair.true_positive_rate, "wrongly": fair.false_positive_rate}
    shown: dict[str, Any] = {name: rates[name] for name in RATES[_family(gate)]}
    frame = fair.MetricFrame(metrics=shown, y_true=actual, y_pred=said, sensitive_features=labels)
    return float(value), _by_group(frame.by_group)


def _metric_gap(
    gate: FairnessGate, trial: Trial, predicted: np.ndarray, inside: np.ndarray, labels: np.ndarray
) -> tuple[float, dict[str, float | None]]:
    from fairlearn.metrics import MetricFrame

    metric = _metric(gate, trial)

    def of(_: np.ndarray, places: np.ndarray) -> float:
        rows = np.asarray(places)
        return metrics.values(trial.spec.task, trial.actual[rows], predicted[rows]).get(metric, math.nan)

    places = np.flatnonzero(inside)
    frame = MetricFrame(metrics={metric: of}, y_true=places, y_pred=places, sensitive_features=labels)
    if frame.by_group[metric].isna().any():
        return math.nan, _by_group(frame.by_group)
    gap = frame.ratio() if gate.fairness.endswith("_ratio") else frame.difference()
    return float(gap[metric]), _by_group(frame.by_group)


def _by_group(frame: pd.DataFrame) -> dict[str, float | None]:
    """Each rate of each group, under both names."""
    cells = {
        f"{group}: {name.replace('_', ' ')}" if len(frame.columns) > 1 else str(group): float(frame.loc[group, name])
        for group in frame.index
        for name in frame.columns
    }
    return {name: value if math.isfinite(value) else None for name, value in cells.items()}


def _rates(
    gate: FairnessGate, trial: Trial, predicted: np.ndarray, parts: Sequence[Group]
) -> Mapping[str, list[np.ndarray]]:
    """Replicates of each rate that the measure compares, a list of groups each."""
    called = predicted.argmax(axis=1) == 1
    among = {"selected": np.ones(len(called), bool), "found": trial.actual == 1, "wrongly": trial.actual == 0}
    found: dict[str, list[np.ndarray]] = {}
    for rate in RATES[_family(gate)]:
        found[rate] = []
        for part in parts:
            counted, chosen = among[rate][part.where], (among[rate] & called)[part.where]
            how = trial.resampled(part.where)
            sums = [how.weights @ np.add.reduceat(each.astype(float), how.starts) for each in (chosen, counted)]
            with np.errstate(divide="ignore", invalid="ignore"):
                found[rate].append(sums[0] / sums[1])
    return found


def _gap(rates: np.ndarray, *, ratio: bool) -> np.ndarray:
    """Between the groups (in the first axis): largest minus smallest, or smallest over largest."""
    least, most = rates.min(axis=0), rates.max(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return least / most if ratio else most - least


def _estimated(
    trial: Trial,
    value: float | None,
    drawn: np.ndarray,
    rows: int,
    about: str,
    parts: Mapping[str, float | None],
) -> Finding:
    """A figure with the interval of its replicates, where it is one."""
    if value is None or not math.isfinite(value):
        return Finding(missing="the figure is not a number on these rows", rows=rows, about=about, parts=dict(parts))
    ends = metrics.interval(drawn, trial.spec.evaluation.confidence)
    low, high = (end if math.isfinite(end) else None for end in ends)
    return Finding(value=value, low=low, high=high, rows=rows, about=about, parts=dict(parts))


def _family(gate: FairnessGate) -> str:
    return gate.fairness.removesuffix("_difference").removesuffix("_ratio")


def _metric(gate: FairnessGate, trial: Trial) -> str:
    return gate.of or trial.spec.evaluation.metric
