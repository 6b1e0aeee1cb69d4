"""Row 28: releases that race for the champion, from four processes; and one killed before each of its commits.

MLOPS_RACES says how many rounds the four race.
"""

import pytest

from mlops_assets_tests.faults import forking, releasing
from mlops_assets_tests.faults.releasing import PROCESSES, ROUNDS
from mlops_assets_tests.postgres import postgres_server

pytestmark = [pytest.mark.fault(28), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the program says, by kind."""
    with postgres_server() as url:
        lines = forking.told(releasing.main, tmp_path_factory.mktemp("releases"), url)
    return {kind: [line for line in lines if line["kind"] == kind] for kind in ("race", "control", "trial")}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def race(told, request):
    """What four releases a round left, with the ledger in either database."""
    [race] = [race for race in told["race"] if race["database"] == request.param]
    return race


@pytest.fixture(scope="module")
def died(told):
    return told["trial"]


def test_of_the_releases_of_a_round_exactly_one_wins_and_all_are_on_record(race, record_figure):
    kinds, said = race["kinds"], race["said"]
    won, lost = (sum(each[what] for each in said) for what in ("won", "lost"))
    record_figure(
        database=race["database"],
        releases=won + lost,
        processes=PROCESSES,
        won=won,
        lost_entries=won + lost - kinds.count("released") - kinds.count("lost"),
        broken_links=int(race["broken"] is not None),
        seconds=race["seconds"],
    )
    assert (won, lost) == (ROUNDS, ROUNDS * (PROCESSES - 1))
    assert (kinds.count("released"), kinds.count("lost"), kinds.count("confirmed")) == (won, lost, won)
    assert race["broken"] is None


def test_there_is_one_champion_at_each_moment_and_each_followed_the_one_before(race):
    versions = [version for version, _ in race["reigns"]]
    assert [previous for _, previous in race["reigns"]] == [None, *versions[:-1]]
    assert sum(each["apart"] for each in race["said"]) == 0
    assert (race["holder"], race["unconfirmed"]) == (versions[-1], 0)


def test_without_the_ledger_all_of_them_believe_that_they_won(told, record_figure):
    [control] = told["control"]
    won = sum(each["won"] for each in control["said"])
    record_figure(control=True, rounds=control["rounds"], winners=won)
    assert won > control["rounds"]


def test_a_release_killed_at_any_commit_is_ended_by_the_next_who_comes(died, record_figure):
    killed = [trial for trial in died if trial["killed"]]
    record_figure(killed=len(killed), converged=sum(consistent(trial["after"]) for trial in killed), of="one release")
    assert len(killed) == len(died) >= 5
    for trial in killed:
        assert consistent(trial["after"]), trial
        assert trial["after"]["broken"] is None


def test_some_kills_left_the_ledger_ahead_of_the_registry(died):
    assert any(not consistent(trial["before"]) for trial in died)
    assert {trial["before"]["holder"] for trial in died} == {1, 2}


def test_the_same_release_again_ends_in_the_same_state_whenever_it_was_killed(died):
    for trial in died:
        assert trial["again"]["reigns"] == [[1, None], [2, 1]]
        assert trial["again"]["kinds"] == ["released", "confirmed", "released", "confirmed"]
        assert (trial["again"]["holder"], trial["again"]["broken"]) == (2, None)


def consistent(state):
    """Whether the registry is where the ledger says, and that is on record."""
    return state["holder"] == state["reigns"][-1][0] and state["unconfirmed"] == 0
