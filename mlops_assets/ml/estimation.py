"""Performance before labels: what is expected of a version on rows whose labels have not come, with an interval.

A version's own hold-out shows how its errors depend on its scores: how often a class came true where it was given such
a probability, how far off the truth was where such a number was predicted. That relation, laid over the scores of new
rows, gives the expected value of each metric: in classification confidence-based performance estimation with an
isotonic relation (compare Garg et al. 2022, arXiv:2201.04234), in regression direct loss estimation.

It sees that rows have become harder or easier, as far as the scores tell. It cannot see that the relation itself has
changed (concept drift): that shows only when labels come, in estimates that were off, by which later ones are
corrected and widened. The interval covers the scatter of the labels themselves and the error of a relation learned
from one hold-out, both over blocks of neighbours in time, and how far off earlier estimates were beyond that.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np

from mlops_assets.ml import metrics
from mlops_assets.ml.evaluation import Estimate
from mlops_assets.ml.holdout import Trial
from mlops_assets.ml.metrics import METRICS, NEEDS_TWO_CLASSES, Sums, Task
from mlops_assets.ml.spec import ModelSpec, Value

Table = tuple[tuple[float, ...], ...]
ENOUGH_TO_LEARN, ENOUGH_TO_EXPECT = 100, 30
CELLS, ROWS_A_CELL, BLOCKS, GRID = 15, 50, 40, 256
REPLICATES, REMEMBERED, DOUBT = 200, 12, 2
BLIND = "It cannot see whether the same inputs still lead to the same outcomes."


class Relation(Value):
    """How outcomes went with one column of scores on the hold-out.

    Each table holds blocks of neighbours in time (rows) by cells of similar score (columns): how many hold-out rows
    there are, and sums over them. `centres` are the mean scores of the cells, ascending.
    """

    centres: tuple[float, ...]
    counts: Table
    sums: dict[str, Table]


class Learned(Value):
    """What the hold-out of a version says of its errors, a relation for each column of scores; or why it says nothing.

    Plain sums: no row, no input and no label of a row can be read from it.
    """

    rows: int
    relations: tuple[Relation, ...] = ()
    absent: str | None = None


class Expected(Value):
    """What the scores alone let one metric be, and the standard error of that by sampling and learning."""

    value: float
    error: float


class Missed(Value):
    """An estimate whose truth has come: by how much the truth was above it, what error it had, and of which version."""

    version: int
    distance: float
    error: float


def learn(trial: Trial, predicted: np.ndarray) -> Learned:
    """What a version's predictions for its hold-out (in the classes that it knows) say of its errors."""
    rows, task = len(trial.actual), trial.spec.task
    if rows < ENOUGH_TO_LEARN:
        return Learned(
            rows=rows, absent=f"its hold-out has {rows} labelled rows, at least {ENOUGH_TO_LEARN} are needed"
        )
    if task != "regression" and len(np.unique(trial.actual)) < 2:
        return Learned(rows=rows, absent="its hold-out holds one class only")
    if not np.isfinite(predicted).all():
        return Learned(rows=rows, absent="its predictions for the hold-out are not all finite")
    blocks = min(BLOCKS, len(trial.how.starts))
    block = np.arange(rows) * blocks // rows
    columns = predicted.reshape(rows, -1).T
    relations = [
        _relation(scores, _outcomes(task, trial.actual, scores, place), block) for place, scores in enumerate(columns)
    ]
    return Learned(rows=rows, relations=tuple(relations))


def expect(spec: ModelSpec, learned: Learned, predicted: np.ndarray) -> tuple[dict[str, Expected], dict[str, str]]:
    """What to expect of each metric on rows with these predictions, and why of some nothing can be expected."""
    task = spec.task
    if reason := _unusable(learned, predicted):
        return {}, dict.fromkeys(METRICS[task], reason)
    random = np.random.default_rng(spec.seed)
    blocks = len(learned.relations[0].counts)
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


