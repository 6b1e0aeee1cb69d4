"""The lives of four models on real files: from the folder that they lie in to a registered version that is of use."""

from __future__ import annotations

from datetime import date

import pandas as pd

from mlops_assets.ml.evaluation import EvaluationReport
from mlops_assets.ml.labels import LabelledPartition
from mlops_assets.ml.registration import RegisteredVersion
from mlops_assets.ml.sources import Delivery
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.training import Candidate
from mlops_assets.ml.validation import QuarantinedPartition, ValidatedPartition
from mlops_assets.simulation.delivery import backdate
from mlops_assets.simulation.electricity import WEEK
from mlops_assets_tests.house import House, at_home

SENTINELS = ("-200", "-200.0")


def weather(real_data, **changes) -> ModelSpec:
    """Rain tomorrow, by the month: a zip of one file sorted by station, of which only some months are asked for."""
    declared = {
        "name": "rain",
        "owner": "team:weather",
        "description": "Whether it rains tomorrow at a station in Australia.",
        "task": "binary",
        "source": {"uri": str(real_data / "weather_australia"), "files": ["*.zip"]},
        "partitions": {"every": "monthly", "start": "2012-01-01", "end": "2013-04-01"},
        "time": {"columns": ["Date"]},
        "contract": "mlops_assets_tests.real_data.contracts.WeatherDay",
        "target": "RainTomorrow",
        "features": [{"cyclic": ["dayofyear"]}],
        "estimator": {"path": "sklearn.ensemble.HistGradientBoostingClassifier", "params": {"max_iter": 40}},
        "seed": 1,
        "training": {"min_partitions": 6},
        "evaluation": {"metric": "roc_auc", "slices": ["RainToday"], "replicates": 100},
        "gates": [{"metric": "roc_auc", "at_least": 0.8}, {"metric": "skill", "at_least": 0.05}],
    }
    return ModelSpec.model_validate({**declared, **changes})


def air(real_data, **changes) -> ModelSpec:
    """Carbon monoxide from cheap sensors, by the month: -200 says that there is no value."""
    declared = {
        "name": "air",
        "owner": "team:air",
        "description": "Carbon monoxide in a street, from cheap sensors beside the reference.",
        "task": "regression",
        "source": {"uri": str(real_data / "air_quality_uci"), "files": ["*.csv"], "null_values": ["", *SENTINELS]},
        "partitions": {"every": "monthly", "start": "2004-03-01"},
        "time": {"columns": ["Date", "Time"], "format": "%d-%m-%y %H:%M:%S"},
        "contract": "mlops_assets_tests.real_data.contracts.AirHour",
        "target": "CO(GT)",
        "exclude": ["C6H6(GT)", "NMHC(GT)", "NOx(GT)", "NO2(GT)"],
        "features": [{"cyclic": ["hour", "weekday"]}],
        "estimator": {"path": "sklearn.ensemble.HistGradientBoostingRegressor", "params": {"max_iter": 60}},
        "seed": 1,
        "training": {"min_partitions": 4},
        "evaluation": {"metric": "mae", "replicates": 100},
        "gates": [{"metric": "skill", "at_least": 0.3}],
    }
    return ModelSpec.model_validate({**declared, **changes})


def counts(house: House, model: str) -> tuple[int, int, int]:
    """Rows in, out and quarantined over all partitions, having seen that they add up in each."""
    records = house.resources["records"]
    out = records.all(ValidatedPartition, model, "validated_features")
    bad = records.all(QuarantinedPartition, model, "quarantined_rows")
    assert out.keys() <= bad.keys()
    for partition, kept in out.items():
        assert kept.rows_in == kept.rows_out + kept.rows_quarantined
        assert (bad[partition].rows_in, bad[partition].rows_quarantined) == (kept.rows_in, kept.rows_quarantined)
    return (
        sum(each.rows_in for each in bad.values()),
        sum(each.rows_out for each in out.values()),
        sum(each.rows_quarantined for each in bad.values()),
    )


def report(house: House, model: str) -> EvaluationReport:
    """The newest report, having seen that its candidate is registered and serves."""
    records, registry = house.resources["records"], house.resources["registry"]
    found = records.get(EvaluationReport, model, "evaluation_report")
    assert records.get(RegisteredVersion, model, "registered_version").candidate == found.candidate
    assert registry.champion(model) is not None
    return found


def broken(house: House, model: str) -> dict[tuple[str | None, str], int]:
    """How many rows broke which rule of which column."""
    found: dict[tuple[str | None, str], int] = {}
    for each in house.resources["records"].all(QuarantinedPartition, model, "quarantined_rows").values():
        for rule in each.broken_rules:
            found[rule.column, rule.rule] = found.get((rule.column, rule.rule), 0) + rule.count
    return found


def test_two_years_of_rentals_from_one_file_by_one_setting(real_data, tmp_path):
    with at_home(tmp_path / "home", BIKE_DEMAND_URI=str(real_data / "bike_sharing_hourly")) as house:
        (ran,) = house.settle("bike_demand")
        assert ran.failed == {}
        assert len(ran.made["validated_features"]) == 24
        assert counts(house, "bike_demand") == (17_379, 17_357, 22)
        assert list(broken(house, "bike_demand").values()) == [22]
        assert {column for column, _ in broken(house, "bike_demand")} == {"hum"}
        found = report(house, "bike_demand")
        assert found.skill > 0.2
        assert found.figures["r2"] > 0.6
        assert house.player.tick("bike_demand_new_data") == []


