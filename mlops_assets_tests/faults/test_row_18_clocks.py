"""Row 18: clocks that are wrong by two hours, of the daemon and of workers, and a clock that goes back."""

from datetime import timedelta

import dagster as dg
import pytest

from mlops_assets.ml.sources import Delivery
from mlops_assets.resources.records import Records
from mlops_assets_tests import toy
from mlops_assets_tests.faults.clockwork import ticking

pytestmark = [pytest.mark.fault(18), pytest.mark.timeout(300)]
HOURS = [timedelta(hours=-2), timedelta(hours=2)]


@pytest.fixture
def clockwork(tmp_path, monkeypatch):
    """A daemon over the toy shop."""
    with ticking(tmp_path / "home", monkeypatch) as made:
        yield made


def deliver(clockwork, month, seed=0):
    toy.deliver(clockwork.home / "landing", month, toy.rows(month, seed=seed))
    clockwork.run(30)


@pytest.mark.parametrize("skew", HOURS, ids=["two hours behind", "two hours ahead"])
def test_a_daemon_whose_clock_is_wrong_from_the_start_misses_nothing_and_does_nothing_twice(
    clockwork, skew, record_figure
):
    clockwork.skew = skew
    for month in ("2024-01", "2024-03"):
        deliver(clockwork, month)
    counts = clockwork.executed()
    record_figure(daemon_hours=skew / timedelta(hours=1), missed=2 - len(counts), duplicates=counts.total() - 2)
    assert counts == {"2024-01-01": 1, "2024-03-01": 1}
    assert clockwork.alerts == []


@pytest.mark.parametrize("order", [HOURS, HOURS[::-1]], ids=["behind, then ahead", "ahead, then behind"])
def test_the_later_of_two_versions_counts_whatever_the_clocks_of_their_workers_said(clockwork, order, record_figure):
    versions = []
    for seed, clockwork.worker in enumerate(order):
        deliver(clockwork, "2024-01", seed)
        records = Records(root=str(clockwork.home))
        versions.append(records.get(Delivery, "toy", "raw_data", "2024-01-01").version)
    assert versions[0] != versions[1]
    clockwork.worker = timedelta(0)
    clockwork.run(60)
    held = clockwork.instance.event_log_storage.get_latest_tags_by_partition(
        dg.AssetKey(["toy", "raw_data"]), dg.DagsterEventType.ASSET_MATERIALIZATION, ["dagster/data_version"]
    )
    record_figure(worker_hours=[each / timedelta(hours=1) for each in order], runs=len(clockwork.instance.get_runs()))
    assert held["2024-01-01"]["dagster/data_version"] == versions[1]
    assert clockwork.executed() == {"2024-01-01": 2}


def test_a_clock_that_goes_back_silences_the_sensors_which_is_told_and_loses_nothing(clockwork, record_figure):
    deliver(clockwork, "2024-01")
    clockwork.skew = timedelta(hours=-2)
    stepped = clockwork.seconds
    deliver(clockwork, "2024-03")
    clockwork.run(270)
    assert clockwork.executed() == {"2024-01-01": 1}
    when, sentence = clockwork.first_alarm()
    clockwork.skew = timedelta(0)
    clockwork.alerts.clear()
    clockwork.run(60)
    counts = clockwork.executed()
    record_figure(step_hours=-2, seconds_to_alarm=when - stepped, missed=2 - len(counts), duplicates=counts.total() - 2)
    assert when - stepped < 120
    assert "no sign" in sentence or "No look of any sensor" in sentence
    assert counts == {"2024-01-01": 1, "2024-03-01": 1}
    assert clockwork.alerts == []
