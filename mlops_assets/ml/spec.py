"""What one model is: the declaration that `defs.yaml` and Python both produce. Values only, no behaviour of a stage."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from datetime import date, timedelta
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    field_validator,
    model_validator,
)

from mlops_assets.ml.metrics import METRICS, Task
from mlops_assets.ml.uris import holds_password
from mlops_assets.ml.windows import Windows


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(map(repr, twice))} stands here twice: name it once.")
    return names


def _as_written(key: Any) -> Any:
    """A partition key as text: YAML reads a day as a date."""
    return key.isoformat() if isinstance(key, date) else key


Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
ImportPath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+$")]
EnvironmentVariable = Annotated[str, StringConstraints(pattern=r"^[A-Z_][A-Z0-9_]*$")]
Owner = Annotated[str, StringConstraints(pattern=r"^(team:[A-Za-z0-9_-]+|[^@\s]+@[^@\s]+\.[^@\s]+)$")]
Person = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$")]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Ratio = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Stage = Literal["data", "validation", "training", "evaluation", "registration", "monitoring", "retraining"]
Fairness = Literal[
    "demographic_parity_difference",
    "demographic_parity_ratio",
    "equalized_odds_difference",
    "equalized_odds_ratio",
    "equal_opportunity_difference",
    "equal_opportunity_ratio",
    "metric_difference",
    "metric_ratio",
]
CalendarPart = Literal["hour", "weekday", "day", "dayofyear", "week", "month", "quarter", "year", "elapsed_days"]
Names = Annotated[tuple[str, ...], AfterValidator(_once)]
CalendarParts = Annotated[tuple[CalendarPart, ...], AfterValidator(_once)]
PartitionKeys = Annotated[tuple[Annotated[str, BeforeValidator(_as_written)], ...], AfterValidator(_once)]
Window = Annotated[int, Field(ge=2)] | None
WEBSERVER = "webserver"
CHECKS_OF_THE_REPORT = frozenset({"clears_every_gate", "beats_the_naive_baseline", "judged_on_unseen_rows"})
PARTITION_KEY = re.compile(r"^(?!\.)(?!.*\.\.)[A-Za-z0-9._-]{1,128}$")


class Value(BaseModel):
    """A frozen value that refuses fields it does not know and says which it does know."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_fields(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        fields = cls.model_fields
        unknown = [str(name) for name in data if name not in fields]
        if unknown:
            guesses = difflib.get_close_matches(unknown[0], fields, n=1)
            meant = f" Did you mean {guesses[0]!r}?" if guesses else ""
            raise ValueError(
                f"{cls.__name__} has no field {', '.join(map(repr, unknown))}.{meant} Allowed: {', '.join(fields)}."
            )
        return data

    def digest(self) -> str:
        """SHA-256 (hex) of the value as canonical JSON: equal values, equal digests."""
        return digest_of(self.model_dump(mode="json"))


def canonical(value: Any) -> str:
    """Anything JSON can hold as the one text that stands for it: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest_of(value: Any) -> str:
    """SHA-256 (hex) of anything JSON can hold, by its canonical text."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


class FileSource(Value):
    """Files in a folder or under an object-store URI.

    `files` are patterns relative to `uri`. One with `{partition}` (named batches) or `{partition:%Y-%m}`
    (`strptime` format, time windows) takes the partition from the path; one without is split by the time column.
    `*` matches within one folder.
    """

    uri: str
    files: tuple[str, ...] = Field(min_length=1)
    format: Literal["auto", "csv", "jsonl", "parquet"] = "auto"
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    null_values: tuple[str, ...] = ("", "NA", "NaN", "nan", "null", "NULL")
    settle_seconds: float = Field(default=10, ge=0)
    max_bytes: int = Field(default=16 * 2**30, gt=0)
    max_rows: int = Field(default=50_000_000, gt=0)

    @field_validator("uri")
    @classmethod
    def _names_no_password(cls, uri: str) -> str:
        if holds_password(uri):
            raise ValueError(
                "uri holds a password. Leave it out, and give it in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
            )
        return uri

    @model_validator(mode="after")
    def _patterns_stay_inside(self) -> Self:
        for pattern in self.files:
            if pattern.startswith("/") or ".." in pattern.split("/"):
                raise ValueError(f"files: {pattern!r} leaves the folder {self.uri!r}; give a path relative to it.")
            if pattern.count("{partition") > 1:
                raise ValueError(f"files: {pattern!r} names the partition twice.")
        return self


