"""The registry, on a real MLflow in SQLite: one version a candidate, one winner of a race, a history of champions."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from mlops_assets.resources.blobs import CorruptBytesError
from mlops_assets.resources.registry import CHALLENGER, CHAMPION, PREVIOUS, REIGN, Registry, RegistryConflictError
from mlops_assets.resources.tracking import Tracking, TrackingUnavailableError
from mlops_assets_tests.evidence import candidate
from mlops_assets_tests.homes import empty_database


@pytest.fixture
def registry(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(empty_database())
    return Registry(root=str(tmp_path), tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")


def client(registry):
    return Tracking(root=registry.root, tracking_uri=registry.tracking_uri).client


def numbered(number, **changes):
    return candidate(sha256=f"{number:064d}", run=f"run-{number}", **changes)


def aliases(registry):
    return dict(client(registry).get_registered_model("toy").aliases)


def test_the_same_candidate_twice_is_one_version(registry):
    first = registry.register(numbered(1), {"team": "shop"})
    again = registry.register(numbered(1).model_copy(update={"mlflow_run_id": "run-9", "cpu_seconds": 2.0}))
    assert first == again == registry.versions("toy")[0]
    assert len(registry.versions("toy")) == 1
    assert (first.number, first.mlflow_run_id, first.tags["team"]) == (1, "run-1", "shop")


def test_a_version_and_its_logged_model_know_each_other(registry, tmp_path):
    mlflow = client(registry)
    experiment = mlflow.create_experiment("toy", str(tmp_path / "artifacts"))
    logged = mlflow.create_logged_model(experiment, name="toy")
    version = registry.register(numbered(1, model_uri=f"models:/{logged.model_id}"), description="Judged well.")
    stored = mlflow.get_model_version("toy", "1")
    assert (stored.source, stored.run_id) == (logged.artifact_location, "run-1")
    assert stored.description == "Judged well."
    link = mlflow.get_logged_model(logged.model_id).tags["mlflow.modelVersions"]
    assert json.loads(link) == [{"name": "toy", "version": version.number}]


def test_another_candidate_is_another_version_and_the_newest_is_challenger(registry):
    registry.register(numbered(1))
    registry.register(numbered(2))
    assert aliases(registry) == {CHALLENGER: 2}
    registry.register(numbered(1))
    assert aliases(registry) == {CHALLENGER: 2}


def test_a_version_gives_back_the_candidate_that_it_holds(registry):
    version = registry.register(numbered(1))
    assert registry.candidate(version) == numbered(1)


def test_a_model_without_versions_has_no_champion_and_no_reference(registry):
    assert registry.champion("toy") is None
    assert registry.versions("toy") == ()
    assert registry.reference_for("toy", "2024-01-01") is None


def test_a_registered_version_is_no_champion(registry):
    registry.register(numbered(1))
    assert registry.champion("toy") is None
    assert registry.holder("toy") is None


def test_a_crowned_version_is_champion_and_says_whom_it_followed(registry):
    for number in (1, 2):
        registry.crown("toy", registry.register(numbered(number)).number, number - 1 or None)
    first, second = registry.versions("toy")
    assert (first.reign, first.previous_champion) == (1, None)
    assert (second.reign, second.previous_champion) == (2, 1)
    assert registry.champion("toy") == second
    registry.crown("toy", 2, 1)
    assert registry.versions("toy") == (first, second)


def test_racing_registrations_of_one_candidate_make_one_version(registry):
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: registry.register(numbered(1)).number, range(4)))
    assert found == {1}
    assert len(registry.versions("toy")) == 1


def test_an_alias_moved_by_hand_makes_no_version_a_reference(registry):
    registry.register(numbered(1))
    client(registry).set_registered_model_alias("toy", CHAMPION, "1")
    assert registry.champion("toy").reign is None
    assert registry.reference_for("toy", "2024-03-01") is None
    registry.crown("toy", 1, None)
    assert registry.reference_for("toy", "2024-03-01")[0].number == 1


def test_the_reference_is_the_newest_champion_that_was_not_fitted_on_the_partition(registry):
    fitted = [("2024-01-01",), ("2024-01-01", "2024-02-01"), ("2024-02-01", "2024-03-01"), ("2024-09-01",)]
    for number, keys in enumerate(fitted, start=1):
        version = registry.register(numbered(number, fitted=keys))
        if number < 4:
            registry.crown("toy", version.number, number - 1 or None)
    assert [
        (found[0].number if (found := registry.reference_for("toy", key)) else None)
        for key in ("2024-04-01", "2024-03-01", "2024-02-01", "2024-01-01")
    ] == [3, 2, 1, 3]


def test_a_champion_fitted_on_every_partition_is_no_reference(registry):
    registry.crown("toy", registry.register(numbered(1, fitted=("2024-01-01",))).number, None)
    assert registry.reference_for("toy", "2024-01-01") is None


def test_a_version_made_champion_again_reigns_again(registry):
    first, second = registry.register(numbered(1)), registry.register(numbered(2))
    for number, previous in ((first.number, None), (second.number, 1), (first.number, 2)):
        registry.crown("toy", number, previous)
    assert registry.champion("toy").reign == 3
    assert registry.reference_for("toy", "2024-03-01")[0].number == 1


def test_a_record_that_was_exchanged_is_refused(registry):
    first, second = registry.register(numbered(1)), registry.register(numbered(2))
    swapped = first.model_copy(update={"record": second.record})
    with pytest.raises(CorruptBytesError, match="toy v1: the record"):
        registry.candidate(swapped)


def test_a_champion_registered_by_hand_is_named_not_trusted(registry):
    registry.register(numbered(1))
    client(registry).create_model_version("toy", "file:///elsewhere")
    client(registry).set_registered_model_alias("toy", CHAMPION, "2")
    with pytest.raises(RegistryConflictError, match="toy v2 was not registered here"):
        registry.champion("toy")


def test_links_lead_to_the_version(registry, monkeypatch):
    monkeypatch.setenv("MLOPS_MLFLOW_UI", "http://mlflow.example:5000")
    assert registry.url("toy", 3) == "http://mlflow.example:5000/#/models/toy/versions/3"


def test_the_history_is_kept_in_tags_that_a_person_can_read(registry):
    registry.crown("toy", registry.register(numbered(1)).number, None)
    version = registry.champion("toy")
    assert version.tags[REIGN] == "1"
    assert version.tags[PREVIOUS] == ""


def test_a_server_that_does_not_answer_is_said_to_be_away_within_seconds(tmp_path):
    registry = Registry(root=str(tmp_path), tracking_uri="http://127.0.0.1:9")
    with pytest.raises(
        TrackingUnavailableError, match=r"MLflow at http://127.0.0.1:9 did not give the version of toy that is"
    ):
        registry.champion("toy")
