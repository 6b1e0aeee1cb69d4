import os
from datetime import UTC, datetime

import dagster as dg
import pandas as pd
import pytest

from mlops_assets.lifecycle.sensors.ended import EndedRun
from mlops_assets.lifecycle.validation import validation
from mlops_assets.ml.validation import QuarantinedPartition, ValidatedPartition
from mlops_assets.resources.alerts import Alerts
from mlops_assets_tests import toy
from mlops_assets_tests.homes import instance_at

PARTED = ("raw_data", "quarantined_rows", "validated_features")


class Shop(toy.Workshop):
    """The toy model, up to validation."""

    def validate(self, *months, **frames):
        """Deliver months (good ones unless a frame m01, m02... is given) and validate them in one run."""
        for month in months:
            toy.deliver(self.landing, month, frames.get(f"m{month[-2:]}"))
        return self.run(months, PARTED)


@pytest.fixture
def shop(tmp_path):
    with dg.DagsterInstance.ephemeral() as instance:
        yield Shop(tmp_path / "home", instance)


def record(shop, month, kind=ValidatedPartition, asset="validated_features"):
    return shop.resources["records"].get(kind, "toy", asset, f"{month}-01")


def materialized(shop, asset):
    """The newest materialization of each partition."""
    records = shop.instance.fetch_materializations(dg.AssetKey(["toy", asset]), limit=100).records
    return {each.partition_key: each.asset_materialization for each in reversed(records)}


def version(materialization):
    return materialization.tags["dagster/data_version"]


def check(shop, name):
    key = dg.AssetCheckKey(dg.AssetKey(["toy", "validated_features"]), name)
    (summary,) = shop.instance.event_log_storage.get_asset_check_summary_records([key]).values()
    return summary.last_check_execution_record.evaluation


def reason(result):
    (failure,) = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    return failure.step_failure_data.user_failure_data.description


def bad(month, rows, count=300):
    """A month in which the prices of the first `rows` rows are too high."""
    frame = toy.rows(month, count)
    frame.loc[: rows - 1, "price"] = 1000.0
    return frame


def test_a_good_delivery_is_stored_typed_and_described(shop):
    assert shop.validate("2024-01").success

    found = record(shop, "2024-01")
    rows = shop.resources["tables"].read("toy", "validated_features", found.files)
    assert (found.rows_in, found.rows_out, found.rows_quarantined) == (300, 300, 0)
    assert list(rows.columns) == ["event_time", "kind", "price", "wind", "sales"]
    assert (rows["event_time"].iloc[0], rows["event_time"].iloc[-1]) == (found.first, found.last)
    assert rows["event_time"].is_monotonic_increasing
    assert set(found.profile.columns) == {"kind", "price", "wind", "sales"}

    metadata = materialized(shop, "validated_features")["2024-01-01"].metadata
    assert metadata["dagster/row_count"].value == 300
    assert [each.name for each in metadata["dagster/column_schema"].value.columns] == list(rows.columns)
    assert "<= 100" in metadata["dagster/column_schema"].value.columns[2].constraints.other
    assert metadata["rows_validated"].value.startswith("![Rows in each of the newest partitions](data:image/svg+xml")


def test_bad_rows_go_to_quarantine_and_the_rest_goes_on(shop):
    assert shop.validate("2024-01", m01=bad("2024-01", 15)).success

    found = record(shop, "2024-01")
    quarantined = record(shop, "2024-01", QuarantinedPartition, "quarantined_rows")
    rows = shop.resources["tables"].read("toy", "quarantined_rows", quarantined.files)
    assert (found.rows_in, found.rows_out, found.rows_quarantined, len(rows)) == (300, 285, 15, 15)
    assert rows["row_number"].tolist() == list(range(1, 16))
    assert set(rows["file"]) == {"shop-2024-01.csv"}
    assert set(rows["rule"]) == {"less_than_or_equal_to(100)"}
    assert set(rows["value"]) == {"1000"}
    (broken,) = found.broken_rules
    assert (broken.column, broken.count, broken.rows) == ("price", 15, (1, 2, 3, 4, 5))
    assert check(shop, "honours_contract").passed
    assert check(shop, "honours_contract").metadata["rows_quarantined"].value == 15


@pytest.mark.parametrize(("rows", "passes"), [(15, True), (16, False)])
def test_the_limit_itself_still_passes_and_one_row_more_does_not(shop, rows, passes):
    assert shop.validate("2024-01", m01=bad("2024-01", rows)).success is passes
    assert (record(shop, "2024-01") is not None) is passes