class SqlSource(Value):
    """A query over a window of time, through SQLAlchemy.

    `query` selects one window with the bind parameters `:start` (inclusive) and `:end` (exclusive). The database's
    URL comes from the environment variable `url_env`, so that no credential stands in a file. The newest `lookback`
    windows are looked at again for corrections.
    """

    url_env: EnvironmentVariable
    query: str
    lookback: int = Field(default=3, ge=0)

    @model_validator(mode="after")
    def _query_is_windowed(self) -> Self:
        missing = [name for name in (":start", ":end") if name not in self.query]
        if missing:
            raise ValueError(f"query must hold the bind parameters :start and :end; missing {', '.join(missing)}.")
        return self


def _kind_of_source(data: Any) -> str:
    fields = data if isinstance(data, dict) else getattr(data, "model_fields_set", ())
    return "sql" if {"query", "url_env"} & set(fields) else "files"


Source = Annotated[
    Annotated[FileSource, Tag("files")] | Annotated[SqlSource, Tag("sql")], Discriminator(_kind_of_source)
]


class Partitions(Value):
    """How deliveries are cut: windows of time from `start`, or batches named by their files."""

    every: Literal["hourly", "daily", "weekly", "monthly", "batch"]
    start: date | None = None
    end: date | None = None

    @model_validator(mode="after")
    def _windows_have_a_start(self) -> Self:
        if self.every == "batch" and (self.start or self.end):
            raise ValueError("batch partitions are named by their files: leave out start and end.")
        if self.every != "batch" and self.start is None:
            raise ValueError(f"{self.every} partitions need a start, such as 2024-01-01.")
        if self.start and self.end and self.end <= self.start:
            raise ValueError(f"end ({self.end}) must be later than start ({self.start}).")
        return self


class Time(Value):
    """Where a row's time stands. Several columns are joined by a space before they are parsed.

    Without `format` text must be ISO 8601. Times without an offset are in `timezone`; everything is kept in UTC.
    """

    columns: tuple[str, ...] = Field(min_length=1)
    format: str | None = None
    timezone: str = "UTC"
    name: str = "event_time"

    @field_validator("timezone")
    @classmethod
    def _timezone_exists(cls, timezone: str) -> str:
        try:
            ZoneInfo(timezone)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"there is no time zone {timezone!r}; give a name such as Europe/Berlin.") from error
        return timezone


class Quality(Value):
    """How bad a delivery may be before it blocks everything after it."""

    max_bad_share: Share = 0.05
    row_count_ratio: tuple[Ratio, Ratio] = (0.5, 2.0)
    row_count: Literal["warn", "block"] = "warn"
    resembles_threshold: float = Field(default=0.5, gt=0)
    max_age_partitions: float = Field(default=2, gt=0)

    @model_validator(mode="after")
    def _least_is_not_above_most(self) -> Self:
        least, most = self.row_count_ratio
        if least > most or most == 0:
            raise ValueError(f"row_count_ratio: no count of rows lies between {least} and {most} times the usual.")
        return self


class FeatureStep(Value):
    """One declared step, computed row by row in training and serving alike. Exactly one of the three kinds."""

    calendar: CalendarParts = ()
    cyclic: CalendarParts = ()
    path: ImportPath | None = None
    params: dict[str, Any] = {}

    @model_validator(mode="after")
    def _exactly_one_kind(self) -> Self:
        if sum([bool(self.calendar), bool(self.cyclic), self.path is not None]) != 1:
            raise ValueError("a feature step is exactly one of: calendar, cyclic, path.")
        if self.params and self.path is None:
            raise ValueError("params belong to a step given by path.")
        return self


