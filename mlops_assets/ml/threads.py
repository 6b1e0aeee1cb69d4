"""Threads: how many the libraries that compute have in this process, and work that is done on fewer."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any, Literal

PARALLEL_ROWS = 100_000


def for_rows(count: int) -> AbstractContextManager[Any]:
    """One thread of OpenMP inside where rows are few: threads that wait for each other cost ten times the work."""
    return limited(1 if count < PARALLEL_ROWS else None, "openmp")


def limited(count: int | None, kind: Literal["blas", "openmp"] | None = None) -> AbstractContextManager[Any]:
    """At most `count` threads inside, of the libraries of one kind or of all; None limits nothing."""
    return _controller(len(sys.modules)).limit(limits=count, user_api=kind)


def libraries() -> list[dict[str, Any]]:
    """The libraries that compute here: their kind, their threads and for which processor they were chosen."""
    return _controller(len(sys.modules)).info()


@lru_cache(maxsize=1)
def _controller(modules: int) -> Any:  # noqa: ARG001
    """What holds the libraries, which are looked for among all that are loaded, anew when a module was imported."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
