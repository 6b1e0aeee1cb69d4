"""Row 16: a column explodes into a million categories. The pipeline keeps its size, its memory and its temper."""

import time
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor

from mlops_assets.ml.features import OTHER, CappedCategories, pipeline
from mlops_assets_tests import toy

ROWS = 1_000_000


def exploded(start=0):
    names = pd.Index([f"customer-{number:07d}" for number in range(start, start + ROWS)])
    return pd.DataFrame({"kind": pd.Categorical.from_codes(np.arange(ROWS), names)})


def usual(rows=10_000):
    kinds = np.random.default_rng(0).choice(["a", "b", "c"], rows)
    return pd.DataFrame({"kind": pd.Categorical(kinds), "sales": np.where(kinds == "a", 10.0, 20.0)})


def measured(work):
    """CPU seconds and megabytes at the peak."""
    started = time.process_time()
    tracemalloc.start()
    result = work()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return result, time.process_time() - started, peak


@pytest.mark.fault(16)
def test_a_million_new_categories_are_other_and_cost_little(record_figure):
    fitted = CappedCategories(limit=100).fit(usual()[["kind"]])
    frame = exploded()
    made, seconds, megabytes = measured(lambda: fitted.transform(frame))
    assert made["kind"].cat.codes.unique().tolist() == [fitted.categories_["kind"].index(OTHER)]
    record_figure(part="transform", seconds=round(seconds, 2), megabytes=round(megabytes))
    assert seconds < 10
    assert megabytes < 200


@pytest.mark.fault(16)
@pytest.mark.parametrize("path", ["sklearn.ensemble.HistGradientBoostingRegressor", "sklearn.linear_model.Ridge"])
def test_a_model_may_be_fitted_to_a_million_categories(path, record_figure):
    params = {"max_iter": 2} if "Boosting" in path else {}
    spec = toy.spec("/nowhere", features=[], estimator={"path": path, "params": params, "max_categories": 50})
    frame = exploded()
    target = np.random.default_rng(0).normal(size=ROWS)
    model, seconds, megabytes = measured(lambda: pipeline(spec).fit(frame, target))
    assert len(model.named_steps["categories"].categories_["kind"]) == 50
    assert model[-1].n_features_in_ <= 50
    record_figure(part=f"fit {path.rpartition('.')[2]}", seconds=round(seconds, 2), megabytes=round(megabytes))
    assert megabytes < 800


@pytest.mark.fault(16)
def test_unguarded_the_estimator_gives_up_at_the_first_new_category_too_many():
    frame = exploded().iloc[:300]
    frame["kind"] = frame["kind"].cat.remove_unused_categories()
    with pytest.raises(ValueError, match="cardinality"):
        HistGradientBoostingRegressor(categorical_features="from_dtype").fit(frame, np.arange(300.0))
