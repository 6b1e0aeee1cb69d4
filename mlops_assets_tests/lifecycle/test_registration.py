"""`registered_version`, on real MLflow and Dagster: it refuses by itself, and registers once."""

import json

from mlops_assets.lifecycle.endings import ending_of
from mlops_assets.ml.evaluation import EvaluationReport
from mlops_assets.ml.registration import RegisteredVersion
from mlops_assets.resources.registry import Registry
from mlops_assets_tests import toy
from mlops_assets_tests.lifecycle.stages import failure, materialized, metadata, run
from mlops_assets_tests.ml.test_signing import private_text, public_line
from mlops_assets_tests.toy import Workshop

NOBODY = "http://127.0.0.1:9"


def record(shop, kind=RegisteredVersion, asset="registered_version"):
    return shop.resources["records"].get(kind, "toy", asset)


def versions(shop):
    return shop.resources["registry"].versions("toy")


def test_a_candidate_that_clears_its_gates_becomes_a_version_and_no_champion(judged):
    result = run(judged, "registered_version")
    assert result.success
    assert record(judged).version == 1
    assert judged.resources["registry"].champion("toy") is None
    shown = metadata(result, "registered_version")
    assert shown["registered_version"].endswith("/#/models/toy/versions/1")
    assert shown["mae_over_versions"].startswith("![mae over versions]")


def test_materialized_alone_after_a_failed_gate_it_refuses_with_the_numbers(trained):
    shop = Workshop(trained.home, trained.instance, {"gates": [{"metric": "mae", "at_most": 0.001}]})
    assert "registered_version" not in materialized(run(shop, "evaluation_report", "registered_version"))
    alone = run(shop, "registered_version")
    assert not alone.success
    assert "toy is not registered: 1 of 1 gates failed: mae is" in failure(alone)
    assert "the gate asks for at most 0.001" in failure(alone)
    assert versions(shop) == ()


def test_a_candidate_trained_after_the_report_is_refused(judged):
    assert run(judged, "trained_model").success
    alone = run(judged, "registered_version")
    assert not alone.success
    assert "the report judged candidate" in failure(alone)
    assert versions(judged) == ()


def test_a_gate_raised_after_the_report_is_held_against_it(judged):
    judged.spec.__dict__["gates"] = toy.spec("x", gates=[{"metric": "skill", "at_least": 0.999}]).gates
    alone = run(judged, "registered_version")
    assert "skill is" in failure(alone)


def test_the_same_candidate_twice_is_one_version(released):
    first = record(released)
    assert run(released, "registered_version").success
    assert len(versions(released)) == 1
    assert record(released).version == first.version


def test_an_mlflow_that_does_not_answer_is_an_outage_and_the_next_run_finishes(judged):
    registry = judged.resources["registry"]
    judged.resources["registry"] = Registry(root=registry.root, tracking_uri=NOBODY)
    result = run(judged, "registered_version")
    assert ending_of(judged.instance, result.dagster_run) == "outage"
    assert "The registration of toy is not finished: MLflow at http://127.0.0.1:9 did not" in failure(result)
    assert registry.versions("toy") == ()
    judged.resources["registry"] = registry
    assert run(judged, "registered_version").success
    assert [version.number for version in versions(judged)] == [1]


def test_versions_remember_the_metric_that_the_picture_over_versions_shows(released):
    remembered = json.loads(versions(released)[0].tags["mlops.metric"])
    judged = record(released, EvaluationReport, "evaluation_report").metrics["mae"]
    assert remembered == {"metric": "mae", "value": judged.value, "low": judged.low, "high": judged.high}


def test_a_candidate_whose_files_were_changed_after_training_is_not_registered(judged):
    [description] = judged.home.rglob("MLmodel")
    description.write_text(description.read_text() + "loader_module: innocent")
    said = failure(run(judged, "registered_version"))
    assert "toy is not registered: models:/" in said
    assert "MLmodel has SHA-256" in said
    assert judged.resources["registry"].versions("toy") == ()


def test_with_keys_a_version_is_signed_or_not_registered(judged, tmp_path):
    shop = judged
    (tmp_path / "people").write_text(f"training {public_line()}\n")
    (tmp_path / "key").write_bytes(private_text())
    (tmp_path / "key").chmod(0o600)
    where = {"root": str(shop.home), "tracking_uri": shop.resources["tracking"].tracking_uri}
    shop.resources["registry"] = Registry(**where, trusted=f"{tmp_path}/people")
    assert "MLOPS_SIGNING_KEY names no key to sign with" in failure(run(shop, "registered_version"))
    assert shop.resources["registry"].versions("toy") == ()
    shop.resources["registry"] = Registry(**where, trusted=f"{tmp_path}/people", signing=f"{tmp_path}/key")
    assert run(shop, "registered_version", "champion").success
    registry = shop.resources["registry"]
    assert registry.voucher(registry.champion("toy")) == "training"