class Estimator(Value):
    """A scikit-learn-compatible estimator by its import path. `max_categories` bounds each category column."""

    path: ImportPath
    params: dict[str, Any] = {}
    max_categories: int = Field(default=100, ge=2, le=250)


class Training(Value):
    """Which partitions a candidate learns from.

    `window` is the number of newest partitions used, hold-out included (all when null), or several of them: each
    training then tries all on the newest of the partitions that it learns from, and takes the best. Columns
    `known_in_advance` may tell the target by themselves; any other that does is refused as a leak.
    """

    window: Window | tuple[Window, ...] = None
    min_partitions: int = Field(default=3, ge=2)
    known_in_advance: Names = ()

    @model_validator(mode="after")
    def _windows_differ(self) -> Self:
        if len(set(self.windows)) < len(self.windows) or self.window == ():
            raise ValueError("training.window: name one window, or several different ones.")
        if any(window is not None and window < self.min_partitions for window in self.windows):
            raise ValueError("training.window must not be smaller than training.min_partitions.")
        return self

    @property
    def windows(self) -> tuple[int | None, ...]:
        """The windows that are tried, in the order in which they are declared."""
        return self.window if isinstance(self.window, tuple) else (self.window,)

    @property
    def narrowest(self) -> int | None:
        """The window that all others hold; None where that is everything."""
        return min((window for window in self.windows if window is not None), default=None)

    @property
    def widest(self) -> int | None:
        """The window that holds all others; None where that is everything."""
        return None if None in self.windows else max(window for window in self.windows if window is not None)


class Evaluation(Value):
    """How a candidate is judged: on the newest `holdout` partitions, which fitting never sees."""

    holdout: int = Field(default=1, ge=1)
    metric: str
    slices: Names = ()
    min_slice_rows: int = Field(default=30, ge=1)
    replicates: int = Field(default=500, ge=50)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)


