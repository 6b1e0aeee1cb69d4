"""Heavy imports: in an order, and in a way, that costs least."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def for_good() -> Iterator[None]:
    """Import inside without Python's cyclic collector.

    A module lives as long as its process, and the collector walks through the growing heap again and again to find that
    out: a tenth of the CPU that MLflow, scikit-learn and Evidently take to import.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def import_what_stores_models() -> None:
    """Import scikit-learn and skops, before MLflow where both are needed.

    skops looks for each of its 2,000 names in every module that is loaded when it is imported: after MLflow, with 1,000
    modules more, it takes half a second of CPU longer.
    """
    with for_good():
        import skops.io  # noqa: F401
