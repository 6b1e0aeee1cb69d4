"""What a training now promises, by the evidence of a model: the gain, what waiting has lost, and when it pays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from mlops_assets.ml.evaluation import Estimate
from mlops_assets.ml.gain import Belief, Gained, Prior, Seen, belief, share
from mlops_assets.ml.retraining import Case, Evidence, PartitionFacts, TrainingFacts

SIGHT = 24
LIKELY = 0.9
TRUSTED = 0.5
SUREST = 0.02


@dataclass(frozen=True)
class Prospect:
    """What a training promises, in units of the metric, when the champion is `age` partitions old.

    `level` is the error of the champion, which could have learned from `learned` rows, `rows` those of each one
    since that can be learned from, `price` what a training must bring in. The belief rests on so many `trainings`
    and on the figures of so many `partitions`, of which some are only `estimated`.
    """

    believed: Belief
    level: float
    age: int
    learned: float
    rows: tuple[int, ...]
    price: float
    trainings: int
    partitions: int
    estimated: int = 0

    @classmethod
    def of(cls, case: Case, prior: Prior) -> Prospect | None:
        """What the evidence promises; None where no figure of the champion is known."""
        level = _level(case, prior.seen_noise)
        if level is None:
            return None
        value = case.rule.value
        price = case.cost / value if value else case.rule.worth * level
        gained, seen = _gained(case), _seen(case)
        believed = belief(gained, seen, prior)
        estimated = sum(each.doubt is not None for each in seen)
        figures = len(gained), len(seen), estimated
        return cls(believed, level, case.age, case.learned, _rows(case.reign), price, *figures)

    @property
    def gain(self) -> Estimate:
        """How much better than the champion a model trained now would be, in each partition."""
        value, low, high = self._at(self.age)
        return Estimate(value=value, low=low, high=high)

    def lost(self, age: int) -> float:
        """What waiting until the champion is `age` old loses, all partitions together."""
        return sum(self._at(passed)[0] for passed in range(1, age + 1))

    @property
    def chance(self) -> float:
        """How likely it is that a model trained now would be better at all."""
        return self.believed.chance(self.age, self._grown(self.age))

    def pays(self) -> bool:
        """Whether waiting has lost what a training costs, and a gain is likely. NaN never pays."""
        return self.gain.value > 0 and self.chance >= LIKELY and self.lost(self.age) >= self.price

    def later(self) -> int | None:
        """In how many partitions it will pay if all goes on like this; None where that is not in sight."""
        return next((more for more in range(1, SIGHT) if replace(self, age=self.age + more).pays()), None)

    def _at(self, age: int) -> tuple[float, float, float]:
        value, low, high = share(*self._relief(age))
        return self.level * value, self.level * low, self.level * high

    def _relief(self, age: int) -> tuple[float, float]:
        return self.believed.relief(age, self._grown(age))

    def _grown(self, age: int) -> float:
        return math.log1p(self._rows(age) / self.learned)

    def _rows(self, age: int) -> float:
        """How many rows have come when the champion is `age` old; partitions to come are like those that came."""
        known = self.rows[:age]
        return sum(known) * (age / len(known)) if known else 0.0


class _Figure(NamedTuple):
    """The error of a champion on the partition at a place, and the naive guess's; a doubt where it is estimated."""

    place: int
    error: float
    naive: float | None = None
    doubt: float | None = None


def doubt(facts: PartitionFacts, evidence: Evidence) -> float:
    """The standard deviation of the logarithm of an estimated error, infinite where the estimate counts for nothing.

    Its interval is taken for what it has been: where earlier ones held the truth less often than they claim (one that
    did is added) it says as much less, and nothing where they were wrong more often than right.
    """
    estimated, (inside, of) = facts.estimated, facts.held
    share = min(evidence.confidence, (inside + 1) / (of + 1))
    if estimated is None or share < TRUSTED:
        return math.inf
    error = _error(estimated.value, evidence.better)
    half = max(estimated.high - estimated.value, estimated.value - estimated.low)
    return half / (NormalDist().inv_cdf((1 + share) / 2) * error) if error > 0 else math.inf


