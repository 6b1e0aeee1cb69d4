"""What gates find out by using the candidate itself: how fast it answers, how large it is, how it behaves."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from traceback import walk_tb
from typing import Any

import numpy as np
import pandas as pd

from mlops_assets.ml.behaviour import BehaviourError, Cases, Subject
from mlops_assets.ml.gates import QUANTILES, Finding, measurement, too_few
from mlops_assets.ml.holdout import HoldOut, answers
from mlops_assets.ml.spec import BehaviourGate, Gate, LatencyGate, ModelSpec, SizeGate
from mlops_assets.ml.training import Candidate

Stopwatch = Callable[[], int]
"""A monotonic clock in nanoseconds, such as time.perf_counter_ns."""

TRIED_ROWS = 500
NANOSECONDS = 1e6
RAISED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def tried(
    spec: ModelSpec,
    candidate: Candidate,
    pipeline: Any,
    holdout: HoldOut,
    size: Callable[[], int],
    stopwatch: Stopwatch,
) -> dict[str, Finding]:
    """The finding of every declared gate that needs the candidate itself, by the gate's name.

    `size` gives the bytes of the stored artifact, and is asked only where a gate wants to know.
    """

    def ask(rows: pd.DataFrame) -> np.ndarray:
        return answers(spec.task, pipeline, rows, candidate.inputs)

    def find(gate: Gate) -> Finding | None:
        match gate:
            case LatencyGate():
                return latency(gate, ask, holdout.frame, stopwatch, spec.evaluation.confidence)
            case SizeGate():
                return Finding(value=float(size()))
            case BehaviourGate():
                inputs = holdout.frame[list(candidate.inputs)]
                return behaviour(gate, Subject(spread(inputs, TRIED_ROWS), ask, candidate.classes))
        return None

    found = {gate.called: (gate, find(gate)) for gate in spec.gates}
    return {
        name: finding.model_copy(update={"of": measurement(gate, spec)})
        for name, (gate, finding) in found.items()
        if finding is not None
    }


def latency(
    gate: LatencyGate,
    ask: Callable[[pd.DataFrame], np.ndarray],
    rows: pd.DataFrame,
    stopwatch: Stopwatch,
    confidence: float,
) -> Finding:
    """The time for one prediction at a quantile, in milliseconds, with the order statistics around it as interval."""
    places = np.linspace(0, len(rows) - 1, gate.warm_up + gate.repeats).round().astype(int)
    single = [rows.iloc[[place]] for place in places]
    for row in single[: gate.warm_up]:
        ask(row)
    spent = []
    for row in single[gate.warm_up :]:
        started = stopwatch()
        ask(row)
        spent.append((stopwatch() - started) / NANOSECONDS)
    if min(spent) < 0 or max(spent) <= 0:
        return Finding(missing="the clock did not go forward", rows=len(spent))
    quantile = QUANTILES[gate.latency]
    doubt = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(quantile * (1 - quantile) / len(spent))
    low, high = np.quantile(spent, np.clip([quantile - doubt, quantile + doubt], 0, 1))
    parts = {name: float(np.quantile(spent, each)) for name, each in QUANTILES.items()}
    return Finding(
        value=parts[gate.latency],
        low=float(low),
        high=float(high),
        rows=len(spent),
        about="milliseconds",
        parts=dict(parts),
    )


def behaviour(gate: BehaviourGate, subject: Subject) -> Finding:
    """The share of the cases in which the candidate behaves, by the function that the gate names."""
    from mlops_assets.ml.features import FeatureError, function

    try:
        cases = _cases(function(gate.behaviour)(subject, **gate.params))
    except (BehaviourError, FeatureError) as error:
        return Finding(missing=str(error))
    except RAISED as error:
        return Finding(missing=f"{gate.behaviour} raised {type(error).__name__} in line {_line(error)}")
    if len(cases) < gate.min_cases:
        return Finding(missing=too_few(len(cases), gate.min_cases, "cases"), rows=len(cases))
    return Finding(value=float(cases.mean()), rows=len(cases), about=f"{int(cases.sum()):,} of {len(cases):,} cases")


def spread(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many of the rows, evenly spread over them."""
    if len(rows) <= most:
        return rows
    return rows.iloc[np.linspace(0, len(rows) - 1, most).round().astype(int)]


def _line(error: BaseException) -> int:
    """Where an error was raised. Its text is not repeated: it may hold a row."""
    *_, (_, line) = walk_tb(error.__traceback__)
    return line


def _cases(said: Any) -> Cases:
    """What a test returned, as truths: one for each case, or a single one."""
    cases = np.atleast_1d(np.asarray(said))
    if cases.ndim != 1 or cases.dtype != bool:
        raise BehaviourError(
            f"a test of behaviour returns true or false for each case, not {type(said).__name__} of {cases.dtype}"
        )
    return cases
