"""Fitting: which partitions a candidate learns from, the fit itself, and the manifest that makes it reproducible."""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import platform
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from mlops_assets.ml import metrics
from mlops_assets.ml.artifacts import dump_model, load_model, trusted_types
from mlops_assets.ml.code import UNLOCKED, digest_of_files, own_modules, source_file
from mlops_assets.ml.golden import SERVING, Answers, golden_rows, said, surroundings, versions
from mlops_assets.ml.holdout import EvaluationError, HoldOut, Trial, aligned, answers, listed
from mlops_assets.ml.labels import LabelledPartition, content_of
from mlops_assets.ml.leaks import refuse_leaks
from mlops_assets.ml.metrics import Task
from mlops_assets.ml.monitoring import predictions, reference_profile
from mlops_assets.ml.profiles import Profile
from mlops_assets.ml.resource_card import ResourceCard
from mlops_assets.ml.sources import several
from mlops_assets.ml.spec import ModelSpec, Value
from mlops_assets.ml.threads import for_rows, libraries
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.ml.windows import oldest_first

IMPORTANCE_ROWS = 2_000
TOGETHER = 10_000
PREDICTION_ROWS = 50_000
PACKAGES = ("dagster", "mlflow", "numpy", "pandas", "pyarrow", "scikit-learn", "skops")
OURS = ("sklearn", "mlops_assets")
PACKAGE = Path(__file__).parents[1]
NOTHING: Mapping[str, Any] = MappingProxyType({})
LOCKS = (PACKAGE.parent / "requirements" / "runtime.txt", PACKAGE / "requirements.txt")


class TrainingError(Exception):
    """There is nothing to learn, or nothing to learn it from."""


class LeftOut(Value):
    """A validated partition that is not learned from: the version of its raw bytes, its first row's time, and why."""

    delivery: str
    first: datetime
    reason: str


class Manifest(Value):
    """Everything that decides what a candidate is. Same manifest and same code: the same model.

    `deliveries` and `contents` are, by partition, the version of the raw bytes and the digest of the validated files;
    where labels come later, `labels` is the version of their raw bytes, and `contents` covers their files as well.
    `left_out` lay in the window, and neither taught nor judged.
    """

    model: str
    spec: dict[str, Any]
    deliveries: dict[str, str]
    contents: dict[str, str]
    labels: dict[str, str | None] = Field(default_factory=dict)
    table_version: int
    fitted_partitions: tuple[str, ...]
    holdout_partitions: tuple[str, ...]
    left_out: dict[str, LeftOut] = Field(default_factory=dict)
    code: str
    lock: str
    environment: dict[str, str]


class Candidate(Value):
    """A freshly trained model: where it is, what it is made of and what it expects.

    `model_sha256` is the digest of the stored artifact: equal models have equal artifacts. `files` are the digests of
    all that lies in the model's folder, by name. `reference`, `reference_sample` and `golden` are blobs: the training
    Profile as JSON, a bounded sample of rows as Parquet, and the Golden that every load is held to.
    `gpu_seconds` are those of the devices that the declared compute profile holds while it is fitted.
    `threads` is how many the libraries that compute were allowed. `resources` is what the training asked for and took.
    """

    model: str
    mlflow_run_id: str
    model_uri: str
    model_sha256: str
    manifest: Manifest
    inputs: tuple[str, ...]
    classes: tuple[Any, ...] = ()
    fitted_rows: int
    importance: dict[str, float]
    reference: str
    reference_sample: str
    files: dict[str, str] = Field(default_factory=dict)
    golden: str | None = None
    cpu_seconds: float
    gpu_seconds: float = 0.0
    threads: int | None = None
    resources: ResourceCard | None = None


class Split(NamedTuple):
    """The partitions that a candidate learns from and those that judge it, both oldest first."""

    fitted: tuple[ValidatedPartition, ...]
    holdout: tuple[ValidatedPartition, ...]


Reader = Callable[[Sequence[ValidatedPartition]], pd.DataFrame]
"""Reads the rows of partitions, one after the other: the inputs, the target and the time."""


class Choice(NamedTuple):
    """The split that was chosen, and the loss of each that was tried, by how many partitions it would learn from."""

    parts: Split
    losses: dict[int, float]


@dataclass(frozen=True)
class Fitted:
    """A fitted model: the artifact, the pipeline read back from it, and what fitting showed.

    `unlabelled` rows were left out. `inputs` are the columns that it is given, with their types; `importance` sums to 1
    over them. `reference`, `sample` and `golden` describe the fitted rows without personal data; `answers` is what the
    pipeline said of the golden rows.
    """

    content: bytes
    sha256: str
    pipeline: Any
    inputs: dict[str, str]
    classes: tuple[Any, ...]
    rows: int
    unlabelled: int
    importance: dict[str, float]
    reference: Profile
    sample: pd.DataFrame
    golden: pd.DataFrame
    answers: Answers


