"""The digest of code: it changes with any byte of a named source, and with nothing else; nothing is run for it."""

import sys

import pytest

from mlops_assets.ml.code import code_version, digest_of_files, own_modules, source_file
from mlops_assets_tests import toy


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes a module that must not be imported, and gives its name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name, body):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit  # {body}\n")
        return name

    return write


def test_a_module_is_found_without_being_run(written, tmp_path):
    assert source_file(written("never_run", "one")) == tmp_path / "never_run.py"
    assert "never_run" not in sys.modules


def test_a_module_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"^there is no module 'mlops_assets\.nowhere'\.$"):
        source_file("mlops_assets.nowhere")


def test_the_version_follows_the_declared_values_and_the_sources(written):
    names = [written("one", "a"), written("two", "b")]
    before = code_version({"seed": 1}, names)
    assert code_version({"seed": 1}, reversed(names)) == before
    assert code_version({"seed": 2}, names) != before
    assert code_version({"seed": 1}, names[:1]) != before
    written("two", "c")
    assert code_version({"seed": 1}, names) != before
    written("two", "b")
    assert code_version({"seed": 1}, names) == before


def test_files_that_change_places_have_another_digest(tmp_path):
    one, two = tmp_path / "1", tmp_path / "2"
    one.write_bytes(b"one")
    two.write_bytes(b"two")
    assert digest_of_files({"a": one, "b": two}) == digest_of_files({"b": two, "a": one})
    assert digest_of_files({"a": one, "b": two}) != digest_of_files({"a": two, "b": one})


def test_a_models_own_modules_are_its_contracts_and_its_functions():
    steps = [{"path": "mlops_assets_tests.ml.test_features.ratio"}, {"calendar": ["hour"]}]
    assert own_modules(toy.spec("landing", features=steps)) == [
        "mlops_assets_tests.toy",
        "mlops_assets_tests.ml.test_features",
    ]
