"""The code that decides a result: where its source is, and the digest by which a change of it is seen."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlops_assets.ml.spec import ModelSpec, digest_of


def code_version(declared: Any, modules: Iterable[str] = ()) -> str:
    """A short digest of what decides a result: the declared values (as JSON holds them) and the source of modules."""
    return digest_of([declared, digest_of_files({module: source_file(module) for module in modules})])[:16]


def own_modules(spec: ModelSpec) -> list[str]:
    """The modules that a declaration names as the model's own: its contract's and those of its feature functions."""
    paths = [spec.contract, *(step.path for step in spec.features if step.path)]
    return [path.rpartition(".")[0] for path in paths]


def digest_of_files(files: Mapping[str, Path]) -> str:
    """SHA-256 (hex) of the contents of files under the names given, in whatever order."""
    return digest_of({name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()})


def source_file(module: str) -> Path:
    """Where a module's source is, found without running it: a contract imports pandera, which takes a second."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise ValueError(f"there is no module {module!r}.")
    return Path(found.origin)
