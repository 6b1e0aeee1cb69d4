"""The seeded worlds: the same rows for ever, the raw format of the public data, and faults where they are promised."""

import gzip
import io
from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.simulation import bike, electricity
from mlops_assets.simulation.bike import BikeWorld
from mlops_assets.simulation.delivery import backdate, deliver
from mlops_assets.simulation.dirt import Fault, spoiled
from mlops_assets.simulation.electricity import ElectricityWorld
from mlops_assets.simulation.recorded import MARKET, recorded_worlds

WORLDS = (BikeWorld(), ElectricityWorld())
ANY = {"bike_demand": date(2011, 6, 1), "electricity_price": date(1996, 9, 2)}


def broken(rows: pd.DataFrame, columns: list[str]) -> float:
    numbers = rows[columns].apply(pd.to_numeric, errors="coerce")
    return float(numbers.isna().any(axis=1).mean())


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.model)
def test_the_same_seed_and_partition_give_the_same_bytes(world, tmp_path):
    def delivered(sender, folder):
        return [path.read_bytes() for path in deliver(sender, ANY[world.model], tmp_path / folder)]

    first = delivered(world, "a")
    assert first == delivered(type(world)(), "b")
    assert all(ours != theirs for ours, theirs in zip(first, delivered(type(world)(seed=1), "c"), strict=True))


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
    [first] = deliver(world, bike.DIRTY_DELIVERY, tmp_path)
    dirty = first.read_bytes()
    [again] = deliver(world, bike.DIRTY_DELIVERY, tmp_path, attempt=1)
    assert again.read_bytes() != dirty
    assert [path.name for path in tmp_path.iterdir()] == ["bike-2011-12.csv"]


def test_a_gz_delivery_is_gzip_and_holds_the_rows(tmp_path):
    world = ElectricityWorld()
    path, *_ = deliver(world, ANY["electricity_price"], tmp_path)
    rows = pd.read_csv(io.BytesIO(gzip.decompress(path.read_bytes())))
    assert len(rows) == len(world.partition(ANY["electricity_price"]))


@pytest.mark.parametrize(
    ("world", "start", "day"),
    [
        (BikeWorld(), date(2012, 2, 1), date(2012, 3, 1)),
        (ElectricityWorld(), date(1996, 12, 30), date(1997, 1, 6)),
    ],
    ids=["bike_demand", "electricity_price"],
)
def test_rows_come_on_the_first_day_after_their_window(world, start, day):
    assert world.comes(start) == day


def test_rows_come_without_what_is_known_later_and_the_corrected_delivery_brings_no_labels_again(tmp_path):
    world, dirty = ElectricityWorld(), electricity.DIRTY_DELIVERY
    rows, *labels = deliver(world, dirty, tmp_path)
    assert set(world.partition(dirty)) - set(pd.read_csv(rows)) == {"nswprice", "class"}
    assert [path.relative_to(tmp_path).as_posix() for path in labels] == [
        "labels/labels-1997-04-07-1.csv.gz",
        "labels/labels-1997-03-31-2.csv.gz",
    ]
    assert deliver(world, dirty, tmp_path, attempt=1) == [rows]


def labels_of(world, week):
    """All labels of a week that are ever delivered, with the number of the file and the day on which it came."""
    files = [(later, world.labels(week + later * electricity.WEEK)) for later in (1, 2)]
    pieces = [
        frame.assign(piece=later, came=world.comes(week + later * electricity.WEEK))
        for later, found in files
        for name, frame in found.items()
        if f"{week}" in name
    ]
    return pd.concat(pieces, ignore_index=True)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), week=st.sampled_from(ElectricityWorld().starts()[:-2]))
def test_every_half_hour_gets_its_label_some_late_some_corrected_and_none_before_it_is_settled(seed, week):
    world = ElectricityWorld(seed=seed)
    truth = world.partition(week, 1).drop_duplicates("ts").set_index("ts")["class"]
    labels = labels_of(world, week)
    last = labels.sort_values("settled_at", kind="stable").drop_duplicates("ts", keep="last").set_index("ts")["class"]
    pd.testing.assert_series_equal(last.sort_index(), truth.sort_index(), check_dtype=False)
    assert (pd.to_datetime(labels["settled_at"]) <= pd.to_datetime(labels["came"])).all()
    assert (pd.to_datetime(labels["settled_at"]) >= pd.to_datetime(labels["ts"]) + pd.Timedelta(days=3)).all()
    first = labels[labels["piece"] == 1].drop_duplicates("ts", keep="last")
    assert 0.95 < len(first) / len(truth) < 1, "some are late"
    assert len(labels) - len(truth) == round(electricity.WRONG_SHARE * len(truth)), "and some are corrected"
    assert labels.groupby("ts")["class"].nunique().eq(2).sum() == len(labels) - len(truth)


def test_real_rows_are_parted_from_their_labels_and_nothing_is_lost(real_data, tmp_path):
    _, market = recorded_worlds(real_data)
    for start in market.starts()[:4]:
        deliver(market, start, tmp_path)
    rows = pd.concat(map(pd.read_csv, sorted(tmp_path.glob("*.csv.gz"))), ignore_index=True)
    labels = pd.concat(map(pd.read_csv, sorted((tmp_path / "labels").iterdir())), ignore_index=True)
    assert len(labels) == len(rows) - len(market.partition(market.starts()[3])), "the newest week's are to come"
    whole = rows.merge(labels, on="ts", validate="one_to_one").astype({"ts": "datetime64[ns]"})
    assert (pd.to_datetime(whole.pop("settled_at")) - whole["ts"] == electricity.WEEK).all()
    real = pd.read_parquet(real_data / MARKET).head(len(labels))
    pd.testing.assert_frame_equal(whole[list(real)], real, check_dtype=False)


def test_a_backdated_file_is_as_old_as_its_window(tmp_path):
    [path] = deliver(BikeWorld(), date(2011, 6, 1), tmp_path)
    backdate(path, date(2011, 7, 1))
    assert pd.Timestamp(path.stat().st_mtime, unit="s").date() == date(2011, 7, 1)
