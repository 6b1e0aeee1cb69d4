"""The default policy of retraining on real rentals: nearly what the best naive one gains in hindsight, for far less."""

from __future__ import annotations

from benchmarks.policies import Compared, bike, by_gain, history, ruled, shuffled
from mlops_assets.ml.backtest import replay
from mlops_assets.ml.policies import POLICIES
from mlops_assets.ml.spec import ModelSpec

QUICK = {"loss": "poisson", "max_iter": 25, "learning_rate": 0.2}


def quick(spec):
    """The declaration with a small estimator."""
    told = spec.model_dump(mode="json")
    told["estimator"]["params"] = QUICK
    told["evaluation"]["replicates"] = 50
    return ModelSpec.model_validate(told)


def test_most_of_what_the_best_naive_policy_gains_takes_a_third_of_its_trainings(real_data):
    spec, rows = bike(real_data)
    spec = quick(spec)
    lived = history(spec, rows)
    naive = {"never": ("never", None), "always": ("always", None), "always_w6": ("always", 6)}
    replays = {
        name: replay(lived, ruled(spec, policy, window), POLICIES[policy], name)
        for name, (policy, window) in naive.items()
    }
    found = Compared("bike", replays).beside(by_gain(spec, lived))
    best = min(naive, key=found.loss)
    closed = (found.loss("never") - found.loss("gain")) / (found.loss("never") - found.loss(best))
    assert best == "always_w6"
    assert closed > 0.75
    assert found.effort("gain") <= 0.35


def test_where_nothing_changes_hardly_anything_is_trained_and_nothing_alarms(real_data):
    spec, rows = shuffled(*bike(real_data))
    lived = by_gain(quick(spec), history(spec, rows))
    assert len([step for step in lived.steps if step.verdict]) == 20
    assert lived.retrainings <= 1
    assert not any(step.alarm for step in lived.steps)
