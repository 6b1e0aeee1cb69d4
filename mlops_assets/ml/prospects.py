"""What a training now promises, by the evidence of a model: the gain, what waiting has lost, and when it pays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from mlops_assets.ml.evaluation import Estimate
from mlops_assets.ml.gain import Belief, Gained, Prior, Seen, belief, share
from mlops_assets.ml.retraining import Case, TrainingFacts

SIGHT = 24
LIKELY = 0.9


@dataclass(frozen=True)
class Prospect:
    """What a training promises, in units of the metric, when the champion is `age` partitions old.

    `level` is the error of the champion, which could have learned from `learned` partitions, `price` what a training
    must bring in. The belief rests on so many `trainings` and on the figures of so many `partitions`.
    """

    believed: Belief
    level: float
    age: int
    learned: int
    price: float
    trainings: int
    partitions: int

    @classmethod
    def of(cls, case: Case, prior: Prior) -> Prospect | None:
        """What the evidence promises; None where no figure of the champion is known."""
        level = _level(case)
        if level is None:
            return None
        value = case.rule.value
        price = case.cost / value if value else case.rule.worth * level
        gained, seen = _gained(case), _seen(case)
        believed = belief(gained, seen, prior)
        return cls(believed, level, case.age, case.learned, price, len(gained), len(seen))

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
        value, deviation = self._relief(self.age)
        return NormalDist().cdf(value / deviation) if deviation > 0 else float(value > 0)

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
        return self.believed.relief(age, math.log1p(age / self.learned))


def _level(case: Case) -> float | None:
    """The error of the champion, by the newest mature figures, else by its hold-out."""
    better = case.evidence.better
    recent = [_error(facts.measured.value, better) for facts in case.reign if facts.mature and facts.measured]
    held = [_error(training.holdout.value, better) for training in case.champions[-1:]]
    known = [value for value in [*recent[-case.evidence.n :], *([] if recent else held)] if math.isfinite(value)]
    return sum(known) / len(known) if known else None


def _gained(case: Case) -> list[Gained]:
    """What each training gained on rows that neither model had seen, at the age that the champion had."""
    found, keys, better = [], case.keys, case.evidence.better
    champion: TrainingFacts | None = None
    for training in case.trainings:
        if training.gain is not None and champion and {training.partition, champion.partition} <= set(keys):
            after = _error(training.holdout.value, better)
            before = after + training.gain.value
            age = keys.index(training.partition) - keys.index(champion.partition)
            if min(before, after, age) > 0 and math.isfinite(before):
                grown = math.log1p(age / case.learned_by(champion))
                found.append(Gained(age, grown, math.log(before / after)))
        champion = training if training.became_champion else champion
    return found


def _seen(case: Case) -> list[Seen]:
    """How the error of each champion went with its age, from its hold-out on."""
    found = []
    for reign, (training, successor) in enumerate(zip(case.champions, [*case.champions[1:], None], strict=True)):
        if training.partition in case.keys:
            figures = [(0, training.holdout.value, training.baseline)]
            figures += [
                (case.age_of(facts, training), facts.measured.value, facts.baseline)
                for facts in case.between(training, successor)
                if facts.mature and facts.measured
            ]
            found += _course(reign, figures, case.evidence.better)
    return found


def _course(reign: int, figures: Sequence[tuple[int, float, float | None]], better: str) -> Iterator[Seen]:
    """The errors of one reign as logarithms, the first being 0.

    Where the naive guess is known of all they stand beside it: some rows are harder than others.
    """
    guessed = all(naive is not None and _error(naive, better) > 0 for _, _, naive in figures)
    first: float | None = None
    for age, value, naive in figures:
        beside = _error(value, better) / (_error(naive, better) if guessed and naive is not None else 1)
        if beside > 0 and math.isfinite(beside):
            first = first or beside
            yield Seen(reign, age, math.log(beside) - math.log(first))


def _error(value: float, better: str) -> float:
    """The distance of a metric from perfection, which is 0 where less is better and 1 where more is."""
    return abs(value) if better == "lower" else 1 - value
