"""`champion`, on real MLflow, Dagster and ledger: what is better is released once, and what was moved is found."""

import dagster as dg
import pytest

from mlops_assets.lifecycle.champion import SERVES
from mlops_assets.lifecycle.endings import ending_of
from mlops_assets.lifecycle.releasing import restore, roll_back
from mlops_assets.ml.evaluation import EvaluationReport
from mlops_assets.ml.ledger import Entry, champion
from mlops_assets.ml.registration import Champion
from mlops_assets.ml.training import Candidate
from mlops_assets.resources.ledger import Ledger
from mlops_assets.resources.registry import CHAMPION, Registry
from mlops_assets.resources.tracking import Tracking
from mlops_assets_tests import toy
from mlops_assets_tests.lifecycle.stages import checks, failure, materialized, metadata, run, validate, validated
from mlops_assets_tests.lifecycle.test_releasing import NOON, clock, trusting
from mlops_assets_tests.toy import Workshop

BEFORE = ("trained_model", "evaluation_report", "registered_version")
NOBODY = "http://127.0.0.1:9"
WEAK = {"path": "sklearn.dummy.DummyRegressor"}
GOOD = {"path": "sklearn.ensemble.HistGradientBoostingRegressor", "params": {"max_iter": 20}}


class AliasesDown(Registry):
    """A registry that answers, and goes away when the alias is to be moved."""

    def crown(self, model, number, previous):
        """Ask where nobody listens."""
        Registry(root=self.root, tracking_uri=NOBODY).crown(model, number, previous)


def redeclared(shop, **changes):
    """The same home with fields of the declaration replaced."""
    return Workshop(shop.home, shop.instance, {**shop.changes, **changes})


def reign(shop):
    """A weak champion, and a month more to learn from."""
    assert run(validated(shop)).success
    validate(shop, toy.MONTHS[3])


def challenge(shop):
    """A better version that is not released."""
    assert run(redeclared(shop, estimator=GOOD), *BEFORE).success


def record(shop, kind=Champion, asset=CHAMPION):
    return shop.resources["records"].get(kind, "toy", asset)


def kinds(shop):
    return [(link.entry.kind, link.entry.version) for link in shop.resources["ledger"].links("toy")]


def move(shop, number):
    """What somebody does who sets the alias in MLflow."""
    registry = shop.resources["registry"]
    client = Tracking(root=registry.root, tracking_uri=registry.tracking_uri).client
    if number is None:
        client.delete_registered_model_alias("toy", CHAMPION)
    else:
        client.set_registered_model_alias("toy", CHAMPION, str(number))


def tick(shop, cursor=None):
    """One look of the sensor: its result."""
    sensor = shop.definitions.resolve_sensor_def("watch_champions")
    wired = {name: shop.resources[name] for name in ("records", "registry", "ledger", "alerts")}
    return sensor.evaluate_tick(
        dg.build_sensor_context(
            instance=shop.instance,
            cursor=cursor,
            resources=wired,
            definitions=shop.definitions,
            sensor_name=sensor.name,
        )
    )


@pytest.fixture
def first(lives):
    """A workshop whose weak first version is champion, and whose next candidate is better."""
    with lives.begun(reign, estimator=WEAK, gates=[]) as shop:
        yield redeclared(shop, estimator=GOOD)


@pytest.fixture
def second(lives):
    """The same workshop with a better version, not released yet."""
    with lives.begun(reign, challenge, estimator=WEAK, gates=[]) as shop:
        yield redeclared(shop, estimator=GOOD)


def test_the_first_version_that_clears_its_gates_becomes_champion_by_the_ledger(registered):
    shop = registered
    result = run(shop, CHAMPION)
    assert result.success
    assert kinds(shop) == [("released", 1), ("confirmed", 1)]
    found, candidate = record(shop), record(shop, Candidate, "trained_model")
    assert (found.version, found.candidate, found.considered) == (1, *[candidate.model_sha256] * 2)
    assert (found.reign.previous, found.reign.who) == (None, f"run {result.run_id}")
    assert found.reign.confirmed is not None
    assert shop.resources["registry"].champion("toy").number == 1
    shown = metadata(result, CHAMPION)
    assert (shown["version"], shown["ledger_entry"], shown["previous_champion"]) == (1, 1, "none")
    [row] = [each.data for each in shown["history"].records]
    assert (row["version"], row["until"], row["who"]) == ("v1", "now", found.reign.who)
    assert checks(result)["serves_what_was_released"].passed


