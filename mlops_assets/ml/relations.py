"""How a version's errors depend on its scores: learned from its own hold-out, laid over the scores of new rows.

How often a class came true where it was given such a probability, how far off the truth was where such a number was
predicted. Kept as plain sums over blocks of neighbours in time, so that the error of what was learned, and the scatter
of the labels to come, can be drawn from the same few numbers. NumPy only.
"""

from __future__ import annotations

import math

import numpy as np

from mlops_assets.ml import metrics
from mlops_assets.ml.holdout import Trial
from mlops_assets.ml.metrics import METRICS, NEEDS_TWO_CLASSES, Sums, Task
from mlops_assets.ml.performance import Expected
from mlops_assets.ml.spec import ModelSpec, Value

Table = tuple[tuple[float, ...], ...]
ENOUGH_TO_LEARN, ENOUGH_TO_EXPECT = 100, 30
CELLS, ROWS_A_CELL, GRID = 15, 50, 256
FEWEST_BLOCKS, MOST_BLOCKS, REPLICATES = 7, 40, 200


class Relation(Value):
    """How outcomes went with one column of scores on the hold-out.

    Each table holds blocks of neighbours in time (rows) by cells of similar score (columns): how many hold-out rows
    there are, and sums over them. `centres` are the mean scores of the cells, ascending.
    """

    centres: tuple[float, ...]
    counts: Table
    sums: dict[str, Table]


class Relations(Value):
    """What the hold-out of a version says of its errors, one relation a column of scores; or why it says nothing.

    Sums over rows in order of time, without any of their inputs.
    """

    rows: int
    partitions: tuple[str, ...]
    columns: tuple[Relation, ...] = ()
    absent: str | None = None


def learn(trial: Trial, predicted: np.ndarray) -> Relations:
    """What a version's predictions for its hold-out, in the classes that it knows, say of its errors."""
    rows, task = len(trial.actual), trial.spec.task
    found = Relations(rows=rows, partitions=trial.holdout.partitions, absent=_unlearnable(trial, predicted))
    if found.absent:
        return found
    block = np.arange(rows) * _blocks(trial.holdout.times) // rows
    columns = predicted.reshape(rows, -1).T
    relations = [
        _relation(scores, _outcomes(task, trial.actual, scores, place), block) for place, scores in enumerate(columns)
    ]
    return found.model_copy(update={"columns": tuple(relations)})


def expect(spec: ModelSpec, learned: Relations, predicted: np.ndarray) -> tuple[dict[str, Expected], dict[str, str]]:
    """What to expect of each metric on rows with these predictions, and why of some nothing can be expected."""
    task = spec.task
    if reason := _unusable(learned, predicted):
        return {}, dict.fromkeys(METRICS[task], reason)
    random = np.random.default_rng(spec.seed)
    blocks = len(learned.columns[0].counts)
    drawn = random.multinomial(blocks, np.full(blocks, 1 / blocks), (2, REPLICATES)).astype(float)
    sums = (_regression_sums if task == "regression" else _class_sums)(learned, predicted, drawn)
    found, absent = {}, {}
    for name, values in metrics.of_sums(task, sums).items():
        value, replicates = values[0], values[1:][np.isfinite(values[1:])]
        if math.isfinite(value) and len(replicates) > REPLICATES // 2:
            found[name] = Expected(value=float(value), error=float(replicates.std()))
        else:
            absent[name] = "one class only is expected" if name in NEEDS_TWO_CLASSES else "the rows do not define it"
    return found, absent


def _blocks(times: np.ndarray) -> int:
    """One block a day, within bounds: errors within a day resemble each other."""
    return min(MOST_BLOCKS, max(FEWEST_BLOCKS, round((times[-1] - times[0]) / np.timedelta64(1, "D"))))


