"""How much better a model trained now would be than the one that serves, learned from the past of both.

The error of a model (its distance to perfection) is taken to grow by one rate with every partition that it is old, and
to shrink by another with the logarithm of what there is to learn from. Both are estimated together, by least squares
with a prior, from what each training of the past gained on rows that neither model had seen, and from how the error of
each champion went with its age, beside that of a naive guess on the same rows. How much such figures scatter is
estimated too: a steady stream convinces soon that nothing is lost by waiting, a wild one hardly ever.

Trainings are decided on when figures happen to be bad and promoted when they happen to be good, so that in a world that
stands still some seem to gain as well. So that it stands still is an answer of its own, once a training has been tried:
the courses are then level, and a training gains what chance gives, as its own interval tells. Its probability beside
the other is what both make of all figures, and what a training promises counts by so much less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

ROUNDS = 3
MOST = 700
BLIND = 1e3
NORMAL = 1.96
ANY = 2.0


class Gained(NamedTuple):
    """What a training gained: the logarithm of the factor by which the error fell, when the champion was `age` old.

    `grown` is the logarithm of the factor by which there was more to learn from. `deviation` is that of what chance
    gives on so many rows.
    """

    age: float
    grown: float
    log_ratio: float
    deviation: float


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
    `still` is how likely it is that nothing changes, neither with age nor with more data.
    """

    rate: float = 0.05
    rate_deviation: float = 0.05
    growth: float = 0.0
    growth_deviation: float = 0.05
    gained_noise: float = 0.1
    seen_noise: float = 0.1
    noise_weight: float = 2.0
    still: float = 0.5


PRIOR = Prior()


class Belief(NamedTuple):
    """The rate and the growth that are believed in and their covariance, and how likely it is that anything changes."""

    means: np.ndarray
    covariance: np.ndarray
    changing: float = 1.0

    def relief(self, age: float, grown: float) -> tuple[float, float]:
        """The logarithm of the factor by which a training would cut the error, and its standard deviation."""
        value, deviation = self._if_changing(age, grown)
        doubted = self.changing * (deviation**2 + (1 - self.changing) * value**2)
        return self.changing * value, math.sqrt(doubted)

    def chance(self, age: float, grown: float) -> float:
        """How likely it is that a training would cut the error at all."""
        value, deviation = self._if_changing(age, grown)
        return self.changing * (NormalDist().cdf(value / deviation) if deviation > 0 else float(value > 0))

    def _if_changing(self, age: float, grown: float) -> tuple[float, float]:
        at = np.array([age, grown])
        return float(at @ self.means), float(np.sqrt(at @ self.covariance @ at))


def belief(gained: Sequence[Gained], seen: Sequence[Seen], prior: Prior = PRIOR) -> Belief:
    """The rate and the growth by all that is known: unknowns are both, and the level of each reign.

    What is only expected scatters like what was measured, and at least as much again by its own doubt. Before a
    training has been tried, what the prior promises is worth one.
    """
    reigns = sorted({each.reign for each in seen})
    levels = [0.0] * len(reigns), [ANY] * len(reigns)
    means = np.array([prior.rate, prior.growth, *levels[0]])
    deviations = np.array([prior.rate_deviation, prior.growth_deviation, *levels[1]])
    kinds = [_gained(gained, len(means)), _seen(seen, reigns, len(means))]
    expected = [prior.gained_noise, prior.seen_noise]
    changing = _Fit.of(kinds, expected, means, deviations, prior.noise_weight)
    found = Belief(changing.means[:2], changing.covariance[:2, :2])
    if not gained:
        return found
    level = _Fit.of([kinds[1].without(2)], expected[1:], means[2:], deviations[2:], prior.noise_weight)
    chance = sum(-math.log(each.deviation) - (each.log_ratio / each.deviation) ** 2 / 2 for each in gained)
    odds = prior.still / (1 - prior.still) * math.exp(min(level.evidence + chance - changing.evidence, MOST))
    return found._replace(changing=1 / (1 + odds))


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

    def without(self, unknowns: int) -> _Figures:
        """The same where the first unknowns are none."""
        return self._replace(at=self.at[:, unknowns:])

    @property
    def measured(self) -> np.ndarray:
        return np.isnan(self.doubt)

    def variances(self, noise: float) -> np.ndarray:
        return noise**2 + np.where(self.measured, 0.0, np.maximum(self.doubt, noise)) ** 2


class _Fit(NamedTuple):
    """What figures make of a prior, and the logarithm of how likely they are by it, noise at its best."""

    means: np.ndarray
    covariance: np.ndarray
    evidence: float

    @classmethod
    def of(
        cls,
        kinds: Sequence[_Figures],
        expected: Sequence[float],
        means: np.ndarray,
        deviations: np.ndarray,
        weight: float,
    ) -> _Fit:
        """The fit of figures of several kinds, of each of which a noise is expected."""
        certainty, noises = np.diag(deviations**-2.0), expected
        for _ in range(ROUNDS):
            information, moment = certainty.copy(), certainty @ means
            for noise, figures in zip(noises, kinds, strict=True):
                weighed = figures.at.T / figures.variances(noise)
                information += weighed @ figures.at
                moment += weighed @ figures.said
            found = np.linalg.solve(information, moment)
            noises = [
                _noise((figures.said - figures.at @ found)[figures.measured], usual, weight)
                for usual, figures in zip(expected, kinds, strict=True)
            ]
        unusual = sum(_unusual(noise / usual, weight) for noise, usual in zip(noises, expected, strict=True))
        return cls(found, np.linalg.inv(information), _evidence(kinds, noises, means, deviations) - unusual)


def _gained(gained: Sequence[Gained], width: int) -> _Figures:
    at = np.zeros((len(gained), width))
    at[:, 0], at[:, 1] = [each.age for each in gained], [each.grown for each in gained]
    return _Figures(at, np.array([each.log_ratio for each in gained], float), np.full(len(gained), np.nan))


def _seen(seen: Sequence[Seen], reigns: Sequence[int], width: int) -> _Figures:
    at = np.zeros((len(seen), width))
    at[:, 0] = [each.age for each in seen]
    at[range(len(seen)), [2 + reigns.index(each.reign) for each in seen]] = 1
    doubt = np.array([np.nan if each.doubt is None else min(each.doubt, BLIND) for each in seen], float)
    return _Figures(at, np.array([each.log_error for each in seen], float), doubt)


def _evidence(kinds: Sequence[_Figures], noises: Sequence[float], means: np.ndarray, deviations: np.ndarray) -> float:
    """The logarithm of how likely the figures are by the prior, without what all priors share."""
    at = np.vstack([each.at for each in kinds])
    left = np.concatenate([each.said for each in kinds]) - at @ means
    scatter = np.concatenate([figures.variances(noise) for noise, figures in zip(noises, kinds, strict=True)])
    spread = at * deviations**2 @ at.T + np.diag(scatter)
    return -float(left @ np.linalg.solve(spread, left) + np.linalg.slogdet(spread)[1]) / 2


def _unusual(times: float, weight: float) -> float:
    """How much less likely a noise is than the usual one that it is so many times of."""
    return weight * (math.log(times) + (times**-2 - 1) / 2)


def _noise(left: np.ndarray, usual: float, weight: float) -> float:
    """The standard deviation of what is left unexplained, drawn towards what is usual."""
    return float(np.sqrt((weight * usual**2 + left @ left) / (weight + len(left))))
