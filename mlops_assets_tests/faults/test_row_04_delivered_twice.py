import itertools
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import pytest

from mlops_assets.ml.planning import Memory, Plan, State, plan
from mlops_assets.ml.windows import Windows
from mlops_assets_tests import toy
from mlops_assets_tests.lifecycle.daemon import Daemon
from mlops_assets_tests.resources.test_deliveries import LONG_AGO, Shop

DROPS = (
    ("shop-2024-01.csv", b"first"),
    ("shop-2024-01.csv", b"first"),
    ("shop-2024-03.csv", b"first"),
    ("shop-2024-05.csv", b"second"),
    ("shop-2024-05.csv", b"third"),
)
DISTINCT = 3


@dataclass
class Player:
    """Looks and runs without Dagster: what is fetched is held, and a run key starts one run."""

    shop: Shop
    memory: Memory = field(default_factory=Memory)
    held: dict[str, str] = field(default_factory=dict)
    runs: dict[str, dict[str, str]] = field(default_factory=dict)

    def turn(self, killed: bool = False) -> Plan:
        """One look and its runs. Killed: the runs were launched, and what the look left was never stored."""
        spec = self.shop.spec(training={"min_partitions": 12})
        state = State(found=self.shop.look(spec).versions, held=dict(self.held), validated={})
        decided = plan(spec, state, self.memory, Windows.of(spec.partitions).position)
        for request in decided.requests:
            if request.run_key not in self.runs:
                self.runs[request.run_key] = request.deliveries
                fetched = self.shop.fetch(*request.deliveries, spec=spec)
                self.held |= {key: each.version for key, each in fetched.deliveries.items()}
        if not killed:
            self.memory = decided.memory
        return decided


def play(shop, drops, killed):
    """Drop files in an order and look after each one; the deliveries that runs were started for."""
    player = Player(shop)
    for number, (name, content) in enumerate(drops):
        shop.drop(name, content, LONG_AGO + timedelta(seconds=number))
        player.turn(killed=number in killed)
        player.turn()
    assert player.turn().requests == ()
    return [version for deliveries in player.runs.values() for version in deliveries.values()]


@pytest.mark.fault(4)
def test_in_whatever_order_copies_and_corrections_arrive_each_content_is_run_once(tmp_path, record_figure):
    orders = sorted(set(itertools.permutations(DROPS)))
    random = np.random.default_rng(4)
    runs = []
    for number in range(30):
        folder = tmp_path / str(number)
        folder.mkdir()
        drops = orders[random.integers(len(orders))]
        started = play(Shop(folder), drops, killed=random.choice(len(drops), 2, replace=False))
        assert sorted(started) == sorted(set(started)), drops
        runs.append(len(started))
    record_figure(
        orders=len(runs), deliveries=len(DROPS) * len(runs), runs_per_content=sum(runs) / DISTINCT / len(runs)
    )
    assert set(runs) == {DISTINCT}


@pytest.mark.fault(4)
def test_by_name_and_time_of_change_alone_each_drop_would_have_been_a_run(tmp_path):
    shop, seen = Shop(tmp_path), set()
    for number, (name, content) in enumerate(DROPS):
        path = shop.drop(name, content, LONG_AGO + timedelta(seconds=number))
        seen.add((name, path.stat().st_mtime_ns))
    assert len(seen) == len(DROPS) > DISTINCT


@pytest.mark.fault(4)
def test_a_copy_is_run_after_all_when_the_other_file_turns_out_to_have_been_the_wrong_one(tmp_path):
    shop = Shop(tmp_path)
    player = Player(shop)
    shop.drop("shop-2024-01.csv", b"february's rows")
    player.turn()
    shop.drop("shop-2024-02.csv", b"february's rows")
    assert player.turn().requests == ()
    shop.drop("shop-2024-01.csv", b"january's rows", LONG_AGO + timedelta(seconds=1))
    [request] = player.turn().requests
    assert [*request.deliveries] == ["2024-01-01", "2024-02-01"]


@pytest.mark.fault(4)
def test_through_dagster_a_copy_starts_nothing_and_a_correction_is_marked(workshop):
    shop = workshop(training={"min_partitions": 12})
    daemon = Daemon(shop)
    path = toy.deliver(shop.landing, "2024-01")
    assert len(daemon.settle(["raw_data"])) == 1
    path.write_bytes(path.read_bytes())
    copy = shop.landing / "shop-2024-02.csv"
    copy.write_bytes(path.read_bytes())
    assert daemon.settle(["raw_data"]) == []
    assert "2024-02-01: holds the same bytes as 2024-01-01: delivered twice, counted once" in daemon.said
    copy.unlink()
    toy.deliver(shop.landing, "2024-01", toy.rows("2024-01", seed=1))
    [corrected] = daemon.settle(["raw_data"])
    assert corrected.tags["mlops/reason"] == "corrected_data"