class Bar(Value):
    """A figure that must be at least, or at most, so much. A figure that is missing or not a number never is.

    `name` is what the gate is called, as a check and in a waiver, where the name that follows from it does not do.
    """

    name: Name | None = None
    at_least: float | None = Field(default=None, allow_inf_nan=False)
    at_most: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _has_a_bar(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a gate needs at_least or at_most.")
        return self

    @property
    def limits(self) -> tuple[float | None, float | None]:
        """The least and the most that pass."""
        return self.at_least, self.at_most

    @property
    def _held(self) -> str:
        if self.at_most is None:
            return "is_high_enough"
        return "is_low_enough" if self.at_least is None else "is_within_bounds"


class MetricGate(Bar):
    """A bar on one of the task's metrics, or on `skill`: the share of the naive baseline's error that is gone."""

    metric: str

    @property
    def called(self) -> str:
        """The name of the gate."""
        return self.name or called(f"{self.metric}_{self._held}")


class ChampionGate(Value):
    """The least that the comparison with the champion on the same rows must say, by the interval of the gain.

    `better`: all of the interval is above 0. `not_worse`: none of it is below minus `margin`, which is in units of the
    metric that decides. `undecided`: it is not all below 0. A first version has nobody to be compared with, and passes.
    """

    champion: Literal["better", "not_worse", "undecided"]
    margin: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    min_rows: int = Field(default=30, ge=1)
    name: Name | None = None

    @model_validator(mode="after")
    def _margin_is_of_not_worse(self) -> Self:
        if self.margin and self.champion != "not_worse":
            raise ValueError(
                f"margin belongs to `champion: not_worse`, and this is {self.champion!r}. How much better a challenger "
                "must be to be released is registration.margin."
            )
        return self

    @property
    def called(self) -> str:
        """The name of the gate."""
        held = {"better": "is_better", "not_worse": "is_not_worse", "undecided": "is_not_surely_worse"}
        return self.name or f"{held[self.champion]}_than_the_champion"


class WorstSliceGate(Bar):
    """A bar on a metric of the slice where it is worst, of all declared slices with enough rows or of one column's."""

    worst_slice: str
    column: str | None = None

    @property
    def called(self) -> str:
        """The name of the gate."""
        return self.name or called(f"{self.worst_slice}_of_the_worst_{self.column or 'slice'}_{self._held}")


class FairnessGate(Bar):
    """A bar on how differently groups are treated: those of a column, all of them or the `groups` that are named.

    The parities and odds are fairlearn's, of a binary task. `metric_difference` and `metric_ratio` compare the metric
    `of` (the one that decides where null) between groups, for any task. Each group needs `min_rows`.
    """

    fairness: Fairness
    between: str
    groups: Names = ()
    of: str | None = None
    min_rows: int = Field(default=30, ge=1)

    @model_validator(mode="after")
    def _bar_is_on_the_right_side(self) -> Self:
        wanted, other = ("at_least", "at_most") if self.fairness.endswith("_ratio") else ("at_most", "at_least")
        if getattr(self, other) is not None:
            raise ValueError(f"{self.fairness} is best at {'1' if wanted == 'at_least' else '0'}: give {wanted}.")
        if self.of is not None and not self.fairness.startswith("metric_"):
            raise ValueError(f"of belongs to metric_difference and metric_ratio, and this is {self.fairness}.")
        if len(self.groups) == 1:
            raise ValueError("groups: name at least two groups, or none for all of them.")
        return self

    @property
    def called(self) -> str:
        """The name of the gate."""
        what = self.fairness.replace("metric", self.of or "metric")
        return self.name or called(f"{what}_between_{self.between}_{self._held}")


class CalibrationGate(Bar):
    """A bar on how far probabilities, or the mean of a regression's answers, are from what came.

    `bins` belong to the expected calibration error.
    """

    calibration: Literal["expected_calibration_error", "brier_score", "mean_bias"]
    bins: int = Field(default=10, ge=2, le=100)
    min_rows: int = Field(default=30, ge=1)

    @model_validator(mode="after")
    def _is_best_at_zero(self) -> Self:
        if self.at_least is not None or self.at_most is None:
            raise ValueError(f"{self.calibration} is best at 0: give at_most.")
        return self

    @property
    def called(self) -> str:
        """The name of the gate."""
        return self.name or called(f"{self.calibration}_{self._held}")


class LatencyGate(Value):
    """The most milliseconds for one prediction, at a quantile of `repeats` of them after `warm_up` others."""

    latency: Literal["median", "p95", "p99"]
    at_most_ms: float = Field(gt=0, allow_inf_nan=False)
    repeats: int = Field(default=200, ge=20, le=10_000)
    warm_up: int = Field(default=20, ge=1, le=1_000)
    name: Name | None = None

    @property
    def limits(self) -> tuple[float | None, float | None]:
        """The least and the most that pass."""
        return None, self.at_most_ms

    @property
    def called(self) -> str:
        """The name of the gate."""
        return self.name or f"{self.latency}_latency_is_low_enough"


class SizeGate(Value):
    """The most bytes that the stored artifact may have."""

    size: Literal["artifact"]
    at_most_bytes: int = Field(gt=0)
    name: Name | None = None

    @property
    def limits(self) -> tuple[float | None, float | None]:
        """The least and the most that pass."""
        return None, self.at_most_bytes

    @property
    def called(self) -> str:
        """The name of the gate."""
        return self.name or f"{self.size}_is_small_enough"


class BehaviourGate(Value):
    """A function that tries the candidate and says of each case whether it behaves; `share` of them must."""

    behaviour: ImportPath
    params: dict[str, Any] = {}
    share: float = Field(default=1.0, gt=0, le=1)
    min_cases: int = Field(default=1, ge=1)
    name: Name | None = None

    @property
    def limits(self) -> tuple[float | None, float | None]:
        """The least and the most that pass."""
        return self.share, None

    @property
    def called(self) -> str:
        """The name of the gate: the function's."""
        return self.name or called(self.behaviour.rpartition(".")[2])


GATES: dict[str, type[Value]] = {
    "metric": MetricGate,
    "champion": ChampionGate,
    "worst_slice": WorstSliceGate,
    "fairness": FairnessGate,
    "calibration": CalibrationGate,
    "latency": LatencyGate,
    "size": SizeGate,
    "behaviour": BehaviourGate,
}


def called(text: str) -> str:
    """Text as the name of a check, which holds small letters, digits and _."""
    return re.sub(r"[^a-z0-9_]+", "_", text.lower())


def _kind_of_gate(data: Any) -> str | None:
    """What kind a gate is, by the one field that only this kind has."""
    if isinstance(data, Value):
        return next((kind for kind, of in GATES.items() if isinstance(data, of)), None)
    kinds = [kind for kind in GATES if isinstance(data, dict) and kind in data]
    return kinds[0] if len(kinds) == 1 else None


def _of_one_kind(data: Any) -> Any:
    if _kind_of_gate(data) is None:
        raise ValueError(f"a gate has exactly one of the fields {', '.join(GATES)}.")
    return data


Gate = Annotated[
    Annotated[MetricGate, Tag("metric")]
    | Annotated[ChampionGate, Tag("champion")]
    | Annotated[WorstSliceGate, Tag("worst_slice")]
    | Annotated[FairnessGate, Tag("fairness")]
    | Annotated[CalibrationGate, Tag("calibration")]
    | Annotated[LatencyGate, Tag("latency")]
    | Annotated[SizeGate, Tag("size")]
    | Annotated[BehaviourGate, Tag("behaviour")],
    Discriminator(_kind_of_gate),
    BeforeValidator(_of_one_kind),
]


class Registration(Value):
    """How much better than the champion, in units of the metric, a challenger must be to take its place."""

    margin: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class ReleaseRule(Value):
    """Who lets a version that won against the champion serve: nobody has to, or people have to say so.

    Of the `approvers` as many as `approvals_needed` have to approve, before `expires` is over. Where two are needed,
    whoever trained the version cannot be the only one.
    """

    mode: Literal["automatic", "approval"] = "automatic"
    approvers: Annotated[tuple[Person, ...], AfterValidator(_once)] = ()
    approvals_needed: Literal[1, 2] = 1
    expires: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,3}[hd]$")] = "7d"

    @model_validator(mode="after")
    def _can_be_approved(self) -> Self:
        if self.mode == "approval" and len(self.approvers) < self.approvals_needed:
            raise ValueError(
                f"release: {self.approvals_needed} of {len(self.approvers)} approvers cannot approve: name more."
            )
        if self.mode == "automatic" and self.approvers:
            raise ValueError("release.approvers have nothing to say while release.mode is automatic: set approval.")
        if WEBSERVER in self.approvers:
            raise ValueError(f"release.approvers: {WEBSERVER!r} is the name of the web server's key, and nobody's.")
        return self

    @property
    def lasts(self) -> timedelta:
        """How long a version waits for approval."""
        count, unit = int(self.expires[:-1]), self.expires[-1]
        return timedelta(hours=count) if unit == "h" else timedelta(days=count)


