"""performance_drop, ticked as the daemon ticks it: once a report, for all models, and over when a later one is good."""

from __future__ import annotations

import dagster as dg
import pytest

from mlops_assets.lifecycle.sensors.performance_drop import performance_drop
from mlops_assets_tests import evidence

KEY = dg.AssetKey(["toy", "performance_report"])


class Ticks:
    """The sensor over some models, with the cursor that the last tick left."""

    def __init__(self, shop, *specs):
        self.shop, self.cursor, self.said = shop, None, ""
        self.resources = {name: shop.resources[name] for name in ("records", "alerts")}
        self.sensor = performance_drop(specs or (shop.spec,))

    def tick(self) -> list[str]:
        """The partitions of the alerts that are open after one look."""
        context = dg.build_sensor_context(instance=self.shop.instance, cursor=self.cursor, resources=self.resources)
        found = self.sensor(context)
        self.cursor, self.said = found.cursor, found.skip_reason.skip_message
        return self.told()

    def told(self) -> list[str]:
        return sorted(known.alert.partition for known in self.resources["alerts"].open())

    def report(self, month, mae=3.0, **changes):
        """A report is made of a month: the record, then the event."""
        made = evidence.performance(month, mae, **changes)
        self.resources["records"].put("toy", "performance_report", made, made.partition)
        self.shop.instance.report_runless_asset_event(dg.AssetMaterialization(KEY, partition=made.partition))


@pytest.fixture
def ticks(workshop):
    return Ticks(workshop())


def test_nothing_reported_is_nothing_told(ticks):
    assert ticks.tick() == []
    assert ticks.said == "No new mature figure is worse than at registration."


@pytest.mark.parametrize(("mae", "tells"), [(4.0, False), (4.01, True)])
def test_it_tells_when_the_interval_lies_beyond_the_one_at_registration(ticks, mae, tells):
    ticks.report("2024-04", mae)
    assert bool(ticks.tick()) == tells


def test_what_is_not_mature_or_was_never_measured_is_not_told(ticks):
    ticks.report("2024-04", 9.0, mature=False)
    ticks.report("2024-05", 9.0, at_registration=None)
    ticks.report("2024-06", None)
    assert ticks.tick() == []


def test_a_report_is_told_once_with_the_sentence_and_a_link(ticks):
    ticks.report("2024-04", 9.0)
    assert ticks.tick() == ["2024-04-01"]
    [known] = ticks.resources["alerts"].open()
    assert (known.alert.kind, known.alert.model, known.times) == ("performance_drop", "toy", 1)
    assert known.alert.sentence == "mae is 9.0: by hand."
    assert known.alert.link.endswith("/assets/toy/performance_report?view=partitions&partition=2024-04-01")
    assert ticks.said == "toy: mae is 9.0: by hand."
    for lost in (ticks.cursor, None, "not what this code writes"):
        ticks.cursor = lost
        assert ticks.tick() == ["2024-04-01"]
    assert [known.times for known in ticks.resources["alerts"].open()] == [1]


def test_each_report_that_drops_is_told_and_all_are_over_when_a_later_one_is_as_registered(ticks):
    ticks.report("2024-04", 9.0)
    ticks.tick()
    ticks.report("2024-05", 8.0)
    assert ticks.tick() == ["2024-04-01", "2024-05-01"]
    ticks.report("2024-06", 9.0, mature=False)
    assert ticks.tick() == ["2024-04-01", "2024-05-01"]
    ticks.report("2024-06", 3.1)
    assert ticks.tick() == []


def test_labels_that_mature_late_are_looked_at_whichever_partition_they_belong_to(ticks):
    for month in ("2024-03", "2024-04", "2024-05"):
        ticks.report(month, 9.0, mature=False)
    assert ticks.tick() == []
    ticks.report("2024-03", 9.0)
    assert ticks.tick() == ["2024-03-01"]


def test_a_history_from_before_the_sensor_is_not_told_but_for_its_newest_report(ticks):
    for month in ("2024-03", "2024-04", "2024-05"):
        ticks.report(month, 9.0)
    assert ticks.tick() == ["2024-05-01"]


def test_a_record_that_was_changed_stops_nothing(ticks):
    ticks.report("2024-04", 9.0)
    [path] = (ticks.shop.home / "records/toy/performance_report").iterdir()
    path.write_text(path.read_text().replace("9.0", "3.0"))
    ticks.tick()
    ticks.report("2024-05", 9.0)
    assert ticks.tick() == ["2024-05-01"]


def test_a_good_report_of_an_earlier_partition_ends_no_alert_of_a_later_one(ticks):
    ticks.report("2024-05", 9.0)
    ticks.report("2024-03", 9.0)
    ticks.cursor = '{"seen": {"toy": 0}}'
    assert ticks.tick() == ["2024-03-01", "2024-05-01"]
    ticks.report("2024-04", 3.0)
    assert ticks.tick() == ["2024-05-01"]
    ticks.report("2024-05", 3.0)
    assert ticks.tick() == []


def test_an_alert_whose_report_cannot_be_read_is_over_by_its_own_partition_only(ticks):
    ticks.report("2024-04", 9.0)
    ticks.tick()
    next((ticks.shop.home / "records/toy/performance_report").iterdir()).write_text("{")
    ticks.report("2024-05", 3.0)
    assert ticks.tick() == ["2024-04-01"]
    ticks.report("2024-04", 3.0)
    assert ticks.tick() == []
