"""retraining_decision on real storage and a real registry: what it sees, when it is made, and what it says."""

from __future__ import annotations

import dagster as dg
import pytest

from mlops_assets.lifecycle.retraining import watched
from mlops_assets.ml.evidence import depth
from mlops_assets.ml.planning import DECISION, MONITORING, TRAINING, VALIDATION
from mlops_assets.ml.retraining import RetrainingDecision
from mlops_assets.resources.records import Records
from mlops_assets_tests import evidence, late, toy
from mlops_assets_tests.lifecycle.daemon import Daemon
from mlops_assets_tests.toy import Workshop

FITTED = ("2024-01", "2024-02", "2024-03")
GAIN = {"policy": "gain", "value": 50.0, "cooldown": 1}


def serve(shop):
    """A champion fitted on January and February."""
    for month in FITTED:
        toy.deliver(shop.landing, month)
    assert shop.run(FITTED, (*VALIDATION, *TRAINING)).success


def watch(shop):
    """April judged, measured and decided on."""
    toy.deliver(shop.landing, "2024-04")
    assert shop.run(["2024-04"], (*VALIDATION, *MONITORING)).success


@pytest.fixture
def served(lives):
    """A workshop with a champion, and nothing that came after what it was made of."""
    with lives.begun(serve, retraining=GAIN) as shop:
        yield shop


@pytest.fixture
def shop(lives):
    """A workshop with a champion, one month after those that it was made of."""
    with lives.begun(serve, watch, retraining=GAIN) as shop:
        yield shop


LABELLING, ROWS = ("raw_labels", "labels"), ("raw_data", "validated_features", "quarantined_rows")
FEW = 285


def late_shop(shop, **changes):
    """The same home with labels that come later than the rows."""
    return Workshop(shop.home, shop.instance, {**late.declared(shop.home / "labels"), **changes})


def come(shop, *months):
    late.deliver_rows(shop, *months)
    assert shop.run(months, ROWS).success


def serve_late(shop):
    """A champion on labels that came late, of which February has not all, and two months without labels."""
    shop = late_shop(shop)
    come(shop, *FITTED)
    for month in FITTED:
        late.deliver_labels(shop, month, late.labels(month).head(FEW) if month == "2024-02" else None)
    assert shop.run(FITTED, LABELLING).success
    assert shop.run((), TRAINING).success
    come(shop, "2024-04", "2024-05")


@pytest.fixture
def served_late(lives):
    """That workshop."""
    with lives.begun(serve_late) as shop:
        yield shop


def decided(shop) -> RetrainingDecision:
    return shop.resources["records"].get(RetrainingDecision, "toy", DECISION)


def metadata(shop, asset=DECISION) -> dict:
    event = shop.instance.get_latest_materialization_event(dg.AssetKey(["toy", asset]))
    return event.asset_materialization.metadata


def newest_check(shop, asset, name) -> dg.AssetCheckEvaluation | None:
    key = dg.AssetCheckKey(dg.AssetKey(["toy", asset]), name)
    found = shop.instance.event_log_storage.get_latest_asset_check_execution_by_key([key]).get(key)
    return found.event.dagster_event.event_specific_data if found else None


def failure(result) -> str:
    return result.failure_data_for_node(f"toy__{DECISION}").error.message


def test_the_newest_partition_is_decided_on_by_what_is_known_of_it(shop):
    decision = decided(shop)
    assert (decision.partition, decision.policy, decision.verdict) == ("2024-04-01", "gain", "WAIT")
    newest = decision.evidence.partitions[-1]
    assert (newest.partition, newest.version, newest.drift, newest.mature) == ("2024-04-01", 1, "stable", True)
    assert newest.measured.value > 0
    [training] = decision.evidence.trainings
    assert (training.partition, training.fitted, training.became_champion) == ("2024-03-01", 2, True)


def test_a_person_sees_the_verdict_its_reasons_and_what_would_change_it(shop):
    decision, entries = decided(shop), metadata(shop)
    assert entries["verdict"].value == "WAIT"
    assert entries["summary"].value == decision.sentence
    assert entries["would_change"].value == decision.would_change
    assert entries["cost"].value.endswith(" EUR")
    assert entries["mae_over_partitions"].value.startswith("![")
    assert entries["corrected_since_learned"].value == "nothing"
    [row] = entries["trainings"].records
    assert row.data["became_champion"] is True


