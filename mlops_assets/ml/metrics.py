"""The metrics of each task: which way is better, their values, and their bootstrap replicates. NumPy only.

Every metric is a function of sums over rows. Rows are cut into blocks of neighbours in time, the sums of each block
are taken once, and a bootstrap replicate is a weighted sum of blocks: it costs by the number of blocks, not of rows.
Blocks, because neighbouring hours resemble each other and rows drawn one by one would make intervals too narrow
(Carlstein 1986, doi:10.1214/aos/1176350057; Künsch 1989, doi:10.1214/aos/1176347265).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

Task = Literal["regression", "binary", "multiclass"]
Sums = dict[str, np.ndarray]

METRICS: dict[Task, dict[str, Literal["higher", "lower"]]] = {
    "regression": {"mae": "lower", "rmse": "lower", "r2": "higher", "wape": "lower", "bias": "lower"},
    "binary": {
        "roc_auc": "higher",
        "average_precision": "higher",
        "accuracy": "higher",
        "balanced_accuracy": "higher",
        "f1": "higher",
        "precision": "higher",
        "recall": "higher",
        "log_loss": "lower",
        "brier": "lower",
    },
    "multiclass": {
        "accuracy": "higher",
        "balanced_accuracy": "higher",
        "f1_macro": "higher",
        "log_loss": "lower",
    },
}
MEANING = {
    "mae": "mean absolute error",
    "rmse": "root of the mean squared error",
    "r2": "share of the variance explained",
    "wape": "absolute error as a share of the total",
    "bias": "mean of predicted minus actual: best near zero",
    "roc_auc": "chance that a positive row is ranked above a negative one",
    "average_precision": "precision averaged over all recalls",
    "accuracy": "share of rows called right",
    "balanced_accuracy": "recall averaged over classes",
    "f1": "harmonic mean of precision and recall",
    "f1_macro": "F1 averaged over classes",
    "precision": "share of positive calls that are right",
    "recall": "share of positive rows that are found",
    "log_loss": "mean negative log-likelihood",
    "brier": "mean squared error of the probability",
    "skill": "share of the naive baseline's error that is gone",
}
NEEDS_TWO_CLASSES = ("roc_auc", "average_precision", "balanced_accuracy", "f1", "f1_macro", "precision", "recall")
MIN_BLOCKS, MAX_BLOCKS, BINS = 20, 1000, 256


class UnusablePredictionsError(ValueError):
    """Predictions that no metric can be computed from: missing, infinite, out of range, or too few."""


@dataclass(frozen=True)
class Resampling:
    """Where each block of rows starts, and how often each replicate (row) draws each block (column)."""

    starts: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Scores:
    """Each metric on all rows, and on every replicate. NaN where the rows do not define it."""

    values: dict[str, float]
    replicates: dict[str, np.ndarray]


def direction(task: Task, metric: str) -> Literal["higher", "lower"]:
    """Which way is better."""
    return METRICS[task][metric]


def loss(task: Task, metric: str, value: np.ndarray | float) -> np.ndarray:
    """The metric turned so that less is better."""
    if metric == "bias":
        return np.abs(np.asarray(value))
    return np.asarray(value) if direction(task, metric) == "lower" else -np.asarray(value)


def skill(task: Task, metric: str, value: float, baseline: float) -> float:
    """The share of the baseline's distance to perfection that is gone: 1 is perfect, 0 no better, NaN undefined."""
    perfect = 0.0 if direction(task, metric) == "lower" else -1.0
    room = float(loss(task, metric, baseline)) - perfect
    return 1 - (float(loss(task, metric, value)) - perfect) / room if room > 0 else math.nan


def resampling(rows: int, days: float, replicates: int, seed: int) -> Resampling:
    """Blocks of equal length in time order, one a day within 20 and 1000, and how often each replicate draws each."""
    blocks = min(rows, MAX_BLOCKS, max(MIN_BLOCKS, math.ceil(days)))
    starts = np.arange(blocks) * rows // blocks
    drawn = np.random.default_rng(seed).multinomial(blocks, np.full(blocks, 1 / blocks), replicates)
    return Resampling(starts, drawn.astype(float))