def test_too_many_bad_rows_block_what_comes_after_and_say_which_file_which_rule_how_many(shop):
    result = shop.validate("2024-01", m01=bad("2024-01", 30))

    assert not result.success
    assert "toy/validated_features[2024-01-01]: 30 of 300 rows (10.00%) break the contract" in reason(result)
    assert "quality.max_bad_share is 5.00%" in reason(result)
    assert "shop-2024-01.csv: 'price' less_than_or_equal_to(100): broken by 30 rows (row 1, 2, 3, 4, 5, ...)" in reason(
        result
    )
    assert materialized(shop, "validated_features") == {}
    assert not check(shop, "honours_contract").passed

    quarantined = record(shop, "2024-01", QuarantinedPartition, "quarantined_rows")
    assert len(shop.resources["tables"].read("toy", "quarantined_rows", quarantined.files)) == 30
    assert "2024-01-01" in materialized(shop, "quarantined_rows")


def test_a_bad_correction_leaves_the_good_version_before_it(shop):
    shop.validate("2024-01")
    before = record(shop, "2024-01")

    assert not shop.validate("2024-01", m01=bad("2024-01", 100)).success

    assert record(shop, "2024-01") == before
    assert len(shop.resources["tables"].read("toy", "validated_features", before.files)) == 300


def test_good_partitions_of_a_run_keep_what_they_made_beside_bad_ones(shop):
    frames = {"m02": bad("2024-02", 150), "m04": toy.rows("2024-04").drop(columns="wind")}
    result = shop.validate("2024-01", "2024-02", "2024-03", "2024-04", **frames)

    assert not result.success
    assert "2 of 4 partitions refused" in reason(result)
    assert "[2024-02-01]: 150 of 300 rows" in reason(result)
    assert "[2024-04-01]: shop-2024-04.csv: missing columns: 'wind'" in reason(result)
    assert set(materialized(shop, "validated_features")) == {"2024-01-01", "2024-03-01"}
    assert record(shop, "2024-01").rows_out == record(shop, "2024-03").rows_out == 300
    assert record(shop, "2024-02") is None


def test_each_partition_of_a_run_has_its_own_data_version(shop):
    assert shop.validate("2024-01", "2024-02", "2024-03").success
    versions = {partition: version(each) for partition, each in materialized(shop, "validated_features").items()}
    assert len(set(versions.values())) == 3
    assert versions["2024-02-01"] == record(shop, "2024-02").content


def test_the_same_bytes_have_the_same_data_version_and_corrected_ones_another(shop):
    versions = []
    for seed in (0, 0, 1):
        shop.validate("2024-01", m01=toy.rows("2024-01", seed=seed))
        versions.append(version(materialized(shop, "validated_features")["2024-01-01"]))
    assert versions[0] == versions[1] != versions[2]


def test_a_correction_without_bad_rows_empties_the_quarantine(shop):
    shop.validate("2024-01", m01=bad("2024-01", 10))
    shop.validate("2024-01")
    quarantined = record(shop, "2024-01", QuarantinedPartition, "quarantined_rows")
    assert (quarantined.rows_quarantined, quarantined.files) == (0, {})


def test_comparisons_warn_and_do_not_block(shop):
    odd = toy.rows("2024-02", 1000, shift=30)
    assert shop.validate("2024-01").success
    assert shop.validate("2024-02", m02=odd).success

    resembles, count = check(shop, "resembles_previous_partitions"), check(shop, "has_usual_row_count")
    assert (resembles.passed, count.passed) == (False, False)
    assert resembles.severity is count.severity is dg.AssetCheckSeverity.WARN
    assert "price (" in resembles.description
    assert count.description == "1000 rows; from 150 to 600 are usual."


def test_a_partition_is_compared_with_earlier_ones_only(shop):
    shop.validate("2024-03", m03=toy.rows("2024-03", shift=30))
    assert shop.validate("2024-02").success
    assert check(shop, "resembles_previous_partitions").description == "There is no earlier partition to compare with."


