"""`trained_model`, on real tables, MLflow and Dagster: what it leaves behind, and what stops it before or half-way."""

import socket
from typing import ClassVar

import dagster as dg
import pandas as pd
import pytest

from mlops_assets.lifecycle.training import training
from mlops_assets.ml.causes import Cause
from mlops_assets.ml.profiles import Profile
from mlops_assets.ml.registration import identity
from mlops_assets.ml.training import Candidate
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.resources.tables import Tables
from mlops_assets.resources.tracking import Tracking
from mlops_assets_tests import evidence, toy
from mlops_assets_tests.lifecycle.stages import MONTHS, failure, materialized, metadata, run, validate, validated

QUICK = {"path": "sklearn.linear_model.Ridge"}


class Narrow(Tables):
    """Tables that remember which columns were asked for."""

    asked: ClassVar[list[list[str]]] = []

    def read(self, model, asset, files, columns=None):
        self.asked.append(list(columns or []))
        return super().read(model, asset, files, columns)


class Forgetful(Tracking):
    """Tracking whose server dies while the model is being logged."""

    def _publish(self, client, run, model_id, folder):
        with self.asking("log the model"):
            raise OSError("connection reset by peer")


def train(shop):
    return run(shop, "trained_model")


def candidate(shop):
    return shop.resources["records"].get(Candidate, "toy", "trained_model")


def data_version(shop):
    record = shop.instance.fetch_materializations(dg.AssetKey(["toy", "trained_model"]), limit=1).records[0]
    return record.asset_materialization.tags["dagster/data_version"]


def code_version(spec):
    (asset,) = training(spec).assets
    return asset.code_versions_by_key[dg.AssetKey(["toy", "trained_model"])]


def test_a_candidate_says_what_it_is_made_of_and_a_person_sees_it(workshop):
    shop = validated(workshop())
    result = train(shop)
    assert result.success
    made, shown = candidate(shop), metadata(result, "trained_model")
    assert made.manifest.fitted_partitions == tuple(f"{month}-01" for month in MONTHS[:2])
    assert made.manifest.holdout_partitions == ("2024-03-01",)
    assert (made.fitted_rows, made.inputs) == (600, ("event_time", "kind", "price", "wind"))
    assert shown["importance"].startswith("![importance of each input](data:image/svg+xml;base64,")
    assert shown["fitted_partitions"] == ["2024-01-01", "2024-02-01"]
    assert shown["manifest"] == made.manifest.model_dump(mode="json")
    assert shown["mlflow_run"].endswith(f"/#/runs/{made.mlflow_run_id}")
    assert shown["mlflow_run_id"] == made.mlflow_run_id
    assert data_version(shop) == made.model_sha256


def test_the_references_of_later_drift_are_stored_with_it(workshop):
    shop = validated(workshop(drift={"report_rows": 100}))
    assert train(shop).success
    blobs, made = shop.resources["blobs"], candidate(shop)
    assert Profile.model_validate_json(blobs.read(made.reference)).rows == 600
    with blobs.open(made.reference_sample) as stream:
        assert len(pd.read_parquet(stream)) == 100


def test_trained_twice_it_is_the_same_model_in_two_runs(trained):
    shop = trained
    first = candidate(shop)
    assert train(shop).success
    second = candidate(shop)
    same = {"mlflow_run_id", "model_uri", "cpu_seconds", "files", "resources"}
    assert first.gpu_seconds == second.gpu_seconds == 0.0
    assert first.model_dump(exclude=same) == second.model_dump(exclude=same)
    assert {name for name, sha256 in first.files.items() if second.files[name] != sha256} == {"MLmodel"}
    assert first.mlflow_run_id != second.mlflow_run_id


def test_a_corrected_month_is_another_model(workshop):
    shop = validated(workshop(estimator=QUICK))
    assert train(shop).success
    first = candidate(shop)
    validate(shop, MONTHS[0], toy.rows(MONTHS[0], seed=9))
    assert train(shop).success
    assert candidate(shop).model_sha256 != first.model_sha256
    assert candidate(shop).manifest.deliveries.keys() == first.manifest.deliveries.keys()


def test_records_of_windows_before_the_newest_are_not_read(workshop):
    shop = validated(workshop(training={"window": 2, "min_partitions": 2}, estimator=QUICK))
    (shop.home / "records" / "toy" / "validated_features" / "2024-01-01.json").write_text("broken")
    assert train(shop).success
    assert candidate(shop).manifest.fitted_partitions == ("2024-02-01",)
    assert candidate(shop).manifest.holdout_partitions == ("2024-03-01",)


