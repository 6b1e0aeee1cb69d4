"""What a broken feed leaves in a partition is found, on the right side of each border; season and growth are not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlops_assets.ml.observed import History, Observed, leaps
from mlops_assets.ml.profiles import profile
from mlops_assets.ml.symptoms import missing_groups, symptoms
from mlops_assets.ml.units import CONVERSIONS

ROWS = 1000
START = datetime(2024, 1, 1, tzinfo=UTC)
LEAST = 0.5
KINDS = ["Bus", "Car", "Tram", "Ferry"]


@cache
def made(seed, rows, level):
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "temperature": (random.normal(18 + level, 5, rows)).round(1),
            "price": random.lognormal(3, 0.3, rows).round(2),
            "balance": random.normal(0, 50, rows).round(2),
            "kind": random.choice(KINDS, rows, p=[0.5, 0.3, 0.15, 0.05]),
            "code": random.choice([1, 2, 3, 4], rows, p=[0.1, 0.2, 0.3, 0.4]),
            "open": random.choice([0, 1], rows, p=[0.3, 0.7]),
        }
    )


def world(seed=0, rows=ROWS, level=0.0):
    return made(seed, rows, level).copy()


def seen(frame, month=6, days=30.0):
    first = START + timedelta(days=30 * month)
    return Observed(f"month {month}", first, first + timedelta(days=days), len(frame), profile(frame))


@cache
def history(count=6, rows=ROWS, level=0.0):
    return History([seen(world(seed=100 + month, rows=rows, level=level * month), month) for month in range(count)])


def found(frame, before=None, days=30.0):
    before = history() if before is None else before
    return {(each.kind, *each.columns) for each in symptoms(seen(frame, days=days), before, LEAST)}


def test_another_month_of_the_same_world_has_no_symptom():
    assert [found(world(seed)) for seed in range(10)] == [set()] * 10


def test_without_an_earlier_partition_there_is_no_symptom():
    assert found(world().head(3), History([])) == set()


@settings(max_examples=60)
@given(st.sampled_from(CONVERSIONS), st.sampled_from(["temperature", "price", "balance"]), st.integers(0, 5))
def test_a_column_in_any_other_known_unit_is_found(way, name, seed):
    frame = world(seed)
    assume(way.least <= frame[name].median() <= way.most)
    converted = frame[name] * way.scale + way.offset
    named = {each for each in found(frame.assign(**{name: converted})) if each[1:] == (name,)}
    mirrored = way.scale < 0 and name == "balance"
    assert bool(named) != mirrored


@settings(max_examples=40)
@given(st.sampled_from(["temperature", "price", "balance"]), st.floats(-0.2, 0.2), st.integers(0, 5))
def test_a_small_smooth_shift_is_no_symptom(name, widths, seed):
    frame = world(seed)
    moved = frame[name] + widths * frame[name].std()
    assert found(frame.assign(**{name: moved})) == set()


@settings(max_examples=40)
@given(st.floats(1.02, 1.5))
def test_a_price_that_rises_is_no_symptom(factor):
    frame = world()
    assert found(frame.assign(price=(frame["price"] * factor).round(2))) == set()


@settings(max_examples=20)
@given(st.integers(0, 1 << 16))
def test_rows_in_another_order_change_nothing(seed):
    frame = world(3).assign(temperature=world(3)["temperature"] * 1.8 + 32)
    shuffled = frame.sample(frac=1, random_state=seed)
    before = history()
    assert symptoms(seen(frame), before, LEAST) == symptoms(seen(shuffled), before, LEAST)
    assert leaps(seen(frame), before) == leaps(seen(shuffled), before)


def test_what_was_converted_is_said_with_both_medians():
    frame = world()
    [finding] = symptoms(seen(frame.assign(temperature=frame["temperature"] * 1.8 + 32)), history(), LEAST)
    assert finding.kind == "units"
    assert (
        "temperature looks converted (from degrees Celsius to Fahrenheit): its median went from 1" in finding.sentence
    )


def test_a_factor_of_two_and_a_half_that_others_took_part_in_is_no_conversion():
    frame = world()
    inches = (frame["price"] * 2.54).round(2)
    assert found(frame.assign(price=inches)) == {("perhaps_units", "price")}
    assert found(frame.assign(price=inches, balance=frame["balance"] + 200)) == set()


@pytest.mark.parametrize(("factor", "named"), [(4, True), (6, False)])
def test_a_price_that_varies_much_and_leapt_by_another_factor_is_no_conversion(factor, named):
    def priced(frame, factor):
        return frame.assign(price=(frame["price"] * factor).round(2))

    before = History([seen(priced(world(100 + month), 1 + 0.3 * (month % 2)), month) for month in range(6)])
    assert found(priced(world(), factor), before) == ({("perhaps_units", "price")} if named else set())


def test_more_decimals_than_ever_give_a_small_conversion_away():
    frame = world()
    miles = frame["temperature"] / 1.609344
    assert found(frame.assign(temperature=miles)) == {("units", "temperature")}
    twice = history(level=3)
    assert found(world(level=18), twice) == set()


@pytest.mark.parametrize(("missing", "named"), [(0.09, False), (0.11, True), (1.0, True)])
def test_values_that_go_missing_are_found_from_a_tenth_of_the_rows_on(missing, named):
    frame = world()
    frame.loc[: round(missing * ROWS) - 1, "price"] = np.nan
    assert (("missing", "price") in found(frame)) is named


def test_a_column_that_was_missing_as_often_before_is_as_ever():
    def gappy(frame, share):
        return frame.assign(price=frame["price"].where(np.arange(len(frame)) >= share * len(frame)))

    before = History([seen(gappy(world(100 + month), 0.1 * (month % 3)), month) for month in range(6)])
    assert found(gappy(world(), 0.3), before) == set()
    assert found(gappy(world(), 0.81), before) == {("missing", "price")}


@pytest.mark.parametrize(("share", "named"), [(0.45, False), (0.55, True), (1.0, True)])
def test_a_reading_that_froze_is_found_once_it_holds_half_of_the_rows(share, named):
    frame = world()
    frame.loc[frame.index >= (1 - share) * ROWS, "temperature"] = 17.3
    assert (("stuck", "temperature") in found(frame)) is named


def test_a_column_of_two_values_may_hold_one_of_them_alone():
    assert found(world().assign(open=1)) == set()


@pytest.mark.parametrize(
    "recode",
    [
        lambda frame: frame.assign(kind=frame["kind"].str.upper()),
        lambda frame: frame.assign(kind=" " + frame["kind"]),
        lambda frame: frame.assign(kind="mode_" + frame["kind"]),
        lambda frame: frame.assign(kind=frame["kind"].map({name: str(code) for code, name in enumerate(KINDS)})),
        lambda frame: frame.assign(kind=frame["kind"].where(frame.index % 2 == 0, frame["kind"].str.lower())),
    ],
    ids=["case", "space", "prefix", "codes", "half of the rows"],
)
def test_categories_written_otherwise_are_found(recode):
    assert found(recode(world())) == {("recoded", "kind")}


@pytest.mark.parametrize("recode", [lambda code: code - 1, lambda code: code * 10, lambda code: code + 100])
def test_codes_numbered_otherwise_are_found(recode):
    frame = world()
    named = found(frame.assign(code=recode(frame["code"])))
    assert {each[1:] for each in named} == {("code",)}


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_a_new_category_beside_the_old_ones_is_news_of_the_world(share):
    frame = world()
    frame.loc[frame.index < share * ROWS, "kind"] = "Cable car"
    frame.loc[frame.index < share * ROWS, "code"] = 9
    assert found(frame) == set()


def test_other_shares_of_the_same_categories_are_no_symptom():
    assert found(world().assign(kind=world()["kind"].replace({"Bus": "Ferry", "Ferry": "Bus"}))) == set()


def test_no_category_is_named_in_a_finding():
    frame = world()
    told = symptoms(seen(frame.assign(kind=frame["kind"].str.upper())), history(), LEAST)
    told += missing_groups(seen(frame[frame["kind"] != "Tram"]), history())
    assert len(told) == 2
    assert not any(kind.casefold() in each.sentence.casefold() for kind in KINDS for each in told)


@pytest.mark.parametrize(("rows", "named"), [(599, True), (600, False), (1000, False), (3000, False)])
def test_rows_that_are_lost_are_found_below_three_fifths_of_the_usual(rows, named):
    frame = pd.concat([world(), world(1), world(2)]).head(rows)
    assert (("rows",) in found(frame)) is named


@pytest.mark.parametrize(("least", "named"), [(0.7, False), (0.71, True)])
def test_a_declared_share_above_that_counts_instead(least, named):
    assert bool(symptoms(seen(world(rows=700)), history(), least)) is named


def test_a_feed_that_ends_early_is_told_by_the_days_that_it_covers():
    [finding] = symptoms(seen(world(rows=300), days=9), history(), LEAST)
    assert finding.sentence == (
        "300 rows came, where 1000 are usual and no fewer than 1000 ever came; they cover 9.0 days of the usual 30.0."
    )


def test_rows_that_were_as_few_a_year_ago_are_the_season():
    winter = seen(world(5, rows=310), -6)
    assert found(world(rows=300), history()._replace(likewise=[winter])) == set()


def test_a_column_that_is_as_it_was_a_year_ago_has_not_leapt():
    def cold(seed):
        return world(seed, level=-40)

    assert leaps(seen(cold(1)), history())["temperature"].abrupt
    assert not leaps(seen(cold(1)), history()._replace(likewise=[seen(cold(2), -6)]))["temperature"].abrupt


def test_a_column_that_was_constant_a_year_ago_excuses_nothing():
    before = history()._replace(likewise=[seen(world(5).assign(price=1.0), -6)])
    frame = world()
    frame.loc[frame.index > 100, "price"] = 1.0
    assert found(frame, before) == {("stuck", "price")}


def test_a_season_that_goes_on_is_no_leap():
    before = history(level=3)
    assert not leaps(seen(world(level=18)), before)["temperature"].abrupt
    assert leaps(seen(world(level=45)), before)["temperature"].abrupt


def test_groups_that_always_had_rows_and_have_none_are_counted():
    frame = world()
    [finding] = missing_groups(seen(frame[frame["kind"] != "Car"]), history())
    assert finding.columns == ("kind",)
    assert finding.sentence.startswith("1 values of kind that always had rows, ")
    assert list(missing_groups(seen(frame), history())) == []


@pytest.mark.parametrize("name", ["temperature", "kind"])
def test_a_column_that_is_all_missing_or_all_infinite_is_looked_at_without_a_stumble(name):
    empty = world().assign(**{name: None})
    assert ("missing", name) in found(empty)
    assert found(world(), History([seen(empty, month) for month in range(6)])) == set()
    endless = world().assign(price=np.inf)
    assert isinstance(found(endless), set)
    assert isinstance(found(world(), History([seen(endless, month) for month in range(6)])), set)
    assert found(world().head(0)) == {("rows",)}
