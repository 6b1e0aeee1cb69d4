"""Heavy imports: the collector rests meanwhile, and leaves alone what stays; packages give names when asked."""

import gc
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from mlops_assets.ml import importing
from mlops_assets.ml.importing import for_good

ROOT = Path(__file__).parents[2]
UNUSED = ("fastapi", "litestar", "nltk", "plotly.express", "plotly.figure_factory")
OFFERING = """
'''Only imports.'''
from . import large
from .small import answer as found
from .small import question
from offered.small import answer
from os import path

__all__ = ["found", "question"]
"""


@pytest.fixture(autouse=True)
def thawed():
    yield
    gc.unfreeze()
    gc.enable()


def test_the_collector_rests_inside_and_works_afterwards():
    with for_good():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_the_collector_works_again_after_an_import_that_failed():
    with pytest.raises(ImportError), for_good():
        raise ImportError
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    with for_good():
        pass
    assert not gc.isenabled()


def test_what_was_imported_is_never_looked_at_again(monkeypatch):
    with for_good():
        monkeypatch.setitem(sys.modules, "a_new_module", ModuleType("a_new_module"))
    assert gc.get_freeze_count() > 1000


def test_what_a_process_holds_is_not_frozen_when_nothing_is_imported():
    gc.unfreeze()
    with for_good():
        import sys  # noqa: F401
    assert gc.get_freeze_count() == 0


@pytest.fixture
def offered(tmp_path, monkeypatch):
    """A package of two modules, to be imported on demand, with the `__init__` that it is called with."""

    def written(program: str) -> ModuleType:
        (tmp_path / "offered").mkdir()
        (tmp_path / "offered" / "__init__.py").write_text(program)
        (tmp_path / "offered" / "small.py").write_text("question, answer = 'what?', 42")
        (tmp_path / "offered" / "large.py").write_text("")
        (tmp_path / "offered" / "silent.py").write_text("")
        with for_good():
            return import_module("offered")

    monkeypatch.setattr(importing, "ON_DEMAND", {"offered"})
    monkeypatch.syspath_prepend(tmp_path)
    yield written
    for name in [name for name in sys.modules if name.partition(".")[0] == "offered"]:
        del sys.modules[name]


def loaded() -> set[str]:
    return {name for name in sys.modules if name.startswith("offered.")}


def test_a_package_imports_the_module_behind_a_name_when_the_name_is_asked_for(offered):
    package = offered(OFFERING)
    assert loaded() == set()
    assert (package.found, package.answer, package.question) == (42, 42, "what?")
    assert loaded() == {"offered.small"}
    assert package.large.__name__ == "offered.large"
    assert package.silent.__name__ == "offered.silent"
    assert package.path.join("a", "b") == "a/b"
    assert package.__doc__ is None or "Only" in package.__doc__


def test_names_come_by_every_form_of_import(offered):
    offered(OFFERING)
    space: dict = {}
    exec("from offered import found, large, silent\nfrom offered import *\nimport offered.small as small", space)  # noqa: S102
    assert (space["found"], space["question"], space["small"].answer) == (42, "what?", 42)


def test_a_name_that_a_package_does_not_have_is_missing_as_ever(offered):
    package = offered(OFFERING)
    assert not hasattr(package, "agm")
    with pytest.raises(ImportError, match="cannot import name 'agm' from 'offered'"):
        exec("from offered import agm", {})  # noqa: S102
    assert loaded() == set()


@pytest.mark.parametrize("more", ["import os", "from .large import *", "limit = 3", "if True:\n    import os"])
def test_a_package_that_does_more_than_import_names_is_loaded_as_ever(offered, more):
    package = offered(f"{OFFERING}\n{more}\n")
    assert loaded() == {"offered.small", "offered.large"}
    assert vars(package)["found"] == 42


def test_a_package_that_is_not_listed_is_loaded_as_ever(offered, monkeypatch):
    monkeypatch.setattr(importing, "ON_DEMAND", frozenset())
    offered(OFFERING)
    assert loaded() == {"offered.small", "offered.large"}


@pytest.fixture(scope="module")
def processes():
    """What two processes import and find: one by the packages' own `__init__`, one on demand."""
    command = [sys.executable, "-m", "mlops_assets_tests.ml.imported"]
    return json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout)


def test_the_page_is_the_same_page(processes):
    ordinary, on_demand = processes
    assert "Evidently" in on_demand["page"]
    assert ordinary["page"] == on_demand["page"]


def test_what_nothing_here_asks_for_is_not_imported(processes):
    ordinary, on_demand = processes
    assert set(UNUSED) <= set(ordinary["modules"])
    assert set(UNUSED) & set(on_demand["modules"]) == set()


def test_plotly_takes_the_name_of_a_property_apart_once(processes):
    ordinary, on_demand = processes
    known, read, different = on_demand["read"]
    assert known > read == different
    assert ordinary["read"] == []


@pytest.mark.parametrize("package", sorted(importing.ON_DEMAND))
def test_every_name_of_a_listed_package_is_still_found_and_is_the_same_thing(processes, package):
    ordinary, on_demand = (process["names"][package] for process in processes)
    assert on_demand == ordinary


def test_skops_finds_every_function_where_its_own_search_finds_it(processes):
    ordinary, on_demand = (process["homes"] for process in processes)
    assert on_demand == ordinary
    assert len(on_demand["scipy"]) > 200
    assert {"numpy.log1p", "numpy.exp"} <= set(on_demand["numpy"])
    assert on_demand["others"] == ["__main__", "numpy.random._generator"]


def test_functions_of_scipy_take_what_they_take_and_their_docstrings_are_only_not_added_to(processes):
    ordinary, on_demand = (process["functions"] for process in processes)
    assert len(on_demand) > 80
    known = {name: (takes, said.partition("\n")[0]) for name, (takes, said) in on_demand.items()}
    assert known == {name: (takes, said.partition("\n")[0]) for name, (takes, said) in ordinary.items()}
    table = "Array API Standard Support"
    assert table in ordinary["ttest_ind"][1]
    assert table not in on_demand["ttest_ind"][1]