def test_the_evidence_of_a_release_can_be_opened_by_its_digests(released):
    evidence, blobs = record(released).reign.evidence, released.resources["blobs"]
    candidate = record(released, Candidate, "trained_model")
    assert Candidate.model_validate_json(blobs.read(evidence["candidate"])) == candidate
    report = record(released, EvaluationReport, "evaluation_report")
    assert EvaluationReport.model_validate_json(blobs.read(evidence["report"])) == report
    assert b'"gates"' in blobs.read(evidence["policy"])
    assert evidence["model"] == candidate.model_sha256
    assert evidence["manifest"] == candidate.manifest.digest()


@pytest.mark.parametrize(("margin", "version"), [(0.0, 2), (1e6, 1)])
def test_a_later_candidate_must_beat_the_champion_by_the_margin(second, margin, version):
    shop = redeclared(second, registration={"margin": margin})
    result = run(shop, CHAMPION)
    assert result.success
    assert record(shop).version == shop.resources["registry"].champion("toy").number == version
    assert record(shop).considered == record(shop, Candidate, "trained_model").model_sha256
    assert "on the same 300 rows" in record(shop).sentence
    rows = [each.data for each in metadata(result, CHAMPION)["history"].records]
    assert [row["version"] for row in rows] == ["v2", "v1"][2 - version :]


def test_the_same_run_again_releases_nothing_and_has_the_same_data_version(second):
    once, again = run(second, CHAMPION), run(second, CHAMPION)
    assert once.success
    assert again.success
    assert kinds(second) == [("released", 1), ("confirmed", 1), ("released", 2), ("confirmed", 2)]
    versions = [
        result.get_asset_materialization_events()[-1].materialization.tags["dagster/data_version"]
        for result in (once, again)
    ]
    assert len(set(versions)) == 1
    assert record(second).sentence == "toy v2: It is champion already."


def test_a_gate_raised_after_the_report_is_held_against_the_release_too(registered):
    shop = registered
    shop.spec.__dict__["gates"] = toy.spec("x", gates=[{"metric": "skill", "at_least": 0.999}]).gates
    alone = run(shop, CHAMPION)
    assert "toy v1 is not released: 1 of 1 gates failed: skill is" in failure(alone)
    assert kinds(shop) == []


def test_a_version_of_another_candidate_is_not_released(first):
    assert run(first, *BEFORE[:2]).success
    alone = run(first, CHAMPION)
    assert "Materialize registered_version again" in failure(alone)
    assert kinds(first) == [("released", 1), ("confirmed", 1)]


def test_who_was_judged_against_yesterdays_champion_stays_challenger(second):
    registry, candidate = second.resources["registry"], record(second, Candidate, "trained_model")
    rival = registry.register(candidate.model_copy(update={"model_sha256": "e" * 64}))
    said = {"who": "ada", "why": "By hand.", "when": NOON, "previous": 1}
    second.resources["ledger"].append(Entry(kind="released", model="toy", version=rival.number, **said))
    assert run(second, CHAMPION).success
    assert record(second).version == rival.number == registry.champion("toy").number
    assert "compared with v1, and the champion is v3 now" in record(second).sentence


def test_a_registry_that_goes_away_half_way_is_an_outage_and_the_next_run_finishes(second):
    registry = second.resources["registry"]
    second.resources["registry"] = AliasesDown(root=registry.root, tracking_uri=registry.tracking_uri)
    result = run(second, CHAMPION)
    assert ending_of(second.instance, result.dagster_run) == "outage"
    assert "The release of toy v2 is not finished: MLflow at http://127.0.0.1:9 did not" in failure(result)
    assert materialized(result) == set()
    assert (record(second).version, registry.champion("toy").number) == (1, 1)
    second.resources["registry"] = registry
    assert run(second, CHAMPION).success
    assert (record(second).version, registry.champion("toy").number) == (2, 2)
    assert kinds(second)[2:] == [("released", 2), ("confirmed", 2)]


def test_the_sensor_ends_a_release_that_was_cut_off(second):
    said = {"who": "ada", "why": "By hand.", "when": NOON, "previous": 1}
    second.resources["ledger"].append(Entry(kind="released", model="toy", version=2, **said))
    look = tick(second)
    assert look.asset_events == []
    assert second.resources["registry"].champion("toy").number == 2
    assert kinds(second)[-1] == ("confirmed", 2)
    tick(second)
    assert kinds(second)[2:] == [("released", 2), ("confirmed", 2)]


