"""The default policy of retraining on real histories: nearly what the best naive one gains in hindsight, for far less.

Two of the four sets, with small estimators and every third half-hour of the market: all of it,
`python -m benchmarks.policies`, takes minutes.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from benchmarks.policies import NAIVE, SETS, Compared, by_gain, history, ruled, shuffled
from mlops_assets.ml.backtest import replay
from mlops_assets.ml.policies import POLICIES
from mlops_assets.ml.spec import ModelSpec

QUICK = {"bike": {"max_iter": 25}, "market": {"max_iter": 30}}
BEST = {"bike": "always_w6", "market": "always"}
ROWS = {"bike": slice(None), "market": slice(None, None, 3)}


def quick(spec):
    """The declaration with a small estimator."""
    told = spec.model_dump(mode="json")
    told["estimator"]["params"] |= {"learning_rate": 0.2, **QUICK[spec.name]}
    told["evaluation"]["replicates"] = 50
    return ModelSpec.model_validate(told)


@cache
def lived(name, folder):
    """One set under the default policy, under `never`, and under the naive one that the benchmark found best on it."""
    spec, rows = SETS[name](folder)
    spec, rows = quick(spec), rows.iloc[ROWS[name]].reset_index(drop=True)
    past = history(spec, rows)
    found = {
        label: replay(past, ruled(spec, policy, window), POLICIES[policy], label)
        for label, (policy, window) in NAIVE.items()
        if label in {"never", BEST[name]}
    }
    return Compared(name, found).beside(by_gain(spec, past))


def closed(compared):
    """The share of the gap between `never` and the best that the default policy closes."""
    never, best = compared.loss("never"), compared.loss(BEST[compared.name])
    assert best < never
    return (never - compared.loss("gain")) / (never - best)


@pytest.mark.parametrize("name", BEST)
def test_no_history_would_have_been_better_without_any_training(real_data, name):
    found = lived(name, real_data)
    assert found.loss("gain") <= found.loss("never")


def test_nine_tenths_of_what_the_best_naive_policy_gains_take_a_third_of_its_trainings(real_data):
    histories = [lived(name, real_data) for name in BEST]
    trainings = [(each.replays["gain"].retrainings, each.replays[BEST[each.name]].retrainings) for each in histories]
    assert np.mean([closed(each) for each in histories]) >= 0.9
    assert np.mean([ours / theirs for ours, theirs in trainings]) <= 0.35


@pytest.mark.parametrize(("name", "partitions"), [("bike", 20), ("air", 24)])
def test_where_nothing_changes_hardly_anything_is_trained_and_nothing_alarms(real_data, name, partitions):
    spec, rows = shuffled(*SETS[name](real_data))
    lived = by_gain(quick(spec) if name == "bike" else spec, history(spec, rows))
    judged = [step for step in lived.steps if step.verdict][:24]
    assert len(judged) == partitions
    assert sum(step.trained for step in judged) <= 1
    assert not any(step.alarm for step in judged)
    assert not any(step.verdict == "FIX_UPSTREAM" for step in judged)
