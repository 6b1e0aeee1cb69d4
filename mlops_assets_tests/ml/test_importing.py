"""Heavy imports: the collector rests meanwhile, and leaves alone what stays."""

import gc
import sys
from types import ModuleType

import pytest

from mlops_assets.ml.importing import for_good


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
