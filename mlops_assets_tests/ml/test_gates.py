"""What clears a gate and what does not: both sides of every border, and never what is missing or not a number."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from mlops_assets.ml.evaluation import NOBODY_SERVES, EvaluationReport
from mlops_assets.ml.gates import Finding, GateResult, bar, cleared, measured, promise
from mlops_assets.ml.metrics import METRICS
from mlops_assets.ml.spec import GATES, Gate, MetricGate
from mlops_assets_tests import toy
from mlops_assets_tests.evidence import about, candidate, comparison, report

BEHAVES = "mlops_assets_tests.ml.test_trying.all_is_well"
METRIC = {"metric": "mae", "at_most": 3}
BETTER, NOT_WORSE, UNDECIDED = {"champion": "better"}, {"champion": "not_worse", "margin": 2}, {"champion": "undecided"}
WORST = {"worst_slice": "mae", "at_most": 3}
FAIR = {"fairness": "metric_ratio", "between": "kind", "at_least": 0.8}
CALIBRATED = {"calibration": "mean_bias", "at_most": 3}
FAST, SMALL = {"latency": "p99", "at_most_ms": 3}, {"size": "artifact", "at_most_bytes": 3}
GOOD = {"behaviour": BEHAVES, "share": 0.8}
EVERY = [METRIC, BETTER, NOT_WORSE, UNDECIDED, WORST, FAIR, CALIBRATED, FAST, SMALL, GOOD]


def gate(declared) -> Gate:
    return TypeAdapter(Gate).validate_python(declared)


def refusal(*gates, **changes) -> str:
    with pytest.raises(ValidationError) as refused:
        toy.spec("nowhere", gates=list(gates), **changes)
    return str(refused.value)


def at(value, **changes):
    return Finding(value=value, rows=300, **changes)


@pytest.mark.parametrize(
    ("declared", "on", "beyond"),
    [
        (METRIC, 3.0, 3.000001),
        ({"metric": "r2", "at_least": 0.5}, 0.5, 0.499999),
        ({"metric": "bias", "at_least": -1, "at_most": 1}, -1.0, -1.000001),
        (WORST, 3.0, 3.000001),
        (FAIR, 0.8, 0.799999),
        ({**FAIR, "fairness": "metric_difference", "at_least": None, "at_most": 0.1}, 0.1, 0.100001),
        (CALIBRATED, 3.0, 3.000001),
        (FAST, 3.0, 3.000001),
        (SMALL, 3.0, 4.0),
        (GOOD, 0.8, 0.799999),
    ],
)
def test_a_bar_is_cleared_up_to_its_border_and_no_further(declared, on, beyond):
    assert cleared(gate(declared), at(on))
    assert not cleared(gate(declared), at(beyond))


@pytest.mark.parametrize(
    ("declared", "low", "high", "passed"),
    [
        (BETTER, 1e-9, 1, True),
        (BETTER, 0, 1, False),
        (NOT_WORSE, -2, 1, True),
        (NOT_WORSE, -2.000001, 1, False),
        ({"champion": "not_worse"}, 0, 1, True),
        ({"champion": "not_worse"}, -1e-9, 1, False),
        (UNDECIDED, -9, 0, True),
        (UNDECIDED, -9, -1e-9, False),
    ],
)
def test_the_comparison_with_the_champion_is_judged_by_the_interval_of_its_gain(declared, low, high, passed):
    assert cleared(gate(declared), at((low + high) / 2, low=low, high=high)) is passed


NOTHING = st.sampled_from([None, math.nan, math.inf, -math.inf])
NUMBERS = NOTHING | st.floats(-5, 5)


@given(declared=st.sampled_from(EVERY), value=NOTHING, low=NUMBERS, high=NUMBERS)
def test_what_is_missing_or_not_a_number_never_clears_a_gate(declared, value, low, high):
    assert not cleared(gate(declared), Finding(value=value, low=low, high=high))


@given(declared=st.sampled_from([BETTER, NOT_WORSE, UNDECIDED]), end=NOTHING, other=NUMBERS)
def test_without_an_interval_nothing_is_known_of_the_champion(declared, end, other):
    assert not cleared(gate(declared), at(5.0, low=end, high=other))
    assert not cleared(gate(declared), at(5.0, low=other, high=end))


@given(declared=st.sampled_from(EVERY), value=st.floats(-5, 5))
def test_a_figure_that_counts_for_nothing_clears_nothing_however_good_it_looks(declared, value):
    assert not cleared(gate(declared), at(value, low=value, high=value, missing="3 rows are fewer than it takes"))
    excused = at(None, exempt="There is no champion yet.")
    assert cleared(gate(declared), excused) is ("champion" in declared)


@pytest.mark.parametrize("declared", EVERY, ids=lambda declared: next(iter(declared)))
def test_every_kind_says_what_it_asks_for_what_was_found_and_why_there_is_nothing(declared):
    made = gate(declared)
    nothing = GateResult.of_finding(made, Finding(missing="Too few rows."))
    assert f"undefined (too few rows), the gate asks for {bar(made)}" in str(nothing)
    found = GateResult.of_finding(made, at(2.5, low=1.0, high=4.0))
    assert measured(found).startswith("2")
    assert promise(made).endswith(".")
    assert GateResult.model_validate_json(found.model_dump_json()) == found


def test_every_kind_is_tested_here():
    assert {next(kind for kind in GATES if kind in declared) for declared in EVERY} == set(GATES)


def test_names_say_what_holds_and_do_not_change_with_the_limit():
    names = [gate(declared).called for declared in EVERY]
    assert names == [
        "mae_is_low_enough",
        "is_better_than_the_champion",
        "is_not_worse_than_the_champion",
        "is_not_surely_worse_than_the_champion",
        "mae_of_the_worst_slice_is_low_enough",
        "metric_ratio_between_kind_is_high_enough",
        "mean_bias_is_low_enough",
        "p99_latency_is_low_enough",
        "artifact_is_small_enough",
        "all_is_well",
    ]
    assert gate({**METRIC, "at_most": 9}).called == gate(METRIC).called
    assert gate({**METRIC, "name": "errs_little"}).called == "errs_little"
    assert gate({"metric": "bias", "at_least": -1, "at_most": 1}).called == "bias_is_within_bounds"
    assert gate({**FAIR, "between": "Kind of day"}).called == "metric_ratio_between_kind_of_day_is_high_enough"


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"at_most": 3}, "a gate has exactly one of the fields metric, champion, worst_slice"),
        ({**METRIC, **SMALL}, "a gate has exactly one of the fields"),
        ({"metric": "mae"}, "a gate needs at_least or at_most"),
        ({"metric": "mea", "at_most": 3}, "gate metric 'mea' is unknown. Allowed: mae"),
        ({**METRIC, "at_most": math.nan}, "finite number"),
        ({"champion": "best"}, "'better', 'not_worse' or 'undecided'"),
        ({"champion": "better", "margin": 1}, "margin belongs to `champion: not_worse`"),
        ({"champion": "not_worse", "margin": -1}, "greater than or equal to 0"),
        ({"worst_slice": "mea", "at_most": 3}, "worst_slice 'mea' is unknown"),
        ({**WORST, "column": "wind"}, "'wind' is not among evaluation.slices: kind"),
        ({**FAIR, "at_least": None, "at_most": 1}, "metric_ratio is best at 1: give at_least"),
        ({**FAIR, "fairness": "metric_difference"}, "metric_difference is best at 0: give at_most"),
        ({**FAIR, "fairness": "demographic_parity_ratio"}, "is of a binary task, and this is regression"),
        ({**FAIR, "of": "roc_auc"}, "metric 'roc_auc' is unknown"),
        ({**FAIR, "groups": ["a"]}, "name at least two groups"),
        ({"calibration": "mean_bias", "at_least": 1}, "mean_bias is best at 0: give at_most"),
        ({"calibration": "brier_score", "at_most": 1}, "brier_score is not of the task regression. Allowed: mean_bias"),
        ({"latency": "p99", "at_most_ms": 0}, "greater than 0"),
        ({"size": "artifact", "at_most_bytes": 0}, "greater than 0"),
        ({"behaviour": "nowhere"}, "should match pattern"),
        ({**GOOD, "share": 0}, "greater than 0"),
        ({**METRIC, "name": "clears_every_gate"}, "is another check of evaluation_report"),
        ({**METRIC, "at_lest": 3}, "Did you mean 'at_least'?"),
    ],
)
def test_a_gate_that_cannot_be_held_is_refused_when_it_is_declared(declared, said):
    assert said in refusal(declared)


def test_two_gates_of_one_name_are_refused_and_a_name_of_its_own_helps():
    assert "two are called 'mae_is_low_enough'" in refusal(METRIC, {**METRIC, "at_most": 9})
    assert toy.spec("nowhere", gates=[METRIC, {**METRIC, "at_most": 9, "name": "errs_a_little"}])


def test_slices_are_needed_for_the_worst_of_them():
    assert "needs slices" in refusal(WORST, evaluation={"metric": "mae"})


def of_report(declared, **changes) -> GateResult:
    [result] = report(candidate(), **changes).held(toy.spec("nowhere", gates=[declared]))
    return result


def test_the_first_candidate_has_nobody_to_be_compared_with_and_an_incomparable_one_does_not_pass():
    assert of_report(BETTER, champion_absent=NOBODY_SERVES, unopposed=True).passed
    absent = of_report(BETTER, champion_absent="Champion v1 was fitted on every hold-out partition.")
    assert not absent.passed
    assert "undefined (champion v1 was fitted on every hold-out partition)" in str(absent)


@pytest.mark.parametrize(("rows", "passed"), [(30, True), (29, False)])
def test_a_comparison_on_too_few_rows_says_nothing(rows, passed):
    against = comparison(5.0).model_copy(update={"rows": rows})
    result = of_report(BETTER, champion=against)
    assert result.passed is passed
    assert passed or "29 rows are fewer than the 30 that it takes" in str(result)


def test_a_report_from_before_a_gate_was_declared_does_not_clear_it():
    for declared in (WORST, FAIR, CALIBRATED, FAST, SMALL, GOOD):
        result = of_report(declared)
        assert not result.passed
        assert "this report does not hold it: materialize evaluation_report again" in str(result)


@pytest.mark.parametrize(
    ("now", "passed"),
    [
        ({"at_most_ms": 3}, True),
        ({"at_most_ms": 2.999}, False),
        ({"at_most_ms": 3, "repeats": 50}, False),
        ({"at_most_ms": 3, "latency": "p95"}, False),
        ({"at_most_ms": 3, "name": "answers_at_once"}, True),
    ],
)
def test_a_gate_is_held_anew_against_what_was_measured_in_the_same_way(now, passed):
    from mlops_assets.ml.gates import measurement

    spec = toy.spec("nowhere", gates=[FAST])
    found = GateResult.of_finding(spec.gates[0], at(3.0, of=measurement(spec.gates[0], spec)))
    judged = report(candidate(), gates=(found,))
    [result] = judged.held(toy.spec("nowhere", gates=[{**FAST, **now}]))
    assert result.passed is passed


def test_metrics_carry_their_interval_and_why_they_are_missing():
    known = of_report(METRIC, metrics={"mae": about(3.0)})
    assert (known.passed, known.low, known.high, known.rows) == (True, 2.5, 3.5, 300)
    lost = of_report({"metric": "r2", "at_least": 0.1}, absent={"r2": "the target is constant"})
    assert str(lost) == "r2 is undefined (the target is constant), the gate asks for at least 0.1"


def test_a_report_from_before_gates_had_kinds_is_read():
    old = report(candidate()).model_dump(mode="json", exclude={"unopposed", "gates"})
    old["gates"] = [{"gate": {"metric": "mae", "at_least": None, "at_most": 9.0}, "value": 3.0, "passed": True}]
    read = EvaluationReport.model_validate(old)
    assert isinstance(read.gates[0].gate, MetricGate)
    assert [result.passed for result in read.held(toy.spec("nowhere", gates=[METRIC]))] == [True]


def test_skill_and_every_metric_of_the_task_may_be_gated():
    every = [{"metric": metric, "at_least": 0} for metric in (*METRICS["regression"], "skill")]
    assert len(toy.spec("nowhere", gates=every).gates) == 6