def in_window(validated: Mapping[str, ValidatedPartition], window: int | None) -> list[ValidatedPartition]:
    """The `window` newest partitions by the time of their first row (all when None), of those that have rows."""
    ordered = oldest_first(part for part in validated.values() if part.rows_out)
    return ordered if window is None else ordered[-window:]


def splits(
    validated: Mapping[str, ValidatedPartition], spec: ModelSpec, left_out: Mapping[str, LeftOut] = NOTHING
) -> tuple[Split, ...]:
    """For each declared window its partitions by the time of their first row: the last judge, the others teach.

    Of windows that hold the same partitions, as all do in the beginning, the first stands for all. What was `left_out`
    is told where too few are left.
    """
    found = in_window(validated, spec.training.widest)
    if len(found) < spec.training.min_partitions:
        raise TrainingError(_too_few(spec, len(found), left_out))
    holdout = spec.evaluation.holdout
    sizes = dict.fromkeys(min(window or len(found), len(found)) for window in spec.training.windows)
    return tuple(Split(tuple(found[-size:-holdout]), tuple(found[-holdout:])) for size in sizes)


def _too_few(spec: ModelSpec, found: int, left_out: Mapping[str, LeftOut]) -> str:
    are = "are validated" if spec.labels is None else "have matured labels"
    remedy = "Materialize more of validated_features first." if spec.labels is None else "More labels have to come."
    said = f"{spec.name}: {found} partitions {are}"
    asked = f"training.min_partitions asks for {spec.training.min_partitions}."
    if not left_out:
        return f"{said}, {asked} {remedy}"
    return (
        f"{said} and come from a sound feed, {asked} Left out: {several(reasons(left_out))} "
        "Have the producer deliver them anew, or name them in drift.world_changed where it was the world that changed."
    )


def reasons(left_out: Mapping[str, LeftOut]) -> dict[str, str]:
    """Why each partition was left out."""
    return {partition: each.reason for partition, each in left_out.items()}


def choose(offered: Sequence[Split], spec: ModelSpec, inputs: Sequence[str], read: Reader) -> Choice:
    """The split to learn from: each is tried on the newest partition that it would learn from, without learning it.

    The hold-out is not looked at. The least loss by the deciding metric wins, and the first of equals.
    """
    if len(offered) == 1:
        return Choice(offered[0], {})
    losses = {len(parts.fitted): _tried(parts, spec, inputs, read) for parts in offered}
    return Choice(min(offered, key=lambda parts: losses[len(parts.fitted)]), losses)


def needed_inputs(spec: ModelSpec, inputs: Iterable[str]) -> tuple[str, ...]:
    """The contract's inputs that the pipeline uses: the time only where features are derived."""
    return tuple(name for name in inputs if spec.features or name != spec.time.name)


def fit(rows: pd.DataFrame, spec: ModelSpec, inputs: Iterable[str], personal: Collection[str] = ()) -> Fitted:
    """Fit the declared pipeline to the labelled ones of `rows`, which are in order of time.

    Everything is measured on the pipeline as it reads back from its artifact. Raises TrainingError or LeakError where
    there is nothing to learn.
    """
    inputs, whole = needed_inputs(spec, inputs), len(rows)
    rows = _labelled(rows, spec)
    refuse_leaks(rows, spec, inputs)
    target = _plain(rows[spec.target], spec.task)
    content = dump_model(_fitted(rows[list(inputs)], target, spec))
    sha256 = hashlib.sha256(content).hexdigest()
    served = load_model(content, sha256, trusted_types(spec.model_dump(mode="json")))
    shown = [name for name in inputs if name not in personal]
    golden = golden_rows(rows, inputs, personal, spec.seed)
    predicted = predictions(served, _sample(rows, PREDICTION_ROWS, spec.seed)[list(inputs)], spec.task)
    with for_rows(TOGETHER):
        importance = _importance(served, rows, target, spec, inputs)
    return Fitted(
        content=content,
        sha256=sha256,
        pipeline=served,
        inputs={name: str(rows[name].dtype) for name in inputs},
        classes=() if spec.task == "regression" else tuple(served.classes_.tolist()),
        rows=len(rows),
        unlabelled=whole - len(rows),
        importance=importance,
        reference=reference_profile(rows[shown], predicted),
        sample=_sample(rows, spec.drift.report_rows, spec.seed)[shown].reset_index(drop=True),
        golden=golden,
        answers=said(spec.task, served, golden, inputs),
    )


