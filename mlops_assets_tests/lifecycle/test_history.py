"""The stored history of a model: a back-test makes of it what the lifecycle made."""

import pytest

from mlops_assets.lifecycle.history import stored
from mlops_assets.ml.backtest import replay
from mlops_assets.ml.evaluation import EvaluationReport
from mlops_assets.ml.performance import PerformanceReport
from mlops_assets.ml.policies import POLICIES
from mlops_assets.ml.registration import RegisteredVersion
from mlops_assets.ml.training import Candidate
from mlops_assets_tests import toy

MONTHS = ("2024-01", "2024-02", "2024-03", "2024-04", "2024-05")
WORK = ("raw_data", "validated_features", "quarantined_rows", "predictions", "performance_report")
JUDGED = {"metric": "mae", "replicates": 50}
TRAIN = ("trained_model", "evaluation_report", "registered_version")


def test_a_back_test_lives_through_what_the_lifecycle_has_done(workshop):
    shop = workshop(training={"min_partitions": 3, "window": [3, None]}, evaluation=JUDGED, gates=[])
    for place, month in enumerate(MONTHS):
        toy.deliver(shop.landing, month, toy.rows(month, shift=2.0 * place))
        assert shop.run([month], WORK[:3] if place < 3 else WORK).success
        if place >= 2:
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
    assert newest.became_champion == records.get(RegisteredVersion, "toy", "registered_version").became_champion
    measured = records.get(PerformanceReport, "toy", "performance_report", "2024-05-01")
    assert (step.version, step.measured) == (measured.version, measured.measured)
    assert step.baseline == pytest.approx(measured.baseline)
