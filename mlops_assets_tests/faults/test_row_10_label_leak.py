"""Row 10: a column that holds the answer is refused by name before a model is fitted to it."""

import numpy as np
import pandas as pd
import pytest

from mlops_assets.ml.leaks import LeakError, find_leaks
from mlops_assets.ml.training import fit
from mlops_assets_tests import toy

ROWS = 3_000
CLASSIFIED = {"task": "binary", "evaluation": {"metric": "log_loss"}, "gates": []}
CLASSIFIER = {"path": "sklearn.ensemble.HistGradientBoostingClassifier", "params": {"max_iter": 5}}


def numbers(seed=0):
    """Rows from which the target can be guessed, but not told."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({f"x{index}": random.normal(size=ROWS) for index in range(6)})
    frame["shop"] = pd.Categorical(random.choice(list("abcdef"), ROWS))
    frame["x5"] = frame["x5"].where(random.random(ROWS) > 0.2)
    weights = random.normal(size=5)
    frame["sales"] = frame[[f"x{index}" for index in range(5)]] @ weights + random.normal(0, 0.5, ROWS)
    return frame


def classes(seed=0):
    frame = numbers(seed)
    return frame.assign(sales=(frame["sales"] > frame["sales"].median()).astype(int))


def copy(frame):
    return frame["sales"]


def rescaled(frame):
    return 1_000 - 3 * frame["sales"]


def bent(frame):
    return (frame["sales"] - frame["sales"].mean()).abs() + 10 * (frame["sales"] > frame["sales"].mean())


def blurred(frame):
    return frame["sales"] + np.random.default_rng(5).normal(0, 0.05 * frame["sales"].std(), len(frame))


def shifted(frame):
    return frame["sales"].shift(-1)


def written_afterwards(frame):
    return pd.Series(np.where(frame["sales"] > 0, 1.0, np.nan))


def identifier(frame):
    return pd.Series([f"{sold}-{number:06d}" for number, sold in enumerate(frame["sales"])], dtype="category")


def decision(frame):
    return frame["sales"].map({0: "refund", 1: "invoice"}).astype("category")


LEAKS = [
    (numbers, copy),
    (numbers, rescaled),
    (numbers, bent),
    (numbers, blurred),
    (numbers, shifted),
    (classes, written_afterwards),
    (classes, identifier),
    (classes, decision),
]


def declared(world, **changes):
    task = {**CLASSIFIED, "estimator": CLASSIFIER} if world is classes else {}
    return toy.spec("/nowhere", **{"features": [], **task, **changes})


def inputs(frame):
    return [name for name in frame.columns if name != "sales"]


@pytest.mark.fault(10)
def test_eight_kinds_of_leak_are_refused_by_name_and_twenty_clean_sets_are_not(record_figure):
    caught = 0
    for world, leak in LEAKS:
        frame = world().assign(suspect=leak)
        with pytest.raises(LeakError, match="'suspect' tells the target"):
            fit(frame, declared(world), inputs(frame))
        caught += 1
    alarms = sum(
        bool(find_leaks(frame, declared(world), inputs(frame)))
        for world in (numbers, classes)
        for frame in (world(seed) for seed in range(1, 11))
    )
    record_figure(caught=f"{caught}/{len(LEAKS)}", false_alarms=f"{alarms}/20")
    assert alarms == 0


@pytest.mark.fault(10)
def test_unguarded_a_model_is_fitted_to_its_own_answer():
    frame = numbers().assign(suspect=copy)
    fitted = fit(frame, declared(numbers, training={"known_in_advance": ["suspect"]}), inputs(frame))
    assert fitted.importance["suspect"] > 0.95


@pytest.mark.fault(10)
def test_the_leak_in_the_real_bike_data_is_found(real_data, record_figure):
    frame = pd.read_csv(real_data / "bike_sharing_hourly" / "hour.csv")
    spec = declared(numbers, target="cnt")
    found = find_leaks(frame, spec, [name for name in frame.columns if name != "cnt"])
    record_figure(real_leaks=[str(leak) for leak in found])
    assert [leak.column for leak in found] == ["registered"]
