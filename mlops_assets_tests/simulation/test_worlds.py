"""The seeded worlds: the same rows for ever, the raw format of the public data, and faults where they are promised."""

import gzip
import io
from datetime import date

import numpy as np
import pandas as pd
import pytest

from mlops_assets.simulation import bike, electricity
from mlops_assets.simulation.bike import BikeWorld
from mlops_assets.simulation.delivery import backdate, deliver
from mlops_assets.simulation.dirt import Fault, spoiled
from mlops_assets.simulation.electricity import ElectricityWorld

WORLDS = (BikeWorld(), ElectricityWorld())
ANY = {"bike_demand": date(2011, 6, 1), "electricity_price": date(1996, 9, 2)}


def broken(rows: pd.DataFrame, columns: list[str]) -> float:
    numbers = rows[columns].apply(pd.to_numeric, errors="coerce")
    return float(numbers.isna().any(axis=1).mean())


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.model)
def test_the_same_seed_and_partition_give_the_same_bytes(world, tmp_path):
    first = deliver(world, ANY[world.model], tmp_path / "a").read_bytes()
    again = deliver(type(world)(), ANY[world.model], tmp_path / "b").read_bytes()
    other = deliver(type(world)(seed=1), ANY[world.model], tmp_path / "c").read_bytes()
    assert first == again
    assert first != other


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.model)
def test_a_partition_does_not_depend_on_which_came_before(world):
    fresh, used = type(world)(), type(world)()
    used.partition(world.starts()[0])
    pd.testing.assert_frame_equal(fresh.partition(ANY[world.model]), used.partition(ANY[world.model]))


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.model)
def test_starts_are_ascending_and_every_file_name_is_its_own(world):
    starts = world.starts()
    assert starts == sorted(set(starts))
    assert len({world.file_name(start) for start in starts}) == len(starts)


def test_the_worlds_speak_the_raw_format_of_the_public_data(real_data):
    real_bikes = pd.read_csv(real_data / "bike_sharing_hourly" / "hour.csv", nrows=1)
    real_market = pd.read_parquet(real_data / "elec2_nsw" / "elec2_with_ts_derived.parquet")
    assert list(BikeWorld().partition(ANY["bike_demand"])) == list(real_bikes)
    assert list(ElectricityWorld().partition(ANY["electricity_price"])) == list(real_market)


@pytest.mark.parametrize(
    ("world", "columns", "usual", "dirty"),
    [
        (BikeWorld(), ["cnt", "windspeed"], (0.001, 0.02), bike.DIRTY_DELIVERY),
        (ElectricityWorld(), ["nswdemand", "transfer"], (0.001, 0.01), electricity.DIRTY_DELIVERY),
    ],
    ids=["bike_demand", "electricity_price"],
)
def test_only_the_first_attempt_of_the_dirty_delivery_is_dirtier_than_usual(world, columns, usual, dirty):
    low, high = usual
    assert low < broken(world.partition(ANY[world.model]), columns) < high
    assert broken(world.partition(dirty), columns) > 3 * high / 2
    assert low < broken(world.partition(dirty, attempt=1), columns) < high
    assert [start for start in world.starts() if world.attempts(start) > 1] == [dirty]


def test_closed_weekends_take_saturdays_and_sundays_out_of_the_feed():
    world = BikeWorld()
    assert set(world.partition(date(2012, 1, 1))["weekday"]) == set(range(7))
    assert set(world.partition(bike.WEEKENDS_CLOSED)["weekday"]) == set(range(1, 6))


def test_the_neighbours_columns_come_alive_when_its_market_joins():
    world = ElectricityWorld()
    before = world.partition(date(1997, 4, 28))
    after = world.partition(electricity.VICTORIA_JOINS)
    assert before["vicdemand"].nunique() == 1
    assert after["vicdemand"].nunique() > 100
    demand = [pd.to_numeric(rows["nswdemand"], errors="coerce").median() for rows in (before, after)]
    assert demand[1] > demand[0] + 0.05


def test_rentals_are_the_sum_of_members_and_visitors_and_grow_over_a_year():
    first, later = (BikeWorld().partition(date(year, 6, 1), attempt=1) for year in (2011, 2012))
    counts = pd.to_numeric(first["cnt"], errors="coerce")
    assert (counts.dropna() == (first["casual"] + first["registered"])[counts.notna()]).all()
    assert pd.to_numeric(later["cnt"], errors="coerce").mean() > 1.2 * counts.mean()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_spoiling_breaks_the_asked_share_and_loses_no_row(share):
    clean = pd.DataFrame({"id": range(120), "a": 1.0, "b": 2.0})
    dirty = spoiled(clean, share, [Fault("a", None), Fault("b", "text")], np.random.default_rng(1))
    assert set(dirty["id"]) == set(range(120))
    assert dirty["a"].isna().sum() == (dirty["b"] == "text").sum() == round(share * 120) // 3
    assert dirty["id"].duplicated().sum() == round(share * 120) // 3


def test_spoiling_leaves_its_input_alone():
    clean = pd.DataFrame({"a": [1.0, 2.0]})
    spoiled(clean, 1.0, [Fault("a", None)], np.random.default_rng(1))
    assert clean["a"].tolist() == [1.0, 2.0]


def test_a_delivery_leaves_nothing_but_its_file_and_replaces_the_one_before(tmp_path):
    world = BikeWorld()
    first = deliver(world, bike.DIRTY_DELIVERY, tmp_path)
    dirty = first.read_bytes()
    assert deliver(world, bike.DIRTY_DELIVERY, tmp_path, attempt=1).read_bytes() != dirty
    assert [path.name for path in tmp_path.iterdir()] == ["bike-2011-12.csv"]


def test_a_gz_delivery_is_gzip_and_holds_the_rows(tmp_path):
    world = ElectricityWorld()
    path = deliver(world, ANY["electricity_price"], tmp_path)
    rows = pd.read_csv(io.BytesIO(gzip.decompress(path.read_bytes())))
    assert len(rows) == len(world.partition(ANY["electricity_price"]))


def test_a_backdated_file_is_as_old_as_its_window(tmp_path):
    path = deliver(BikeWorld(), date(2011, 6, 1), tmp_path)
    backdate(path, date(2011, 7, 1))
    assert pd.Timestamp(path.stat().st_mtime, unit="s").date() == date(2011, 7, 1)
