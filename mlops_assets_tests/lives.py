"""Lives that many tests begin with: lived once, and laid out again for each of them, with an instance of its own.

MLflow keeps absolute paths, so that all of them are laid out in one place, one at a time.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlops_assets_tests.homes import instance_at, opened_at
from mlops_assets_tests.toy import Workshop


class Lives:
    """What was lived in one place, by name."""

    def __init__(self, folder: Path) -> None:
        """`folder` is theirs alone."""
        self._place, self._kept = folder / "life", folder / "kept"
        self._kept.mkdir()

    @contextmanager
    def begun(self, *lived: Callable[[Workshop], Any], **changes: Any) -> Iterator[Workshop]:
        """A workshop as `lived`, each of which goes on from what the one before left, leave it.

        Each is a function with a name of its own; `changes` are those of its model.
        """
        self._lay_out(lived, changes)
        with opened_at(self._place) as instance:
            yield Workshop(self._place / "home", instance, changes)

    def _lay_out(self, lived: Sequence[Callable[[Workshop], Any]], changes: Mapping[str, Any]) -> None:
        kept = self._kept / ",".join(f"{live.__module__.rpartition('.')[2]}.{live.__qualname__}" for live in lived)
        if not kept.exists():
            *before, last = lived
            if before:
                self._lay_out(before, changes)
            else:
                self._clear()
                self._place.mkdir()
            with opened_at(self._place) if before else instance_at(self._place) as instance:
                last(Workshop(self._place / "home", instance, changes))
            self._place.rename(kept)
        self._clear()
        shutil.copytree(kept, self._place)

    def _clear(self) -> None:
        """Away with what was lived last, and with what MLflow keeps open of it: other files will be at these paths."""
        from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Versions
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Runs

        for store in (Runs, Versions):
            for uri, engine in store._engine_map.items():
                if str(self._place) in uri:
                    engine.dispose()
        shutil.rmtree(self._place, ignore_errors=True)
