"""What every declared model must do, whoever declared it: its life from the first deliveries on, twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from mlops_assets.components.declared import declared
from mlops_assets.demo.player import Ran
from mlops_assets.ml.evaluation import EvaluationReport
from mlops_assets.ml.labels import LabelledPartition
from mlops_assets.ml.monitoring import DriftReport
from mlops_assets.ml.planning import DECISION, TRAINING
from mlops_assets.ml.registration import RegisteredVersion
from mlops_assets.ml.retraining import RetrainingDecision
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.training import Candidate
from mlops_assets.ml.validation import QuarantinedPartition, ValidatedPartition
from mlops_assets.simulation.delivery import backdate
from mlops_assets.simulation.provider import Provider, simulated_worlds
from mlops_assets_tests.house import House, at_home

ASSETS = {
    "raw_data",
    "validated_features",
    "quarantined_rows",
    "trained_model",
    "evaluation_report",
    "registered_version",
    "champion",
    "drift_report",
    "predictions",
    "performance_report",
    "retraining_decision",
}
LABELLED = {"raw_labels", "labels"}
REPEATED = ("raw_data", "validated_features", "quarantined_rows", "trained_model")
MODELS = [spec.name for spec in declared()]


@dataclass
class Life:
    """A model that has learned from its first deliveries at once, and has been sent one more.

    Where labels come later, those of the newest of the first deliveries come with that one more.
    """

    house: House
    spec: ModelSpec
    first: list[Ran]
    learned: Candidate
    second: list[Ran]

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def newest(self) -> str:
        """The partition that came by itself."""
        return max(self.house.data_versions(self.name, "raw_data"))

    @property
    def windows(self) -> int:
        """How many windows were delivered at first."""
        return enough(self.spec)

    @property
    def assets(self) -> set[str]:
        """What is to be made of it."""
        return ASSETS | LABELLED if self.spec.labels else ASSETS

    def latest(self, kind, asset):
        return self.house.resources["records"].get(kind, self.name, asset)

    def every(self, kind, asset):
        return self.house.resources["records"].all(kind, self.name, asset)


def send(house: House, model: str, count: int) -> None:
    """Deliver the next windows of a model's world, corrected where a first attempt is bad, with their labels."""
    worlds = {world.model: world for world in simulated_worlds()}
    if model not in worlds:
        pytest.skip(f"no simulated world delivers {model}")
    provider = Provider(worlds[model], house.home / "landing" / model)
    there = provider.delivered()
    for start in [start for start in provider.world.starts() if start not in there][:count]:
        for attempt in range(provider.world.attempts(start)):
            for path in provider.send(start, attempt):
                backdate(path, provider.world.comes(start))


def enough(spec: ModelSpec) -> int:
    """How many windows a first training takes: with labels that come later, one more than it learns from."""
    return spec.training.min_partitions + (1 if spec.labels else 0)


@pytest.fixture(scope="module", params=MODELS)
def life(request, tmp_path_factory) -> Iterator[Life]:
    with at_home(tmp_path_factory.mktemp(request.param) / "home") as house:
        spec = house.spec(request.param)
        send(house, spec.name, enough(spec))
        first = house.settle(spec.name)
        learned = house.resources["records"].get(Candidate, spec.name, "trained_model")
        send(house, spec.name, 1)
        yield Life(house, spec, first, learned, house.settle(spec.name))


def test_the_first_deliveries_are_one_run_and_the_next_is_another(life):
    later = [LABELLED] if life.spec.labels else []
    assert [ran.failed for ran in (*life.first, *life.second)] == [{}] * (len(life.first) + len(life.second))
    assert len(life.first[0].made["raw_data"]) == life.windows
    assert [set(ran.made) for ran in life.first[1:]] == [*later, *([set(TRAINING)] if later else [])]
    assert life.second[0].made["raw_data"] == (life.newest,)
    assert [set(ran.made) for ran in life.second[1:]] == [{*labels, DECISION} for labels in later]


def test_all_assets_are_made(life):
    assert {asset for ran in (*life.first, *life.second) for asset in ran.made} == life.assets


def test_labels_that_come_later_are_those_of_all_partitions_but_the_newest(life):
    labels = life.every(LabelledPartition, "labels")
    if not life.spec.labels:
        assert labels == {}
        return
    assert max(labels) == life.newest
    assert labels.pop(life.newest).labelled == 0
    assert len(labels) == life.windows
    for partition, found in labels.items():
        assert life.spec.labels.matured <= found.labelled / found.rows <= 1
        assert (found.strangers, found.conflicting, found.broken) == (0, 0, 0)
        assert found.is_of(life.every(ValidatedPartition, "validated_features")[partition])


def test_rows_in_are_rows_out_and_rows_quarantined(life):
    out, quarantined = (
        life.every(ValidatedPartition, "validated_features"),
        life.every(QuarantinedPartition, "quarantined_rows"),
    )
    assert out.keys() == quarantined.keys()
    assert len(out) == life.windows + 1
    for partition, kept in out.items():
        assert kept.rows_in == kept.rows_out + kept.rows_quarantined == quarantined[partition].rows_in
        tables = life.house.resources["tables"]
        assert len(tables.read(life.name, "validated_features", kept.files)) == kept.rows_out
        bad = quarantined[partition]
        stored = len(tables.read(life.name, "quarantined_rows", bad.files)) if bad.files else 0
        assert stored == bad.rows_quarantined == kept.rows_quarantined


