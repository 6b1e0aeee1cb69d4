"""Artifacts: equal models are equal bytes, and nothing but what we trust is ever built from them."""

import hashlib
import io
import os
import pickle
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from mlops_assets.ml import artifacts
from mlops_assets.ml.artifacts import (
    TRUSTED,
    UnsafeModelError,
    dump_model,
    estimators_in,
    is_estimator,
    load_model,
    trusted_types,
)
from mlops_assets.ml.features import pipeline
from mlops_assets.ml.importing import import_what_stores_models
from mlops_assets_tests import toy
from mlops_assets_tests.ml.test_features import CLASSIFIED, HERE, rows

TRAIN = """
import hashlib, sys
import sklearn.utils
from mlops_assets.ml.artifacts import dump_model
from mlops_assets.ml.features import pipeline
from mlops_assets_tests.ml.test_artifacts import declaration, rows
frame = rows(200)
print(hashlib.sha256(dump_model(pipeline(declaration()).fit(frame.drop(columns="sales"), frame["sales"]))).hexdigest())
print("torch" in sys.modules, "sklearn.gaussian_process" in sys.modules, sklearn.utils.all_estimators.__module__)
print(*(f"{found.__module__}:{name}" for name, found in sklearn.utils.all_estimators()))
"""


class Stranger(BaseEstimator):
    """An estimator that nobody has declared."""

    def fit(self, rows, target=None):
        return self

    def predict(self, rows):
        return np.zeros(len(rows))


def declaration(**changes):
    steps = [{"calendar": ["hour"]}, {"path": f"{HERE}.ratio", "params": {"scale": 2.0}}]
    return toy.spec("/nowhere", **{"features": steps, **changes})


def fitted(spec, count=200):
    frame = rows(count)
    target = frame["sales"] if spec.task == "regression" else frame["sales"] > 20
    return pipeline(spec).fit(frame.drop(columns="sales"), target)


def digest(content):
    return hashlib.sha256(content).hexdigest()


def trusted(spec):
    return trusted_types(spec.model_dump(mode="json"))


@pytest.fixture(scope="module")
def elsewhere():
    """The digest of a model in another process, what storing it has imported there, and all estimators there are."""
    seeded = {**os.environ, "PYTHONHASHSEED": "7"}
    ended = subprocess.run([sys.executable, "-c", TRAIN], capture_output=True, text=True, env=seeded, check=True)
    return ended.stdout.splitlines()


def test_the_same_model_is_the_same_bytes_fitted_twice_and_in_another_process(elsewhere):
    here = [digest(dump_model(fitted(declaration()))) for _ in range(2)]
    assert here == [elsewhere[0]] * 2


def test_skops_itself_writes_other_bytes_each_time():
    import_what_stores_models()
    import skops.io

    assert len({digest(skops.io.dumps(fitted(declaration()))) for _ in range(2)}) == 2


def test_another_seed_or_another_row_is_another_artifact():
    forest = {"path": "sklearn.ensemble.RandomForestRegressor", "params": {"n_estimators": 2}}
    artifacts = [
        dump_model(fitted(declaration(estimator=forest, seed=seed), count))
        for seed, count in ((1, 200), (2, 200), (1, 201))
    ]
    assert len({digest(artifact) for artifact in artifacts}) == 3


ESTIMATORS = [
    ("sklearn.ensemble.HistGradientBoostingRegressor", {"max_iter": 5}),
    ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 5}),
    ("sklearn.ensemble.RandomForestRegressor", {"n_estimators": 2}),
    ("sklearn.ensemble.GradientBoostingClassifier", {"n_estimators": 2}),
    ("sklearn.linear_model.LogisticRegression", {}),
    ("sklearn.linear_model.Ridge", {}),
    ("sklearn.linear_model.SGDRegressor", {}),
    ("sklearn.naive_bayes.GaussianNB", {}),
    ("sklearn.neighbors.KNeighborsRegressor", {}),
    ("sklearn.svm.SVR", {}),
    ("sklearn.gaussian_process.GaussianProcessRegressor", {}),
    ("sklearn.neural_network.MLPRegressor", {"hidden_layer_sizes": [4], "max_iter": 5}),
    ("sklearn.neural_network.MLPClassifier", {"hidden_layer_sizes": [4], "max_iter": 5, "solver": "sgd"}),
]


