from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.ml import metrics
from mlops_assets.ml.evaluation import Estimate
from mlops_assets.ml.holdout import EvaluationError
from mlops_assets.ml.labels import LabelledPartition
from mlops_assets.ml.performance import (
    Answered,
    Late,
    PerformanceReport,
    PredictedPartition,
    Yardsticks,
    arrival,
    as_table,
    looked_back,
    measure,
    score_columns,
    scored,
    worse_than_registered,
)
from mlops_assets_tests import late, toy

START = datetime(2024, 4, 1, tzinfo=UTC)
COUNT = 200
FILES = {"uri": "landing", "files": ["shop-{partition:%Y-%m-%d}.csv"], "settle_seconds": 0}


def spec(task: str = "regression", metric: str = "mae", **changes):
    return toy.spec("landing", task=task, evaluation={"metric": metric, "replicates": 100}, gates=[], **changes)


def late_spec(**changes):
    return spec(**late.declared("labels"), **changes)


def times(count: int = COUNT) -> pd.Series:
    return pd.Series(pd.date_range(START, periods=count, freq="h").as_unit("us"))


def predicted(rows: int = COUNT, classes: tuple = ()) -> PredictedPartition:
    return PredictedPartition(
        model="toy",
        partition="2024-04-01",
        first=START,
        delivery="d",
        rows_of="r",
        version=3,
        candidate="c" * 64,
        rows=rows,
        table_version=0,
        files={},
        classes=classes,
    )


def answered(target, scores, known=None, classes=(), **counts) -> Answered:
    target = pd.Series(target)
    labels = LabelledPartition(
        model="toy",
        partition="2024-04-01",
        delivery="labels",
        rows_of="r",
        rows_files={},
        rows=len(target),
        labelled=int(target.notna().sum()),
        superseded=0,
        broken=0,
        table_version=0,
        files={},
        content="",
        **{"unknown": 0, "conflicting": 0, **counts},
    )
    joined = None if known is None else Late(labels, pd.Series(known))
    return Answered(predicted(len(target), classes), times(len(target)), target, np.asarray(scores), joined)


def history(target) -> pd.DataFrame:
    past = pd.Series(pd.date_range(end=START, periods=len(target), freq="h", inclusive="left").as_unit("us"))
    return pd.DataFrame({"event_time": past[: len(target)], "sales": pd.Series(target[: len(past)])})


def against(target=(1.0, 3.0, 5.0), at_registration: Estimate | None = None) -> Yardsticks:
    return Yardsticks(history(list(target)), at_registration)


def test_the_figures_are_those_of_the_metrics_on_all_rows_with_an_interval():
    random = np.random.default_rng(0)
    target, scores = random.normal(10, 3, COUNT), random.normal(10, 3, COUNT)
    report = measure(spec(), answered(target, scores), against())
    exact = metrics.values("regression", target, scores)
    assert {name: found.value for name, found in report.metrics.items()} == pytest.approx(exact)
    assert report.measured.low < report.measured.value < report.measured.high
    assert (report.labelled, report.rows, report.mature) == (COUNT, COUNT, True)
    assert report.arrival == ((0.0, 1.0),)


@pytest.mark.parametrize(("every", "delay", "partitions"), [("weekly", 8, 3), ("weekly", 7, 2), ("monthly", 8, 2)])
def test_the_naive_guess_looks_back_as_far_as_labels_may_be_late(every, delay, partitions):
    cut = {"every": every, "start": "2024-01-01", "end": "2025-01-06"}
    declared = spec(**late.declared("labels", delay_days=delay), partitions=cut, source=FILES)
    assert looked_back(declared) == partitions
    assert looked_back(spec()) == 0


