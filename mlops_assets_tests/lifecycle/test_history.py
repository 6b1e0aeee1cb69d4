"""The stored history of a model: a back-test makes of it what the lifecycle made."""

from datetime import UTC, datetime, timedelta

import pytest

from mlops_assets.lifecycle.history import stored
from mlops_assets.ml.backtest import replay
from mlops_assets.ml.evaluation import EvaluationReport
from mlops_assets.ml.performance import PerformanceReport
from mlops_assets.ml.policies import POLICIES
from mlops_assets.ml.registration import Champion
from mlops_assets.ml.training import Candidate
from mlops_assets_tests import late, toy

MONTHS = ("2024-01", "2024-02", "2024-03", "2024-04", "2024-05")
WORK = ("raw_data", "validated_features", "quarantined_rows", "predictions", "performance_report")
QUICK = {
    "estimator": {"path": "sklearn.ensemble.HistGradientBoostingRegressor", "params": {"max_iter": 3}},
    "evaluation": {"metric": "mae", "replicates": 50},
    "gates": [],
}
TRAIN = ("trained_model", "evaluation_report", "registered_version", "champion")


def test_a_back_test_lives_through_what_the_lifecycle_has_done(workshop):
    shop = workshop(training={"min_partitions": 3, "window": [3, None]}, **QUICK)
    for place, month in enumerate(MONTHS):
        toy.deliver(shop.landing, month, toy.rows(month, shift=2.0 * place))
    assert shop.run(MONTHS[:3], WORK[:3]).success
    assert shop.run([], TRAIN).success
    for month in MONTHS[3:]:
        assert shop.run([month], WORK).success
        assert shop.run([], TRAIN).success
    records, tables = shop.resources["records"], shop.resources["tables"]
    history = stored(shop.spec, records, tables)
    lived = replay(history, shop.spec, POLICIES["always"])

    candidate = records.get(Candidate, "toy", "trained_model")
    report = records.get(EvaluationReport, "toy", "evaluation_report")
    newest, step = lived.trainings[-1], lived.steps[-1]
    fits = [made.candidate for key, made in history.kept.items() if key.startswith("fit")]
    assert candidate.model_sha256 in {each.model_sha256 for each in fits}
    assert newest.fitted == len(candidate.manifest.fitted_partitions)
    assert newest.holdout == report.metrics["mae"]
    assert newest.gain == report.champion.gain
    assert newest.became_champion == (records.get(Champion, "toy", "champion").candidate == candidate.model_sha256)
    measured = records.get(PerformanceReport, "toy", "performance_report", "2024-05-01")
    assert (step.version, step.measured) == (measured.version, measured.measured)
    assert step.baseline == pytest.approx(measured.baseline)


def validated(shop, months=MONTHS, **broken):
    """Months that were delivered and validated, some of them replaced."""
    for month in months:
        toy.deliver(shop.landing, month, broken.get(month, toy.rows(month)))
    assert shop.run(months, WORK[:3]).success
    return shop


def told(shop, policy="gain"):
    history = stored(shop.spec, shop.resources["records"], shop.resources["tables"])
    return history, replay(history, shop.spec, POLICIES[policy])


def test_a_broken_feed_is_seen_without_a_stored_drift_report(workshop):
    last = toy.rows(MONTHS[-1])
    broken = {MONTHS[-1]: last.assign(wind=last["wind"].where(last.index >= 0.7 * len(last)))}
    history, lived = told(validated(workshop(**QUICK), **broken))
    assert [step.partition for step in lived.blamed] == ["2024-05-01"]
    assert history.feeds["2024-05-01"].producer == ("shop-#-#.csv",)
    assert history.notes == []


def test_what_was_corrected_is_named_and_replayed_as_it_is_now(workshop):
    shop = workshop(**QUICK)
    last = toy.rows(MONTHS[-1])
    validated(shop, **{MONTHS[-1]: last.assign(wind=last["wind"].where(last.index >= 0.7 * len(last)))})
    validated(shop, MONTHS[-1:])
    history, lived = told(shop)
    assert lived.blamed == ()
    assert not history.feeds["2024-05-01"].correction
    assert history.notes == [
        "Corrections are not lived through: of 2024-05-01 only the newest delivery is on record, and it is replayed as "
        "if it had come at first."
    ]


def test_a_correction_that_was_refused_is_no_correction_of_what_is_replayed(workshop):
    shop = validated(workshop(**QUICK))
    toy.deliver(shop.landing, MONTHS[-1], toy.rows(MONTHS[-1]).assign(price=-1.0))
    assert not shop.run(MONTHS[-1:], WORK[:3]).success
    assert told(shop)[0].notes == []


LATE = ("raw_data", "validated_features", "quarantined_rows", "raw_labels", "labels")
LOADED = datetime(2024, 9, 1, 12, tzinfo=UTC)


def labelled(workshop, folder, arrivals, **labels):
    """Months whose labels lay in the source since some moments, without saying when each became known."""
    shop = workshop(**late.declared(folder / "home" / "labels", **labels), **QUICK)
    for month, moment in arrivals.items():
        late.deliver_rows(shop, month)
        late.arrived(late.deliver_labels(shop, month), moment)
    assert shop.run(list(arrivals), LATE).success
    return shop


def test_labels_loaded_at_once_are_replayed_after_the_declared_delay_and_the_page_says_so(workshop, tmp_path):
    history, lived = told(labelled(workshop, tmp_path, dict.fromkeys(MONTHS, LOADED)), "always")
    assert lived.judged
    assert [history.matured[part.partition] - part.last for part in history.parts] == [timedelta(days=10)] * 5
    assert history.notes == [
        "The labels of 5 partitions were loaded at once on 2024-09-01, and labels.known is not declared: they are "
        "replayed as if each had come after the declared delay of 10 days."
    ]


def test_labels_that_say_when_they_became_known_are_taken_at_their_word(workshop, tmp_path):
    shop = labelled(workshop, tmp_path, dict.fromkeys(MONTHS, LOADED), known="known")
    history, lived = told(shop, "always")
    assert history.notes == []
    assert lived.judged


@pytest.mark.parametrize(("together", "assumed"), [(2, 0), (3, 3)])
def test_a_few_labels_that_came_too_late_are_a_delay_and_enough_for_a_model_a_load(
    workshop, tmp_path, together, assumed
):
    usual = {month: datetime.fromisoformat(f"{month}-01T12:00:00+00:00") + timedelta(days=36) for month in MONTHS}
    moments = {**usual, **dict.fromkeys(MONTHS[:together], LOADED)}
    history, _ = told(labelled(workshop, tmp_path, moments), "never")
    ends = {part.partition: part.last for part in history.parts}
    after = [history.matured[f"{month}-01"] for month in MONTHS]
    expected = (
        [LOADED] * together
        if not assumed
        else [ends[f"{month}-01"] + timedelta(days=10) for month in MONTHS[:together]]
    )
    assert after == [*expected, *[usual[month] for month in MONTHS[together:]]]
    assert len(history.notes) == bool(assumed)