@pytest.fixture(scope="module")
def dumps():
    """Each estimator's declaration, fitted pipeline and artifact."""
    made = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path, params in ESTIMATORS:
            task = (
                {"task": "binary", **CLASSIFIED} if "Classifier" in path or "Logistic" in path or "NB" in path else {}
            )
            spec = declaration(estimator={"path": path, "params": params}, **task)
            model = fitted(spec)
            made[path] = (spec, model, dump_model(model))
    return made


@pytest.mark.parametrize("path", [path for path, _ in ESTIMATORS])
def test_what_reads_back_is_the_same_and_predicts_the_same(dumps, path):
    spec, model, content = dumps[path]
    served = load_model(content, digest(content), trusted(spec))
    assert dump_model(served) == content
    frame = rows(50, seed=3)
    np.testing.assert_array_equal(served.predict(frame), model.predict(frame))


def test_the_list_of_trusted_types_holds_nothing_that_no_estimator_needs(dumps):
    import skops.io

    stored = [content for _, _, content in dumps.values()]
    needed = {name for content in stored for name in skops.io.get_untrusted_types(data=content)}
    needed -= {name for content in stored for name in estimators_in(content)}
    assert needed - {f"{HERE}.ratio"} == set(TRUSTED)


def test_the_estimators_that_are_trusted_are_those_that_scikit_learn_lists(elsewhere):
    names = [each.split(":") for each in elsewhere[2].split()]
    assert len(names) > 200
    assert [name for name in names if not is_estimator(*name)] == []


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("sklearn.base", "BaseEstimator"),
        ("sklearn.linear_model._base", "LinearModel"),
        ("sklearn.ensemble._hist_gradient_boosting.binning", "_BinMapper"),
        ("sklearn.ensemble._hist_gradient_boosting.predictor", "TreePredictor"),
        ("sklearn.tree._tree", "Tree"),
        ("sklearn.utils._bunch", "Bunch"),
        ("sklearn.linear_model", "no_such_name"),
        ("sklearn.no_such_module", "Ridge"),
        ("sklearn.utils.estimator_checks", "Estimator"),
        ("sklearn.utils.tests.test_pprint", "LogisticRegression"),
        ("sklearnish", "Ridge"),
        ("subprocess", "Popen"),
        ("mlops_assets_tests.ml.test_artifacts", "Stranger"),
    ],
)
def test_what_is_no_estimator_of_scikit_learn_is_not_trusted_as_one(module, name):
    assert not is_estimator(module, name)


def test_storing_models_imports_neither_all_of_scikit_learn_nor_pytorch(elsewhere):
    assert elsewhere[1].split() == ["False", "False", "sklearn.utils.discovery"]


def test_other_bytes_than_those_stored_are_refused_before_they_are_opened():
    spec = declaration(estimator={"path": "sklearn.linear_model.Ridge"})
    content = dump_model(fitted(spec))
    changed = content[:-1] + bytes([content[-1] ^ 1])
    with pytest.raises(UnsafeModelError, match=f"SHA-256 {digest(changed)}, expected {digest(content)}"):
        load_model(changed, digest(content), trusted(spec))


def test_whoever_loads_a_model_has_one_of_his_own():
    spec = declaration(estimator={"path": "sklearn.linear_model.Ridge"})
    content = dump_model(fitted(spec))
    one = load_model(content, digest(content), trusted(spec))
    given = rows(20).drop(columns="sales")
    said = one.predict(given)
    one[-1].coef_[:] = 0.0
    other = load_model(content, digest(content), trusted(spec))
    assert (one.predict(given) != said).any()
    assert (other.predict(given) == said).all()


