"""How much better a model trained now would be than the one that serves, learned from the past of both.

The error of a model (its distance to perfection) is taken to grow by one rate with every partition that it is old, and
to shrink by another with the logarithm of what there is to learn from. Both are estimated together, by least squares
with a prior, from what each training of the past gained on rows that neither model had seen, and from how the error of
each champion went with its age, beside that of a naive guess on the same rows. How much such figures scatter is
estimated too: a steady stream convinces soon that nothing is lost by waiting, a wild one hardly ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

ROUNDS = 3
NORMAL = 1.96
ANY = 2.0


class Gained(NamedTuple):
    """What a training gained: the logarithm of the factor by which the error fell, when the champion was `age` old.

    `grown` is the logarithm of the factor by which there was more to learn from.
    """

    age: float
    grown: float
    log_ratio: float


class Seen(NamedTuple):
    """The logarithm of the error of the champion of one reign at an age, beside that of the naive guess.

    `doubt` is the standard deviation of one that is only expected, None of one that was measured.
    """

    reign: int
    age: float
    log_error: float
    doubt: float | None = None


class Prior(NamedTuple):
    """What is believed before anything is seen: means and standard deviations, all of logarithms of error.

    `rate` is what a partition of age adds, `growth` what e times the data take away. `gained_noise` and `seen_noise`
    are how much what trainings gain and what errors were seen scatter, each counting like `noise_weight` figures.
    """

    rate: float = 0.05
    rate_deviation: float = 0.05
    growth: float = 0.0
    growth_deviation: float = 0.05
    gained_noise: float = 0.1
    seen_noise: float = 0.1
    noise_weight: float = 2.0


PRIOR = Prior()


class Belief(NamedTuple):
    """The rate and the growth that are believed in, and their covariance."""

    means: np.ndarray
    covariance: np.ndarray

    def relief(self, age: float, grown: float) -> tuple[float, float]:
        """The logarithm of the factor by which a training would cut the error, and its standard deviation."""
        at = np.array([age, grown])
        return float(at @ self.means), float(np.sqrt(at @ self.covariance @ at))


def belief(gained: Sequence[Gained], seen: Sequence[Seen], prior: Prior = PRIOR) -> Belief:
    """The rate and the growth by all that is known: unknowns are both, and the level of each reign.

    What is only expected scatters like what was measured, and at least as much again by its own doubt.
    """
    reigns = sorted({each.reign for each in seen})
    means = np.array([prior.rate, prior.growth, *[0.0] * len(reigns)])
    certainty = np.diag([prior.rate_deviation, prior.growth_deviation, *[ANY] * len(reigns)]) ** 2.0
    certainty = np.linalg.inv(certainty)
    kinds = [_gained(gained, len(means)), _seen(seen, reigns, len(means))]
    expected = [prior.gained_noise, prior.seen_noise]
    noises = expected
    for _ in range(ROUNDS):
        information, moment = certainty.copy(), certainty @ means
        for noise, figures in zip(noises, kinds, strict=True):
            weighed = figures.at.T * figures.weights(noise)
            information += weighed @ figures.at
            moment += weighed @ figures.said
        found = np.linalg.solve(information, moment)
        noises = [
            _noise((figures.said - figures.at @ found)[figures.measured], usual, prior.noise_weight)
            for usual, figures in zip(expected, kinds, strict=True)
        ]
    return Belief(found[:2], np.linalg.inv(information)[:2, :2])


def share(log_ratio: float, deviation: float) -> tuple[float, float, float]:
    """The share of the error that goes away, with its 95 % interval."""
    with np.errstate(over="ignore"):
        value, low, high = -np.expm1(-(log_ratio + NORMAL * deviation * np.array([0, -1, 1])))
    return float(value), float(low), float(high)


class _Figures(NamedTuple):
    """Figures of one kind: the unknowns that each is made of, what it said, and its doubt (NaN where measured)."""

    at: np.ndarray
    said: np.ndarray
    doubt: np.ndarray

    @property
    def measured(self) -> np.ndarray:
        return np.isnan(self.doubt)

    def weights(self, noise: float) -> np.ndarray:
        with np.errstate(over="ignore"):
            return 1 / (noise**2 + np.where(self.measured, 0.0, np.maximum(self.doubt, noise)) ** 2)


def _gained(gained: Sequence[Gained], width: int) -> _Figures:
    at = np.zeros((len(gained), width))
    at[:, 0], at[:, 1] = [each.age for each in gained], [each.grown for each in gained]
    return _Figures(at, np.array([each.log_ratio for each in gained], float), np.full(len(gained), np.nan))


def _seen(seen: Sequence[Seen], reigns: Sequence[int], width: int) -> _Figures:
    at = np.zeros((len(seen), width))
    at[:, 0] = [each.age for each in seen]
    at[range(len(seen)), [2 + reigns.index(each.reign) for each in seen]] = 1
    doubt = np.array([np.nan if each.doubt is None else each.doubt for each in seen], float)
    return _Figures(at, np.array([each.log_error for each in seen], float), doubt)


def _noise(left: np.ndarray, usual: float, weight: float) -> float:
    """The standard deviation of what is left unexplained, drawn towards what is usual."""
    return float(np.sqrt((weight * usual**2 + left @ left) / (weight + len(left))))