def test_the_same_evidence_decides_the_same_again(shop):
    before = decided(shop)
    assert shop.run((), (DECISION,)).success
    assert decided(shop) == before


def test_it_is_decided_before_the_model_of_the_same_run_is_trained(shop):
    toy.deliver(shop.landing, "2024-05")
    result = shop.run(["2024-05"])
    assert result.success
    steps = [event.step_key.removeprefix("toy__") for event in result.all_events if event.is_step_start]
    assert steps.index("performance_report") < steps.index(DECISION) < steps.index("trained_model")
    assert [each.partition for each in decided(shop).evidence.trainings] == ["2024-03-01"]
    assert decided(shop).past == {"2024-04-01": "WAIT"}
    assert shop.run((), (DECISION,)).success
    assert [each.partition for each in decided(shop).evidence.trainings] == ["2024-03-01", "2024-05-01"]
    assert decided(shop).partition == "2024-05-01"
    assert "has been trained with" in decided(shop).sentence or "was trained with" in decided(shop).sentence


def test_without_a_champion_nothing_is_decided_and_the_reason_is_said(workshop):
    empty = workshop()
    toy.deliver(empty.landing, "2024-01")
    assert empty.run(["2024-01"], VALIDATION).success
    result = empty.run((), (DECISION,))
    assert not result.success
    assert "toy has no champion, so there is nothing to decide" in failure(result)
    assert decided(empty) is None


def test_an_outage_of_mlflow_decides_nothing(shop):
    registry = shop.resources["registry"]
    shop.resources["registry"] = type(registry)(root=registry.root, tracking_uri="http://127.0.0.1:9")
    before = decided(shop)
    result = shop.run((), (DECISION,))
    assert not result.success
    assert "Nothing was decided: MLflow" in failure(result)
    assert decided(shop) == before


def test_a_correction_of_what_was_learned_from_is_seen_until_it_is_learned(shop):
    assert newest_check(shop, "trained_model", "stands_on_current_data").passed
    assert newest_check(shop, DECISION, "champion_stands_on_current_data").passed

    toy.deliver(shop.landing, "2024-02", toy.rows("2024-02", seed=1))
    [corrected] = Daemon(shop).settle()
    assert {key.path[-1] for key in corrected.asset_selection} == {*VALIDATION, DECISION}
    decision = decided(shop)
    assert decision.evidence.stale == ("2024-02-01",)
    assert decision.verdict == "RETRAIN"
    assert "learned from what was corrected since: 2024-02-01" in decision.sentence
    for asset, name in (("trained_model", "stands_on_current_data"), (DECISION, "champion_stands_on_current_data")):
        said = newest_check(shop, asset, name)
        assert not said.passed
        assert said.metadata["corrected"].value == ["2024-02-01"]
    assert metadata(shop)["corrected_since_learned"].value == "2024-02-01"

    assert shop.run((), TRAINING).success
    assert newest_check(shop, "trained_model", "stands_on_current_data").passed
    assert shop.run((), (DECISION,)).success
    assert decided(shop).evidence.stale == ()
    assert decided(shop).verdict == "WAIT"


def test_a_correction_that_validation_refuses_makes_nothing_stale(served):
    toy.deliver(served.landing, "2024-02", toy.rows("2024-02", seed=1).assign(price=-1))
    assert len(Daemon(served).settle()) == 1
    assert served.run((), (DECISION,)).success
    assert decided(served).evidence.stale == ()
    assert newest_check(served, DECISION, "champion_stands_on_current_data").passed


def test_a_training_whose_labels_were_late_is_dated_by_the_rows_at_hand_and_stays_so(served_late):
    shop = late_shop(served_late, retraining={"policy": "every_n", "every": 3})

    def trained():
        assert shop.run((), (DECISION,)).success
        return [(each.partition, each.judged) for each in decided(shop).evidence.trainings]

    assert trained() == [("2024-03-01", "2024-03-01")]
    late.deliver_labels(shop, "2024-04")
    assert shop.run(["2024-04"], LABELLING).success
    assert shop.run((), TRAINING).success
    come(shop, "2024-06")
    known = [("2024-03-01", "2024-03-01"), ("2024-05-01", "2024-04-01")]
    assert trained() == trained() == known
    assert decided(shop).sentence.startswith("WAIT: 1 partition came after the last training")