def test_a_model_that_was_loaded_before_is_refused_to_whom_trusts_less():
    spec = declaration(estimator={"path": "sklearn.linear_model.Ridge"})
    content = dump_model(fitted(spec))
    load_model(content, digest(content), trusted(spec))
    with pytest.raises(UnsafeModelError, match=r"test_features\.ratio"):
        load_model(content, digest(content), trusted(declaration(features=[])))


@pytest.mark.parametrize(("limit", "kept"), [(artifacts.KEPT_BYTES, 1), (0, 0)])
def test_a_small_model_is_read_once_for_two_and_a_large_one_each_time(limit, kept, monkeypatch):
    monkeypatch.setattr(artifacts, "KEPT_BYTES", limit)
    spec = declaration(estimator={"path": "sklearn.linear_model.Ridge", "params": {"alpha": 3.0}})
    content = dump_model(fitted(spec))
    before = artifacts._read_lately.cache_info().hits
    for _ in range(2):
        load_model(content, digest(content), trusted(spec))
    assert artifacts._read_lately.cache_info().hits - before == kept


def test_a_pickle_is_refused_by_its_format():
    content = pickle.dumps(fitted(declaration(estimator={"path": "sklearn.linear_model.Ridge"})))
    with pytest.raises(UnsafeModelError, match="no skops file"):
        load_model(content, digest(content), TRUSTED)


def test_a_function_that_the_declaration_does_not_name_is_refused_by_name():
    content = dump_model(fitted(declaration(estimator={"path": "sklearn.linear_model.Ridge"})))
    with pytest.raises(UnsafeModelError, match=r"test_features\.ratio"):
        load_model(content, digest(content), trusted(declaration(features=[])))


def test_an_estimator_of_ones_own_is_trusted_where_it_is_declared_and_nowhere_else():
    content = dump_model(Pipeline([("estimator", Stranger())]).fit(pd.DataFrame({"a": [1]})))
    with pytest.raises(UnsafeModelError, match="Stranger"):
        load_model(content, digest(content), TRUSTED)
    declared = declaration(estimator={"path": f"{__name__}.Stranger"})
    assert isinstance(load_model(content, digest(content), trusted(declared))[0], Stranger)


def test_a_foreign_function_is_neither_run_nor_imported():
    content = dump_model(Pipeline([("step", FunctionTransformer(os.system))]))
    with pytest.raises(UnsafeModelError, match="system"):
        load_model(content, digest(content), TRUSTED)


def test_a_model_that_skops_cannot_hold_is_refused_when_it_is_stored():
    with pytest.raises(UnsafeModelError, match="cannot be stored without a pickle"):
        dump_model(Pipeline([("step", FunctionTransformer(kw_args={"a": np.array([1], dtype=[("b", "O")])}))]))


def test_an_artifact_holds_no_time_and_no_address():
    content = dump_model(fitted(declaration()))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert all(len(entry.filename) < 12 for entry in archive.infolist() if entry.filename != "schema.json")


@pytest.mark.parametrize("path", ["lightgbm.LGBMRegressor", "xgboost.XGBRegressor"])
def test_estimators_of_other_packages_take_gaps_and_categories_as_they_are(path):
    pytest.importorskip(path.partition(".")[0], reason=f"{path} is an optional estimator and not installed")
    spec = declaration(estimator={"path": path, "params": {"n_estimators": 5}})
    model, other = fitted(spec), fitted(spec)
    content = dump_model(model)
    assert content == dump_model(other)
    assert "encoding" not in model.named_steps
    gaps = rows(50, seed=3).assign(wind=np.nan, kind=pd.Categorical([None] * 50))
    np.testing.assert_allclose(load_model(content, digest(content), trusted(spec)).predict(gaps), model.predict(gaps))
