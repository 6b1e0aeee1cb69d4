"""Row 29: somebody moves the alias `champion` in MLflow by hand: found by the next look, put back by the command."""

import time
from datetime import UTC, datetime

import dagster as dg
import pytest

from mlops_assets.lifecycle.releasing import Release, release, restore
from mlops_assets.lifecycle.sensors.watch_champions import EVERY_SECONDS, watch_champions
from mlops_assets.resources.registry import CHAMPION
from mlops_assets.resources.tracking import Tracking
from mlops_assets_tests.evidence import candidate

pytestmark = pytest.mark.fault(29)


def now():
    return datetime.now(UTC)


@pytest.fixture
def shop(workshop):
    """Two versions, of which the second was released."""
    shop = workshop()
    registry, ledger = shop.resources["registry"], shop.resources["ledger"]
    for number in (1, 2):
        registry.register(candidate(sha256=f"{number:064d}", run=f"run-{number}"))
        said = {"who": "ada", "why": "It is better.", "evidence": {}, "judged_against": number - 1 or None}
        release(Release(model="toy", version=number, **said), ledger, registry, now)
    return shop


def look(shop, cursor=None):
    """What the sensor reports, and how long it looked."""
    sensor = watch_champions([shop.spec], now)
    wired = {name: shop.resources[name] for name in ("records", "registry", "ledger", "alerts")}
    began = time.perf_counter()
    seen = sensor.evaluate_tick(dg.build_sensor_context(instance=shop.instance, cursor=cursor, resources=wired))
    return seen, time.perf_counter() - began


def moved(shop, to):
    registry = shop.resources["registry"]
    client = Tracking(root=registry.root, tracking_uri=registry.tracking_uri).client
    client.set_registered_model_alias("toy", CHAMPION, str(to))


def test_mlflow_itself_takes_the_moved_alias_for_the_champion_and_keeps_no_trace(shop, record_figure):
    moved(shop, 1)
    found = shop.resources["registry"].champion("toy")
    record_figure(control=True, serves=found.number, released=2, traces_in_mlflow=0)
    assert found.number == 1


def test_a_moved_alias_is_found_by_the_next_look_and_over_when_it_is_back(shop, record_figure):
    quiet, _ = look(shop)
    assert quiet.asset_events == []
    moved(shop, 1)
    seen, seconds = look(shop, quiet.cursor)
    [event] = seen.asset_events
    assert not event.passed
    restore("toy", "ada", "An accident", shop.resources["ledger"], shop.resources["registry"], now)
    back, _ = look(shop, seen.cursor)
    assert [event.passed for event in back.asset_events] == [True]
    assert shop.resources["registry"].holder("toy") == 2
    record_figure(looks_until_found=1, seconds_between_looks=EVERY_SECONDS, seconds_of_a_look=round(seconds, 3))


def test_what_drift_is_judged_against_does_not_follow_a_moved_alias(shop):
    moved(shop, 1)
    assert shop.resources["registry"].reference_for("toy", "2030-01-01")[0].number == 2