def test_what_is_read_does_not_grow_with_the_history(tmp_path):
    spec, records = toy.spec(tmp_path), Records(root=str(tmp_path))
    months = [f"{year}-{month:02}" for year in range(2000, 2010) for month in range(1, 13)]
    for month in months:
        records.put("toy", "validated_features", evidence.validated(month), f"{month}-01")
        records.put("toy", "drift_report", evidence.drift(month, "stable"), f"{month}-01")
    found = watched(spec, records)
    assert list(found.validated) == list(found.drift) == [f"{month}-01" for month in months[-depth(spec) :]]


def without_wind(month):
    return toy.rows(month).assign(wind=lambda rows: rows["wind"].where(rows.index >= 0.7 * len(rows)))


def test_a_broken_feed_is_left_out_until_it_is_corrected_or_declared_the_worlds_doing(served):
    by_gain, shop = served, Workshop(served.home, served.instance, {"retraining": {"policy": "every_n", "every": 1}})
    daemon = Daemon(shop)
    toy.deliver(shop.landing, "2024-04", without_wind("2024-04"))
    daemon.settle()
    broken = decided(shop)
    assert (broken.verdict, broken.evidence.fresh) == ("WAIT", ())
    assert "Left out for their feed: 2024-04-01." in broken.sentence

    assert by_gain.run((), (DECISION,)).success
    assert decided(shop).verdict == "FIX_UPSTREAM"
    declared = Workshop(shop.home, shop.instance, {"retraining": GAIN, "drift": {"world_changed": ["2024-04-01"]}})
    assert declared.run((), (DECISION,)).success
    assert decided(shop).verdict != "FIX_UPSTREAM"
    assert decided(shop).evidence.fresh == ("2024-04-01",)

    toy.deliver(shop.landing, "2024-04")
    daemon.settle()
    assert (decided(shop).verdict, decided(shop).evidence.fresh) == ("RETRAIN", ("2024-04-01",))
    assert shop.run((), TRAINING).success
    assert shop.run((), (DECISION,)).success
    assert (decided(shop).verdict, decided(shop).evidence.fresh) == ("WAIT", ())


@pytest.mark.parametrize("policy", ["always", "every_n"])
def test_where_labels_are_late_nothing_is_trained_until_new_ones_have_matured(served_late, policy):
    shop = late_shop(served_late, retraining={"policy": policy, "every": 1})
    assert shop.run((), (DECISION,)).success
    assert decided(shop).verdict == "WAIT"
    assert "But nothing has come to learn from since the last training, at 2024-03-01" in decided(shop).sentence
    late.deliver_labels(shop, "2024-04")
    assert shop.run(["2024-04"], LABELLING).success
    assert shop.run((), (DECISION,)).success
    assert (decided(shop).verdict, decided(shop).evidence.fresh) == ("RETRAIN", ("2024-04-01",))


def test_corrected_labels_mark_what_learned_from_them_as_stale_and_more_labels_do_not(served_late):
    shop = late_shop(served_late, retraining=GAIN)
    labels, few = Daemon(shop, sensor="new_labels"), late.labels("2024-02").head(FEW)
    assert newest_check(shop, "trained_model", "stands_on_current_data").passed

    late.deliver_labels(shop, "2024-02", late.labels("2024-02").iloc[FEW:], "more")
    [request] = labels.settle()
    assert DECISION in {key.path[-1] for key in request.asset_selection}
    assert (decided(shop).evidence.stale, decided(shop).verdict) == ((), "WAIT")

    late.deliver_labels(shop, "2024-02", few.assign(sales=few["sales"] + 0.5))
    labels.settle()
    decision = decided(shop)
    assert (decision.evidence.stale, decision.verdict) == (("2024-02-01",), "RETRAIN")
    for asset, name in (("trained_model", "stands_on_current_data"), (DECISION, "champion_stands_on_current_data")):
        assert newest_check(shop, asset, name).metadata["corrected"].value == ["2024-02-01"]

    assert shop.run((), TRAINING).success
    assert shop.run((), (DECISION,)).success
    assert (decided(shop).evidence.stale, decided(shop).verdict) == ((), "WAIT")
