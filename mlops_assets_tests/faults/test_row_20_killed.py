"""Row 20: kill -9 before a write of any step, and then the same run again in a fresh process.

MLOPS_KILLS says how many points are tried; they are spread over all steps of a first training and of the month after.
"""

import os
from collections import Counter

import pytest

from mlops_assets_tests.faults import forking, killing

KILLS = int(os.environ.get("MLOPS_KILLS", "11"))
MODEL = ("candidate", "candidate_predicts", "aliases", "champion_predicts")
PUBLISHED = ("bytes", "rows", *MODEL, "drift", "judged", "measured", "decided", "ledger", "ledger_broken")


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the program says of its trials, by kind."""
    lines = forking.told(killing.main, tmp_path_factory.mktemp("kill"), KILLS, OMP_NUM_THREADS="1")
    return {kind: [line for line in lines if line["kind"] == kind] for kind in ("reference", "trial", "control")}


@pytest.fixture
def trials(told):
    """The trials that were killed, each with the state that a run ends in that nobody kills."""
    references = {line["of"]: line["state"] for line in told["reference"]}
    return [{**trial, "reference": references[trial["of"]]} for trial in told["trial"] if trial["killed"]]


pytestmark = [pytest.mark.fault(20), pytest.mark.timeout(60 + 60 * KILLS)]


def test_every_step_was_killed_in_the_middle(trials):
    assert {trial["step"].removeprefix("toy__") for trial in trials} == {
        "raw_data",
        "validation",
        "drift_report",
        "predictions",
        "performance_report",
        "retraining_decision",
        "trained_model",
        "evaluation_report",
        "registered_version",
        "champion",
    }
    assert len(trials) >= KILLS


def test_what_was_published_before_is_readable_after_the_kill(told, trials):
    learned = told["reference"][0]["state"]
    assert [trial["lost"] for trial in trials if "lost" in trial] == []
    for trial in (trial for trial in trials if trial["of"] == "next"):
        for asset, rows in learned["rows"].items():
            assert rows.items() <= trial["before"]["rows"][asset].items()
        assert trial["before"]["champion_predicts"]


def published(state):
    return {name: state[name] for name in PUBLISHED}


def duplicates(trial):
    """Versions beyond those that a run makes which nobody kills."""
    return len(trial["after"]["versions"]) - len(trial["reference"]["versions"])


def test_the_same_run_again_ends_in_the_same_state_and_leaves_nothing_to_ask_for(trials):
    for trial in trials:
        assert published(trial["after"]) == published(trial["reference"]), (trial["step"], trial["what"])
        assert trial["asked"] == []


def test_no_candidate_is_registered_twice(trials):
    assert [(trial["step"], trial["what"]) for trial in trials if duplicates(trial)] == []


def test_no_run_of_mlflow_goes_on_for_ever(trials):
    assert {status for trial in trials for status in trial["after"]["mlflow_runs"]} <= {"FINISHED", "FAILED"}


def test_records_written_in_place_are_lost_by_the_same_kill(told):
    assert all("is not a record any more" in trial["lost"] for trial in told["control"])
    assert len(told["control"]) == 2


def test_the_figure_of_the_row(told, trials, record_figure):
    ended = [trial for trial in trials if "after" in trial]
    orphans = Counter()
    for trial in ended:
        orphans.update(trial["after"]["orphans"])
    record_figure(
        points=sum(line["points"] for line in told["reference"]),
        trials=len(trials),
        lost=len(trials) - len(ended),
        converged=sum(published(trial["after"]) == published(trial["reference"]) for trial in ended),
        duplicates=sum(duplicates(trial) for trial in ended),
        orphans=dict(orphans),
    )
    record_figure(
        control=True, trials=len(told["control"]), lost_when_written_in_place=sum("lost" in c for c in told["control"])
    )
    assert len(ended) == len(trials)
