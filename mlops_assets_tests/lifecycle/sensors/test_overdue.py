"""The sensor that sees what has not come: one alert a gap, over when it is filled, for all models at once."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from mlops_assets.lifecycle.data import data
from mlops_assets.lifecycle.sensors.overdue import overdue
from mlops_assets.ml.freshness import ended
from mlops_assets.ml.labels import LabelledPartition
from mlops_assets.ml.sources import DeliveredFile, Delivery
from mlops_assets.ml.windows import Windows
from mlops_assets.resources.alerts import Alerts
from mlops_assets.resources.records import Records
from mlops_assets_tests import evidence, toy
from mlops_assets_tests.homes import instance_at
from mlops_assets_tests.lifecycle import stages

LABELS = {"source": {"uri": "labels", "files": ["{partition:%Y-%m}.csv"]}, "key": ["ts"], "delay_days": 10}


def spec(name="shop", **changes):
    return toy.spec("landing", name=name, partitions={"every": "daily", "start": "2024-03-01"}, **changes)


class Office:
    """The sensor over some models, on records and alerts of their own, at a time that the test sets."""

    def __init__(self, home, instance, *specs):
        self.instance, self.specs = instance, specs
        self.records, self.alerts = Records(root=str(home)), Alerts(root=str(home), ui="http://ui")
        self.now, self.cursor = datetime(2024, 3, 1, tzinfo=UTC), None
        self.sensor = overdue(specs, lambda: self.now)

    def deliver(self, spec, *days, late=timedelta(0)):
        """As raw_data would: the record and the event."""
        for day in days:
            modified = ended(spec, Windows.of(spec.partitions), day) + late
            file = DeliveredFile(name=f"{day}.csv", sha256="0" * 64, bytes=1, modified=modified)
            self.records.put(spec.name, "raw_data", Delivery(model=spec.name, partition=day, files=(file,)), day)
            self.happened(spec, "raw_data", day)

    def happened(self, spec, asset, partition):
        self.instance.report_runless_asset_event(
            dg.AssetMaterialization(dg.AssetKey([spec.name, asset]), partition=partition)
        )

    def look(self, now=None):
        """One tick; the open alerts, and what the tick said."""
        self.now = now or self.now
        context = dg.build_sensor_context(
            self.instance, cursor=self.cursor, resources={"records": self.records, "alerts": self.alerts}
        )
        with context:
            seen = self.sensor.evaluate_tick(context)
        self.cursor = seen.cursor
        found = sorted((known.alert for known in self.alerts.open()), key=lambda alert: (alert.model, alert.kind))
        return [(alert.model, alert.kind, alert.partition) for alert in found], seen.skip_message


@pytest.fixture
def open_office(tmp_path):
    with instance_at(tmp_path) as instance:
        yield lambda *specs: Office(tmp_path / "home", instance, *specs)


def march(day, hour=0):
    return datetime(2024, 3, day, hour, tzinfo=UTC)


def test_a_delivery_that_does_not_come_is_one_alert_until_it_comes(open_office):
    shop = spec()
    office = open_office(shop, spec("cafe"))
    for each in office.specs:
        office.deliver(each, "2024-03-01", "2024-03-02")
    office.deliver(office.specs[1], "2024-03-03", "2024-03-04", "2024-03-05")
    assert office.look(march(5, 23)) == ([], "Nothing is overdue.")
    found, said = office.look(march(6))
    assert found == [("shop", "overdue_data", "2024-03-03")]
    assert said.startswith(
        "shop: 2024-03-03 should have come: 2024-03-03 was due at 2024-03-06 00:00 UTC, 2 days after"
    )
    [known] = office.alerts.open()
    assert known.alert.link == "http://ui/assets/shop/raw_data?view=partitions&partition=2024-03-03"
    found, said = office.look(march(7, 1))
    assert found == [("shop", "overdue_data", "2024-03-03")]
    assert said.startswith("shop: 2 partitions from 2024-03-03 to 2024-03-04 should have come")
    assert [each.alert.name for each in office.alerts.open()] == [known.alert.name]
    office.deliver(shop, "2024-03-03", "2024-03-04", "2024-03-05")
    assert office.look(march(7, 2)) == ([], "Nothing is overdue.")


def test_a_code_server_that_was_started_again_says_the_same(open_office):
    office = open_office(spec())
    office.deliver(office.specs[0], "2024-03-01")
    first = office.look(march(9))
    office.sensor = overdue(office.specs, lambda: office.now)
    assert office.look() == first
    assert len(office.alerts.open()) == 1


def test_a_model_without_any_delivery_waits_from_when_it_was_first_seen_over_restarts(open_office):
    office = open_office(spec())
    assert office.look(march(20))[0] == []
    office.sensor = overdue(office.specs, lambda: office.now)
    assert office.look(march(22, 23))[0] == []
    found, said = office.look(march(23))
    assert found == [("shop", "overdue_data", "2024-03-01")]
    assert said.startswith("shop: Nothing has ever come: 22 partitions from 2024-03-01 to 2024-03-22 are over.")
    office.deliver(office.specs[0], *(f"2024-03-{day:02}" for day in range(1, 23)))
    assert office.look() == ([], "Nothing is overdue.")


def test_what_a_clock_that_was_ahead_made_overdue_is_over_when_it_is_set_right(open_office):
    office = open_office(spec())
    office.deliver(office.specs[0], "2024-03-01")
    assert len(office.look(march(9))[0]) == 1
    assert office.look(march(2))[0] == []


def test_a_damaged_record_of_one_model_blinds_nobody_to_the_others(open_office, tmp_path):
    office = open_office(spec("bad"), spec("good"))
    for each in office.specs:
        office.deliver(each, "2024-03-01")
    (tmp_path / "home" / "records" / "bad" / "raw_data" / "2024-03-01.json").write_text("{")
    assert office.look(march(9))[0] == [("good", "overdue_data", "2024-03-02")]


def test_labels_that_do_not_come_are_an_alert_of_their_own(tmp_path):
    with instance_at(tmp_path) as instance:
        shop = toy.Workshop(tmp_path / "home", instance, {"labels": LABELS})
        part = stages.validate(shop, "2024-01")
        office = Office(tmp_path / "home", instance, shop.spec)
        due = datetime(2024, 2, 11, tzinfo=UTC)
        assert office.look(due - timedelta(seconds=1))[0] == []
        assert office.look(due)[0] == [("toy", "overdue_labels", "2024-01-01")]
        labelled = LabelledPartition(
            model="toy", partition=part.partition, delivery="1", rows_of=part.content, rows_files=part.files,
            rows=300, labelled=280, unknown=0, conflicting=0, superseded=0, broken=0,
            table_version=1, files={}, content="",
        )  # fmt: skip
        office.records.put("toy", "labels", labelled, part.partition)
        office.happened(shop.spec, "labels", part.partition)
        assert office.look(due + timedelta(hours=1))[0] == []


@pytest.mark.parametrize(("hours", "late"), [(120, False), (121, True)])
def test_labels_are_missed_however_many_partitions_have_come_during_their_delay(open_office, hours, late):
    shop = toy.spec(
        "landing", partitions={"every": "hourly", "start": "2024-03-01"}, labels={**LABELS, "delay_days": 5}
    )
    office, windows = open_office(shop), Windows.of(shop.partitions)
    begin = windows.first()
    for key in map(windows.key, range(begin, begin + hours)):
        first, last = windows.bounds(key)
        part = evidence.validated("2024-03", partition=key, first=first, last=last, delivered=last)
        office.records.put("toy", "validated_features", part, key)
    office.deliver(shop, *map(windows.key, range(begin, begin + hours)))
    found, _ = office.look(windows.bounds(windows.key(begin + hours - 1))[1])
    assert found == ([("toy", "overdue_labels", "2024-03-01-00")] if late else [])


@pytest.mark.parametrize(
    ("partitions", "seconds"),
    [
        ({"every": "daily", "start": "2024-03-01"}, 3 * 86_400),
        ({"every": "hourly", "start": "2024-03-01"}, 3 * 3_600),
        ({"every": "daily", "start": "2024-03-01", "end": "2024-04-01"}, None),
        ({"every": "batch"}, None),
    ],
)
def test_the_ui_shows_raw_data_as_stale_when_nothing_comes(partitions, seconds):
    pattern = "{partition}.csv" if partitions["every"] == "batch" else "{partition:%Y-%m}.csv"
    model = toy.spec("landing", partitions=partitions, source={"uri": "landing", "files": [pattern]})
    [asset] = data(model).assets
    policy = asset.get_asset_spec().freshness_policy
    assert (policy and policy.fail_window.to_timedelta().total_seconds()) == seconds
