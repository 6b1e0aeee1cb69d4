"""Row 20: kill -9 before a write of any step, and then the same run again in a fresh process.

One life is killed in each step of a month, one after the other. MLOPS_KILLS says how many points are tried in a life of
their own instead; they are spread over all steps of a first training and of the month after.
"""

import os
from collections import Counter

import pytest

from mlops_assets_tests.faults import forking, killing

APART = os.environ.get("MLOPS_KILLS")
KILLS = int(APART or "11")
MODEL = ("candidate", "candidate_predicts", "aliases", "champion_predicts")
PUBLISHED = ("bytes", "rows", *MODEL, "drift", "judged", "measured", "decided", "ledger", "ledger_broken")


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the program says of its trials, by kind."""
    lines = forking.told(killing.main, tmp_path_factory.mktemp("kill"), KILLS, not APART, OMP_NUM_THREADS="1")
    return {kind: [line for line in lines if line["kind"] == kind] for kind in ("reference", "trial", "control")}


@pytest.fixture
def trials(told):
    """The lives, each with the state that a run ends in that nobody kills."""
    references = {line["of"]: line["state"] for line in told["reference"]}
    return [{**trial, "reference": references[trial["of"]]} for trial in told["trial"]]


@pytest.fixture
def kills(trials):
    """The deaths of all of them."""
    return [kill | {"of": trial["of"]} for trial in trials for kill in trial["kills"] if kill["killed"]]


pytestmark = [pytest.mark.fault(20), pytest.mark.timeout(60 + 60 * KILLS)]


def test_every_step_was_killed_in_the_middle(kills):
    assert {kill["step"].removeprefix("toy__") for kill in kills} == {
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
    assert len(kills) == KILLS


def test_what_was_published_before_is_readable_after_the_kill(told, kills):
    learned = told["reference"][0]["state"]
    assert [kill["lost"] for kill in kills if "lost" in kill] == []
    for kill in (kill for kill in kills if kill["of"] == "next"):
        for asset, rows in learned["rows"].items():
            assert rows.items() <= kill["before"]["rows"][asset].items()
        assert kill["before"]["champion_predicts"]


def published(state):
    return {name: state[name] for name in PUBLISHED}


def points(trial):
    """Where it was killed."""
    return [(kill["step"], kill["what"], kill["number"]) for kill in trial["kills"]]


def duplicates(trial):
    """Versions beyond those that a run makes which nobody kills."""
    return len(trial["after"]["versions"]) - len(trial["reference"]["versions"])


def test_the_same_run_again_ends_in_the_same_state_and_leaves_nothing_to_ask_for(trials):
    for trial in trials:
        assert published(trial["after"]) == published(trial["reference"]), points(trial)
        assert trial["asked"] == []


def test_no_candidate_is_registered_twice(trials):
    assert [points(trial) for trial in trials if duplicates(trial)] == []


def test_no_run_of_mlflow_goes_on_for_ever(trials):
    assert {status for trial in trials for status in trial["after"]["mlflow_runs"]} <= {"FINISHED", "FAILED"}


def test_records_written_in_place_are_lost_by_the_same_kill(told):
    assert all("is not a record any more" in trial["lost"] for trial in told["control"])
    assert len(told["control"]) == 2


def test_the_figure_of_the_row(told, trials, kills, record_figure):
    orphans = Counter()
    for trial in trials:
        orphans.update(trial["after"]["orphans"])
    record_figure(
        points=sum(line["points"] for line in told["reference"]),
        kills=len(kills),
        lost=sum("lost" in kill for kill in kills),
        lives=len(trials),
        converged=sum(published(trial["after"]) == published(trial["reference"]) for trial in trials),
        duplicates=sum(duplicates(trial) for trial in trials),
        orphans=dict(orphans),
    )
    record_figure(
        control=True, trials=len(told["control"]), lost_when_written_in_place=sum("lost" in c for c in told["control"])
    )
