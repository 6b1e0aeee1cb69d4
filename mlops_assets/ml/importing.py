"""Heavy imports: in an order, and in a way, that costs least."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def for_good() -> Iterator[None]:
    """Import inside without Python's cyclic collector, and keep it away from what was imported.

    A module lives as long as its process, and the collector walks through the growing heap again and again to find that
    out: a tenth of the CPU that MLflow, scikit-learn and Evidently take to import, and two seconds when the process
    ends. What exists afterwards is still freed when nothing refers to it; only cycles among it are not.
    """
    was_on, loaded = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > loaded:
            gc.freeze()
        if was_on:
            gc.enable()


def import_what_stores_models() -> None:
    """Import scikit-learn and skops, before MLflow where both are needed.

    skops looks for each of its 2,000 names in every module that is loaded when it is imported: after MLflow, with 1,000
    modules more, it takes half a second of CPU longer.
    """
    with for_good():
        import skops.io  # noqa: F401