def _figures(case: Case, partitions: Sequence[PartitionFacts]) -> Iterator[_Figure]:
    """The errors of a champion, by mature labels where there are, else by estimates.

    Rows of a broken feed say nothing of it.
    """
    places, better = {key: place for place, key in enumerate(case.keys)}, case.evidence.better
    for facts in partitions:
        place = places[facts.partition]
        if facts.broken:
            continue
        if facts.mature and facts.measured:
            yield _Figure(place, _error(facts.measured.value, better), _naive(facts.baseline, better))
        elif facts.estimated and math.isfinite(doubted := doubt(facts, case.evidence)):
            yield _Figure(place, _error(facts.estimated.value, better), doubt=doubted)


def _level(case: Case, noise: float) -> float | None:
    """The error of the champion, by the newest mature figures, else by its hold-out, and by the newest estimates.

    An estimate weighs as much less as it is doubted, and never more than half; `noise` is how much errors scatter.
    """
    n, found = case.evidence.n, [each for each in _figures(case, case.reign) if math.isfinite(each.error)]
    measured = [each.error for each in found if each.doubt is None]
    held = [_error(training.holdout.value, case.evidence.better) for training in case.champions[-1:]]
    weighed = [(error, 1.0) for error in measured[-n:] or held if math.isfinite(error)]
    estimated = [(each.error, each.doubt) for each in found if each.doubt is not None]
    weighed += [(error, 1 / (1 + max(doubted / noise, 1) ** 2)) for error, doubted in estimated[-n:]]
    whole = sum(weight for _, weight in weighed)
    return sum(error * weight for error, weight in weighed) / whole if whole else None


def _gained(case: Case) -> list[Gained]:
    """What each training gained on rows that neither model had seen, at the age that the champion had."""
    found, better = [], case.evidence.better
    champion: TrainingFacts | None = None
    for training in case.trainings:
        if training.gain is not None and champion and training.partition in case.keys:
            after = _error(training.holdout.value, better)
            before = after + training.gain.value
            age = case.place(training) - case.place(champion)
            if min(before, after, age) > 0 and math.isfinite(before):
                grown = math.log1p(sum(_rows(case.between(champion, training))) / case.learned_by(champion))
                chance = _deviation(training.gain, case.evidence.confidence) / min(before, after)
                found.append(Gained(age, grown, math.log(before / after), max(chance, SUREST)))
        champion = training if training.became_champion else champion
    return found


def _seen(case: Case) -> list[Seen]:
    """How the error of each champion went with its age, from its hold-out on.

    Where that is longer ago than the evidence reaches, from the oldest figure on.
    """
    found, better = [], case.evidence.better
    for reign, (training, successor) in enumerate(zip(case.champions, [*case.champions[1:], None], strict=True)):
        start = case.place(training)
        first = _Figure(start, _error(training.holdout.value, better), _naive(training.baseline, better))
        later = _figures(case, case.between(training, successor))
        found += _course(reign, start, [*([first] if start >= 0 else []), *later])
    return found


def _course(reign: int, start: int, figures: Sequence[_Figure]) -> Iterator[Seen]:
    """The errors of one reign as logarithms, the first being 0.

    Where the naive guess is known of all that were measured they stand beside it: some rows are harder than others. An
    estimate stands beside the last that is known, and is doubted by as much as those differ.
    """
    guesses = [each.naive or 0.0 for each in figures if each.doubt is None]
    guessed = all(0 < naive < math.inf for naive in guesses)
    scatter = float(np.std(np.log(guesses))) if guessed and guesses else 0.0
    first: float | None = None
    usual = 1.0
    for each in figures:
        usual = each.naive if guessed and each.naive is not None else usual
        beside = each.error / usual
        if beside > 0 and math.isfinite(beside):
            first = first or beside
            doubted = None if each.doubt is None else math.hypot(each.doubt, scatter)
            yield Seen(reign, each.place - start, math.log(beside) - math.log(first), doubted)


def _naive(baseline: float | None, better: str) -> float | None:
    return None if baseline is None else _error(baseline, better)


def _deviation(gain: Estimate, confidence: float) -> float:
    """The standard deviation that an interval tells of; none where it is no number."""
    found = (gain.high - gain.low) / (2 * NormalDist().inv_cdf((1 + confidence) / 2))
    return found if math.isfinite(found) else 0.0


def _rows(partitions: Sequence[PartitionFacts]) -> tuple[int, ...]:
    """The rows of each partition that can be learned from."""
    return tuple(0 if facts.broken else facts.rows for facts in partitions)


def _error(value: float, better: str) -> float:
    """The distance of a metric from perfection, which is 0 where less is better and 1 where more is."""
    return abs(value) if better == "lower" else 1 - value
