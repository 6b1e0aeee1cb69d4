"""Drift on real data: what moves by the calendar, what lost rows and values hide, and a change of the world."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pytest

from mlops_assets.ml.monitoring import Subject, judge, reference_profile
from mlops_assets.ml.profiles import effect_sizes, profile
from mlops_assets_tests import toy

HOUR = ["season", "mnth", "hr", "weekday", "workingday", "weathersit", "temp", "hum", "windspeed"]


@pytest.fixture
def bike(real_data):
    return pd.read_csv(real_data / "bike_sharing_hourly" / "hour.csv").assign(month=lambda rows: rows["dteday"].str[:7])


def verdict(declared, reference, now, usual):
    subject = Subject(
        partition="now", first=datetime(2012, 5, 1, tzinfo=UTC), delivery="d", version=1, usual_rows=usual
    )
    weights = dict.fromkeys(reference.columns, 1.0)
    before, said = reference_profile(reference, reference["hum"]), now["hum"]
    return judge(declared, subject, before, now, said.reset_index(drop=True), weights)


def test_every_month_differs_in_its_calendar_columns_and_none_in_its_hours(bike):
    for month in sorted(bike["month"].unique())[13:]:
        before = bike[(bike["month"] < month) & (bike["month"] >= f"2011-{month[-2:]}")]
        shifts = effect_sizes(profile(before, HOUR), bike[bike["month"] == month])
        assert min(shifts["mnth"].effect, shifts["season"].effect) > 2
        assert max(shifts[name].effect for name in ("hr", "weekday", "workingday")) < 0.1


def test_a_declared_calendar_keeps_the_calendar_out_of_the_verdict(bike):
    columns = ["season", "mnth", "hr", "weekday", "workingday", "hum"]
    before, now = bike[bike["month"].between("2011-06", "2012-04")], bike[bike["month"] == "2012-05"]
    usual = len(before) / 11
    naive = verdict(toy.spec("landing"), before[columns], now[columns], usual)
    assert naive.verdict == "drifted"
    declared = verdict(toy.spec("landing", calendar=("season", "mnth")), before[columns], now[columns], usual)
    assert declared.verdict == "stable"
    assert set(declared.left_out) == {"season", "mnth"}


def test_a_feed_that_lost_most_of_its_rows_moves_no_column_and_is_watched_all_the_same(bike):
    columns = ["hr", "temp", "hum", "windspeed", "weathersit"]
    year = bike[bike["month"] >= "2012-01"][columns]
    lost = year.sample(frac=0.23, random_state=0)
    found = verdict(toy.spec("landing"), year, lost, usual=len(year))
    assert max(effect.effect for effect in found.columns) < 0.02
    assert found.verdict == "watch"
    assert f"{len(lost)} rows, where {len(year)} are usual" in found.sentence
    assert verdict(toy.spec("landing"), year, lost, usual=len(lost)).verdict == "stable"


def test_values_that_go_missing_are_drift_though_those_that_remain_have_not_moved(real_data):
    weather = pd.read_csv(real_data / "weather_australia" / "weatherAUS.zip", usecols=["Date", "Sunshine"])
    year = weather["Date"].str[:4]
    before, now = weather.loc[year == "2008", ["Sunshine"]], weather.loc[year == "2013", ["Sunshine"]]
    shift = effect_sizes(profile(before), now)["Sunshine"]
    assert shift.nulls_now - shift.nulls_before > 0.3
    assert shift.effect > 0.4
    assert effect_sizes(profile(before.dropna()), now.dropna())["Sunshine"].effect < 0.05


def test_the_opening_of_the_victorian_market_is_seen_in_the_week_that_it_came(real_data):
    market = pd.read_parquet(real_data / "elec2_nsw" / "elec2_with_ts_derived.parquet")
    week = market["ts"].dt.to_period("W-SUN").dt.start_time
    filled = ["vicprice", "vicdemand", "transfer"]
    opened = pd.Timestamp("1997-05-05")
    reference = profile(market[week < opened - pd.Timedelta(weeks=2)], filled)
    before = effect_sizes(reference, market[week == opened - pd.Timedelta(weeks=1)])
    after = effect_sizes(reference, market[week == opened])
    assert [before[name].effect for name in filled] == [0, 0, 0]
    assert min(after[name].effect for name in filled) > 5
