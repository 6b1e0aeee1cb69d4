"""Rehearsals of serving: models that were fetched and verified, loaded by a fresh process with an empty environment."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlops_assets import settings
from mlops_assets.ml.training import Candidate
from mlops_assets.serving.rehearsal import ARTIFACT, CANDIDATE, PERFORMANCE, ROWS, Performance

PATIENCE_SECONDS = 300
PASSED_ON = ("HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "TMPDIR")


@dataclass(frozen=True)
class Part:
    """A model that is to answer: what it is, its artifact, and its golden rows as Parquet where there are any."""

    candidate: Candidate
    artifact: bytes
    rows: bytes | None


def rehearse(parts: Mapping[int, Part]) -> dict[int, Performance | str]:
    """What each model says in a process of its own, or why it cannot. One that kills the process harms no other."""
    found: dict[int, Performance | str] = {}
    with tempfile.TemporaryDirectory() as name:
        folders = {number: Path(name) / f"{number:09d}" for number in sorted(parts)}
        for number, folder in folders.items():
            _write(folder, parts[number])
        while waiting := [number for number in folders if number not in found]:
            died = _process(Path(name))
            for number in waiting:
                answered = folders[number] / PERFORMANCE
                if not answered.exists():
                    found[number] = died
                    answered.touch()
                    break
                found[number] = Performance.model_validate_json(answered.read_bytes())
    return found


def _process(folder: Path) -> str:
    """Start the process that answers, and return how it ended where it did not end well."""
    python = settings.SERVING_PYTHON.value() or sys.executable
    command = [python, "-P", "-m", "mlops_assets.serving.rehearsal", str(folder)]
    # A model is code that somebody wrote: it is given none of the credentials that this process may hold.
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    try:
        ended = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it gave no answer within {PATIENCE_SECONDS} seconds."
    except OSError as error:
        return f"{settings.SERVING_PYTHON.name} ({python}) cannot be started: {error.strerror}."
    said = ended.stderr.strip().splitlines()
    return f"the process that loads it ended with {ended.returncode}: {said[-1] if said else 'it said nothing'}"


def _write(folder: Path, part: Part) -> None:
    folder.mkdir()
    (folder / CANDIDATE).write_text(part.candidate.model_dump_json())
    (folder / ARTIFACT).write_bytes(part.artifact)
    if part.rows is not None:
        (folder / ROWS).write_bytes(part.rows)
