"""The whole proposal: which model to declare for a sample, with everything that was inferred and is worth a look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from mlops_assets.ml.metrics import Task
from mlops_assets.ml.spec import ChampionGate, ModelSpec, Partitions
from mlops_assets.ml.windows import Windows
from mlops_assets.scaffold.columns import ColumnGuess, as_frame, guess_columns
from mlops_assets.scaffold.sample import Sample, ScaffoldError
from mlops_assets.scaffold.suspects import suspects
from mlops_assets.scaffold.times import TimeFound

Cadence = Literal["monthly", "weekly", "daily", "hourly"]
CADENCES: tuple[Cadence, ...] = get_args(Cadence)
WINDOWS: dict[str, int] = {"monthly": 12, "weekly": 26, "daily": 28, "hourly": 168}
ENOUGH_WINDOWS, FEWEST_WINDOWS = 8, 4
JUDGED_ROWS, USUAL_BAD_SHARE = 100, 0.05
MOST_CLASSES = 10
SLICE_VALUES = 12
CALENDAR = {"year", "yr", "month", "mnth", "mon", "season", "quarter", "week", "weekofyear", "dayofyear"}
ESTIMATORS: dict[Task, tuple[str, str]] = {
    "regression": ("sklearn.ensemble.HistGradientBoostingRegressor", "mae"),
    "binary": ("sklearn.ensemble.HistGradientBoostingClassifier", "roc_auc"),
    "multiclass": ("sklearn.ensemble.HistGradientBoostingClassifier", "balanced_accuracy"),
}


class Wish(NamedTuple):
    """What the user said: a name, and the rest as far as it was given."""

    name: str
    target: str
    owner: str = "team:unassigned"
    task: Task | None = None


@dataclass(frozen=True)
class Proposal:
    """A declaration (the attributes of its `defs.yaml`), the contract's columns, and what the user should know."""

    attributes: dict[str, Any]
    columns: list[ColumnGuess]
    unique_times: bool
    notes: list[str]


def propose(sample: Sample, found: TimeFound, wish: Wish, contract: str) -> Proposal:
    """A model that learns `wish.target` from deliveries like the sample; `contract` is where its contract will be."""
    if wish.target not in sample.table.column_names or wish.target in found.time.columns:
        others = [name for name in sample.table.column_names if name not in found.time.columns]
        raise ScaffoldError(f"--target: no column {wish.target!r} to learn. There are: {', '.join(others)}.")
    hours = [name for name in found.time.columns[1:] if _is_number(sample, name)]
    columns = guess_columns(sample, wish.target, [name for name in found.time.columns if name not in hours])
    frame = as_frame(sample, found.moments)
    partitions, sizes = cut(found.moments)
    task = wish.task or _task(frame[wish.target])
    training = _training(partitions, sizes)
    attributes = {
        "name": wish.name,
        "owner": wish.owner,
        "description": f"Learns {wish.target} from deliveries like {sample.source.files[0]}.",
        "task": task,
        "source": _source(sample, wish.name),
        "partitions": partitions.model_dump(mode="json", exclude_none=True),
        "time": found.time.model_dump(mode="json", exclude_defaults=True) | {"name": found.time.name},
        "contract": contract,
        "target": wish.target,
        "exclude": [],
        "calendar": [column.name for column in columns if column.name.lower() in CALENDAR],
        "estimator": {"path": ESTIMATORS[task][0]},
        "seed": 1,
        "quality": {"max_bad_share": _bad_share(sample, found, wish.target, partitions)},
        "training": training,
        "evaluation": {
            "holdout": _holdout(sizes),
            "metric": ESTIMATORS[task][1],
            "slices": _slices(columns, frame, wish),
        },
        "gates": _gates(sizes),
    }
    fit = [column.name for column in columns if not column.unfit and column.name != wish.target]
    newest = int(sum(sizes[-training["window"] :]))
    unfit = {column.name: column.unfit for column in columns if column.unfit}
    unfit |= suspects(frame, ModelSpec.model_validate(attributes), fit, newest)
    attributes["exclude"] = list(unfit)
    return Proposal(attributes, columns, found.moments.is_unique, _notes(sample, found, attributes, unfit))


def cut(moments: pd.DatetimeIndex) -> tuple[Partitions, list[int]]:
    """The coarsest windows of which the sample fills enough, and the rows in each window from first to last."""
    known = moments[moments.notna()].sort_values()
    best = None
    for every in CADENCES:
        partitions = Partitions(every=every, start=_first_day(known[0], every))
        numbers = Windows.of(partitions).numbers(known.tz_localize(None).to_numpy().astype("M8[s]"))
        sizes = np.unique(numbers, return_counts=True)[1].tolist()
        if len(sizes) >= ENOUGH_WINDOWS:
            return partitions, sizes
        best = (partitions, sizes) if best is None or len(sizes) >= FEWEST_WINDOWS > len(best[1]) else best
    if best is None or len(best[1]) < FEWEST_WINDOWS:
        raise ScaffoldError(
            f"The sample spans {known[0]:%Y-%m-%d %H:%M} to {known[-1]:%Y-%m-%d %H:%M}: too short to learn from some "
            f"windows of time and to judge by others. At least {FEWEST_WINDOWS} hours are needed."
        )
    return best