def estimate(spec: ModelSpec, metric: str, expected: Expected, version: int, past: Sequence[Missed] = ()) -> Estimate:
    """The expectation, corrected and widened by how far off earlier ones were (oldest first), as an interval.

    The correction is what the version's own estimates were off on average, with one estimate that was right added. The
    error beyond sampling and learning is taken to be as large as theirs at first, which counts as DOUBT estimates, and
    then what has been seen: the interval is Student's t with as many degrees of freedom.
    """
    from scipy.special import stdtrit

    past = past[-REMEMBERED:]
    own = [missed.distance for missed in past if missed.version == version]
    shift = sum(own) / (len(own) + 1)
    excess = [(missed.distance - shift * (missed.version == version)) ** 2 - missed.error**2 for missed in past]
    freedom = DOUBT + len(past)
    beyond = max(0.0, (DOUBT * expected.error**2 + sum(excess)) / freedom)
    half = float(stdtrit(freedom, (1 + spec.evaluation.confidence) / 2)) * math.sqrt(expected.error**2 + beyond)
    least, most = _bounds(spec.task, metric)
    value, low, high = np.clip(expected.value + shift + np.array([0.0, -half, half]), least, most).tolist()
    return Estimate(value=value, low=low, high=high)


def track_record(inside: Collection[bool]) -> str:
    """How often the truth fell inside, in words; nothing where none has come."""
    if not inside:
        return ""
    return f"The truth fell into {sum(inside)} of the last {len(inside)} estimates."


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


def _unusable(learned: Learned, predicted: np.ndarray) -> str | None:
    if learned.absent:
        return learned.absent
    if len(predicted) < ENOUGH_TO_EXPECT:
        return f"{len(predicted)} rows are too few, at least {ENOUGH_TO_EXPECT} are needed"
    if not np.isfinite(predicted).all():
        return "its predictions are not all finite"
    if predicted.reshape(len(predicted), -1).shape[1] != len(learned.relations):
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
    """The mean outcome of each cell, with replicates below it; and how much the means of `rows` new rows scatter.

    One row of the overall mean is added to each cell, so that a replicate that draws none of its rows has one too.
    """
    counts, sums = np.array(relation.counts), np.array(relation.sums[name])
    overall = sums.sum() / counts.sum()
    weights = np.concatenate([np.ones((1, len(counts))), drawn[0]])
    means = (weights @ sums + overall) / (weights @ counts + 1)
    others = (drawn[1] @ sums + overall) / (drawn[1] @ counts + 1)
    scatter = np.where(rows > 0, np.sqrt(counts.sum(axis=0) / np.where(rows > 0, rows, 1)), 0)
    return means, np.concatenate([np.zeros((1, len(rows))), (others - means[0]) * scatter])


def _regression_sums(learned: Learned, predicted: np.ndarray, drawn: np.ndarray) -> Sums:
    """The sums that the metrics of a regression are made of, as expected, with replicates below."""
    [relation] = learned.relations
    shares = _shares(relation, predicted)
    rows = shares.sum(axis=0)
    means = {name: sum(_means(relation, name, drawn, rows)) for name in relation.sums}
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


def _class_sums(learned: Learned, predicted: np.ndarray, drawn: np.ndarray) -> Sums:
    """The sums that the metrics of a classification are made of, as expected, with replicates below.

    Everything depends on the scores alone, so that rows are counted by fine cells of their score: what follows costs
    the same for any number of rows.
    """
    called, smallest = predicted.argmax(axis=1), np.finfo(float).eps
    right, actual, losses, ranked = [], [], [], {}
    for place, relation in enumerate(learned.relations):
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
    means, scatter = _means(relation, "true", drawn, rows @ shares)
    rising = _isotonic(means, np.array(relation.counts).sum(axis=0))
    return np.clip(rising + scatter, 0, 1) @ shares.T


def _isotonic(means: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The rising sequence nearest to each row by weighted least squares.

    At a cell it is the largest, over all starts up to there, of the smallest mean of a run that reaches the cell.
    """
    cells = means.shape[1]
    runs = np.triu(np.ones((cells, cells), bool))
    sums = np.pad(np.cumsum(means * weights, axis=1), ((0, 0), (1, 0)))
    total = np.pad(np.cumsum(weights), (1, 0))
    run = (sums[:, None, 1:] - sums[:, :-1, None]) / np.where(runs, total[1:] - total[:-1, None], 1)
    smallest = np.minimum.accumulate(np.where(runs, run, np.inf)[:, :, ::-1], axis=2)[:, :, ::-1]
    largest = np.maximum.accumulate(np.where(runs, smallest, -np.inf), axis=1)
    return np.diagonal(largest, axis1=1, axis2=2)


def _bounds(task: Task, metric: str) -> tuple[float, float]:
    """The values that a metric can have at all."""
    least = -math.inf if metric in {"r2", "bias"} else 0.0
    return least, 1.0 if METRICS[task][metric] == "higher" or metric == "brier" else math.inf