def test_without_a_version_the_sensor_asks_nobody(workshop):
    shop = workshop()
    shop.resources["registry"] = Registry(root=str(shop.home), tracking_uri=NOBODY)
    assert tick(shop).skip_message == "Every champion is the one that was released."


def test_a_registry_that_is_down_is_said_and_changes_no_verdict(first):
    cursor = tick(first).cursor
    first.resources["registry"] = Registry(root=str(first.home), tracking_uri=NOBODY)
    look = tick(first, cursor)
    assert "toy: MLflow at http://127.0.0.1:9 did not" in look.skip_message
    assert (look.asset_events, look.cursor) == ([], cursor)


@pytest.mark.parametrize(("number", "has"), [(2, "is on v2"), (None, "is gone")])
def test_an_alias_moved_by_hand_is_found_told_once_and_restored_by_the_command_that_is_named(second, number, has):
    before = tick(second)
    move(second, number)
    look = tick(second, before.cursor)
    [event] = look.asset_events
    assert (event.asset_key, event.check_name, event.passed) == (dg.AssetKey(["toy", CHAMPION]), SERVES, False)
    assert f"alias champion of toy {has}, and the champion is v1" in event.description
    assert "`mlops-assets restore toy --reason ...` puts it back" in event.description
    [alert] = [known.alert for known in second.resources["alerts"].open()]
    assert (alert.kind, alert.model, event.description in alert.sentence) == ("failed_check", "toy", True)
    again = tick(second, look.cursor)
    assert (again.asset_events, again.cursor) == ([], look.cursor)

    said = restore("toy", "ada", "An accident.", second.resources["ledger"], second.resources["registry"], clock)
    assert said == "The alias champion of toy is on v1 again."
    over = tick(second, again.cursor)
    assert [event.passed for event in over.asset_events] == [True]
    assert second.resources["alerts"].open() == []
    assert kinds(second)[-2:] == [("restored", 1), ("confirmed", 1)]


def test_an_alias_moved_by_hand_fails_the_check_of_the_next_run_and_nothing_is_released(second):
    move(second, 2)
    result = run(second, "trained_model", "evaluation_report", "registered_version", CHAMPION)
    assert not checks(result)[SERVES].passed
    assert record(second).version == 1
    assert kinds(second) == [("released", 1), ("confirmed", 1)]


def test_an_alias_set_by_hand_where_nothing_was_released_is_found(registered):
    move(registered, 1)
    [event] = tick(registered).asset_events
    assert "v1 of toy holds the registry's alias champion, and was never released" in event.description


def test_a_champion_from_before_the_ledger_is_adopted_and_can_be_followed(second):
    shop = redeclared(second)
    empty = Ledger(uri=f"sqlite:///{shop.home}/empty.db", anchors=f"{shop.home}/empty")
    shop.resources["ledger"] = empty
    assert run(shop, CHAMPION).success
    assert kinds(shop) == [("adopted", 1), ("released", 2), ("confirmed", 2)]
    assert champion(empty.links("toy"), "toy").previous == 1


def test_a_ledger_that_was_changed_fails_the_check_and_one_that_was_cut_releases_nothing(second):
    (second.home / "ledger.db").unlink()
    [event] = tick(second).asset_events
    assert "The ledger cannot be trusted: entry 1 is missing" in event.description
    result = run(second, CHAMPION)
    assert ending_of(second.instance, result.dagster_run) == "verdict"
    assert "its end was cut off, or an old copy of it was put back" in failure(result)
    assert second.resources["registry"].champion("toy").number == 1


def test_what_a_person_went_back_from_is_not_released_by_the_next_run(second):
    assert run(second, CHAMPION).success
    ledger, registry = second.resources["ledger"], second.resources["registry"]
    roll_back("toy", None, "grace", "Complaints", ledger, registry, clock, trusting)
    result = run(second, "evaluation_report", CHAMPION)
    assert result.success
    assert (record(second).version, second.resources["registry"].champion("toy").number) == (1, 1)
    assert "grace went back from it to v1 (Complaints)" in record(second).sentence
    rows = [each.data for each in metadata(result, CHAMPION)["history"].records]
    assert [(row["version"], row["how"]) for row in rows] == [
        ("v1", "rolled back"),
        ("v2", "released"),
        ("v1", "released"),
    ]