def _first_day(moment: pd.Timestamp, every: Cadence) -> date:
    day = moment.date()
    if every == "monthly":
        return day.replace(day=1)
    return day - timedelta(days=day.weekday()) if every == "weekly" else day


def _is_number(sample: Sample, name: str) -> bool:
    import pyarrow as pa

    return pa.types.is_integer(sample.table.schema.field(name).type)


def _task(target: pd.Series) -> Task:
    """Two values make a binary task, a few whole numbers or any texts a multiclass one, other numbers a regression."""
    values = target.dropna().unique()
    if len(values) < 2:
        raise ScaffoldError(f"--target: {target.name} has the same value in every row: there is nothing to learn.")
    if len(values) == 2:
        return "binary"
    numeric = pd.api.types.is_numeric_dtype(target.dtype)
    whole = numeric and bool((target.dropna() % 1 == 0).all())
    return "multiclass" if not numeric or (whole and len(values) <= MOST_CLASSES) else "regression"


def _source(sample: Sample, name: str) -> dict[str, Any]:
    folder = sample.source.uri.replace("\\", "\\\\").replace("'", "\\'")
    declared = sample.source.model_dump(mode="json", exclude_defaults=True)
    return declared | {"uri": f"{{{{ env('{name.upper()}_URI', '{folder}') }}}}", "files": list(sample.source.files)}


def _bad_share(sample: Sample, found: TimeFound, target: str, partitions: Partitions) -> float:
    """A limit that the sample itself keeps: above its worst window's share of rows without target or time."""
    missing = pd.Series(sample.table.column(target).is_null().to_numpy())
    known = np.flatnonzero(found.moments.notna())
    numbers = Windows.of(partitions).numbers(found.moments[known].tz_localize(None).to_numpy().astype("M8[s]"))
    worst = float(missing.iloc[known].groupby(numbers).mean().max())
    return round(min(max(USUAL_BAD_SHARE, 1.2 * worst + 0.02), 1.0), 2)


def _holdout(sizes: Sequence[int]) -> int:
    """How many of the newest windows hold enough rows to judge by: at most a quarter of all."""
    rows = np.cumsum(list(reversed(sizes)))
    return int(np.clip(np.searchsorted(rows, JUDGED_ROWS) + 1, 1, max(len(sizes) // 4, 1)))


def _training(partitions: Partitions, sizes: Sequence[int]) -> dict[str, Any]:
    fewest = max(min(2 * _holdout(sizes) + 1, len(sizes)), _holdout(sizes) + 2)
    return {"window": max(WINDOWS[partitions.every], fewest), "min_partitions": fewest}


def _slices(columns: Sequence[ColumnGuess], frame: pd.DataFrame, wish: Wish) -> list[str]:
    few = [
        column.name
        for column in columns
        if not column.unfit and column.name != wish.target and 2 <= frame[column.name].nunique() <= SLICE_VALUES
    ]
    return few[:2]


def _gates(sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Better than a guess, and, where the hold-out has rows enough to tell, not surely worse than what serves."""
    enough = sum(sizes[-_holdout(sizes) :]) >= ChampionGate.model_fields["min_rows"].default
    return [{"metric": "skill", "at_least": 0.0}, *([{"champion": "undecided"}] if enough else [])]


def _notes(sample: Sample, found: TimeFound, attributes: dict[str, Any], unfit: dict[str, str]) -> list[str]:
    time, share = found.time, attributes["quality"]["max_bad_share"]
    said = [
        f"Time: {' + '.join(time.columns)} ({time.format or 'ISO 8601'}, {time.timezone}): {found.example}.",
        f"Target: {attributes['target']}, a task of kind {attributes['task']}.",
        f"Partitions: {attributes['partitions']['every']} from {attributes['partitions']['start']}.",
    ]
    if sample.sentinels:
        texts = sorted({text for written in sample.sentinels.values() for text in written}, key=len)
        said.append(f"Read as missing, being far from all values: {', '.join(texts)} ({', '.join(sample.sentinels)}).")
    said += [f"{name} is excluded: {why}." for name, why in unfit.items()]
    if attributes["calendar"]:
        said.append(f"Drift leaves out the calendar: {', '.join(attributes['calendar'])}.")
    if share > USUAL_BAD_SHARE:
        said.append(f"Up to {share:.0%} of a delivery may be quarantined: {attributes['target']} is often missing.")
    return said
