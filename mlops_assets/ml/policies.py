"""The policies of retraining, as values that can be replayed over any history: `gain`, and the naive ones beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlops_assets.ml.charts import figure
from mlops_assets.ml.gain import PRIOR, Prior
from mlops_assets.ml.prospects import LIKELY, Prospect, doubt
from mlops_assets.ml.retraining import NAMED, Answer, Case, Evidence, Policy, RetrainingDecision, counted
from mlops_assets.ml.spec import Retraining


@dataclass(frozen=True)
class Never:
    """What was trained first serves for ever."""

    name: str = "never"

    def decide(self, evidence: Evidence, rule: Retraining) -> RetrainingDecision:
        """WAIT."""
        answer = Answer("WAIT", "The declared policy never retrains.", "Only another policy would retrain.")
        return Case(evidence, rule).decision(self.name, answer)


@dataclass(frozen=True)
class Always:
    """Every partition is learned from as it comes."""

    name: str = "always"

    def decide(self, evidence: Evidence, rule: Retraining) -> RetrainingDecision:
        """RETRAIN unless the newest partition has been trained with."""
        case = Case(evidence, rule)
        retrain = Answer("RETRAIN", "The declared policy retrains with every partition.", "Only another policy waits.")
        return case.decision(self.name, case.settled() or retrain)


@dataclass(frozen=True)
class EveryN:
    """By the calendar: every so many partitions, whatever they hold."""

    name: str = "every_n"

    def decide(self, evidence: Evidence, rule: Retraining) -> RetrainingDecision:
        """RETRAIN when as many partitions as declared came after the last training."""
        case = Case(evidence, rule)
        return case.decision(self.name, case.settled() or self._bycounted(len(case.unlearned), rule.every))

    def _bycounted(self, passed: int, every: int) -> Answer:
        reason = f"{counted(passed)} came after the last training; the policy retrains every {counted(every)}."
        if passed >= every:
            return Answer("RETRAIN", reason, f"With {counted(every - 1)} after the last training it would be WAIT.")
        return Answer("WAIT", reason, f"{counted(every - passed)} later it is RETRAIN.")


@dataclass(frozen=True)
class OnDrift:
    """Whenever drift has lasted, and only then."""

    name: str = "on_drift"

    def decide(self, evidence: Evidence, rule: Retraining) -> RetrainingDecision:
        """RETRAIN when the newest partition has drifted and so have `k` of the newest `n` since the last training."""
        case = Case(evidence, rule)
        return case.decision(self.name, case.settled() or case.resting() or self._by_drift(case))

    def _by_drift(self, case: Case) -> Answer:
        k, n = case.evidence.k, case.evidence.n
        recent = [facts for facts in case.unlearned if facts.drift is not None][-n:]
        found = sum(facts.drift == "drifted" for facts in recent)
        reason = (
            f"{found} of the newest {len(recent)} drift reports since the last training are drifted, the newest is "
            f"{recent[-1].drift if recent else 'missing'}; the policy retrains at {k} of {n}, the newest among them."
        )
        if case.drifted:
            return Answer("RETRAIN", reason, f"Had {case.newest.partition} not drifted, it would be WAIT.")
        missing = max(k - found - (bool(recent) and recent[-1].drift != "drifted"), 0)
        also = f" and {missing} of those before it" if missing else ""
        return Answer("WAIT", reason, f"Had {case.newest.partition}{also} drifted, it would be RETRAIN.")


@dataclass(frozen=True)
class Gain:
    """When waiting has lost as much as a training costs, by what the trainings and the champions of the past show."""

    name: str = "gain"
    prior: Prior = PRIOR

    def decide(self, evidence: Evidence, rule: Retraining) -> RetrainingDecision:
        """FIX_UPSTREAM for broken data, NEED_LABELS where nothing new can be learned, RETRAIN when it pays."""
        case = Case(evidence, rule)
        if settled := _upstream(case) or case.settled():
            return case.decision(self.name, settled)
        prospect = Prospect.of(case, self.prior)
        corrected = (_spent(case) or _corrected(case)) if evidence.stale else None
        answer = corrected or case.resting() or _spent(case) or _by_gain(case, prospect)
        return case.decision(self.name, answer, prospect.gain if prospect else None)


def _upstream(case: Case) -> Answer | None:
    """Broken data teaches nothing: the feed is to be repaired. None where the newest partition is not said to be.

    Whatever the drift verdict: a feed that lost most of its rows moves no column.
    """
    newest = case.newest
    if newest.cause is None or not newest.broken:
        return None
    return Answer(
        "FIX_UPSTREAM",
        f"{newest.partition} is not learned from. {newest.cause.sentence}",
        "Once the partition is delivered anew, or drift.world_changed names it, it is decided by the gain.",
    )


def _corrected(case: Case) -> Answer:
    """What was learned from wrong rows is learned again, once and without a cooldown."""
    stale = case.evidence.stale
    named = ", ".join(stale[:NAMED]) + (f" and {len(stale) - NAMED} more" if len(stale) > NAMED else "")
    return Answer(
        "RETRAIN",
        f"The champion learned from what was corrected since: {named}.",
        "Without that correction it would be decided by the gain.",
    )


def _spent(case: Case) -> Answer | None:
    """A bound on trainings, however the data swing; None where it is not reached."""
    horizon, most = case.rule.horizon, case.rule.most
    recent = set(case.keys[-horizon:])
    trained = [training.partition for training in case.trainings[1:] if training.partition in recent]
    if len(trained) < most:
        return None
    return Answer(
        "WAIT",
        f"{len(trained)} of the newest {counted(len(recent))} were trained with, the most that may be.",
        f"Once {trained[0]} is not among them any more, it is decided by the gain.",
    )


def _by_gain(case: Case, prospect: Prospect | None) -> Answer:
    if prospect is None or not math.isfinite(prospect.gain.value):
        return Answer(
            "NEED_LABELS",
            "No figure of the champion is known, neither from labels nor from its hold-out.",
            "Mature labels of one partition would tell.",
        )
    price, pays, metric = figure(prospect.price), prospect.pays(), case.evidence.metric
    reason = _told(case, prospect)
    if (pays or case.drifted) and not any(facts.mature and not facts.broken for facts in case.unjudged):
        return Answer(
            "NEED_LABELS",
            f"{reason} But of {counted(len(case.unjudged))} since the last training's labels none has mature ones.",
            "With mature labels of one of them it would be decided by the gain.",
        )
    if pays:
        less = f"Had waiting lost less than {price} of {metric}, or a gain been less than {LIKELY:.0%} likely"
        return Answer("RETRAIN", reason, f"{less}, it would be WAIT.")
    if later := prospect.later():
        return Answer("WAIT", reason, f"After {counted(later)} more like these it would be RETRAIN.")
    more = f"Once waiting has lost {price} of {metric}, and a gain is {LIKELY:.0%} likely"
    return Answer("WAIT", reason, f"{more}, it would be RETRAIN.")


def _told(case: Case, prospect: Prospect) -> str:
    """What is expected, and what it rests on."""
    metric, rule = case.evidence.metric, case.rule
    worth = "its cost" if rule.value else f"{rule.worth:g} of the error in one partition, as declared"
    drift = (" The data have drifted." if case.drifted else "") + _unheard(case)
    rests = f"{counted(prospect.trainings, 'earlier training')} and the figures of {counted(prospect.partitions)}"
    if prospect.estimated:
        rests += f" ({prospect.estimated} of them by its estimated error, labels not yet there)"
    still = f" That nothing changes is {1 - prospect.believed.changing:.0%} likely." if prospect.trainings else ""
    return (
        f"The champion is {counted(case.age)} old. By {rests}, a model trained now is {prospect.chance:.0%} likely to "
        f"be better, and expected to gain {prospect.gain} of {metric} in each partition. Waiting has lost "
        f"{figure(prospect.lost(case.age))} so far; a training must be worth {figure(prospect.price)} ({worth}).{still}"
        f"{drift}"
    )


def _unheard(case: Case) -> str:
    """Why the newest estimate counts for nothing, where it does."""
    waiting = [facts for facts in case.reign if facts.estimated and not facts.mature and not facts.broken]
    if not waiting or math.isfinite(doubt(waiting[-1], case.evidence)):
        return ""
    inside, of = waiting[-1].held
    return f" Its estimated error counts for nothing: the truth fell into {inside} of the last {of} estimates."


POLICIES: dict[str, Policy] = {each.name: each for each in (Gain(), Never(), Always(), EveryN(), OnDrift())}


def policy(rule: Retraining) -> Policy:
    """The policy that a declaration names."""
    return POLICIES[rule.policy]
