"""Row 21: kill -9 of the daemon at each point of a tick of `new_data`, and on both sides of a run's launch.

(The ticks of `retrain_on_decision` are killed in lifecycle/sensors/test_retrain_on_decision.py.)
"""

import pytest

from mlops_assets_tests.faults import dying, forking
from mlops_assets_tests.faults.dying import APART, DEQUEUE_POINTS, TICK_POINTS

pytestmark = [pytest.mark.fault(21), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the program says of its trials, by kind."""
    lines = forking.told(dying.main, tmp_path_factory.mktemp("dying"), OMP_NUM_THREADS="1")
    return {kind: [line for line in lines if line["kind"] == kind] for kind in ("trial", "control")}


def test_the_daemon_was_killed_at_every_point_before_all_was_done(told):
    assert [trial["point"] for trial in told["trial"]] == [*TICK_POINTS, *DEQUEUE_POINTS]
    assert all(trial["killed"] for trial in told["trial"])
    assert all(len(trial["before"]["executions"]) < len(APART) for trial in told["trial"])


def test_each_delivery_is_executed_exactly_once_when_the_daemon_is_started_again(told):
    for trial in told["trial"]:
        assert trial["executions"] == {f"{month}-01": 1 for month in APART}, trial["point"]
        assert trial["runs"]["SUCCESS"] == len(APART), trial["point"]


def test_a_loop_that_keeps_a_list_of_what_it_has_seen_loses_or_doubles_one(told):
    assert [(each["lost"], each["duplicates"]) for each in told["control"]] == [(1, 0), (0, 1)]


def test_the_figure_of_the_row(told, record_figure):
    counts = [trial["executions"].get(f"{month}-01", 0) for trial in told["trial"] for month in APART]
    record_figure(
        points=len(told["trial"]),
        deliveries=len(counts),
        losses=counts.count(0),
        duplicates=sum(count > 1 for count in counts),
    )
    record_figure(
        control=True,
        losses=sum(each["lost"] for each in told["control"]),
        duplicates=sum(each["duplicates"] for each in told["control"]),
    )