def test_a_feed_that_falls_behind_is_not_fresh(shop):
    for month, delivered in (("2024-01", "2024-02-01"), ("2024-02", "2024-03-01"), ("2024-03", "2024-07-01")):
        moment = pd.Timestamp(delivered, tz="UTC").timestamp()
        os.utime(toy.deliver(shop.landing, month), (moment, moment))
        assert shop.run([month], PARTED).success
    assert not check(shop, "is_fresh").passed
    assert "partitions later than usual; the limit is 2" in check(shop, "is_fresh").description


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"ts,kind,price,wind,sales\n", "no rows"),
        ("ts,kind,price,wind,sales\n2024-01-05,\xe9,1,1,1\n".encode("latin-1"), "is not UTF-8 in line 2"),
        (b"ts,kind,price,price,sales\n2024-01-05,a,1,1,1\n", "columns of the same name: 'price'"),
        (b"ts,kind,price,wind,sales\n2024-01-05,a,1\n", "another number of fields"),
    ],
)
def test_an_unreadable_file_blocks_its_partition_and_says_why(shop, content, why):
    shop.landing.mkdir(parents=True)
    (shop.landing / "shop-2024-01.csv").write_bytes(content)
    toy.deliver(shop.landing, "2024-02")

    result = shop.run(["2024-01", "2024-02"], PARTED)

    assert not result.success
    assert "[2024-01-01]: shop-2024-01.csv" in reason(result)
    assert why in reason(result)
    assert set(materialized(shop, "validated_features")) == {"2024-02-01"}


def test_validating_what_was_never_delivered_fails_by_name(shop):
    result = shop.run(["2024-01"], PARTED[1:])
    assert not result.success


def test_other_code_has_another_code_version_and_the_same_code_the_same():
    def code_version(**changes):
        (assets,) = validation(toy.spec("landing", **changes)).assets
        return assets.code_versions_by_key[dg.AssetKey(["toy", "validated_features"])]

    assert code_version() == code_version(owner="team:other")
    assert code_version() != code_version(time={"columns": ["ts"], "timezone": "Europe/Berlin"})
    assert code_version() != code_version(quality={"max_bad_share": 0.1})


def test_a_contract_in_a_module_that_is_not_there_is_refused_when_definitions_load():
    with pytest.raises(ValueError, match=r"there is no module 'mlops_assets_tests\.nowhere'"):
        validation(toy.spec("landing", contract="mlops_assets_tests.nowhere.Contract"))


def january(workshop):
    """A month of 300 rows."""
    toy.deliver(workshop.landing, "2024-01")
    assert workshop.run(["2024-01"], PARTED).success


@pytest.mark.parametrize(("rows", "usual"), [(149, False), (150, True), (600, True), (601, False)])
@pytest.mark.parametrize("declared", ["warn", "block"])
def test_a_number_of_rows_beyond_either_border_warns_or_blocks_as_declared(lives, declared, rows, usual):
    with lives.begun(january) as begun:
        shop = Shop(begun.home, begun.instance, {"quality": {"row_count": declared}})
        result = shop.validate("2024-02", m02=toy.rows("2024-02", rows))
        found = check(shop, "has_usual_row_count")
        assert found.passed == usual
        assert found.severity.value == ("ERROR" if declared == "block" else "WARN")
        assert result.success == (usual or declared == "warn")
        assert check(shop, "honours_contract").passed
        assert (record(shop, "2024-02") is not None) == result.success
        if not result.success:
            refused = f"toy/validated_features[2024-02-01]: {rows} rows; from 150 to 600 are usual."
            assert f"{refused} quality.row_count is block." in reason(result)


def test_a_delivery_refused_for_its_volume_is_told_as_such_for_each_partition_and_keeps_the_good_ones(tmp_path):
    with instance_at(tmp_path) as instance:
        shop = Shop(tmp_path / "home", instance, {"quality": {"row_count": "block"}})
        assert shop.validate("2024-01").success
        result = shop.validate("2024-02", "2024-03", "2024-04", m02=toy.rows("2024-02", 10), m04=bad("2024-04", 200))
        assert not result.success
        assert record(shop, "2024-03").rows_out == 300
        assert set(materialized(shop, "validated_features")) == {"2024-01-01", "2024-03-01"}
        alerts = Alerts(root=str(tmp_path / "home"), ui="http://ui")
        run = instance.get_runs(limit=1)[0]
        told = list(EndedRun.read(instance, run, datetime.now(UTC), {"toy": shop.spec}, alerts).raised())
        assert {(alert.kind, alert.partition) for alert in told} == {
            ("unusual_volume", "2024-02-01"),
            ("failed_check", "2024-04-01"),
        }
        assert told[-1].sentence.startswith("10 rows; from 150 to 600 are usual.")