def test_market_files_that_have_grown_are_asked_for_their_new_weeks_alone(real_data, tmp_path):
    market = pd.read_parquet(real_data / "elec2_nsw" / "elec2_with_ts_derived.parquet")
    landing = tmp_path / "market"
    (landing / "labels").mkdir(parents=True)
    later = ["nswprice", "class"]

    def deliver(before: date) -> int:
        """The rows of a market file before a day, and beside it the labels of those a week older."""
        rows = market[market["ts"] < pd.Timestamp(before)]
        labels = rows[rows["ts"] < pd.Timestamp(before - WEEK)]
        settled = labels[["ts", *later]].assign(settled_at=labels["ts"] + WEEK)
        for path, frame in {"market": rows.drop(columns=later), "labels/settled": settled}.items():
            frame.to_parquet(landing / f"{path}.parquet", index=False)
            backdate(landing / f"{path}.parquet", before)
        return len(rows)

    with at_home(tmp_path / "home", ELECTRICITY_PRICE_URI=str(landing)) as house:
        delivered = deliver(date(1996, 7, 22))
        first, labelled, trained = house.settle("electricity_price")
        assert first.failed == labelled.failed == trained.failed == {}
        assert len(first.made["validated_features"]) == 11
        assert len(labelled.made["labels"]) == 10
        assert counts(house, "electricity_price") == (delivered, delivered, 0)
        assert report(house, "electricity_price").figures["roc_auc"] > 0.7

        delivered = deliver(date(1996, 8, 5))
        second, unpredicted, predicted = house.settle("electricity_price")
        assert second.failed == unpredicted.failed == predicted.failed == {}
        assert second.made["validated_features"] == second.made["drift_report"] == ("1996-07-22", "1996-07-29")
        assert "trained_model" not in second.made
        of_a_fitted_week = {"raw_labels": ("1996-07-15",), "labels": ("1996-07-15",), "retraining_decision": ("",)}
        assert unpredicted.made == of_a_fitted_week
        assert predicted.made["raw_labels"] == predicted.made["performance_report"] == ("1996-07-22",)
        assert counts(house, "electricity_price") == (delivered, delivered, 0)
        known = house.resources["records"].all(LabelledPartition, "electricity_price", "labels")
        assert sum(each.labelled for each in known.values()) == (market["ts"] < pd.Timestamp("1996-07-29")).sum()
        assert known["1996-07-29"].labelled == 0


def test_rain_is_foretold_from_months_cut_out_of_a_zip_sorted_by_station(real_data, tmp_path):
    with at_home(tmp_path / "home", weather(real_data)) as house:
        *runs, trained = house.settle("rain")
        assert [ran.because for ran in runs] == [
            "11 partitions, 2012-01-01 to 2012-11-01",
            "2013-01-01",
            "2013-03-01",
        ]
        assert [ran.failed for ran in runs] == [{}, {}, {}]
        assert set(trained.made) == {"trained_model", "evaluation_report", "registered_version", "champion"}
        assert counts(house, "rain") == (18_354, 18_352, 2)
        assert {column for column, _ in broken(house, "rain")} == {"Cloud9am", "Cloud3pm"}
        assert report(house, "rain").figures["roc_auc"] > 0.85

        records, tables = house.resources["records"], house.resources["tables"]
        march = records.get(ValidatedPartition, "rain", "validated_features", "2013-03-01")
        rows = tables.read("rain", "validated_features", march.files)
        assert rows["event_time"].is_monotonic_increasing
        assert rows["Location"].nunique() == 49
        assert rows["Sunshine"].isna().mean() > 0.4


def test_carbon_monoxide_is_told_from_sensors_whose_sentinel_is_declared(real_data, tmp_path):
    with at_home(tmp_path / "home", air(real_data)) as house:
        (ran,) = house.settle("air")
        assert ran.failed == {}
        assert counts(house, "air") == (9_357, 9_357, 0)
        found = report(house, "air")
        assert found.skill > 0.5
        candidate = house.resources["records"].get(Candidate, "air", "trained_model")
        assert "C6H6(GT)" not in candidate.inputs
        newest = house.resources["records"].get(ValidatedPartition, "air", "validated_features", "2005-04-01")
        assert (newest.first.isoformat(), newest.last.isoformat()) == (
            "2005-04-01T00:00:00+00:00",
            "2005-04-04T14:00:00+00:00",
        )


def test_a_sentinel_that_nobody_declared_is_refused_by_column_rule_and_count_and_loses_nothing(real_data, tmp_path):
    bare = {"uri": str(real_data / "air_quality_uci"), "files": ["*.csv"]}
    with at_home(tmp_path / "home", air(real_data, source=bare)) as house:
        (ran,) = house.settle("air")
        assert set(ran.failed) == {"validation"}
        assert ran.crashed == ()
        assert "14 of 14 partitions refused" in ran.failed["validation"]
        assert "'NMHC(GT)' greater_than_or_equal_to(0): broken by 744 rows" in ran.failed["validation"]
        assert "quality.max_bad_share is 5.00%" in ran.failed["validation"]
        rows_in, rows_out, quarantined = counts(house, "air")
        assert (rows_in, rows_out) == (9_357, 0)
        assert quarantined > 8_443
        assert broken(house, "air")["CO(GT)", "greater_than_or_equal_to(0)"] == 1_683
        deliveries = house.resources["records"].all(Delivery, "air", "raw_data")
        assert len(deliveries) == 14
        for delivery in deliveries.values():
            for file in delivery.files:
                assert house.resources["blobs"].read(file.sha256)
        assert house.resources["registry"].champion("air") is None
