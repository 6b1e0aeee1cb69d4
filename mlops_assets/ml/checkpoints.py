"""Checkpoints: the state of a fit as bytes and back, whose it is, and how an estimator finds who keeps it.

An estimator asks for `keeper()` while it is fitted. It is no parameter of the estimator: whether and where a fit is
kept changes neither the model nor what the model is made of.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol
from zipfile import BadZipFile

import numpy as np

FORMAT = "1"
HEADER = "header"

Identity = Mapping[str, str]
"""What a fit is, by field: model, manifest, estimator, parameters, rows, versions, device."""


class CheckpointError(ValueError):
    """Bytes that are no checkpoint, or one of another fit."""


class Snapshot(NamedTuple):
    """The state of a fit: arrays by name, and what JSON can hold."""

    arrays: Mapping[str, np.ndarray]
    values: Mapping[str, Any]


class Keeper(Protocol):
    """Whoever keeps the state of a fit while it goes on."""

    def newest(self, identity: Identity) -> Snapshot | None:
        """The newest sound state of this very fit; None where there is none, and it begins at the start."""

    def watching(self) -> AbstractContextManager[None]:
        """The time in which `offer` is called again and again, and decides when the process may end."""

    def offer(self, take: Callable[[], Snapshot]) -> None:
        """Take and keep the state where it is due. Called between two steps, when the state is whole."""

    def keep(self, snapshot: Snapshot) -> None:
        """Keep this state now."""


class Nobody:
    """The keeper where nobody keeps anything."""

    def newest(self, identity: Identity) -> Snapshot | None:  # noqa: ARG002
        """Nothing."""
        return None

    def watching(self) -> AbstractContextManager[None]:
        """No time in particular."""
        return nullcontext()

    def offer(self, take: Callable[[], Snapshot]) -> None:
        """Not taken."""

    def keep(self, snapshot: Snapshot) -> None:
        """Not kept."""


NOBODY = Nobody()
_KEEPER: ContextVar[Keeper] = ContextVar("keeper", default=NOBODY)


@contextmanager
def kept_by(keeper: Keeper) -> Iterator[None]:
    """What is fitted inside is kept by `keeper`."""
    token = _KEEPER.set(keeper)
    try:
        yield
    finally:
        _KEEPER.reset(token)


def keeper() -> Keeper:
    """Whoever keeps what is fitted here."""
    return _KEEPER.get()


def written(identity: Identity, snapshot: Snapshot) -> bytes:
    """A checkpoint as bytes: NumPy's own format, without pickles, and a header in JSON."""
    header = json.dumps({"identity": {**identity, "format": FORMAT}, "values": snapshot.values}, sort_keys=True)
    target = io.BytesIO()
    named = {f"array.{name}": array for name, array in snapshot.arrays.items()}
    np.savez(target, allow_pickle=False, **{HEADER: np.frombuffer(header.encode(), np.uint8), **named})
    return target.getvalue()


def read(content: bytes, identity: Identity) -> Snapshot:
    """The state in a checkpoint of the fit that is meant. Raises CheckpointError where it is another's, or none."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            header = json.loads(stored[HEADER].tobytes())
            arrays = {name.removeprefix("array."): stored[name] for name in stored.files if name != HEADER}
        whose, values = header["identity"], header["values"]
    except (ValueError, KeyError, TypeError, EOFError, OSError, BadZipFile) as error:
        raise CheckpointError(f"it is no checkpoint: {error}") from error
    if others := differences(whose, {**identity, "format": FORMAT}):
        raise CheckpointError(f"it is of another fit: {others}")
    return Snapshot(arrays, values)


def differences(found: Identity, expected: Identity) -> str:
    """Which fields of two identities differ, and how, in words; empty where none does."""
    names = sorted({*found, *expected})
    pairs = {name: (found.get(name, "absent"), expected.get(name, "absent")) for name in names}
    return "; ".join(f"its {name} is {one}, not {other}" for name, (one, other) in pairs.items() if one != other)
