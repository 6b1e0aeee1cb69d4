"""How much better a model trained now would be than the one that serves, learned from the trainings of the past.

The error of a model (its distance to perfection) is taken to grow by the same share with every partition that it is
old, so that what a training gains is proportional to the age of the champion. That rate is a posterior mean: a prior
that expects little, and every training of the past with what it gained on rows that neither model had seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple


class Observation(NamedTuple):
    """By what factor (its logarithm) an error was cut, at which age of the champion, and how uncertain that is."""

    age: float
    log_ratio: float
    deviation: float


class Rate(NamedTuple):
    """What is believed of the share by which the error grows with each partition: its mean and standard deviation."""

    mean: float
    deviation: float


PRIOR = Rate(0.01, 0.02)
NOISE = 0.15
QUANTILE = 1.96


def error(value: float, better: str) -> float:
    """The distance of a metric from perfection, which is 0 where less is better and 1 where more is."""
    return abs(value) if better == "lower" else 1 - value


def rate(observations: Iterable[Observation], prior: Rate = PRIOR) -> Rate:
    """The posterior of the rate: normal prior, normal noise, every observation weighed by its certainty."""
    precision, moment = prior.deviation**-2, prior.mean * prior.deviation**-2
    for seen in observations:
        variance = NOISE**2 + seen.deviation**2
        precision += seen.age**2 / variance
        moment += seen.age * seen.log_ratio / variance
    return Rate(moment / precision, precision**-0.5)


def share(believed: Rate, age: float) -> tuple[float, float, float]:
    """The share of the error that a training would take away now, with its 95 % interval."""
    exponents = (believed.mean + side * QUANTILE * believed.deviation for side in (0, -1, 1))
    value, low, high = (-math.expm1(-exponent * age) for exponent in exponents)
    return value, low, high
