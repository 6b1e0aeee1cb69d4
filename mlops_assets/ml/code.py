"""The code that decides a result: where its source is, and the digest by which a change of it is seen."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile, ZipInfo

from mlops_assets.ml.spec import ModelSpec, digest_of

UNLOCKED = "unlocked"
PACKAGE = "mlops_assets"
# What zipfile raises of altered bytes, each of them seen from a single flipped bit; it documents BadZipFile only.
DAMAGE = (BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError, ValueError, zlib.error)


class BadArchiveError(ValueError):
    """Bytes that are no archive of source, or none any more."""


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


def code_path(digest: str) -> str:
    """Where the archive of the source with this digest is kept, below the storage root."""
    return f"code/{digest}.zip"


def archive(files: Mapping[str, Path]) -> bytes:
    """The files under the names given, as a zip that `digest_of_archive` proves to be the files of a digest.

    To press them harder takes twice the time and saves a twentieth of the bytes.
    """
    target = io.BytesIO()
    with ZipFile(target, "w", ZIP_DEFLATED) as packed:
        for name, path in sorted(files.items()):
            packed.writestr(ZipInfo(name), path.read_bytes(), ZIP_DEFLATED, compresslevel=3)
    return target.getvalue()


def digest_of_archive(content: bytes) -> str:
    """What `digest_of_files` said of the files in an archive. Raises BadArchiveError where the bytes are none."""
    return digest_of({name: hashlib.sha256(source).hexdigest() for name, source in _unpacked(content).items()})


def as_files(content: bytes) -> dict[str, bytes]:
    """The files of an archive by where Python looks for them: this package's below its name, other modules by theirs.

    Packages around a module get an `__init__.py` that goes on to look where they are installed: what a contract imports
    is not in the archive. Raises BadArchiveError where the bytes are none.
    """
    inside = _unpacked(content)
    modules = [name for name in inside if not name.endswith(".py")]
    found = {f"{PACKAGE}/{name}": source for name, source in inside.items() if name.endswith(".py")}
    for name in modules:
        place = name.replace(".", "/")
        is_package = any(other.startswith(f"{name}.") for other in modules)
        found[f"{place}/__init__.py" if is_package else f"{place}.py"] = inside[name]
    around = {parent for name in modules for parent in _packages_around(name)}
    return {f"{name.replace('.', '/')}/__init__.py": _going_on(name) for name in sorted(around)} | found


def roots(modules: Iterable[str]) -> list[str]:
    """The folders from which modules are imported here, beside what is installed."""
    found = dict.fromkeys(source_file(name).parents[name.count(".")] for name in modules)
    return [str(folder) for folder in found if "site-packages" not in folder.parts]


def _unpacked(content: bytes) -> dict[str, bytes]:
    try:
        with ZipFile(io.BytesIO(content)) as packed:
            return {name: packed.read(name) for name in packed.namelist()}
    except DAMAGE as error:
        raise BadArchiveError(f"{type(error).__name__}: {error}") from error


def _packages_around(module: str) -> list[str]:
    parts = module.split(".")[:-1]
    return [".".join(parts[: place + 1]) for place in range(len(parts))]


def _going_on(package: str) -> bytes:
    try:
        found = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        found = None
    places = (found.submodule_search_locations if found else None) or ()
    installed = [str(Path(folder).absolute()) for folder in places]
    return f"__path__ = [*__path__, *{installed!r}]\n".encode()


def source_file(module: str) -> Path:
    """Where a module's source is, found without running it: a contract imports pandera, which takes a second."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise ValueError(f"there is no module {module!r}.")
    return Path(found.origin)