class Rollback(Value):
    """Of how many champions, this one included, the drill proves every day that they could serve."""

    champions: int = Field(default=3, ge=1, le=20)


class ColumnDrift(Value):
    """Method and threshold for one column, where it differs from the model's."""

    method: Literal["psi", "js"] = "psi"
    threshold: float = Field(gt=0)


class Drift(Value):
    """When inputs or predictions have moved. Effect sizes over all rows; shares are weighted by importance.

    `world_changed` are the partitions of which a person says that the world changed, and no feed is broken.
    """

    method: Literal["psi", "js"] = "psi"
    threshold: float = Field(default=0.2, gt=0)
    prediction_threshold: float = Field(default=0.2, gt=0)
    columns: dict[str, ColumnDrift] = {}
    watch_share: Share = 0.1
    drifted_share: Share = 0.3
    k: int = Field(default=2, ge=1)
    n: int = Field(default=3, ge=1)
    min_rows: int = Field(default=100, ge=1)
    report_rows: int = Field(default=5_000, ge=100, le=50_000)
    world_changed: PartitionKeys = ()

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.k > self.n:
            raise ValueError(f"k ({self.k}) of the last n ({self.n}) reports can never be reached.")
        if self.watch_share > self.drifted_share:
            raise ValueError("watch_share must not exceed drifted_share.")
        return self