def test_every_asset_says_whose_it_is_what_it_is_and_which_code_makes_it(life):
    specs = [spec for spec in life.house.definitions.resolve_all_asset_specs() if spec.key.path[0] == life.name]
    assert {spec.key.path[1] for spec in specs} == life.assets | {"rollback_drill"}
    silent = [
        spec.key.path[1]
        for spec in specs
        if not (
            list(spec.owners) == [life.spec.owner]
            and spec.tags["mlops/stage"]
            and spec.kinds
            and spec.description
            and spec.code_version
        )
    ]
    assert silent == []


def test_the_report_names_the_candidate_that_was_registered(life):
    candidate, report, registered = (
        life.latest(Candidate, "trained_model"),
        life.latest(EvaluationReport, "evaluation_report"),
        life.latest(RegisteredVersion, "registered_version"),
    )
    assert candidate.model_sha256 == report.candidate == registered.candidate
    assert candidate.mlflow_run_id == report.mlflow_run_id == registered.mlflow_run_id


def test_rows_that_judge_are_not_rows_that_were_learned_from(life):
    for candidate in (life.learned, life.latest(Candidate, "trained_model")):
        made_of = candidate.manifest
        assert made_of.fitted_partitions
        assert made_of.holdout_partitions
        assert max(made_of.fitted_partitions) < min(made_of.holdout_partitions)
    assert set(life.latest(EvaluationReport, "evaluation_report").partitions) == set(made_of.holdout_partitions)


def test_the_registered_version_is_loaded_by_our_own_list_and_predicts(life):
    registry, tracking, tables = (life.house.resources[name] for name in ("registry", "tracking", "tables"))
    champion = registry.champion(life.name)
    candidate = registry.candidate(champion)
    rows = tables.read(
        life.name, "validated_features", life.every(ValidatedPartition, "validated_features")[life.newest].files
    )
    said = tracking.load(candidate).predict(rows[list(candidate.inputs)])
    assert len(said) == len(rows) > 0
    assert np.isfinite(np.asarray(said, dtype=float)).all()
    assert len(set(np.asarray(said).tolist())) > 1


def test_the_way_back_to_its_champion_is_proved(life):
    job = life.house.definitions.resolve_implicit_global_asset_job_def()
    drill = [dg.AssetKey([life.name, "rollback_drill"])]
    result = job.execute_in_process(instance=life.house.instance, asset_selection=drill)
    assert [check.passed for check in result.get_asset_check_evaluations()] == [True]
    [event] = result.get_asset_materialization_events()
    [row] = [each.data for each in event.materialization.metadata["champions"].records]
    assert row["found"] == "It answers its 64 golden rows with the same bits as when it was made."


def test_drift_is_judged_against_a_champion_that_did_not_learn_from_the_partition(life):
    registry = life.house.resources["registry"]
    versions = {version.number: version for version in registry.versions(life.name)}
    reports = life.every(DriftReport, "drift_report")
    assert set(reports) == {life.newest}
    for partition, report in reports.items():
        judge = versions[report.version]
        assert judge.reign
        assert partition not in registry.candidate(judge).manifest.fitted_partitions


def test_the_new_delivery_is_decided_on_with_a_reason_and_what_would_change_it(life):
    decision = life.latest(RetrainingDecision, "retraining_decision")
    assert (decision.partition, decision.policy) == (life.newest, life.spec.retraining.policy)
    assert decision.sentence.startswith(f"{decision.verdict}: ")
    assert decision.would_change
    assert [each.partition for each in decision.evidence.partitions][-1] == life.newest
    assert decision.evidence.trainings[0].became_champion
    newest = decision.evidence.partitions[-1]
    assert newest.estimated if life.spec.labels else newest.measured


@pytest.mark.parametrize("sensor", ["{}_new_data", "new_labels", "performance_drop"])
def test_the_sensors_have_nothing_left_to_ask_for(life, sensor):
    assert life.house.player.tick(sensor.format(life.name)) == []


def test_the_same_bytes_again_give_the_same_data_versions_and_the_same_model(life):
    once, again = [
        {asset: life.house.data_versions(life.name, asset) for asset in REPEATED}
        for _ in range(2)
        if life.house.run(life.name, life.newest, REPEATED).success
    ]
    assert once == again
    assert once["raw_data"].keys() == once["validated_features"].keys()
    assert len(set(once["raw_data"].values())) == len(once["raw_data"])


def test_another_home_learns_the_same_model(life, tmp_path: Path):
    with at_home(tmp_path / "home") as house:
        send(house, life.name, life.windows)
        first, *_, newest_labelled, last = sorted(life.house.data_versions(life.name, "raw_data"))[: life.windows]
        assert house.run(life.name, first, REPEATED[:-1], last).success
        if life.spec.labels:
            assert house.run(life.name, first, sorted(LABELLED), newest_labelled).success
        assert house.run(life.name, None, REPEATED[-1:]).success
        candidate = house.resources["records"].get(Candidate, life.name, "trained_model")
    assert candidate.model_sha256 == life.learned.model_sha256
    assert candidate.manifest.contents == life.learned.manifest.contents
