"""`champion` while people have to approve it, and the sensor that releases: real runs, a real registry and ledger."""

import dagster as dg
import pytest

from mlops_assets.lifecycle.champion import WAITS
from mlops_assets.ml.registration import Champion
from mlops_assets.ml.training import Candidate
from mlops_assets.resources.registry import CHAMPION, Registry
from mlops_assets_tests.approving import PEOPLE, RULE, Office, signing_key, trusting
from mlops_assets_tests.lifecycle.stages import checks, materialized, metadata, run, validated
from mlops_assets_tests.lifecycle.test_champion import GOOD, challenge, kinds, record, redeclared, reign

NOBODY = "http://127.0.0.1:9"
WEAK = {"path": "sklearn.dummy.DummyRegressor"}
WIRED = ("records", "blobs", "registry", "ledger", "alerts", "keys")


def tick(shop, cursor=None):
    """One look of the sensor: its result."""
    sensor = shop.definitions.resolve_sensor_def("release_approved")
    wired = {name: shop.resources[name] for name in WIRED}
    return sensor.evaluate_tick(
        dg.build_sensor_context(
            instance=shop.instance,
            cursor=cursor,
            resources=wired,
            definitions=shop.definitions,
            sensor_name=sensor.name,
        )
    )


def approve(shop, person, version):
    """What the command does for a person."""
    office = Office(shop.home, shop.resources["keys"])
    parts = {name: shop.resources[name] for name in ("ledger", "registry", "records", "blobs", "keys")}
    return office.says(person, version=version, spec=shop.spec, **parts)


def wanted(shop):
    return [known.alert for known in shop.resources["alerts"].open() if known.alert.kind == "approval_wanted"]


@pytest.fixture
def waiting(lives):
    """A weak champion, released by itself; since then ana or ben have to approve, and a better version is trained."""
    with lives.begun(reign, challenge, estimator=WEAK, gates=[]) as begun:
        shop = redeclared(begun, estimator=GOOD, release=RULE)
        shop.resources["keys"] = trusting(shop.home / "people", *PEOPLE)
        yield shop


def test_a_better_version_waits_is_told_once_and_serves_when_it_is_approved(waiting):
    result = run(waiting, CHAMPION)
    assert result.success
    assert (record(waiting).version, waiting.resources["registry"].champion("toy").number) == (1, 1)
    assert record(waiting).considered == record(waiting, Candidate, "trained_model").model_sha256
    assert (
        "toy v2: It does not serve: v2 of toy waits for the approval of 1 of ana, ben until" in record(waiting).sentence
    )
    assert metadata(result, CHAMPION)["summary"] == record(waiting).sentence
    check = checks(result)["waits_for_nobody"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "`mlops-assets approve toy 2 --reason ...`" in check.description

    first = tick(waiting)
    assert [event.passed for event in first.asset_events] == [False]
    assert len(wanted(waiting)) == 1
    assert tick(waiting, first.cursor).asset_events == []
    assert len(wanted(waiting)) == 1
    assert kinds(waiting)[2:] == [("asked", 2)]

    approve(waiting, "ana", 2)
    shown, check = tick(waiting, first.cursor).asset_events
    assert (shown.asset_key, shown.metadata["version"].value) == (dg.AssetKey(["toy", CHAMPION]), 2)
    assert shown.metadata["released_by"].value == "ana"
    assert (check.check_name, check.passed) == (WAITS, True)
    assert waiting.resources["registry"].champion("toy").number == record(waiting).version == 2
    assert wanted(waiting) == []
    assert tick(waiting).asset_events[1:] == []
    assert kinds(waiting)[2:] == [("asked", 2), ("approved", 2), ("released", 2), ("confirmed", 2)]


def test_the_first_version_waits_too_and_nothing_is_green_that_does_not_serve(workshop):
    shop = validated(workshop(release=RULE))
    result = run(shop)
    assert result.success
    assert CHAMPION not in materialized(result)
    assert record(shop) is None
    assert shop.resources["registry"].champion("toy") is None
    assert not checks(result)[WAITS].passed
    [seen] = [event for event in result.all_events if event.event_type_value == "ASSET_OBSERVATION"]
    summary = seen.asset_observation_data.asset_observation.metadata["summary"].value
    assert summary.startswith("toy v1: It does not serve: v1 of toy waits for the approval of 1 of ana, ben")
    approve(shop, "ana", 1)
    tick(shop)
    assert record(shop).version == shop.resources["registry"].champion("toy").number == 1
    assert record(shop).considered == record(shop, Candidate, "trained_model").model_sha256
    assert run(shop, CHAMPION).success
    assert kinds(shop) == [("asked", 1), ("approved", 1), ("released", 1), ("confirmed", 1)]


def test_a_registry_that_is_down_is_said_changes_nothing_and_the_next_look_goes_on(waiting):
    assert run(waiting, CHAMPION).success
    before = tick(waiting)
    approve(waiting, "ana", 2)
    there = waiting.resources["registry"]
    waiting.resources["registry"] = Registry(root=str(waiting.home), tracking_uri=NOBODY)
    look = tick(waiting, before.cursor)
    assert "toy: MLflow at http://127.0.0.1:9 did not" in look.skip_message
    assert (look.asset_events, look.cursor, len(wanted(waiting))) == ([], before.cursor, 1)
    waiting.resources["registry"] = there
    tick(waiting, look.cursor)
    assert record(waiting, Champion).version == 2


def test_a_policy_that_changes_voids_the_approval_and_a_person_is_told_to_ask_anew(waiting):
    assert run(waiting, CHAMPION).success
    cursor = tick(waiting).cursor
    approve(waiting, "ana", 2)
    stricter = redeclared(waiting, registration={"margin": 0.001})
    stricter.resources["keys"] = waiting.resources["keys"]
    look = tick(stricter, cursor)
    assert [event.passed for event in look.asset_events] == [False]
    [alert] = wanted(stricter)
    assert "what it rests on has changed: policy (" in alert.sentence
    assert "Materialize evaluation_report, registered_version and champion to ask again." in alert.sentence
    assert record(stricter).version == 1


def test_where_nobody_is_asked_the_sensor_looks_at_nothing(workshop):
    shop = workshop()
    shop.resources["registry"] = Registry(root=str(shop.home), tracking_uri=NOBODY)
    assert tick(shop).skip_message == "Nobody is asked to approve anything."
    assert signing_key("ana").fingerprint != signing_key("ben").fingerprint