def scores(task: Task, actual: np.ndarray, predicted: np.ndarray, how: Resampling) -> Scores:
    """Every metric of the task on rows in time order, with replicates.

    Regression: two arrays of numbers. Classification: codes of classes, and a column of probabilities for each class.
    The two rankings (AUC, average precision) are exact on all rows; their replicates use 256 bins of the predictions,
    shifted so that their centre is the exact value.
    """
    _refuse_unusable(task, actual, predicted)
    blocks = _sums(task, actual, predicted, how.starts)
    whole = of_sums(task, {name: part.sum(axis=0) for name, part in blocks.items()})
    drawn = {name: np.tensordot(how.weights, part, axes=1) for name, part in blocks.items()}
    replicates = of_sums(task, drawn)
    values = {name: float(value) for name, value in whole.items()}
    if task == "binary":
        for name, exact in rankings(actual, predicted[:, 1]).items():
            replicates[name] = np.clip(replicates[name] + exact - values[name], 0, 1)
            values[name] = exact
    return Scores(values, replicates)


def values(task: Task, actual: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Every metric of the task that the rows define."""
    _refuse_unusable(task, actual, predicted)
    sums = {name: part[0] for name, part in _sums(task, actual, predicted, np.zeros(1, int)).items()}
    found = {name: float(value) for name, value in of_sums(task, sums).items()}
    if task == "binary":
        found |= rankings(actual, predicted[:, 1])
    return {name: value for name, value in found.items() if math.isfinite(value)}


def of_sums(task: Task, sums: Sums) -> Sums:
    """Every metric of the task from sums over rows, one value for each replicate of them; NaN where undefined."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return _regression_metrics(sums) if task == "regression" else _class_metrics(sums, task)


def interval(replicates: np.ndarray, confidence: float) -> tuple[float, float]:
    """The percentile interval over the replicates that are defined; NaN where none is."""
    defined = replicates[np.isfinite(replicates)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def rankings(actual: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """AUC and average precision of a probability for class 1, exactly; ties share their rank."""
    order = np.argsort(probability, kind="stable")[::-1]
    ranked = probability[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    positives = np.diff(np.cumsum(actual[order] == 1)[last_of_tie], prepend=0)
    negatives = np.diff(last_of_tie, prepend=-1) - positives
    return {name: float(value) for name, value in _ranking(positives, negatives).items()}


def _refuse_unusable(task: Task, actual: np.ndarray, predicted: np.ndarray) -> None:
    if not len(actual):
        raise UnusablePredictionsError("there are no rows to judge.")
    if len(actual) != len(predicted):
        raise UnusablePredictionsError(f"{len(predicted)} predictions for {len(actual)} rows.")
    bad = ~np.isfinite(predicted) if task == "regression" else ~((predicted >= 0) & (predicted <= 1)).all(axis=1)
    if bad.any():
        rule = "not finite" if task == "regression" else "not probabilities between 0 and 1"
        first = ", ".join(map(str, np.flatnonzero(bad)[:5]))
        raise UnusablePredictionsError(f"{bad.sum()} of {len(actual)} predictions are {rule} (first at rows {first}).")


def _sums(task: Task, actual: np.ndarray, predicted: np.ndarray, starts: np.ndarray) -> Sums:
    return (
        _regression_sums(actual, predicted, starts)
        if task == "regression"
        else _class_sums(actual, predicted, starts, ranked=task == "binary")
    )


def _regression_sums(actual: np.ndarray, predicted: np.ndarray, starts: np.ndarray) -> Sums:
    actual, predicted = np.asarray(actual, float), np.asarray(predicted, float)
    error, centred = predicted - actual, actual - actual.mean()
    parts = {
        "rows": np.ones(len(actual)),
        "error": error,
        "absolute_error": np.abs(error),
        "squared_error": error**2,
        "absolute": np.abs(actual),
        "centred": centred,
        "squared": centred**2,
    }
    return {name: np.add.reduceat(part, starts) for name, part in parts.items()}


def _regression_metrics(sums: Sums) -> Sums:
    rows, squared_error = sums["rows"], sums["squared_error"]
    variation = sums["squared"] - sums["centred"] ** 2 / rows
    return {
        "mae": sums["absolute_error"] / rows,
        "rmse": np.sqrt(squared_error / rows),
        "r2": np.where(variation > 0, 1 - squared_error / variation, np.nan),
        "wape": np.where(sums["absolute"] > 0, sums["absolute_error"] / sums["absolute"], np.nan),
        "bias": sums["error"] / rows,
    }


def _class_sums(actual: np.ndarray, predicted: np.ndarray, starts: np.ndarray, *, ranked: bool) -> Sums:
    predicted = np.asarray(predicted, float)
    classes, blocks = predicted.shape[1], len(starts)
    called = predicted.argmax(axis=1)
    block = np.repeat(np.arange(blocks), np.diff(starts, append=len(actual)))

    def count(codes: np.ndarray, where: np.ndarray | slice, width: int) -> np.ndarray:
        cells = block[where] * width + codes[where]
        return np.bincount(cells, minlength=blocks * width).reshape(blocks, width).astype(float)

    everywhere = slice(None)
    chance = predicted[np.arange(len(actual)), actual] / predicted.sum(axis=1)
    smallest = np.finfo(float).eps
    sums = {
        "rows": np.bincount(block, minlength=blocks).astype(float),
        "right": count(actual, called == actual, classes),
        "actual": count(actual, everywhere, classes),
        "called": count(called, everywhere, classes),
        "log_loss": np.add.reduceat(-np.log(np.clip(chance, smallest, 1 - smallest)), starts),
    }
    if ranked:
        probability = predicted[:, 1]
        edges = np.unique(np.quantile(probability, np.linspace(0, 1, BINS + 1)[1:-1]))
        cell = len(edges) - np.searchsorted(edges, probability, side="left")
        sums["brier"] = np.add.reduceat((probability - actual) ** 2, starts)
        sums["positives"] = count(cell, actual == 1, len(edges) + 1)
        sums["negatives"] = count(cell, actual != 1, len(edges) + 1)
    return sums


def _class_metrics(sums: Sums, task: Task) -> Sums:
    rows, right, actual, called = (sums[name] for name in ("rows", "right", "actual", "called"))
    several = (actual > 0).sum(axis=-1) > 1
    recall = right / actual
    f1 = 2 * right / (actual + called)
    metrics = {
        "accuracy": right.sum(axis=-1) / rows,
        "balanced_accuracy": np.where(several, _mean_of_defined(recall), np.nan),
        "log_loss": sums["log_loss"] / rows,
    }
    if task == "multiclass":
        return metrics | {"f1_macro": np.where(several, _mean_of_defined(f1), np.nan)}
    return metrics | {
        "f1": np.where(several, f1[..., 1], np.nan),
        "precision": np.where(several, right[..., 1] / called[..., 1], np.nan),
        "recall": np.where(several, recall[..., 1], np.nan),
        "brier": sums["brier"] / rows,
        **_ranking(sums["positives"], sums["negatives"]),
    }


def _ranking(positives: np.ndarray, negatives: np.ndarray) -> Mapping[str, np.ndarray]:
    """AUC and average precision from counts in cells of equal prediction, highest prediction first."""
    with np.errstate(divide="ignore", invalid="ignore"):
        all_positives, all_negatives = positives.sum(axis=-1), negatives.sum(axis=-1)
        found, wrongly = positives.cumsum(axis=-1), negatives.cumsum(axis=-1)
        lower = all_negatives[..., None] - wrongly + negatives / 2
        precision = np.where(found + wrongly > 0, found / (found + wrongly), 0)
        return {
            "roc_auc": (positives * lower).sum(axis=-1) / (all_positives * all_negatives),
            "average_precision": np.where(
                all_negatives > 0, (precision * positives).sum(axis=-1) / all_positives, np.nan
            ),
        }


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    defined = np.isfinite(values)
    return np.where(defined, values, 0).sum(axis=-1) / defined.sum(axis=-1)