def manifest(
    spec: ModelSpec,
    parts: Split,
    labels: Mapping[str, LabelledPartition] = NOTHING,
    left_out: Mapping[str, LeftOut] = NOTHING,
) -> Manifest:
    """The manifest of a candidate of this declaration on these partitions, by the code that is running.

    `labels` are those of the partitions where they come later than the rows. Of what was `left_out` it names what is
    not older than what was learned from.
    """
    every = (*parts.fitted, *parts.holdout)
    begins = every[0].first
    return Manifest(
        model=spec.name,
        spec=spec.model_dump(mode="json"),
        deliveries={part.partition: part.delivery for part in every},
        contents={part.partition: content_of(part, labels.get(part.partition)) for part in every},
        labels={part.partition: labels[part.partition].delivery for part in every if part.partition in labels},
        table_version=max(part.table_version for part in every),
        fitted_partitions=tuple(part.partition for part in parts.fitted),
        holdout_partitions=tuple(part.partition for part in parts.holdout),
        left_out={partition: each for partition, each in sorted(left_out.items()) if each.first >= begins},
        code=code_digest(spec),
        lock=lock_digest(),
        environment=environment(spec),
    )


def summary(made_of: Manifest) -> str:
    """What was learned from, what judges, and what was left out and why."""
    learned, judge = listed(made_of.fitted_partitions), listed(made_of.holdout_partitions)
    left = f" Left out: {several(reasons(made_of.left_out))}" if made_of.left_out else ""
    return f"Learned from {learned}; {judge} was kept back to judge it.{left}"


def resumes(spec: ModelSpec) -> bool:
    """Whether a fit of the declared estimator that was cut off can go on from its last state: its class says so."""
    from mlops_assets.ml.features import FeatureError, estimator_class

    try:
        return bool(getattr(estimator_class(spec.estimator.path), "resumes", False))
    except FeatureError:
        return False


def code_files(spec: ModelSpec) -> dict[str, Path]:
    """The source that makes the model, by name: this package without other models, its contract and its functions."""
    sources = {
        str(path.relative_to(PACKAGE)): path
        for path in PACKAGE.rglob("*.py")
        if "defs" not in path.relative_to(PACKAGE).parts
    }
    return sources | {module: source_file(module) for module in own_modules(spec)}


def code_digest(spec: ModelSpec) -> str:
    """SHA-256 of the source that makes the model."""
    return digest_of_files(code_files(spec))


def lock() -> bytes | None:
    """The locked requirements that were installed from; None where there are none."""
    found = next((path for path in LOCKS if path.is_file()), None)
    return found.read_bytes() if found else None


def lock_digest() -> str:
    """SHA-256 of the locked requirements that were installed from, or `unlocked`."""
    content = lock()
    return UNLOCKED if content is None else hashlib.sha256(content).hexdigest()


def environment(spec: ModelSpec) -> dict[str, str]:
    """Python, the machine's architecture and the packages that decide what fitting gives.

    An estimator's class may add to it what its fit depends on here, by a method `environment` of its parameters.
    """
    from mlops_assets.ml.features import estimator_class

    asked = getattr(estimator_class(spec.estimator.path), "environment", None)
    own = asked(spec.estimator.params) if asked else {}
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **versions({*PACKAGES, *_own_packages(spec)}),
        **own,
    }


def serving_surroundings(spec: ModelSpec) -> dict[str, str]:
    """What the last bits of a prediction depend on here: less than fitting needs is installed where a model serves."""
    return surroundings({*SERVING, *_own_packages(spec)}, lock_digest())


def _own_packages(spec: ModelSpec) -> Collection[str]:
    """The packages of an estimator that is neither scikit-learn's nor ours."""
    own = spec.estimator.path.partition(".")[0]
    return _packages_by_module().get(own, []) if own not in OURS else []


_packages_by_module = cache(importlib.metadata.packages_distributions)


def threads() -> int:
    """How many threads the libraries that compute may use in this process."""
    return max((each["num_threads"] for each in libraries()), default=1)


def _fitted(rows: pd.DataFrame, target: np.ndarray, spec: ModelSpec) -> Any:
    """The fitted pipeline."""
    from mlops_assets.ml.features import pipeline

    try:
        unfitted = pipeline(spec)
        with for_rows(len(rows)):
            return unfitted.fit(rows, target)
    except (ValueError, ImportError) as error:
        said = f"{spec.name}: the pipeline cannot be fitted: {str(error).rstrip('.')}.{_without_values(rows)}"
        raise TrainingError(said) from error


