"""Threads: libraries are limited inside and as before afterwards, those included that were loaded in between."""

import subprocess
import sys
from pathlib import Path

import sklearn.ensemble  # noqa: F401

from mlops_assets.ml.threads import PARALLEL_ROWS, for_rows, libraries, limited

LATER = """
import numpy
from mlops_assets.ml.threads import libraries
before = {each["user_api"] for each in libraries()}
import sklearn.ensemble
print(*sorted({each["user_api"] for each in libraries()} - before))
"""


def counts(kind: str) -> set[int]:
    return {each["num_threads"] for each in libraries() if each["user_api"] == kind}


def test_libraries_have_the_threads_inside_that_are_asked_for_and_their_own_afterwards():
    with limited(2):
        before = counts("blas"), counts("openmp")
        with limited(1, "openmp"):
            assert (counts("blas"), counts("openmp")) == (before[0], {1})
            with limited(None):
                assert counts("openmp") == {1}
        assert (counts("blas"), counts("openmp")) == before


def test_a_library_that_is_loaded_later_is_found():
    command = [sys.executable, "-c", LATER]
    found = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["openmp"]


def test_few_rows_are_computed_on_one_thread_and_many_on_all():
    with limited(2):
        with for_rows(PARALLEL_ROWS - 1):
            assert counts("openmp") == {1}
        with for_rows(PARALLEL_ROWS):
            assert counts("openmp") == {2}
