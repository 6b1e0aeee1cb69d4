"""`evaluation_report`, on real tables, MLflow and Dagster: what it judges, what it refuses, what a person sees."""

import json

import dagster as dg
import pytest

from mlops_assets.lifecycle.endings import ending_of
from mlops_assets.ml.evaluation import EvaluationReport
from mlops_assets.ml.training import Candidate
from mlops_assets.resources.registry import Registry
from mlops_assets.resources.tracking import Tracking
from mlops_assets_tests import toy
from mlops_assets_tests.lifecycle.stages import (
    MONTHS,
    checks,
    failure,
    materialized,
    metadata,
    run,
    validate,
    validated,
)
from mlops_assets_tests.toy import Workshop

NOBODY = "http://127.0.0.1:9"


class DownAtTheEnd(Tracking):
    """An MLflow that gives the model and then goes away."""

    def log_metrics(self, candidate, metrics):
        """Ask where nobody listens."""
        Tracking(root=self.root, tracking_uri=NOBODY).log_metrics(candidate, metrics)


def report(shop):
    return shop.resources["records"].get(EvaluationReport, "toy", "evaluation_report")


def test_a_candidate_is_judged_on_the_newest_month_and_everything_is_said_and_saved(workshop):
    shop = validated(workshop())
    result = run(shop, "trained_model", "evaluation_report")
    assert result.success
    said = report(shop)
    candidate = shop.resources["records"].get(Candidate, "toy", "trained_model")
    assert (said.partitions, said.rows, said.candidate) == (("2024-03-01",), 300, candidate.model_sha256)
    shown = metadata(result, "evaluation_report")
    assert shown["summary"] == said.sentence
    assert shown["mae"] == said.metrics["mae"].value
    assert shown["predicted_against_actual"].startswith("![predicted against actual](data:image/svg+xml")
    assert shown["mae_over_versions"].startswith("![mae over versions](data:image/svg+xml")
    folder = shop.home / "reports" / "toy" / "evaluation"
    (page,), (record,) = folder.glob("*.html"), folder.glob("*.json")
    assert said.sentence in page.read_text()
    assert EvaluationReport.model_validate(json.loads(record.read_text())) == said
    assert shown["report"].endswith(f"toy/evaluation/{page.name}")
    assert all(check.passed for check in checks(result).values())
    judges = {"clears_every_gate", "beats_the_naive_baseline", "judged_on_unseen_rows"}
    assert set(checks(result)) == {"stands_on_current_data", "skill_is_high_enough", *judges}


def test_metrics_of_the_hold_out_are_in_the_candidates_mlflow_run(judged):
    from mlflow import MlflowClient

    found = MlflowClient(judged.resources["tracking"].tracking_uri).get_run(report(judged).mlflow_run_id)
    assert found.data.metrics["holdout_mae"] == pytest.approx(report(judged).metrics["mae"].value)
    assert found.data.metrics["holdout_skill"] == pytest.approx(report(judged).skill)


def test_the_same_candidate_judged_twice_gives_the_same_report(judged):
    first = report(judged)
    assert run(judged, "evaluation_report").success
    assert report(judged) == first


def test_a_failed_gate_blocks_registration_in_the_same_run_and_shows_its_numbers(trained):
    shop = Workshop(trained.home, trained.instance, {"gates": [{"metric": "skill", "at_least": 0.999}]})
    result = run(shop, "evaluation_report", "registered_version")
    check = checks(result)["clears_every_gate"]
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.ERROR
    assert "skill is" in check.description
    assert "the gate asks for at least 0.999" in check.description
    assert "registered_version" not in materialized(result)
    assert shop.resources["registry"].versions("toy") == ()


def test_a_candidate_worse_than_the_naive_guess_is_a_warning_not_a_block(workshop):
    silly = {"path": "sklearn.dummy.DummyRegressor", "params": {"strategy": "constant", "constant": 1e3}}
    shop = validated(workshop(gates=[], estimator=silly))
    result = run(shop, "trained_model", "evaluation_report", "registered_version")
    check = checks(result)["beats_the_naive_baseline"]
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert "registered_version" in materialized(result)


def test_a_hold_out_with_one_value_only_leaves_metrics_undefined_and_their_gates_failed(workshop):
    shop = validated(workshop(gates=[{"metric": "r2", "at_least": 0.1}, {"metric": "mae", "at_most": 1e9}]))
    validate(shop, toy.MONTHS[3], toy.rows(toy.MONTHS[3]).assign(sales=5.0))
    result = run(shop, "trained_model", "evaluation_report")
    assert "r2" in report(shop).absent
    assert [(gate.value is None, gate.passed) for gate in report(shop).gates] == [(True, False), (False, True)]
    assert (
        checks(result)["clears_every_gate"].description
        == "r2 is undefined (the target is constant), the gate asks for at least 0.1"
    )


def test_rows_that_changed_after_training_cannot_judge(trained):
    validate(trained, MONTHS[-1], toy.rows(MONTHS[-1], seed=1))
    result = run(trained, "evaluation_report")
    assert not result.success
    assert "2024-03-01 of validated_features changed after the candidate was trained" in failure(result)


def test_a_changed_file_is_never_read_as_if_it_were_the_one_that_was_written(trained):
    (file,) = (trained.home / "tables" / "toy" / "validated_features" / "partition=2024-03-01").glob("*.parquet")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    result = run(trained, "evaluation_report")
    assert not result.success
    assert "holds other bytes than were written" in failure(result)
    assert report(trained) is None


@pytest.mark.parametrize(
    ("name", "made", "asked"),
    [("tracking", Tracking, "give models:/"), ("tracking", DownAtTheEnd, "record"), ("registry", Registry, "give the")],
)
def test_an_mlflow_that_does_not_answer_is_an_outage_and_not_a_death(trained, name, made, asked):
    uri = trained.resources["tracking"].tracking_uri if made is DownAtTheEnd else NOBODY
    trained.resources[name] = made(root=str(trained.home), tracking_uri=uri)
    result = run(trained, "evaluation_report")
    assert ending_of(trained.instance, result.dagster_run) == "outage"
    assert "toy cannot be judged: MLflow at http://127.0.0.1:9 did not" in failure(result)
    assert f"did not {asked}" in failure(result)
    assert report(trained) is None


def test_the_next_candidate_is_compared_with_the_champion_on_the_same_rows(released):
    assert report(released).champion is None
    assert report(released).champion_absent == "There is no champion yet."
    validate(released, toy.MONTHS[3])
    result = run(released, "trained_model", "evaluation_report")
    assert result.success
    found = report(released).champion
    assert (found.champion_version, found.partitions, found.rows) == (1, ("2024-04-01",), 300)
    assert "champion v1" in metadata(result, "evaluation_report")["summary"]


def test_the_champion_is_not_compared_with_itself(released):
    assert run(released, "evaluation_report").success
    assert report(released).champion_absent == "The candidate is champion v1 itself."


def test_a_slice_by_personal_data_hides_its_values(workshop):
    shop = validated(workshop(contract="mlops_assets_tests.lifecycle.test_evaluation.PersonalContract"))
    assert run(shop, "trained_model", "evaluation_report").success
    assert {part.value for part in report(shop).slices} == {"group 1", "group 2", "group 3"}


class PersonalContract(toy.Contract):
    """The toy's contract, with a personal column."""

    kind: toy.Series[toy.pd.CategoricalDtype] = toy.pa.Field(isin=["a", "b", "c"], metadata={"pii": "quasi"})
