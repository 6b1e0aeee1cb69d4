import pytest

from mlops_assets_tests.doctor.writing import found, marked

HEAD = """import hashlib
import pickle
import pickle as safe
import joblib
import mlflow
import mlflow.sklearn as tracked
from cloudpickle import dumps
from joblib import load as read
from mlflow.sklearn import SERIALIZATION_FORMAT_PICKLE
import torch
import skops.io

"""
FOUND = [
    "pickle.dump(model, file)",
    "safe.load(file)",
    "joblib.dump(model, path)",
    "read(path)",
    "stored = dumps(model)",
    'mlflow.sklearn.log_model(model, name="m", serialization_format="cloudpickle")',
    'tracked.log_model(model, name="m", serialization_format=SERIALIZATION_FORMAT_PICKLE)',
    "torch.load(path, weights_only=False)",
]
NOT_FOUND = [
    "skops.io.dump(model, path)",
    "copied = pickle.loads(pickle.dumps(model))",
    "size = len(pickle.dumps(model))",
    "digest = hashlib.sha256(pickle.dumps(model)).hexdigest()",
    'mlflow.sklearn.log_model(model, name="m", serialization_format="skops")',
    'mlflow.sklearn.log_model(model, name="m")',
    "torch.load(path)",
    "json.load(file)",
    "model.dump(path)",
]


@pytest.mark.parametrize("line", FOUND)
def test_a_pickle_is_found_wherever_it_is(tmp_path, line):
    text = f"{HEAD}def store(model, path, file):\n    {line}  # <-\n"
    assert found(tmp_path, text) == marked("pickle", text)


@pytest.mark.parametrize("line", NOT_FOUND)
def test_what_is_no_pickle_or_is_never_kept_is_not(tmp_path, line):
    assert found(tmp_path, f"{HEAD}def store(model, path, file):\n    {line}\n") == []


def test_a_pickle_in_a_test_is_the_tests_own_affair(tmp_path):
    assert found(tmp_path, {"tests/test_it.py": "import pickle\npickle.load(open('x'))\n"}) == []
