"""Heavy imports: in an order, and in a way, that costs least."""

from __future__ import annotations

import ast
import gc
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import resolve_name
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

ON_DEMAND = frozenset(
    {
        "evidently",
        "evidently.legacy.metrics",
        "evidently.legacy.tests",
        "evidently.metrics",
        "mlflow.gateway",
        "mlflow.genai",
        "mlflow.genai.judges",
    }
)


@contextmanager
def for_good() -> Iterator[None]:
    """Import inside without Python's cyclic collector, and keep it away from what was imported.

    A module lives as long as its process, and the collector walks through the growing heap again and again to find that
    out: a tenth of the CPU that MLflow, scikit-learn and Evidently take to import, and two seconds when the process
    ends. What exists afterwards is still freed when nothing refers to it; only cycles among it are not.

    From here on the packages ON_DEMAND import what is asked of them, and not all that they offer: the drift of a column
    takes 90 modules of Evidently's and 5 MB of the 64 that come with natural language and a web server.
    """
    was_on, loaded = gc.isenabled(), len(sys.modules)
    gc.disable()
    if _PackagesOnDemand not in sys.meta_path:
        sys.meta_path.insert(0, _PackagesOnDemand)
    try:
        yield
    finally:
        if len(sys.modules) > loaded:
            gc.freeze()
        if was_on:
            gc.enable()


def import_what_stores_models() -> None:
    """Import scikit-learn and skops.

    skops looks for each of SciPy's 230 functions in every module that is loaded when it is imported: half a second of
    CPU among the 3,000 modules of a run. Here the modules are looked through once. To know the estimators that it
    trusts, it would import every module of scikit-learn, with PyTorch where that is installed: 2.4 s of CPU and 190 MB.
    It gets none to trust here, and `artifacts.load_model` names those that a file holds.
    """
    with for_good():
        import sklearn.utils

        names = vars(sklearn.utils)
        found = names["all_estimators"]
        names["all_estimators"] = list
        try:
            import skops.io  # noqa: F401
        finally:
            names["all_estimators"] = found


class _PackagesOnDemand:
    """Finds what is loaded otherwise as Python does: the packages ON_DEMAND and the modules that have LOADERS."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The package's spec; None for every other module, which Python then finds itself."""
        loader = _OnDemand if name in ON_DEMAND else LOADERS.get(name)
        spec = PathFinder.find_spec(name, path, target) if loader else None
        if loader and spec and isinstance(spec.loader, SourceFileLoader):
            spec.loader = loader(spec.loader.name, spec.loader.path)
        return spec


class _LookingOnce(SourceFileLoader):
    """Loads skops' module of helpers, and has it look for universal functions in all modules at once."""

    def exec_module(self, module: ModuleType) -> None:
        """Put what was found at once before skops' own search, which goes through all modules for each function."""
        super().exec_module(module)
        search, homes = vars(module)["whichmodule"], _homes_of_functions()

        def whichmodule(obj: Any, name: str) -> str:
            function, home = homes.get(id(obj), (None, ""))
            return home if function is obj else search(obj, name)

        vars(module)["whichmodule"] = whichmodule


def _homes_of_functions() -> dict[int, tuple[Any, str]]:
    """The universal functions that do not know their module, each with the first one that has it, by `id`."""
    from numpy import ufunc

    homes: dict[int, tuple[Any, str]] = {}
    for home, module in sys.modules.copy().items():
        for name, value in vars(module).copy().items() if home != "__main__" and module else ():
            if type(value) is ufunc and value.__name__ == name and getattr(value, "__module__", None) is None:
                homes.setdefault(id(value), (value, home))
    return homes


class _ReadingOnce(SourceFileLoader):
    """Loads plotly's module of figures, and has it take the name of a property apart once: it does at every use."""

    def exec_module(self, module: ModuleType) -> None:
        """Let the function that takes names apart remember what it said."""
        super().exec_module(module)
        if read := vars(module).get("_str_to_dict_path_full"):
            vars(module)["_str_to_dict_path_full"] = lru_cache(1024)(read)


class _LeavingDocstrings(SourceFileLoader):
    """Loads SciPy's module that takes docstrings apart, and has it leave them as they are written.

    SciPy adds a table of array libraries to the docstrings of 200 functions when it is imported: half a second of CPU,
    a quarter of what scikit-learn takes to import.
    """

    def exec_module(self, module: ModuleType) -> None:
        """Give the decorators that add to a docstring one that stays what it is."""
        super().exec_module(module)
        vars(module)["FunctionDoc"] = _Docstring


class _Docstring(defaultdict[str, list[Any]]):
    """A function's docstring, to whose sections may be added in vain: below a line for the signature it is itself."""

    def __init__(self, function: Any) -> None:
        super().__init__(list)
        self._text = function.__doc__ or ""

    def __str__(self) -> str:
        return f"\n{self._text}"


LOADERS: dict[str, type[SourceFileLoader]] = {
    "plotly.basedatatypes": _ReadingOnce,
    "scipy._lib._docscrape": _LeavingDocstrings,
    "skops.io._utils": _LookingOnce,
}


class _OnDemand(SourceFileLoader):
    """Loads a package whose `__init__` only imports names from its modules: a module when its name is asked for.

    The same names are found in the same modules, so that a package that is used in full loses nothing. A package that
    does anything else is loaded as ever.
    """

    def exec_module(self, module: ModuleType) -> None:
        """Give the package its names, each to be imported when it is asked for (PEP 562)."""
        package = module.__name__
        origins = _origins(ast.parse(self.get_source(package) or ""), package)
        if origins is None:
            super().exec_module(module)
            return
        modules = {child.name: (package, child.name) for child in iter_modules(module.__path__)}

        def asked(name: str) -> Any:
            if name not in origins and name not in modules:
                raise AttributeError(f"module {package!r} has no attribute {name!r}")
            source, origin = origins.get(name) or modules[name]
            if source == package:
                value = import_module(f"{package}.{origin}")
            else:
                value = getattr(__import__(source, fromlist=[origin]), origin)
            setattr(module, name, value)
            return value

        vars(module).update(__getattr__=asked, __all__=[name for name in origins if not name.startswith("_")])


def _origins(program: ast.Module, package: str) -> dict[str, tuple[str, str]] | None:
    """Module and name behind every name that a package imports, None where it does more than import from modules."""
    found: dict[str, tuple[str, str]] = {}
    for statement in program.body:
        match statement:
            case ast.ImportFrom(names=names) if all(each.name != "*" for each in names):
                source = resolve_name("." * statement.level + (statement.module or ""), package)
                found |= {each.asname or each.name: (source, each.name) for each in names}
            case ast.Expr(value=ast.Constant()) | ast.Assign(targets=[ast.Name(id="__all__")]):
                continue
            case _:
                return None
    return found