def _unlearnable(trial: Trial, predicted: np.ndarray) -> str | None:
    if (rows := len(trial.actual)) < ENOUGH_TO_LEARN:
        return f"its hold-out has {rows} rows with a label, at least {ENOUGH_TO_LEARN} are needed"
    if trial.spec.task != "regression" and len(np.unique(trial.actual)) < 2:
        return "its hold-out holds one class only"
    return None if np.isfinite(predicted).all() else "its predictions for the hold-out are not all finite"


def _outcomes(task: Task, actual: np.ndarray, scores: np.ndarray, place: int) -> dict[str, np.ndarray]:
    """What is summed over the hold-out's rows for one column of scores."""
    if task != "regression":
        return {"true": (actual == place).astype(float)}
    error = scores - actual
    return {
        "error": error,
        "absolute_error": np.abs(error),
        "squared_error": error**2,
        "larger": np.abs(actual) - np.abs(scores),
    }


def _relation(scores: np.ndarray, outcomes: dict[str, np.ndarray], block: np.ndarray) -> Relation:
    cells = max(1, min(CELLS, len(scores) // ROWS_A_CELL))
    edges = np.unique(np.quantile(scores, np.linspace(0, 1, cells + 1)[1:-1]))
    used, cell = np.unique(np.searchsorted(edges, scores, side="left"), return_inverse=True)
    shape = (int(block[-1]) + 1, len(used))
    place = block * len(used) + cell

    def table(weights: np.ndarray) -> np.ndarray:
        return np.bincount(place, weights, shape[0] * shape[1]).reshape(shape)

    counts = table(np.ones(len(scores)))
    return Relation(
        centres=tuple((table(scores).sum(axis=0) / counts.sum(axis=0)).tolist()),
        counts=_plain(counts),
        sums={name: _plain(table(outcome)) for name, outcome in outcomes.items()},
    )


def _plain(table: np.ndarray) -> Table:
    return tuple(map(tuple, table.tolist()))


def _unusable(learned: Relations, predicted: np.ndarray) -> str | None:
    if learned.absent:
        return learned.absent
    if len(predicted) < ENOUGH_TO_EXPECT:
        return f"{len(predicted)} rows are too few, at least {ENOUGH_TO_EXPECT} are needed"
    if not np.isfinite(predicted).all():
        return "its predictions are not all finite"
    if predicted.reshape(len(predicted), -1).shape[1] != len(learned.columns):
        return "its predictions are of other classes than those of its hold-out"
    return None


def _shares(relation: Relation, scores: np.ndarray) -> np.ndarray:
    """How much of each score's outcome is that of each cell, by linear interpolation between the centres."""
    centres = np.array(relation.centres)
    shares = np.zeros((len(scores), len(centres)))
    if len(centres) == 1:
        return shares + 1
    rows = np.arange(len(scores))
    left = np.clip(np.searchsorted(centres, scores) - 1, 0, len(centres) - 2)
    right = np.clip((scores - centres[left]) / (centres[left + 1] - centres[left]), 0, 1)
    shares[rows, left], shares[rows, left + 1] = 1 - right, right
    return shares


def _means(relation: Relation, name: str, drawn: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean outcome of each cell; and of each replicate by how much it differs on `rows` new rows of the cells.

    It differs because the mean was learned from these blocks and no others, and because new rows scatter around it. One
    row of the overall mean is added to each cell, so that a replicate that draws none of its rows has a mean too.
    """
    counts, sums = np.array(relation.counts), np.array(relation.sums[name])
    overall, blocks = sums.sum() / counts.sum(), len(counts)
    mean = (sums.sum(axis=0) + overall) / (counts.sum(axis=0) + 1)
    learned, others = (drawn @ sums + overall) / (drawn @ counts + 1) - mean
    scatter = np.where(rows > 0, np.sqrt(counts.sum(axis=0) / np.where(rows > 0, rows, 1)), 0)
    return mean, (learned + others * scatter) * math.sqrt(blocks / (blocks - 1))


def _regression_sums(learned: Relations, predicted: np.ndarray, drawn: np.ndarray) -> Sums:
    """The sums that the metrics of a regression are made of, as expected, with replicates below."""
    [relation] = learned.columns
    shares = _shares(relation, predicted)
    rows = shares.sum(axis=0)
    means = {name: _with_replicates(*_means(relation, name, drawn, rows)) for name in relation.sums}
    error, squared = means["error"], np.maximum(means["squared_error"], 0)
    centred = predicted - predicted.mean()
    return {
        "rows": np.full(len(error), float(len(predicted))),
        "error": error @ rows,
        "absolute_error": np.maximum(means["absolute_error"], 0) @ rows,
        "squared_error": squared @ rows,
        "absolute": np.abs(predicted).sum() + means["larger"] @ rows,
        "centred": -error @ rows,
        "squared": (centred**2).sum() - 2 * error @ (shares.T @ centred) + squared @ rows,
    }


def _class_sums(learned: Relations, predicted: np.ndarray, drawn: np.ndarray) -> Sums:
    """The sums that the metrics of a classification are made of, as expected, with replicates below.

    Everything depends on the scores alone, so that rows are counted by fine cells of their score: what follows costs
    the same for any number of rows.
    """
    called, smallest = predicted.argmax(axis=1), np.finfo(float).eps
    right, actual, losses, ranked = [], [], [], {}
    for place, relation in enumerate(learned.columns):
        scores = predicted[:, place]
        edges = np.unique(np.quantile(scores, np.linspace(0, 1, GRID + 1)[1:-1]))
        cell = len(edges) - np.searchsorted(edges, scores, side="left")
        counts, *sums = (
            np.bincount(cell, weights, len(edges) + 1)
            for weights in (None, scores, called == place, -np.log(np.clip(scores, smallest, 1)), scores**2)
        )
        mean, calls, surprise, squares = sums
        chance = _chances(relation, mean / np.maximum(counts, 1), counts, drawn)
        right.append(chance @ calls)
        actual.append(chance @ counts)
        losses.append(chance @ surprise)
        ranked = {
            "positives": chance * counts,
            "negatives": (1 - chance) * counts,
            "brier": squares.sum() + chance @ (counts - 2 * mean),
        }
    scale = len(predicted) / np.sum(actual, axis=0)
    calls = np.bincount(called, minlength=len(actual)).astype(float)
    return {
        "rows": np.full(len(scale), float(len(predicted))),
        "right": np.stack(right, axis=-1) * scale[:, None],
        "actual": np.stack(actual, axis=-1) * scale[:, None],
        "called": np.broadcast_to(calls, (len(scale), len(calls))),
        "log_loss": np.sum(losses, axis=0) * scale,
        **ranked,
    }


def _chances(relation: Relation, scores: np.ndarray, rows: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """How likely the class is at each score, with replicates below it."""
    shares = _shares(relation, scores)
    means, differences = _means(relation, "true", drawn, rows @ shares)
    rising = _isotonic(means, np.array(relation.counts).sum(axis=0))
    return np.clip(_with_replicates(rising, differences), 0, 1) @ shares.T


def _with_replicates(means: np.ndarray, differences: np.ndarray) -> np.ndarray:
    return np.concatenate([means[None, :], means + differences])


def _isotonic(means: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The rising sequence nearest to the means by weighted least squares.

    At a cell it is the largest, over all starts up to there, of the smallest mean of a run that reaches the cell.
    """
    runs = np.triu(np.ones((len(means), len(means)), bool))
    sums, total = np.cumsum([0.0, *(means * weights)]), np.cumsum([0.0, *weights])
    run = (sums[1:] - sums[:-1, None]) / np.where(runs, total[1:] - total[:-1, None], 1)
    smallest = np.minimum.accumulate(np.where(runs, run, np.inf)[:, ::-1], axis=1)[:, ::-1]
    return np.where(runs, smallest, -np.inf).max(axis=0)
