"""Naive guesses that any model must beat, made of nothing that serving would not know: old labels and the clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlops_assets.ml.metrics import Task

WEEK = np.timedelta64(7, "D")
ENOUGH = 0.5


@dataclass(frozen=True)
class History:
    """When the rows of fitting happened and what came of them: numbers, or codes of classes.

    `later` are rows that were not fitted on, and whose labels are known all the same.
    """

    times: np.ndarray
    targets: np.ndarray
    later: History | None = None

    @property
    def known(self) -> tuple[np.ndarray, np.ndarray]:
        """All times with what came of them."""
        if self.later is None:
            return self.times, self.targets
        return np.concatenate([self.times, self.later.times]), np.concatenate([self.targets, self.later.targets])


def guesses(
    task: Task, metric: str, history: History, times: np.ndarray, actual: np.ndarray, classes: int, weeks: int = 1
) -> dict[str, np.ndarray]:
    """Every naive guess that can be made for rows at `times`, by name; in the form of a model's predictions.

    The constant is what fitting saw: its median for absolute errors, else its mean; the shares of the classes. The
    other is the label of `weeks` earlier (the mean where a time has several), on the assumption that labels arrive
    within that time; rows without one take the constant, and it is offered only where half of the rows have one. The
    label of the row just before is often stronger still, and left out: a served model rarely knows it in time.
    """
    name, constant = _constant(task, metric, history.targets, classes)
    flat = np.broadcast_to(constant, (len(times), *constant.shape))
    found = {name: flat}
    past, targets = history.known
    recent = past >= times.min() - weeks * WEEK
    known_times = np.concatenate([past[recent], times])
    known = _outcomes(task, np.concatenate([targets[recent], actual]), classes)
    earlier, has_one = _earlier(known_times, known, times, weeks * WEEK)
    if has_one.mean() >= ENOUGH:
        when = "one week" if weeks == 1 else f"{weeks} weeks"
        found[f"the label of {when} earlier"] = np.where(_like(has_one, flat), earlier, flat)
    return found


def _constant(task: Task, metric: str, targets: np.ndarray, classes: int) -> tuple[str, np.ndarray]:
    if task != "regression":
        return "the classes' shares in training", np.bincount(targets, minlength=classes) / len(targets)
    if metric in {"mae", "wape"}:
        return "the training median", np.median(targets)
    return "the training mean", np.mean(targets)


def _outcomes(task: Task, targets: np.ndarray, classes: int) -> np.ndarray:
    return targets if task == "regression" else np.eye(classes)[targets]


def _earlier(
    known_times: np.ndarray, known: np.ndarray, times: np.ndarray, ago: np.timedelta64
) -> tuple[np.ndarray, np.ndarray]:
    """What was known at each of `times`, so long ago, and whether anything was."""
    instants, which = np.unique(known_times, return_inverse=True)
    sums = np.zeros((len(instants), *known.shape[1:]))
    np.add.at(sums, which, known)
    means = sums / _like(np.bincount(which), sums)
    place = np.minimum(np.searchsorted(instants, times - ago), len(instants) - 1)
    return means[place], instants[place] == times - ago


def _like(values: np.ndarray, shape: np.ndarray) -> np.ndarray:
    return values.reshape(-1, *[1] * (shape.ndim - 1))
