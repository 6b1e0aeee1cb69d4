"""The daemon's stand-in: cursors kept, runs tagged as the daemon would, and what came of them told apart."""

import pytest

from mlops_assets.demo.player import Player
from mlops_assets_tests import toy


@pytest.fixture
def shop(workshop):
    def open_shop(months, **changes):
        shop = workshop(**changes)
        for month in months:
            toy.deliver(shop.landing, month)
        return shop, Player(shop.definitions, shop.instance)

    return open_shop


def test_deliveries_are_run_once_and_tagged_so_that_the_daemon_knows_them(shop):
    workshop, player = shop(toy.MONTHS[:3])
    (ran,) = player.tick("toy_new_data")
    assert ran.failed == {}
    assert ran.made["validated_features"] == ("2024-01-01", "2024-02-01", "2024-03-01")
    assert "registered_version" in ran.made
    (run,) = workshop.instance.get_runs()
    assert run.tags["dagster/sensor_name"] == "toy_new_data"
    assert run.tags["dagster/run_key"]
    assert player.tick("toy_new_data") == []
    assert Player(workshop.definitions, workshop.instance).tick("toy_new_data") == []


def test_a_candidate_that_its_gates_keep_out_is_a_verdict_and_is_not_trained_again(shop):
    _, player = shop(toy.MONTHS[:3], gates=[{"metric": "skill", "at_least": 0.999}])
    (ran,) = player.tick("toy_new_data")
    assert "evaluation_report" in ran.failed
    assert "registered_version" not in ran.made
    assert ran.crashed == ()
    assert player.tick("toy_new_data") == []


def test_a_refused_delivery_says_why_and_is_not_a_crash(shop):
    workshop, player = shop([])
    toy.deliver(workshop.landing, "2024-01", toy.rows("2024-01").assign(price=-1))
    (ran,) = player.tick("toy_new_data")
    assert ran.crashed == ()
    assert "2024-01-01" in ran.failed["validation"]
    assert ran.made["quarantined_rows"] == ("2024-01-01",)
    assert player.tick("toy_new_data") == []


def test_an_error_that_nobody_raised_on_purpose_is_a_crash(shop):
    workshop, player = shop(toy.MONTHS[:1])
    (workshop.home / "tables").write_text("in the way")
    (ran,) = player.tick("toy_new_data")
    assert ran.crashed == ("validation",)