def test_the_hold_out_and_excluded_columns_are_never_read(workshop):
    shop = validated(workshop(exclude=["wind"], estimator=QUICK))
    shop.resources["tables"] = Narrow(root=str(shop.home))
    shop.resources["tables"].asked.clear()
    (shop.home / "tables" / "toy" / "validated_features" / "partition=2024-03-01").rename(shop.home / "hidden")
    assert train(shop).success
    assert shop.resources["tables"].asked == [["event_time", "kind", "price", "sales"]]
    assert "wind" not in candidate(shop).inputs


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"training": {"min_partitions": 4}}, "3 partitions are validated, training.min_partitions asks for 4"),
        ({"estimator": {"path": "sklearn.linear_model.Ridge", "params": {"alfa": 1}}}, "has no alfa. Allowed: alpha"),
        ({"task": "binary", "evaluation": {"metric": "f1"}, "gates": []}, "declare the task multiclass"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_no_candidate(workshop, changes, reason):
    shop = validated(workshop(**changes))
    result = train(shop)
    assert reason in failure(result)
    assert "No model was trained: toy" in failure(result)
    assert candidate(shop) is None


def test_a_leak_is_refused_by_name(workshop):
    shop = workshop()
    validated(shop)
    for month in MONTHS:
        validate(shop, month, toy.rows(month).assign(wind=lambda rows: rows["sales"] / 2))
    assert "'wind' tells the target of its row" in failure(train(shop))


def test_without_tracking_nothing_is_read_and_nothing_is_fitted(workshop):
    shop = validated(workshop())
    shop.resources["tables"] = Narrow(root=str(shop.home))
    shop.resources["tables"].asked.clear()
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{held.getsockname()[1]}"
        shop.resources["tracking"] = Tracking(root=str(shop.home), tracking_uri=uri)
        result = train(shop)
    assert f"No model was trained: MLflow at {uri} did not" in failure(result)
    assert shop.resources["tables"].asked == []


def test_a_model_that_mlflow_did_not_take_is_kept_and_is_no_candidate(workshop):
    shop = validated(workshop(estimator=QUICK))
    whole = shop.resources["tracking"]
    shop.resources["tracking"] = Forgetful(root=whole.root, tracking_uri=whole.tracking_uri)
    result = train(shop)
    assert "fitted but not recorded, so it is no candidate" in failure(result)
    assert candidate(shop) is None
    assert materialized(result) == set()
    with whole.asking("list runs"):
        (left,) = whole.client.search_runs([whole.client.get_experiment_by_name("toy").experiment_id])
    assert left.info.status == "FAILED"
    shop.resources["tracking"] = whole
    assert train(shop).success
    assert shop.resources["blobs"].exists(candidate(shop).model_sha256)


def test_a_run_that_a_killed_process_left_behind_is_put_right_by_the_next_training(workshop):
    shop = validated(workshop(estimator=QUICK))
    tracking = shop.resources["tracking"]
    dead = shop.instance.create_run_for_job(dg.GraphDefinition(name="lifecycle").to_job())
    shop.instance.report_run_failed(dead)
    left = tracking._create("toy", dead.run_id)
    assert train(shop).success
    with tracking.asking("give a run"):
        assert tracking.client.get_run(left.id).info.status == "FAILED"


def test_the_code_version_follows_what_decides_the_model_and_nothing_else():
    plain = code_version(toy.spec("/nowhere"))
    assert code_version(toy.spec("/elsewhere", gates=[], owner="team:other")) == plain
    assert code_version(toy.spec("/nowhere", seed=8)) != plain
    assert code_version(toy.spec("/nowhere", features=[])) != plain
    assert code_version(toy.spec("/nowhere", drift={"k": 1})) == plain
    assert code_version(toy.spec("/nowhere", drift={"world_changed": ["2024-02-01"]})) != plain


def test_the_step_asks_for_the_compute_profile_that_is_declared():
    (asset,) = training(toy.spec("/nowhere", compute={"training": "cpu-large"})).assets
    assert asset.op.tags["mlops/compute"] == "cpu-large"
    (plain,) = training(toy.spec("/nowhere")).assets
    assert "dagster-k8s/config" not in plain.op.tags


def test_a_training_says_for_how_long_it_held_the_devices_of_its_profile(workshop):
    shop = validated(workshop(estimator=QUICK, compute={"training": "gpu-4x"}))
    result = train(shop)
    assert result.success
    held = candidate(shop).gpu_seconds
    assert held > 0
    assert metadata(result, "trained_model")["fit_gpu_seconds"] == held


def test_every_asset_of_a_model_tells_mlflow_when_it_fails(workshop):
    assets = [each for each in workshop().definitions.assets if isinstance(each, dg.AssetsDefinition)]
    assert len(assets) >= 9
    assert all({hook.name for hook in asset.hook_defs} == {"fails_in_mlflow_too"} for asset in assets)


def test_the_code_version_follows_the_functions_and_the_contract_that_are_declared():
    ratio = [{"path": "mlops_assets_tests.ml.test_features.ratio"}]
    plain = code_version(toy.spec("/nowhere"))
    assert code_version(toy.spec("/nowhere", features=ratio)) != plain
    assert code_version(toy.spec("/nowhere", contract="mlops_assets_tests.ml.test_features.Contract")) != plain


def blame(shop, month, delivery=None):
    """Say of a month's delivery as it is validated now, or of another one, that its feed is broken."""
    records, key = shop.resources["records"], f"{month}-01"
    part = records.get(ValidatedPartition, "toy", "validated_features", key)
    cause = Cause(likely="upstream", findings=(), sentence="Likely a broken feed: wind is missing.")
    report = evidence.drift(month, "drifted", delivery=delivery or part.delivery, cause=cause)
    records.put("toy", "drift_report", report, key)


def learned_and_judged(shop):
    made = candidate(shop).manifest
    return [key[:7] for key in made.fitted_partitions], [key[:7] for key in made.holdout_partitions]


def four_months(workshop, **changes):
    shop = validated(workshop(estimator=QUICK, **changes))
    validate(shop, "2024-04")
    return shop


@pytest.mark.parametrize(
    ("broken", "fitted", "holdout"),
    [
        ("2024-01", ["2024-02", "2024-03"], ["2024-04"]),
        ("2024-02", ["2024-01", "2024-03"], ["2024-04"]),
        ("2024-04", ["2024-01", "2024-02"], ["2024-03"]),
    ],
)
def test_a_month_of_a_broken_feed_neither_teaches_nor_judges(workshop, broken, fitted, holdout):
    shop = four_months(workshop)
    blame(shop, broken)
    result = train(shop)
    assert result.success
    assert learned_and_judged(shop) == (fitted, holdout)
    shown = metadata(result, "trained_model")
    outside = broken == "2024-01"
    said = {} if outside else {f"{broken}-01": "Likely a broken feed: wind is missing."}
    assert shown["left_out"] == said
    assert ("Left out: " in shown["summary"]) != outside
    assert set(candidate(shop).manifest.left_out) == set(said)


def test_the_next_older_month_takes_the_place_of_one_that_is_left_out_of_a_window(workshop):
    shop = four_months(workshop, training={"window": 3, "min_partitions": 2})
    blame(shop, "2024-03")
    assert train(shop).success
    assert learned_and_judged(shop) == (["2024-01", "2024-02"], ["2024-04"])


def test_with_too_few_months_of_a_sound_feed_nothing_is_trained_and_the_way_out_is_said(workshop):
    shop = validated(workshop(estimator=QUICK))
    blame(shop, "2024-02")
    said = failure(train(shop))
    assert "toy: 2 partitions are validated and come from a sound feed, training.min_partitions asks for 3" in said
    assert "2024-02-01: Likely a broken feed: wind is missing." in said
    assert "or name them in drift.world_changed" in said
    assert candidate(shop) is None


def test_what_a_person_says_was_the_world_is_learned_from(workshop):
    shop = four_months(workshop, drift={"world_changed": ["2024-02-01"]})
    blame(shop, "2024-02")
    blame(shop, "2024-03")
    assert train(shop).success
    assert learned_and_judged(shop) == (["2024-01", "2024-02"], ["2024-04"])
    assert set(candidate(shop).manifest.left_out) == {"2024-03-01"}


def test_a_corrected_delivery_of_what_was_left_out_counts_again_by_itself(workshop):
    shop = four_months(workshop)
    blame(shop, "2024-02")
    assert train(shop).success
    validate(shop, "2024-02", toy.rows("2024-02", 200))
    assert train(shop).success
    assert learned_and_judged(shop) == (["2024-01", "2024-02", "2024-03"], ["2024-04"])
    assert candidate(shop).manifest.left_out == {}


def test_leaving_a_month_out_is_the_same_model_again_and_another_than_with_it(workshop):
    shop = four_months(workshop)
    assert train(shop).success
    whole = candidate(shop)
    blame(shop, "2024-02")
    assert train(shop).success
    first = candidate(shop)
    assert train(shop).success
    assert identity(candidate(shop)) == identity(first) != identity(whole)