class Labels(Value):
    """Labels that come later than the rows, from a source of their own; without it the target stands in the rows.

    The label of a row has the same values in the columns `key`, and stands in the column named by `target`. It is cut
    into the same partitions as the rows, by `time` (the model's own where null). `known` is a column that says when
    each label became known; where null, a label is known from the delivery that first held it. A partition's labels
    are matured when the share `matured` of its rows has one; `delay_days` after its end they are overdue.
    """

    source: Source
    key: Names = Field(min_length=1)
    time: Time | None = None
    known: str | None = None
    delay_days: float = Field(gt=0, allow_inf_nan=False)
    matured: Share = 0.9


class Retraining(Value):
    """What decides about a new candidate, and what a better model is worth.

    `policy` is one of those in ml/retraining.py. `every` belongs to `every_n`. After a training nothing is decided for
    `cooldown` partitions, and at most `most` trainings fall into `horizon` of them. `value` is the money that one unit
    of the metric is worth in one partition, `cpu_hour`, `memory_hour` (of a GiB) and `gpu_hour` are prices, and
    `review` is what people's part in a training costs, all in `currency`; without a value a training must be worth
    `worth` times the error in one partition.
    """

    policy: Literal["gain", "never", "always", "every_n", "on_drift"] = "gain"
    every: int = Field(default=3, ge=1)
    cooldown: int = Field(default=1, ge=0)
    value: Ratio | None = None
    worth: float = Field(default=0.15, gt=0, allow_inf_nan=False)
    horizon: int = Field(default=6, ge=1)
    most: int = Field(default=2, ge=1)
    cpu_hour: Ratio = 0.05
    memory_hour: Ratio = 0.005
    gpu_hour: Ratio = 2.0
    review: Ratio = 0.0
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] = "EUR"


