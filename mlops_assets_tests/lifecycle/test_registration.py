"""`registered_version`, on real MLflow and Dagster: it refuses by itself, registers once, promotes by the margin."""

import json

import pytest

from mlops_assets.lifecycle.endings import ending_of
from mlops_assets.ml.evaluation import EvaluationReport
from mlops_assets.ml.registration import RegisteredVersion
from mlops_assets.ml.training import Candidate
from mlops_assets.resources.registry import Registry
from mlops_assets_tests import toy
from mlops_assets_tests.lifecycle.stages import failure, materialized, metadata, run, validate, validated
from mlops_assets_tests.toy import Workshop

NOBODY = "http://127.0.0.1:9"
WEAK = {"path": "sklearn.dummy.DummyRegressor"}
GOOD = {"path": "sklearn.ensemble.HistGradientBoostingRegressor", "params": {"max_iter": 20}}


class DownAfterRegistering(Registry):
    """A registry that takes the version and then goes away."""

    def promote(self, version, instead_of):
        """Ask where nobody listens."""
        return Registry(root=self.root, tracking_uri=NOBODY).promote(version, instead_of)


def redeclared(shop, **changes):
    """The same home with fields of the declaration replaced."""
    return Workshop(shop.home, shop.instance, {**shop.changes, **changes})


def record(shop, kind=RegisteredVersion, asset="registered_version"):
    return shop.resources["records"].get(kind, "toy", asset)


def versions(shop):
    return shop.resources["registry"].versions("toy")


def test_the_first_candidate_that_clears_its_gates_becomes_champion(workshop):
    shop = validated(workshop())
    result = run(shop)
    assert result.success
    found = record(shop)
    assert (found.version, found.became_champion, found.previous_champion) == (1, True, None)
    assert shop.resources["registry"].champion("toy").number == 1
    shown = metadata(result, "registered_version")
    assert (shown["version"], shown["alias"], shown["previous_champion"]) == (1, "champion", "none")
    assert shown["registered_version"].endswith("/#/models/toy/versions/1")
    assert shown["mae_over_versions"].startswith("![mae over versions]")


def test_materialized_alone_after_a_failed_gate_it_refuses_with_the_numbers(workshop):
    shop = validated(workshop(gates=[{"metric": "mae", "at_most": 0.001}]))
    assert "registered_version" not in materialized(run(shop))
    alone = run(shop, "registered_version")
    assert not alone.success
    assert "toy is not registered: 1 of 1 gates failed: mae is" in failure(alone)
    assert "the gate asks for at most 0.001" in failure(alone)
    assert versions(shop) == ()


def test_a_candidate_trained_after_the_report_is_refused(workshop):
    shop = validated(workshop())
    assert run(shop, "trained_model", "evaluation_report").success
    assert run(shop, "trained_model").success
    alone = run(shop, "registered_version")
    assert not alone.success
    assert "the report judged candidate" in failure(alone)
    assert versions(shop) == ()


def test_a_gate_raised_after_the_report_is_held_against_it(workshop):
    shop = validated(workshop())
    assert run(shop, "trained_model", "evaluation_report").success
    shop.spec.__dict__["gates"] = toy.spec("x", gates=[{"metric": "skill", "at_least": 0.999}]).gates
    alone = run(shop, "registered_version")
    assert "skill is" in failure(alone)


def test_the_same_candidate_twice_is_one_version(workshop):
    shop = validated(workshop())
    assert run(shop).success
    first = record(shop)
    assert run(shop, "registered_version").success
    assert len(versions(shop)) == 1
    assert record(shop).version == first.version
    assert shop.resources["registry"].champion("toy").reign == 1


def test_a_process_killed_between_registration_and_promotion_ends_in_the_same_state(workshop):
    shop = validated(workshop())
    assert run(shop, "trained_model", "evaluation_report").success
    candidate = record(shop, Candidate, "trained_model")
    shop.resources["registry"].register(candidate)
    assert run(shop, "registered_version").success
    assert [version.number for version in versions(shop)] == [1]
    assert shop.resources["registry"].champion("toy").number == 1
    assert record(shop).became_champion


@pytest.mark.parametrize(("made", "left"), [(Registry, 0), (DownAfterRegistering, 1)])
def test_an_mlflow_that_does_not_answer_is_an_outage_and_the_next_run_finishes(workshop, made, left):
    shop = validated(workshop())
    assert run(shop, "trained_model", "evaluation_report").success
    registry = shop.resources["registry"]
    uri = registry.tracking_uri if left else NOBODY
    shop.resources["registry"] = made(root=registry.root, tracking_uri=uri)
    result = run(shop, "registered_version")
    assert ending_of(shop.instance, result.dagster_run) == "outage"
    assert "The registration of toy is not finished: MLflow at http://127.0.0.1:9 did not" in failure(result)
    assert len(registry.versions("toy")) == left
    shop.resources["registry"] = registry
    assert run(shop, "registered_version").success
    assert registry.champion("toy").number == 1


@pytest.mark.parametrize(("margin", "alias"), [(0.0, "champion"), (1e6, "challenger")])
def test_a_later_candidate_must_beat_the_champion_by_the_margin(workshop, margin, alias):
    shop = validated(workshop(registration={"margin": margin}, estimator=WEAK, gates=[]))
    assert run(shop).success
    validate(shop, toy.MONTHS[3])
    shop = redeclared(shop, estimator=GOOD)
    result = run(shop)
    assert result.success
    shown = metadata(result, "registered_version")
    assert (shown["version"], shown["alias"], shown["previous_champion"]) == (2, alias, "v1")
    assert shop.resources["registry"].champion("toy").number == (2 if alias == "champion" else 1)
    assert "on the same 300 rows" in record(shop).sentence


def test_a_comparison_with_yesterdays_champion_does_not_promote(workshop):
    shop = validated(workshop(estimator=WEAK, gates=[]))
    assert run(shop).success
    validate(shop, toy.MONTHS[3])
    shop = redeclared(shop, estimator=GOOD)
    assert run(shop, "trained_model", "evaluation_report").success
    candidate = record(shop, Candidate, "trained_model")
    rival = shop.resources["registry"].register(candidate.model_copy(update={"model_sha256": "e" * 64}))
    shop.resources["registry"].promote(rival, instead_of=1)
    assert run(shop, "registered_version").success
    assert not record(shop).became_champion
    assert "compared with v1, and the champion is v2 now" in record(shop).sentence


def test_versions_remember_the_metric_that_the_picture_over_versions_shows(workshop):
    shop = validated(workshop())
    assert run(shop).success
    remembered = json.loads(versions(shop)[0].tags["mlops.metric"])
    judged = record(shop, EvaluationReport, "evaluation_report").metrics["mae"]
    assert remembered == {"metric": "mae", "value": judged.value, "low": judged.low, "high": judged.high}
