"""What no retry policy repeats: a stage that refused would refuse again, and hold its machine for as long."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg

from mlops_assets.ml.artifacts import UnsafeModelError
from mlops_assets.ml.contracts import ContractError
from mlops_assets.ml.holdout import EvaluationError
from mlops_assets.ml.leaks import LeakError
from mlops_assets.ml.metrics import UnusablePredictionsError
from mlops_assets.ml.training import TrainingError
from mlops_assets.ml.unpacking import UnreadableFileError
from mlops_assets.ml.validation import BrokenContractError
from mlops_assets.resources.trusted import KeyUnavailableError


def refusals() -> tuple[type[Exception], ...]:
    """What the logic refuses with. Asked for once something was raised: scikit-learn is imported with it."""
    from mlops_assets.ml.features import FeatureError

    return (
        BrokenContractError,
        ContractError,
        EvaluationError,
        FeatureError,
        KeyUnavailableError,
        LeakError,
        TrainingError,
        UnreadableFileError,
        UnsafeModelError,
        UnusablePredictionsError,
    )


def unrepeated(make: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of an asset, whose refusals are failures that no retry policy repeats.

    Dagster itself repeats neither a blocking check that failed nor an error of its own kind, as `resources` raises.
    """

    @functools.wraps(make)
    def function(*arguments: Any, **named: Any) -> Any:
        with _said_once():
            return make(*arguments, **named)

    @functools.wraps(make)
    def generator(*arguments: Any, **named: Any) -> Iterator[Any]:
        with _said_once():
            yield from make(*arguments, **named)

    return generator if inspect.isgeneratorfunction(make) else function


@contextmanager
def _said_once() -> Iterator[None]:
    try:
        yield
    except refusals() as error:
        raise dg.Failure(f"{type(error).__name__}: {error}", allow_retries=False) from error