def _without_values(rows: pd.DataFrame) -> str:
    """The columns that may have stopped an estimator, as nothing is in them."""
    empty = [name for name in rows.columns if rows[name].isna().all()]
    if not empty:
        return ""
    named = ", ".join(map(repr, empty))
    return f" No value in all {len(rows):,} learned rows: {named}. Name it in exclude, or widen training.window."


def _tried(parts: Split, spec: ModelSpec, inputs: Sequence[str], read: Reader) -> float:
    """The loss on the newest partition of fitting, learned from those before it; infinite where it cannot be told."""
    *before, newest = parts.fitted
    if not before:
        return math.inf
    try:
        rows = _labelled(read(before), spec)
        model = _fitted(rows[list(inputs)], _plain(rows[spec.target], spec.task), spec)
        judged = HoldOut.of(spec, read([newest]), {newest.partition: newest.rows_out})
        classes = () if spec.task == "regression" else tuple(model.classes_.tolist())
        trial = Trial.of(spec, judged, classes)
        with for_rows(len(judged.frame)):
            predicted = aligned(answers(spec.task, model, judged.frame, inputs), classes, trial.classes)
        found = metrics.values(spec.task, trial.actual, predicted)
    except (TrainingError, EvaluationError, metrics.UnusablePredictionsError):
        return math.inf
    metric = spec.evaluation.metric
    return float(metrics.loss(spec.task, metric, found[metric])) if metric in found else math.inf


def _labelled(rows: pd.DataFrame, spec: ModelSpec) -> pd.DataFrame:
    known = rows[spec.target].notna()
    rows = rows if known.all() else rows[known]
    values = rows[spec.target].nunique()
    if values == 0:
        raise TrainingError(f"{spec.name}: no row of the fitted partitions has a {spec.target}: nothing to learn.")
    if values == 1:
        raise TrainingError(
            f"{spec.name}: {spec.target} has the same value in all {len(rows):,} rows: there is nothing to tell apart. "
            "Widen training.window, or look at what was delivered."
        )
    if spec.task == "binary" and values > 2:
        raise TrainingError(f"{spec.name}: {spec.target} has {values} classes; declare the task multiclass.")
    return rows


def _plain(target: pd.Series, task: Task) -> np.ndarray:
    """The target as NumPy knows it: floats in regression, else classes of one kind."""
    if task == "regression":
        return target.to_numpy(np.float64)
    if isinstance(target.dtype, np.dtype | pd.CategoricalDtype):
        return np.asarray(target)
    kind = {"i": np.int64, "u": np.int64, "b": np.bool_}.get(target.dtype.kind, object)
    return target.to_numpy(kind)


def _sample(rows: pd.DataFrame, size: int, seed: int) -> pd.DataFrame:
    """At most `size` rows, drawn once, in their order."""
    if len(rows) <= size:
        return rows
    return rows.iloc[np.sort(np.random.default_rng(seed).choice(len(rows), size, replace=False))]


def _importance(
    model: Any, rows: pd.DataFrame, target: np.ndarray, spec: ModelSpec, inputs: Sequence[str]
) -> dict[str, float]:
    """How much worse the model gets when one column's values are dealt out anew, as shares of the whole."""
    random = np.random.default_rng(spec.seed)
    chosen = np.sort(random.permutation(len(rows))[:IMPORTANCE_ROWS])
    sample, actual = rows[list(inputs)].iloc[chosen].reset_index(drop=True), target[chosen]
    dealt = [(name, random.permutation(len(sample))) for name in inputs]
    badness = _badness(model, actual, spec.task)
    [base] = badness([sample])
    losses: dict[str, float] = {}
    together = max(TOGETHER // len(sample), 1)
    for first in range(0, len(dealt), together):
        some = dealt[first : first + together]
        found = badness([sample.assign(**{name: sample[name].array.take(places)}) for name, places in some])
        losses |= {name: max(bad - base, 0.0) for (name, _), bad in zip(some, found, strict=True)}
    whole = sum(losses.values())
    return {name: loss / whole if whole else 1 / len(losses) for name, loss in losses.items()}


def _badness(model: Any, actual: np.ndarray, task: Task) -> Callable[[Sequence[pd.DataFrame]], list[float]]:
    """How far off the model is for each of several frames, all of which it is asked about at once."""
    if task == "regression":
        ask, off = model.predict, lambda said: np.abs(said - actual)
    else:
        places = np.searchsorted(model.classes_, actual)
        ask, off = model.predict_proba, lambda said: -np.log(np.clip(said[np.arange(len(places)), places], 1e-9, 1))

    def badness(frames: Sequence[pd.DataFrame]) -> list[float]:
        said = np.split(ask(pd.concat(frames, ignore_index=True)), len(frames))
        return [float(off(each).mean()) for each in said]

    return badness
