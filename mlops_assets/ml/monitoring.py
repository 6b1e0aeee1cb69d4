"""Drift: how far inputs and predictions moved, the verdict, the sentence that explains it, and when to retrain."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from mlops_assets.ml.causes import Cause
from mlops_assets.ml.metrics import Task
from mlops_assets.ml.profiles import ColumnProfile, Method, Profile, Shift, effect_sizes, profile
from mlops_assets.ml.spec import Drift, ModelSpec, Value
from mlops_assets.ml.threads import for_rows

Verdict = Literal["stable", "watch", "drifted"]
PREDICTION = "(prediction)"
NAMED = 5


class ColumnEffect(Shift):
    """The shift of one column with its method, its threshold and its weight (importance, sums to 1)."""

    column: str
    method: Method
    threshold: float
    weight: float

    @property
    def beyond(self) -> bool:
        """Whether the effect exceeds the threshold."""
        return self.effect > self.threshold


class DriftReport(Value):
    """What `drift_report` says of one partition against the training reference of one version.

    `first` is the time of the partition's first row, `usual_rows` is how many rows a partition had on average in
    training. `weighted_share` is the share of importance held by the columns beyond their thresholds. `prediction` is
    missing where nothing could be predicted. `cause` is what most likely moved the data, if anything did. `accepts` are
    earlier partitions, by delivery, that were blamed on their feed and look like this one, which is not.
    """

    model: str
    partition: str
    first: datetime
    version: int
    delivery: str
    rows: int
    usual_rows: float
    reference_rows: int
    columns: tuple[ColumnEffect, ...]
    left_out: dict[str, str]
    prediction: ColumnEffect | None
    weighted_share: float
    verdict: Verdict
    sentence: str
    cause: Cause | None = None
    accepts: dict[str, str] = Field(default_factory=dict)

    @property
    def moved(self) -> list[str]:
        """The columns beyond their thresholds, heaviest first."""
        return [effect.column for effect in self.columns if effect.beyond]

    @property
    def is_broken_feed(self) -> bool:
        """Whether what moved the data was most likely the feed."""
        return self.cause is not None and self.cause.likely == "upstream"

    def as_declared(self, rule: Drift) -> DriftReport:
        """The report as it counts: that it was the world is for a person to say, whatever was found."""
        return self._of_the_world("as drift.world_changed declares") if self.partition in rule.world_changed else self

    def as_accepted(self, later: Iterable[DriftReport]) -> DriftReport:
        """The report as it counts beside later ones, of which one may accept what was blamed here as the new normal."""
        found = next((each for each in later if each.accepts.get(self.partition) == self.delivery), None)
        return self._of_the_world(f"since {found.partition} is like it") if found else self

    def _of_the_world(self, why: str) -> DriftReport:
        if self.cause is None or not self.is_broken_feed:
            return self
        said = f"It was the world, {why}. What was found: {self.cause.sentence}"
        return self.model_copy(update={"cause": self.cause.model_copy(update={"likely": "world", "sentence": said})})


class Subject(Value):
    """What is judged, and against what: a partition of a delivery, and a version with its usual number of rows."""

    partition: str
    first: datetime
    delivery: str
    version: int
    usual_rows: float


def broken_feed(report: DriftReport | None, delivery: str) -> str | None:
    """Why a delivery is not to be learned from, by the report in force; None where it may be."""
    if report is None or report.delivery != delivery:
        return None
    return report.cause.sentence if report.cause and report.is_broken_feed else None


def in_force(reports: Mapping[str, DriftReport], rule: Drift) -> dict[str, DriftReport]:
    """The reports as they count: beside what a person has declared, and beside those of later partitions."""
    accepting = [report for report in reports.values() if report.accepts]
    return {key: report.as_declared(rule).as_accepted(accepting) for key, report in reports.items()}


def predictions(pipeline: Any, inputs: pd.DataFrame, task: Task, said: np.ndarray | None = None) -> pd.Series:
    """What a fitted pipeline says of each row, as drift looks at it.

    That is the value in regression, the probability of the last class where there are two, and the class otherwise.
    Where it is known already what it `said` as numbers, it is asked for nothing but classes.
    """
    with for_rows(len(inputs)):
        if task == "multiclass":
            return pd.Series(pd.Categorical(pipeline.predict(inputs)))
        if said is None:
            said = np.asarray((pipeline.predict if task == "regression" else pipeline.predict_proba)(inputs), float)
    return pd.Series(said if task == "regression" else said[:, -1])


def reference_profile(inputs: pd.DataFrame, predicted: pd.Series) -> Profile:
    """What later partitions are judged against: every input of the fitted rows, and what was predicted for them."""
    both = {**profile(inputs).columns, **profile(predicted.to_frame(PREDICTION)).columns}
    return Profile(rows=len(inputs), columns=both)


def judge(
    spec: ModelSpec,
    subject: Subject,
    reference: Profile,
    rows: pd.DataFrame,
    predicted: pd.Series | None,
    importance: Mapping[str, float],
    personal: Collection[str] = (),
) -> DriftReport:
    """The verdict on one partition, from all of its rows.

    `drifted` when the columns beyond their thresholds hold more than `drifted_share` of the importance, or more than
    `watch_share` while the predictions moved too. `watch` above `watch_share`, or when only the predictions moved, or
    when the number of rows is unusual. Too few rows to tell, or nothing to compare, are always `watch`: never silently
    stable, and no alarm either.
    """
    left_out = _excluded(spec, [*reference.columns, *importance], personal)
    compared = {name: column for name, column in reference.columns.items() if name not in {*left_out, PREDICTION}}
    shifts = effect_sizes(
        Profile(rows=reference.rows, columns=compared), rows, {name: _limit(spec.drift, name)[0] for name in compared}
    )
    left_out |= {
        name: "not in this partition" if name not in rows.columns else "no numbers or categories to compare"
        for name in {*reference.columns, *importance} - shifts.keys() - left_out.keys() - {PREDICTION}
    }
    prediction = _prediction(spec.drift, reference, predicted)
    if prediction is None:
        left_out[PREDICTION] = "nothing was predicted for both sides"
    weights = _weights(importance, {name: compared[name] for name in shifts})
    columns = [_effect(name, shift, _limit(spec.drift, name), weights[name]) for name, shift in shifts.items()]
    case = _Case(
        drift=spec.drift,
        rows=len(rows),
        reference_rows=reference.rows,
        usual=(subject.usual_rows, *spec.quality.row_count_ratio),
        columns=tuple(sorted(columns, key=lambda effect: (-effect.weight, effect.column))),
        prediction=prediction,
    )
    return DriftReport(
        model=spec.name,
        **dict(subject),
        rows=case.rows,
        reference_rows=case.reference_rows,
        columns=case.columns,
        left_out=dict(sorted(left_out.items())),
        prediction=case.prediction,
        weighted_share=case.share(case.moved()),
        verdict=case.verdict(case.moved()),
        sentence=case.sentence(),
    )


def needs_retraining(verdicts: Sequence[Verdict], k: int, n: int) -> bool:
    """Whether the newest verdict (they come newest first) is drifted, and so are `k` of the newest `n`."""
    recent = list(verdicts[:n])
    return bool(recent) and recent[0] == "drifted" and recent.count("drifted") >= k


def _excluded(spec: ModelSpec, names: Sequence[str], personal: Collection[str]) -> dict[str, str]:
    reasons = {
        **dict.fromkeys((spec.time.name, *spec.time.columns), "the time column"),
        **dict.fromkeys(spec.calendar, "declared calendar: it moves with every window"),
        **dict.fromkeys(spec.exclude, "declared excluded"),
        spec.target: "the target",
        **dict.fromkeys(personal, "personal data"),
    }
    return {name: reasons[name] for name in names if name in reasons}


def _limit(drift: Drift, column: str) -> tuple[Method, float]:
    pinned = drift.columns.get(column)
    return (pinned.method, pinned.threshold) if pinned else (drift.method, drift.threshold)


def _weights(importance: Mapping[str, float], columns: Mapping[str, ColumnProfile]) -> dict[str, float]:
    """Importance without its negative part, made to sum to 1; equal weights where no column has any.

    A column that never varied in training could gain none, whatever it will be worth once it varies: it weighs as much
    as the average column.
    """
    average = 1 / max(len(columns), 1)
    varied = {name: importance.get(name, 0.0) for name, column in columns.items() if not _is_constant(column)}
    finite = {name: max(weight, 0.0) if np.isfinite(weight) else 0.0 for name, weight in varied.items()}
    total, theirs = sum(finite.values()), average * len(finite)
    known = {name: theirs * weight / total if total else average for name, weight in finite.items()}
    return {name: known.get(name, average) for name in columns}


def _is_constant(column: ColumnProfile) -> bool:
    return sum(share > 0 for share in (*column.shares, column.nulls)) <= 1


def _effect(name: str, shift: Shift, limit: tuple[Method, float], weight: float) -> ColumnEffect:
    return ColumnEffect(**dict(shift), column=name, method=limit[0], threshold=limit[1], weight=weight)


def _prediction(drift: Drift, reference: Profile, predicted: pd.Series | None) -> ColumnEffect | None:
    if predicted is None or PREDICTION not in reference.columns:
        return None
    shift = effect_sizes(reference, predicted.to_frame(PREDICTION), {PREDICTION: drift.method}).get(PREDICTION)
    return None if shift is None else _effect(PREDICTION, shift, (drift.method, drift.prediction_threshold), 1.0)


@dataclass(frozen=True)
class _Case:
    """What was found, and what follows from it."""

    drift: Drift
    rows: int
    reference_rows: int
    usual: tuple[float, float, float]
    columns: tuple[ColumnEffect, ...]
    prediction: ColumnEffect | None

    def moved(self) -> list[str]:
        """The columns beyond their thresholds, heaviest first, then the prediction if it is."""
        found = (*self.columns, *([self.prediction] if self.prediction else []))
        return [effect.column for effect in found if effect.beyond]

    def share(self, moved: Collection[str]) -> float:
        """The share of importance that `moved` holds."""
        return round(sum(effect.weight for effect in self.columns if effect.column in moved), 9)

    def verdict(self, moved: Collection[str]) -> Verdict:
        """What the verdict is when the columns in `moved`, and no others, are beyond their thresholds."""
        if self.too_few() or not self.columns or self.prediction is None:
            return "watch"
        found = self._by_effects(moved)
        return "watch" if found == "stable" and self.unusual() else found

    def _by_effects(self, moved: Collection[str]) -> Verdict:
        share, predicts = self.share(moved), PREDICTION in moved
        if share > (self.drift.watch_share if predicts else self.drift.drifted_share):
            return "drifted"
        return "watch" if predicts or share > self.drift.watch_share else "stable"

    def too_few(self) -> bool:
        """Whether partition or reference has fewer rows than effects can be judged by."""
        return min(self.rows, self.reference_rows) < self.drift.min_rows

    def unusual(self) -> bool:
        """Whether the number of rows is outside the declared ratio to the usual number."""
        usual, low, high = self.usual
        return not usual * low <= self.rows <= usual * high

    def sentence(self) -> str:
        """The verdict, what it rests on with names and numbers, and what would have made it another."""
        parts = [self._columns(), self._predictions(), self._rows(), self._otherwise()]
        return f"{self.verdict(self.moved())}: {' '.join(part for part in parts if part)}"

    def _columns(self) -> str:
        if not self.columns:
            return "There was no column to compare."
        beyond = [effect for effect in self.columns if effect.beyond]
        count, limits = len(self.columns), f"(watch above {self.drift.watch_share:.0%}, drifted above"
        limits += f" {self.drift.drifted_share:.0%})"
        if not beyond:
            closest = max(self.columns, key=lambda effect: effect.effect / effect.threshold)
            return f"None of {count} columns moved beyond its limit; closest is {_figures(closest)}."
        named = ", ".join(_figures(effect) for effect in beyond[:NAMED])
        more = f" and {len(beyond) - NAMED} more" if len(beyond) > NAMED else ""
        return (
            f"{len(beyond)} of {count} columns, with {self.share(self.moved()):.0%} of the importance {limits}, moved"
            f" beyond their limits: {named}{more}."
        )

    def _predictions(self) -> str:
        if self.prediction is None:
            return "There were no predictions to compare."
        verb = "moved" if self.prediction.beyond else "held"
        return f"The predictions {verb} ({_measure(self.prediction)})."

    def _rows(self) -> str:
        usual, low, high = self.usual
        if self.too_few():
            return (
                f"{self.rows} rows against {self.reference_rows} in the reference are too few to tell"
                f" (at least {self.drift.min_rows} a side)."
            )
        if self.unusual():
            return f"{self.rows} rows, where {usual:.0f} are usual (allowed {usual * low:.0f} to {usual * high:.0f})."
        return ""

    def _otherwise(self) -> str:
        """The smallest change that would have made another verdict."""
        moved, verdict = self.moved(), self.verdict(self.moved())
        if self.too_few():
            return f"With enough rows the same figures would be {self._by_effects(moved)}."
        if self.unusual() and self._by_effects(moved) == "stable":
            return "With the usual number of rows it would be stable."
        fewer = [moved[:count] for count in range(1, len(moved) + 1)]
        for held in [[PREDICTION], *fewer] if PREDICTION in moved else fewer:
            other = self.verdict([name for name in moved if name not in held])
            if other != verdict:
                return f"Had {_listed(held)} held, it would be {other}."
        still = [effect.column for effect in self.columns if not effect.beyond]
        for count in range(1, len(still) + 1):
            other = self.verdict([*moved, *still[:count]])
            if other != verdict:
                return f"Had {_listed(still[:count])} moved beyond the limit, it would be {other}."
        return ""


def _measure(effect: ColumnEffect) -> str:
    return f"{effect.method} {effect.effect:.3g}, limit {effect.threshold:.3g}"


def _figures(effect: ColumnEffect) -> str:
    return f"{effect.column} ({_measure(effect)}, weight {effect.weight:.0%})"


def _listed(names: Sequence[str]) -> str:
    shown = ["the predictions" if name == PREDICTION else name for name in names[:NAMED]]
    more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
    *first, last = [*shown, *more]
    return f"{', '.join(first)} and {last}" if first else last
