"""Threads: libraries are limited inside and as before afterwards, those included that were loaded in between."""

import os
import subprocess
import sys
from pathlib import Path

import sklearn.ensemble  # noqa: F401

from mlops_assets.ml.threads import PARALLEL_ROWS, for_rows, libraries, limited

LATER = """
import sys
import types
import numpy
from mlops_assets.ml import training
from mlops_assets.ml.threads import libraries

class Loading:
    def __init__(self, spec):
        import sklearn.ensemble

    def fit(self, rows, target):
        print(before, [each["num_threads"] for each in libraries() if each["user_api"] == "openmp"])

before = [each for each in libraries() if each["user_api"] == "openmp"]
sys.modules["mlops_assets.ml.features"] = types.SimpleNamespace(pipeline=Loading)
training._fitted([], None, None)
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


def test_a_library_that_an_estimator_loads_is_found_and_fits_few_rows_on_one_thread():
    command = [sys.executable, "-c", LATER]
    found = subprocess.run(
        command,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "[] [1]"


def test_few_rows_are_computed_on_one_thread_and_many_on_all():
    with limited(2):
        with for_rows(PARALLEL_ROWS - 1):
            assert counts("openmp") == {1}
        with for_rows(PARALLEL_ROWS):
            assert counts("openmp") == {2}
