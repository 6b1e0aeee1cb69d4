"""The proposal for a sample: task, partitions and limits that the sample itself keeps."""

import numpy as np
import pandas as pd
import pytest

from mlops_assets.ml.spec import ModelSpec
from mlops_assets.scaffold.proposal import Wish, cut, propose
from mlops_assets.scaffold.sample import ScaffoldError, read_sample
from mlops_assets.scaffold.times import find_time


def frame(hours=24 * 40, **columns):
    times = pd.date_range("2024-01-01", periods=hours, freq="h")
    rows = pd.DataFrame({"ts": times.astype(str), "x": np.random.default_rng(1).normal(size=hours)})
    return rows.assign(y=rows["x"].round(2), **columns)


def proposal(folder, rows, **wish):
    rows.to_csv(folder / "sample.csv", index=False)
    sample = read_sample(folder / "sample.csv")
    return propose(sample, find_time(sample), Wish(**{"name": "m", "target": "y"} | wish), "m.contract.MRow")


@pytest.mark.parametrize(
    ("target", "task"),
    [
        (["Yes", "No"], "binary"),
        ([1, 2], "binary"),
        (["a", "b", "c"], "multiclass"),
        (list(range(10)), "multiclass"),
        (list(range(11)), "regression"),
        ([0.5, 1.5, 2.5], "regression"),
    ],
)
def test_the_task_follows_from_the_target(tmp_path, target, task):
    rows = frame(hours=660).assign(y=target * (660 // len(target)))
    found = proposal(tmp_path, rows)
    assert found.attributes["task"] == task
    assert ModelSpec.model_validate(found.attributes).task == task


def test_the_task_that_was_said_is_taken(tmp_path):
    rows = frame(hours=600).assign(y=[1, 2, 3] * 200)
    assert proposal(tmp_path, rows, task="regression").attributes["evaluation"]["metric"] == "mae"


@pytest.mark.parametrize(
    ("target", "message"),
    [("nothing", "no column 'nothing'"), ("ts", "no column 'ts' to learn"), ("same", "same value")],
)
def test_a_target_that_cannot_be_learned_is_refused(tmp_path, target, message):
    with pytest.raises(ScaffoldError, match=message):
        proposal(tmp_path, frame(same=1), target=target)


@pytest.mark.parametrize(
    ("days", "every", "start"),
    [
        (245, "monthly", "2024-01-01"),
        (200, "weekly", "2024-01-01"),
        (50, "weekly", "2024-01-01"),
        (45, "daily", "2024-01-03"),
        (8, "daily", "2024-01-03"),
        (7, "hourly", "2024-01-03"),
    ],
)
def test_windows_are_the_coarsest_of_which_there_are_eight(days, every, start):
    moments = pd.date_range("2024-01-03", periods=days * 24, freq="h", tz="UTC")
    partitions, sizes = cut(moments)
    assert (partitions.every, partitions.start.isoformat()) == (every, start)
    assert sum(sizes) == len(moments)


@pytest.mark.parametrize(("hours", "enough"), [(4, True), (3, False)])
def test_a_sample_too_short_to_be_cut_is_refused(hours, enough):
    moments = pd.date_range("2024-01-03", periods=hours, freq="h", tz="UTC")
    if enough:
        assert len(cut(moments)[1]) == hours
    else:
        with pytest.raises(ScaffoldError, match="too short"):
            cut(moments)


def test_the_limit_of_bad_rows_is_above_the_samples_worst_window(tmp_path):
    rows = frame()
    rows.loc[rows.index % 10 == 0, "y"] = None
    found = proposal(tmp_path, rows)
    assert 0.12 < found.attributes["quality"]["max_bad_share"] < 0.25
    assert any("often missing" in note for note in found.notes)
    assert proposal(tmp_path, frame()).attributes["quality"]["max_bad_share"] == 0.05


@pytest.mark.parametrize(("hours", "enough"), [(24 * 40, True), (24, False)])
def test_a_gate_against_the_champion_is_proposed_where_the_hold_out_can_tell(tmp_path, hours, enough):
    declared = proposal(tmp_path, frame(hours)).attributes
    names = [gate.called for gate in ModelSpec.model_validate(declared).gates]
    assert names == ["skill_is_high_enough", *(["is_not_surely_worse_than_the_champion"] if enough else [])]


def test_leaks_counters_and_empty_columns_are_excluded_with_the_reason(tmp_path):
    rows = frame().assign(y=lambda rows: rows["x"] * 2, count=range(960), empty=None)
    found = proposal(tmp_path, rows)
    assert set(found.attributes["exclude"]) == {"x", "count", "empty"}
    for name in found.attributes["exclude"]:
        assert any(note.startswith(f"{name} is excluded") for note in found.notes)


def test_columns_of_the_calendar_are_left_out_of_drift(tmp_path):
    rows = frame().assign(Month=1, y=lambda rows: rows["x"] + np.random.default_rng(2).normal(size=len(rows)))
    assert proposal(tmp_path, rows).attributes["calendar"] == ["Month"]


def test_a_file_name_with_a_quote_stays_one_setting(tmp_path):
    folder = tmp_path / "it's here"
    folder.mkdir()
    assert r"it\'s here" in proposal(folder, frame()).attributes["source"]["uri"]
