"""What a process of its own imports to draw a drift page and to reach MLflow's database, and what it finds there.

`python -m mlops_assets_tests.ml.imported` prints as JSON what two find: one imports packages as Python does, the other
on demand. They are forked from one that has imported what is the same for both.
"""

from __future__ import annotations

import inspect
import json
import multiprocessing
import re
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from mlops_assets.ml import importing
from mlops_assets_tests.ml.test_drift_page import page

LISTED = sorted(importing.ON_DEMAND)
IDENTIFIER = re.compile(r"metric_[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def drawn() -> str:
    """One page of a number and a category, without what Evidently makes up anew each time."""
    before = pd.DataFrame({"number": np.arange(200.0), "category": ["a", "b"] * 100})
    html = page(before, before.assign(number=before["number"] * 2))
    return IDENTIFIER.sub("", html)


def read() -> list[int]:
    """Where plotly remembers how it took names apart: how often it knew one, and did not, and how many it knows."""
    from plotly import basedatatypes

    function = basedatatypes._str_to_dict_path_full
    if not hasattr(function, "cache_info"):
        return []
    hits, misses, _, size = function.cache_info()
    return [hits, misses, size]


def known(package: str) -> dict[str, list[str]]:
    """Every public name of a package but its modules, and what says which object it stands for in whichever process."""
    module = import_module(package)
    names = {name for name in [*vars(module), *getattr(module, "__all__", ())] if not name.startswith("_")}
    values = {name: getattr(module, name) for name in names}
    return {name: _identity(value) for name, value in values.items() if not isinstance(value, ModuleType)}


def _identity(value: Any) -> list[str]:
    return [str(getattr(value, each, "")) for each in ("__module__", "__qualname__", "__name__")]


def functions() -> dict[str, list[Any]]:
    """The functions of scipy.stats: what each takes, and what it says of itself."""
    from scipy import stats

    found = {name: getattr(stats, name) for name in stats.__all__ if inspect.isfunction(getattr(stats, name))}
    return {name: [list(inspect.signature(each).parameters), inspect.getdoc(each)] for name, each in found.items()}


def homes() -> dict[str, list[str]]:
    """The modules of the functions that skops knows, and of one that no module has and one that knows its own."""
    importing.import_what_stores_models()
    from skops.io import _trusted_types, _utils

    others = [(np.frompyfunc(len, 1, 1), "len (vectorized)"), (np.random.default_rng(7).random, "random")]
    return {
        "scipy": _trusted_types.SCIPY_UFUNC_TYPE_NAMES,
        "numpy": _trusted_types.NUMPY_UFUNC_TYPE_NAMES,
        "others": [_utils.whichmodule(*each) for each in others],
    }


def look(ordinary: bool) -> dict[str, Any]:
    """Draw, and reach MLflow; note what that has imported; only then ask for every name."""
    if ordinary:
        importing.ON_DEMAND = frozenset()
        importing.LOADERS.clear()
    found: dict[str, Any] = {"page": drawn(), "read": read()}
    with importing.for_good():
        from mlflow.store.tracking import sqlalchemy_store  # noqa: F401
    found["modules"] = sorted(sys.modules)
    found["homes"] = homes()
    found["functions"] = functions()
    found["names"] = {package: known(package) for package in LISTED}
    return found


def main() -> None:
    """Look in both ways."""
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as processes:
        json.dump(processes.map(look, [True, False], chunksize=1), sys.stdout)


if __name__ == "__main__":
    main()
