"""Row 31: a poisoned model is not loaded, and nothing in it is ever run."""

import hashlib
import os
import pickle
import sys

import cloudpickle
import pytest
import yaml
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from mlops_assets.ml.artifacts import UnsafeModelError, load_model, trusted_types
from mlops_assets.ml.importing import import_what_stores_models
from mlops_assets.resources.mlmodel import ARTIFACT
from mlops_assets_tests.ml.test_features import rows
from mlops_assets_tests.resources.tracked import logged, tracking_in

LOADER = """
import os

os.system({command!r})


class Model:
    def predict(self, rows):
        return rows


def _load_pyfunc(path):
    return Model()
"""


class Poison:
    """Anything that runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def a_pickle(folder, command):
    (folder / ARTIFACT).write_bytes(pickle.dumps(Poison(command)))


def a_cloudpickle(folder, command):
    (folder / ARTIFACT).write_bytes(cloudpickle.dumps(Poison(command)))
    flavours(folder, sklearn={"serialization_format": "cloudpickle"})


def skops_with_a_list_of_its_own(folder, command):
    bomb = FunctionTransformer(poisoned, kw_args={"command": command})
    import_what_stores_models()
    import skops.io

    (folder / ARTIFACT).write_bytes(skops.io.dumps(Pipeline([("bomb", bomb)])))
    trusted = skops.io.get_untrusted_types(file=folder / ARTIFACT)
    flavours(folder, sklearn={"skops_trusted_types": trusted})


def a_loader_of_its_own(folder, command):
    (folder / "code").mkdir()
    (folder / "code" / "innocent.py").write_text(LOADER.format(command=command))
    flavours(folder, python_function={"loader_module": "innocent", "code": "code"})


def code_beside_the_model(folder, command):
    (folder / "code").mkdir()
    (folder / "code" / "sitecustomize.py").write_text(f"import os\nos.system({command!r})\n")
    flavours(folder, python_function={"code": "code"})


def a_loader_in_the_description(folder, command):
    flavours(folder, python_function={"loader_module": "os"})


def requirements_from_somewhere(folder, command):
    (folder / "requirements.txt").write_text("innocent @ https://127.0.0.1:9/innocent-1.0.tar.gz\n")


def code_of_its_own(folder, command):
    (folder / "conftest.py").write_text(f"import os\nos.system({command!r})\n")


CORPUS = {
    a_pickle: [ARTIFACT],
    a_cloudpickle: [ARTIFACT, "MLmodel"],
    skops_with_a_list_of_its_own: [ARTIFACT, "MLmodel"],
    a_loader_of_its_own: ["code/"],
    a_loader_in_the_description: ["MLmodel"],
    code_beside_the_model: ["code/"],
    code_of_its_own: ["conftest.py"],
    requirements_from_somewhere: ["requirements.txt"],
}
RUN_BY_MLFLOW = [a_cloudpickle, skops_with_a_list_of_its_own, a_loader_of_its_own]


def poisoned(rows, command):
    """What a skops file may name when it brings its own list of trusted types."""
    os.system(command)  # noqa: S605
    return rows


def flavours(folder, **changes):
    """Change the file that MLflow's own loaders believe."""
    described = yaml.safe_load((folder / "MLmodel").read_text())
    for flavour, values in changes.items():
        described["flavors"][flavour].update(values)
    (folder / "MLmodel").write_text(yaml.safe_dump(described))


@pytest.fixture
def tracking(tmp_path):
    return tracking_in(tmp_path)


@pytest.fixture
def poisonous(tracking, tmp_path):
    """A candidate, and a function that poisons its folder in MLflow; a canary appears when anything of it is run."""
    made = logged(tracking)
    (folder,) = (path.parent for path in tmp_path.rglob("MLmodel"))
    canary = tmp_path / "canary"

    def poison(kind):
        kind(folder, f"touch {canary}")
        return folder

    return made, poison, canary


@pytest.mark.fault(31)
@pytest.mark.parametrize("kind", CORPUS)
def test_a_poisoned_model_is_refused_by_name_and_nothing_of_it_is_run(tracking, poisonous, kind, record_figure):
    made, poison, canary = poisonous
    poison(kind)
    with pytest.raises(UnsafeModelError, match="is not as it was stored") as refused:
        tracking.load(made)
    assert [name for name in CORPUS[kind] if name not in str(refused.value)] == []
    assert not canary.exists()
    record_figure(format=kind.__name__, executions=0, refused=True)


@pytest.mark.fault(31)
@pytest.mark.parametrize("kind", [a_pickle, a_cloudpickle, skops_with_a_list_of_its_own])
def test_poison_is_refused_by_what_it_is_where_even_its_digest_is_believed(poisonous, kind):
    made, poison, canary = poisonous
    content = (poison(kind) / ARTIFACT).read_bytes()
    with pytest.raises(UnsafeModelError, match=r"no skops file|types that are not trusted.*poisoned"):
        load_model(content, hashlib.sha256(content).hexdigest(), trusted_types(made.manifest.spec))
    assert not canary.exists()


@pytest.mark.fault(31)
@pytest.mark.parametrize("kind", RUN_BY_MLFLOW)
def test_mlflows_own_loader_runs_the_poison(poisonous, monkeypatch, kind):
    _, poison, canary = poisonous
    monkeypatch.setattr(sys, "path", list(sys.path))
    import mlflow

    model = mlflow.pyfunc.load_model(str(poison(kind)))
    if kind is skops_with_a_list_of_its_own:
        model.get_raw_model().transform(rows(5))
    assert canary.exists()