def test_where_labels_are_late_the_naive_guess_knows_those_that_came_since_fitting():
    declared = late_spec()
    target = np.tile([2.0, 4.0], COUNT // 2)
    fitted = history([1.0, 3.0, 5.0]).assign(event_time=lambda rows: rows["event_time"] - pd.Timedelta(weeks=9))
    fortnight = times() - pd.Timedelta(weeks=2)
    since = pd.DataFrame({"event_time": fortnight, "sales": target})
    found = [measure(declared, answered(target, target), Yardsticks(fitted, None, later)) for later in (None, since)]
    assert [each.baseline for each in found] == [pytest.approx(1.0), 0.0]


def test_the_naive_guess_is_held_against_the_same_rows():
    target = np.tile([2.0, 4.0], COUNT // 2)
    report = measure(spec(), answered(target, target), against((1.0, 3.0, 5.0)))
    assert report.measured.value == 0
    assert report.baseline == pytest.approx(np.abs(target - 3).mean())
    assert "the naive guess has 1" in report.sentence


def test_without_an_old_label_there_is_no_naive_guess():
    report = measure(spec(), answered(np.arange(COUNT, dtype=float), np.zeros(COUNT)), against(()))
    assert report.baseline is None


def test_only_rows_with_a_label_are_measured_and_the_sentence_says_that_they_are_few():
    target = np.full(COUNT, np.nan)
    target[:100] = 5.0
    scores = np.where(np.isnan(target), 1e9, 6.0)
    known = times() + pd.Timedelta(days=10)
    report = measure(late_spec(), answered(target, scores, known.where(~np.isnan(target))), against())
    assert (report.labelled, report.mature) == (100, False)
    assert report.measured.value == pytest.approx(1.0)
    assert "so far, not mature: 100 of 200 rows have a label (50%, 90% are asked for)" in report.sentence


@pytest.mark.parametrize(("labelled", "mature"), [(179, False), (180, True)])
def test_a_figure_is_mature_from_the_declared_share_of_labels_on(labelled, mature):
    target = np.full(COUNT, np.nan)
    target[:labelled] = 5.0
    report = measure(late_spec(), answered(target, np.full(COUNT, 5.0), times()), against())
    assert report.mature == mature


def test_without_any_label_nothing_is_measured():
    nothing = answered([np.nan] * COUNT, np.zeros(COUNT), pd.Series(pd.NaT, range(COUNT), "datetime64[us, UTC]"))
    report = measure(late_spec(), nothing, against())
    assert (report.metrics, report.measured, report.arrival, report.mature) == ({}, None, (), False)
    assert report.sentence == "v3 on 2024-04-01: 0 of 200 rows have a label: nothing can be measured yet."


def test_what_did_not_count_is_reported():
    found = answered([5.0] * COUNT, [5.0] * COUNT, times(), unknown=4, conflicting=2)
    report = measure(late_spec(), found, against())
    assert (report.unknown, report.conflicting, report.labels) == (4, 2, "labels")


def test_classes_are_measured_by_their_probabilities():
    target = np.tile(["down", "up"], COUNT // 2)
    up = np.where(target == "up", 0.9, 0.2)
    found = answered(target, np.column_stack([1 - up, up]), classes=("down", "up"))
    report = measure(spec("binary", "roc_auc"), found, Yardsticks(history(["up", "down"]), None))
    assert report.measured.value == 1.0
    assert report.metrics["accuracy"].value == 1.0


def test_a_metric_that_the_rows_do_not_define_is_said_to_be_undefined():
    target = ["up"] * COUNT
    found = answered(target, np.tile([0.3, 0.7], (COUNT, 1)), classes=("down", "up"))
    report = measure(spec("binary", "roc_auc"), found, Yardsticks(history(["up", "down"]), None))
    assert report.measured is None
    assert "roc_auc is undefined: 200 of 200 rows have a label, of one class only" in report.sentence


def test_a_class_that_the_model_never_saw_makes_a_binary_figure_impossible():
    target = ["up", "down", "sideways"] * 60
    found = answered(target, np.tile([0.3, 0.7], (180, 1)), classes=("down", "up"))
    with pytest.raises(EvaluationError, match="3 classes"):
        measure(spec("binary", "roc_auc"), found, Yardsticks(history(["up", "down"]), None))


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=300), st.integers(0, 50))
def test_the_arrival_curve_rises_to_the_share_of_rows_that_have_a_label(hours, missing):
    moments = times(len(hours) + missing)
    known = moments + pd.to_timedelta([*hours, *[0.0] * missing], unit="h")
    target = pd.Series([1.0] * len(hours) + [np.nan] * missing)
    found = answered(target, np.zeros(len(target)), known.where(target.notna()))
    curve = arrival(found)
    assert len(curve) <= 50
    assert list(curve) == sorted(curve)
    assert curve[-1][1] == pytest.approx(len(hours) / len(target))
    assert curve[-1][0] == pytest.approx(max(hours), abs=1e-3)


@pytest.mark.parametrize(
    ("metric", "measured", "registered", "worse"),
    [
        ("mae", (2.0, 1.5, 2.5), (1.0, 0.5, 1.5), False),
        ("mae", (2.0, 1.51, 2.5), (1.0, 0.5, 1.5), True),
        ("mae", (0.1, 0.05, 0.2), (1.0, 0.5, 1.5), False),
        ("r2", (0.5, 0.4, 0.6), (0.7, 0.6, 0.8), False),
        ("r2", (0.5, 0.4, 0.59), (0.7, 0.6, 0.8), True),
        ("bias", (0.1, -0.5, 0.7), (0.0, -0.1, 0.1), False),
        ("bias", (-0.5, -0.6, -0.4), (0.0, -0.1, 0.1), True),
    ],
)
def test_a_figure_is_worse_than_at_registration_where_the_intervals_do_not_meet(metric, measured, registered, worse):
    found = PerformanceReport(
        model="toy",
        partition="2024-04-01",
        first=START,
        version=1,
        delivery="d",
        labels=None,
        metric=metric,
        rows=COUNT,
        labelled=COUNT,
        mature=True,
        metrics={metric: Estimate(value=measured[0], low=measured[1], high=measured[2])},
        at_registration=Estimate(value=registered[0], low=registered[1], high=registered[2]),
        sentence="",
    )
    declared = spec(metric=metric)
    assert worse_than_registered(declared, found) is worse
    assert worse_than_registered(declared, found.model_copy(update={"mature": False})) is None
    assert worse_than_registered(declared, found.model_copy(update={"at_registration": None})) is None
    assert worse_than_registered(declared, found.model_copy(update={"metrics": {}})) is None


@pytest.mark.parametrize(("task", "classes", "width"), [("regression", (), 1), ("multiclass", ("a", "b", "c"), 3)])
def test_scores_come_back_from_their_table_as_they_were(task, classes, width):
    declared = spec(task, {"regression": "mae", "multiclass": "accuracy"}[task])
    scores = np.random.default_rng(0).random((5, width)) if width > 1 else np.arange(5.0)
    table = as_table(declared, scores, classes, 7, "sha")
    assert table["version"].to_pylist() == [7] * 5
    assert table["candidate"].to_pylist() == ["sha"] * 5
    assert (scored(task, table.select(score_columns(task, classes)).to_pandas()) == scores).all()