class ModelSpec(Value):
    """One model: a named prediction task with its whole life."""

    name: Name
    owner: Owner
    description: str = Field(min_length=10)
    task: Task
    source: Source
    partitions: Partitions
    time: Time
    contract: ImportPath
    target: str
    exclude: Names = ()
    calendar: Names = ()
    features: tuple[FeatureStep, ...] = ()
    estimator: Estimator
    seed: int = Field(strict=True, ge=0, lt=2**32)
    quality: Quality = Quality()
    training: Training = Training()
    evaluation: Evaluation
    gates: tuple[Gate, ...] = ()
    registration: Registration = Registration()
    release: ReleaseRule = ReleaseRule()
    rollback: Rollback = Rollback()
    drift: Drift = Drift()
    labels: Labels | None = None
    retraining: Retraining = Retraining()
    compute: dict[Stage, str] = {}

    @model_validator(mode="after")
    def _possible(self) -> Self:
        known = METRICS[self.task]
        if self.evaluation.metric not in known:
            raise ValueError(
                f"evaluation.metric {self.evaluation.metric!r} is not a metric of {self.task}."
                f" Allowed: {', '.join(known)}."
            )
        if self.target in self.exclude:
            raise ValueError(f"target {self.target!r} cannot be excluded.")
        if self.target in self.time.columns:
            raise ValueError(f"target {self.target!r} cannot be a time column.")
        if self.training.min_partitions <= self.evaluation.holdout:
            raise ValueError(
                "training.min_partitions must exceed evaluation.holdout, or nothing is left to learn from."
            )
        sources = {"source": self.source, **({"labels.source": self.labels.source} if self.labels else {})}
        for name, source in sources.items():
            named = isinstance(source, FileSource) and any("{partition" in pattern for pattern in source.files)
            if self.partitions.every == "batch" and not named:
                raise ValueError(f"batch partitions need a pattern with {{partition}} in {name}.")
        return self

    @model_validator(mode="after")
    def _gates_can_be_held(self) -> Self:
        names = [gate.called for gate in self.gates]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"gates: two are called {twice[0]!r}. Join them, or give one a name of its own (name: ...)."
            )
        if taken := sorted(CHECKS_OF_THE_REPORT & set(names)):
            raise ValueError(f"gates: {taken[0]!r} is another check of evaluation_report. Give the gate another name.")
        for gate in self.gates:
            if wrong := _impossible(gate, self.task, self.evaluation):
                raise ValueError(wrong)
        return self

    @model_validator(mode="after")
    def _names_partitions_as_they_are_called(self) -> Self:
        for key in self.drift.world_changed:
            if form := _allowed_form(self.partitions, key):
                raise ValueError(f"drift.world_changed: {key!r} is no partition of {self.name}: {form}.")
        return self

    @model_validator(mode="after")
    def _labels_lead_to_rows(self) -> Self:
        if self.labels is not None and self.target in (*self.labels.key, self.labels.known):
            raise ValueError(f"labels: {self.target!r} is the target, and so neither in labels.key nor labels.known.")
        return self


def _impossible(gate: Gate, task: Task, evaluation: Evaluation) -> str | None:
    """Why no candidate of the task can be held against the gate; None where one can."""
    known = METRICS[task]
    match gate:
        case MetricGate(metric=metric) if metric not in known and metric != "skill":
            return f"gate metric {metric!r} is unknown. Allowed: {', '.join(known)}, skill."
        case WorstSliceGate(worst_slice=metric) if metric not in known:
            return f"gate worst_slice {metric!r} is unknown. Allowed: {', '.join(known)}."
        case WorstSliceGate(column=None) if not evaluation.slices:
            return "gate worst_slice needs slices: declare columns in evaluation.slices."
        case WorstSliceGate(column=str(column)) if column not in evaluation.slices:
            return f"gate worst_slice: {column!r} is not among evaluation.slices: {', '.join(evaluation.slices)}."
        case FairnessGate(of=str(metric)) if metric not in known:
            return f"gate fairness: metric {metric!r} is unknown. Allowed: {', '.join(known)}."
        case FairnessGate(fairness=measure) if task != "binary" and not measure.startswith("metric_"):
            return f"gate fairness: {measure} is of a binary task, and this is {task}: use metric_difference."
        case CalibrationGate(calibration=measure) if (measure == "mean_bias") != (task == "regression"):
            allowed = "mean_bias" if task == "regression" else "expected_calibration_error, brier_score"
            return f"gate calibration: {measure} is not of the task {task}. Allowed: {allowed}."
    return None


def _allowed_form(partitions: Partitions, key: str) -> str | None:
    """How partitions are called, where this is the key of none; None where it may be one."""
    if partitions.every == "batch":
        return None if PARTITION_KEY.fullmatch(key) else "batches are named by letters, digits, '.', '_' and '-'"
    windows = Windows.of(partitions)
    if windows.has(key):
        return None
    first = windows.key(windows.first())
    until = f" until before {partitions.end}" if partitions.end else ""
    return f"{partitions.every} ones are named by when they begin, like {first!r}, the first{until}"
