"""A clean room: a fresh process in a folder of its own, with given source and nothing of its caller's environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlops_assets import settings
from mlops_assets.ml.code import as_files
from mlops_assets.ml.reproduction import NotRebuiltError, Order, Rebuilt

ENTRY = "mlops_assets.lifecycle.rebuilding"
SOURCE, LOCK, VENV = "source", "lock.txt", "environment"
LAST_LINES = 5
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
REMOTE = re.compile(r"(AWS|AZURE|GOOGLE)_.*|SSL_CERT_(FILE|DIR)|(https?|no|all)_proxy", re.IGNORECASE)
INSTALLING = re.compile(r"(PIP|UV)_.*|SSL_CERT_(FILE|DIR)|(https?|no|all)_proxy|HOME|PATH|NETRC", re.IGNORECASE)
LOADER = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")


class NoEnvironmentError(Exception):
    """The recorded environment cannot be had here."""


@dataclass(frozen=True)
class Source:
    """The source that builds: an archive, and the folders from which what it does not hold is imported."""

    archive: bytes
    roots: tuple[str, ...] = ()


@dataclass(frozen=True)
class Room:
    """A folder in which a version is built anew, and which is thrown away afterwards."""

    path: Path

    def build(self, order: Order, source: Source, threads: int | None, python: str | None) -> Rebuilt:
        """What came out of an order in a process of its own, by this interpreter where None. Raises NotRebuiltError."""
        self._lay_out(source)
        told, answer = self.path / "order.json", self.path / "result.json"
        told.write_text(order.model_dump_json(exclude_unset=True))
        # -P: the folder that it starts in is none that Python imports from.
        command = [python or sys.executable, "-P", "-s", "-m", ENTRY, str(told), str(answer)]
        environment = self.environment(order.home, source.roots, threads)
        done = subprocess.run(command, env=environment, cwd=self.path, capture_output=True, text=True, check=False)
        if done.returncode or not answer.exists():
            last = " ".join(done.stderr.strip().splitlines()[-LAST_LINES:])
            raise NotRebuiltError(f"its process ended with status {done.returncode}: {last}")
        found = json.loads(answer.read_text())
        if "failed" in found:
            raise NotRebuiltError(found["failed"])
        return Rebuilt.model_validate(found)

    def environment(self, home: str, roots: Sequence[str] = (), threads: int | None = None) -> dict[str, str]:
        """All that the process is given: a home of its own, its source, and a way to storage that is remote."""
        kept = {name: os.environ[name] for name in LOADER if name in os.environ}
        if "://" in home:
            kept |= _matching(REMOTE)
        return {
            **kept,
            **{setting.name: setting.default for setting in settings.LIBRARIES},
            **(dict.fromkeys(THREADS, str(threads)) if threads else {}),
            "HOME": str(self._folder("home")),
            "TMPDIR": str(self._folder("tmp")),
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "PYTHONHASHSEED": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join([str(self.path / SOURCE), *roots]),
        }

    def install(self, lock: bytes, python: str) -> str:
        """The interpreter of a virtual environment with exactly the locked packages. Raises NoEnvironmentError."""
        (self.path / LOCK).write_bytes(lock)
        for command in self.plan(interpreter(python)):
            done = subprocess.run(command, env=_matching(INSTALLING), capture_output=True, text=True, check=False)
            if done.returncode:
                last = " ".join(done.stderr.strip().splitlines()[-LAST_LINES:])
                raise NoEnvironmentError(f"The recorded environment cannot be installed: {last}")
        return str(self._python)

    def plan(self, python: str) -> tuple[tuple[str, ...], ...]:
        """The commands that install a lock: no package of another digest, none that it does not name."""
        pip = (str(self._python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        exact = ("--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", str(self.path / LOCK))
        return (python, "-m", "venv", str(self.path / VENV)), (*pip, *exact)

    @property
    def _python(self) -> Path:
        return self.path / VENV / "bin" / "python"

    def _folder(self, name: str) -> Path:
        folder = self.path / name
        folder.mkdir(exist_ok=True)
        return folder

    def _lay_out(self, source: Source) -> None:
        for name, content in as_files(source.archive).items():
            path = self.path / SOURCE / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def interpreter(python: str) -> str:
    """An interpreter here of the same release as `python` (such as 3.11.9). Raises NoEnvironmentError."""
    release = ".".join(python.split(".")[:2])
    if release == "{}.{}".format(*sys.version_info):
        return sys.executable
    if found := shutil.which(f"python{release}"):
        return found
    raise NoEnvironmentError(f"The recorded environment needs Python {release}, and there is no python{release} here.")


def _matching(names: re.Pattern[str]) -> Mapping[str, str]:
    return {name: value for name, value in os.environ.items() if names.fullmatch(name)}
