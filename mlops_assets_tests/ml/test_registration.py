"""Whether a candidate may be registered and takes the champion's place, on both sides of every border."""

import math
from datetime import UTC, datetime

import pytest

from mlops_assets.ml.registration import decide, identity, refusal
from mlops_assets.ml.spec import digest_of
from mlops_assets.ml.training import LeftOut
from mlops_assets_tests import toy
from mlops_assets_tests.evidence import about, candidate, comparison, report


def spec(**changes):
    return toy.spec("nowhere", **changes)


def test_a_candidate_that_cleared_its_gates_on_its_own_hold_out_is_not_refused():
    assert refusal(candidate(), report(candidate()), spec()) is None


@pytest.mark.parametrize(("mae", "refused"), [(2.999, False), (3.0, False), (3.001, True)])
def test_a_gate_is_cleared_up_to_its_bar_and_no_further(mae, refused):
    gated = spec(gates=[{"metric": "mae", "at_most": 3.0}])
    assert (refusal(candidate(), report(candidate(), mae), gated) is not None) is refused


@pytest.mark.parametrize(("skill", "refused"), [(0.2, False), (0.199, True), (None, True)])
def test_the_skill_gate_asks_for_a_skill(skill, refused):
    assert (refusal(candidate(), report(candidate(), skill=skill), spec()) is not None) is refused


def test_a_missing_figure_fails_its_gate_with_its_name_value_and_limit():
    gated = spec(gates=[{"metric": "r2", "at_least": 0.5}, {"metric": "mae", "at_most": 2.5}])
    assert refusal(candidate(), report(candidate()), gated) == (
        "2 of 2 gates failed: r2 is undefined, the gate asks for at least 0.5; mae is 3, the gate asks for at most 2.5."
    )


def test_a_figure_that_is_not_a_number_fails_its_gate():
    judged = report(candidate(), metrics={"mae": about(math.nan)})
    assert "mae is" in refusal(candidate(), judged, spec(gates=[{"metric": "mae", "at_most": 9}]))


@pytest.mark.parametrize(
    "judged",
    [candidate(sha256="d" * 64), candidate(run="run-2")],
    ids=["other bytes", "another run"],
)
def test_a_report_on_another_candidate_is_refused(judged):
    reason = refusal(candidate(), report(judged), spec())
    assert reason.startswith("the report judged candidate")
    assert "Materialize evaluation_report again" in reason


def test_a_report_of_another_model_is_refused():
    assert "'other'" in refusal(candidate(), report(candidate(), model="other"), spec())


@pytest.mark.parametrize("changes", [{"partitions": ()}, {"partitions": ("2024-04-01",)}, {"rows": 0}])
def test_a_report_on_other_rows_than_the_hold_out_is_refused(changes):
    assert "the candidate's hold-out is 2024-03-01" in refusal(candidate(), report(candidate(), **changes), spec())


def test_a_candidate_judged_on_rows_that_it_was_fitted_on_is_refused():
    leaky = candidate(fitted=("2024-02-01", "2024-03-01"))
    assert refusal(leaky, report(leaky), spec()) == "it was judged on rows that it was fitted on: 2024-03-01."


def test_the_first_version_becomes_champion():
    assert decide(report(candidate()), None, spec()).champion


@pytest.mark.parametrize(
    ("gain", "margin", "champion"),
    [(0.2, 0.2, True), (0.199, 0.2, False), (0.0, 0.0, False), (1e-9, 0.0, True), (-0.1, 0.0, False)],
)
def test_a_challenger_must_gain_the_margin_and_more_than_nothing(gain, margin, champion):
    judged = report(candidate(), champion=comparison(gain), champion_absent=None)
    decision = decide(judged, 1, spec(registration={"margin": margin}))
    assert decision.champion is champion
    assert "v1: mae" in decision.sentence
    assert "300 rows" in decision.sentence


def test_without_a_comparison_it_stays_challenger_and_says_why():
    judged = report(candidate(), champion_absent="Champion v1 was fitted on every hold-out partition (2024-03-01).")
    decision = decide(judged, 1, spec())
    assert not decision.champion
    assert "fitted on every hold-out partition" in decision.sentence


def test_a_comparison_with_an_earlier_champion_does_not_count():
    decision = decide(report(candidate(), champion=comparison(5.0, version=1)), 2, spec())
    assert not decision.champion
    assert "compared with v1, and the champion is v2 now" in decision.sentence


def test_the_same_manifest_and_bytes_are_the_same_candidate_whatever_run_made_them():
    assert identity(candidate()) == identity(candidate(run="run-2", cpu_seconds=3.0))
    assert identity(candidate()) != identity(candidate(sha256="d" * 64))
    assert identity(candidate()) != identity(candidate(fitted=("2024-01-01",)))


def test_rows_written_once_more_make_no_new_candidate():
    first = candidate()
    moved = first.manifest.model_copy(update={"table_version": first.manifest.table_version + 3})
    corrected = first.manifest.model_copy(update={"contents": {"2024-01-01": "other rows"}})
    assert identity(first) == identity(candidate(manifest=moved))
    assert identity(first) != identity(candidate(manifest=corrected))


def test_what_was_left_out_is_part_of_a_candidate_and_versions_that_know_of_none_keep_their_identity():
    plain = candidate()
    before = plain.manifest.model_dump(mode="json", exclude={"table_version", "left_out"})
    assert identity(plain) == digest_of([before, plain.model_sha256])
    out = {"2024-04-01": LeftOut(delivery="d", first=datetime(2024, 4, 1, tzinfo=UTC), reason="In other units.")}
    assert identity(candidate(manifest=plain.manifest.model_copy(update={"left_out": out}))) != identity(plain)
