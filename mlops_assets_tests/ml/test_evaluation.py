"""What a report says of a candidate: on unseen rows only, beside champion and naive guess, and never a silent gap."""

import math
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from mlops_assets.ml import charts
from mlops_assets.ml.evaluation import Contender, EvaluationReport, evaluate, incomparable, unseen
from mlops_assets.ml.evaluation_page import html
from mlops_assets.ml.gates import Finding, GateResult
from mlops_assets.ml.holdout import EvaluationError, HoldOut, aligned
from mlops_assets.ml.metrics import UnusablePredictionsError
from mlops_assets.ml.spec import MetricGate
from mlops_assets_tests import toy
from mlops_assets_tests.evidence import candidate, report

ROWS = 24 * 28
NO_CHAMPION = "There is no champion yet."
NASTY = "<script>alert(1)</script>"


def rows(start="2024-03-01", count=ROWS, seed=0):
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "event_time": pd.date_range(start, periods=count, freq="h", tz="UTC"),
            "kind": pd.Categorical(random.choice(["a", "b", "c"], count)),
            "price": random.gamma(2, 10, count),
            "sales": random.normal(50, 10, count),
        }
    )


HISTORY = rows("2024-01-01", 24 * 60, seed=1)[["event_time", "sales"]]


def judge(
    noise=2.0, champion="There is no champion yet.", frame=None, personal=(), partitions=None, of=None, **changes
):
    frame = rows() if frame is None else frame
    spec = toy.spec("nowhere", **changes)
    holdout = HoldOut.of(spec, frame, partitions or {"2024-03-01": len(frame)})
    predicted = np.nan_to_num(holdout.frame["sales"].to_numpy()) + error(len(holdout.frame), noise)
    return evaluate(spec, candidate(), holdout, predicted, HISTORY, champion, personal)


def error(count, noise, seed=5):
    return np.random.default_rng(seed).normal(0, noise, count)


def contender(noise, seed=6, version=1):
    frame = rows()
    return Contender(version, ("2024-03-01",), frame["sales"].to_numpy() + error(len(frame), noise, seed), ())


def test_a_report_names_its_candidate_its_rows_and_every_metric_with_an_interval_around_it():
    found = judge()
    assert (found.model, found.candidate, found.mlflow_run_id) == ("toy", candidate().model_sha256, "run-1")
    assert (found.partitions, found.rows, found.metric) == (("2024-03-01",), ROWS, "mae")
    assert set(found.metrics) == {"mae", "rmse", "r2", "wape", "bias"}
    assert all(figure.low < figure.value < figure.high for figure in found.metrics.values())
    assert EvaluationReport.model_validate_json(found.model_dump_json()) == found


def test_the_same_judgement_twice_is_the_same_report():
    assert judge() == judge()


def test_skill_is_measured_against_the_better_of_the_naive_guesses():
    found = judge()
    assert found.baseline_name == "the training median"
    assert found.skill == pytest.approx(1 - found.metrics["mae"].value / found.baseline["mae"].value)
    weekly = rows()
    weekly["sales"] = 100 + 50 * np.sin(np.arange(ROWS) * 2 * np.pi / (24 * 7))
    assert judge(frame=weekly).baseline_name == "the label of one week earlier"


@pytest.mark.parametrize(("holdout", "refused"), [("2024-03-01", False), ("2024-02-01", True)])
def test_rows_that_the_candidate_was_fitted_on_cannot_judge_it(holdout, refused):
    if not refused:
        assert judge(partitions={holdout: ROWS}).partitions == (holdout,)
        return
    with pytest.raises(EvaluationError, match="was fitted on 2024-02-01"):
        judge(partitions={holdout: ROWS})


@pytest.mark.parametrize(
    ("noise", "verdict"), [(1.0, "better"), (2.0, "undecided"), (4.0, "worse")], ids=["better", "alike", "worse"]
)
def test_the_candidate_is_compared_with_the_champion_on_the_same_rows(noise, verdict):
    found = judge(noise, contender(2.0)).champion
    assert (found.champion_version, found.rows, found.partitions) == (1, ROWS, ("2024-03-01",))
    assert found.verdict == verdict
    assert found.gain.value == pytest.approx(found.champion.value - found.candidate.value)
    assert found.gain.low <= found.gain.value <= found.gain.high


def test_the_same_predictions_gain_nothing():
    found = judge(2.0, contender(2.0, seed=5))
    assert (found.champion.gain.value, found.champion.gain.low, found.champion.verdict) == (0, 0, "undecided")
    assert "no better than champion v1" in found.sentence


def test_a_paired_comparison_is_sharper_than_two_intervals():
    frame = rows()
    shared = error(ROWS, 5.0)
    champion = Contender(1, ("2024-03-01",), frame["sales"].to_numpy() + shared * 1.05, ())
    found = judge(5.0, champion).champion
    assert found.verdict == "better"
    assert found.champion.low < found.candidate.high


def test_only_partitions_that_the_champion_has_not_seen_are_compared():
    frame = rows()
    half = {"2024-03-01": ROWS // 2, "2024-04-01": ROWS - ROWS // 2}
    fitted_before = candidate(run="run-0", fitted=("2024-01-01", "2024-03-01"))
    holdout = HoldOut.of(toy.spec("nowhere"), frame, half)
    assert unseen(fitted_before, holdout) == ("2024-04-01",)
    late = frame["sales"].to_numpy()[ROWS // 2 :] + 3
    found = judge(1.0, Contender(4, ("2024-04-01",), late, ()), partitions=half)
    assert (found.champion.rows, found.champion.partitions) == (ROWS - ROWS // 2, ("2024-04-01",))
    assert found.champion.champion.value == pytest.approx(3)
    assert found.rows == ROWS


def test_a_champion_that_cannot_be_compared_says_why():
    spec = toy.spec("nowhere")
    holdout = HoldOut.of(spec, rows(), {"2024-03-01": ROWS})
    new = candidate(inputs=("event_time", "kind", "price"), classes=("a", "b"))

    def reason(**changes):
        return incomparable(new, new.model_copy(update={"mlflow_run_id": "run-0", **changes}), 3, holdout)

    saw_all = candidate(fitted=("2024-03-01",)).manifest
    other_target = candidate(target="profit").manifest
    assert reason(model_sha256="d" * 64) is None
    assert reason() == "The candidate is champion v3 itself."
    assert "fitted on every hold-out partition (2024-03-01)" in reason(manifest=saw_all)
    assert "predicts 'profit', the candidate 'sales'" in reason(manifest=other_target)
    assert "predicts classes that the candidate does not: c" in reason(model_sha256="d" * 64, classes=("a", "c"))
    assert "needs columns that the contract no longer has: rain" in reason(model_sha256="d" * 64, inputs=("rain",))


def test_a_champion_whose_predictions_are_unusable_is_not_compared():
    broken = Contender(2, ("2024-03-01",), np.full(ROWS, math.nan), ())
    assert "Champion v2 cannot be compared: 672 of 672 predictions are not finite" in judge(2.0, broken).champion_absent


def test_a_candidate_whose_predictions_are_unusable_is_refused():
    with pytest.raises(UnusablePredictionsError):
        judge(math.nan)


@pytest.mark.parametrize(
    ("figures", "passed"), [({"r2": 0.5}, True), ({"r2": 0.4999}, False), ({"r2": math.nan}, False), ({}, False)]
)
def test_a_gate_passes_only_a_figure_that_is_there_and_good_enough(figures, passed):
    gate = MetricGate(metric="r2", at_least=0.5)
    assert GateResult.of_finding(gate, Finding(value=figures.get("r2"))).passed is passed


def test_gates_are_reported_with_the_figure_that_they_were_held_against():
    found = judge(gates=[{"metric": "mae", "at_most": 9}, {"metric": "skill", "at_least": 0.99}])
    assert [gate.passed for gate in found.gates] == [True, False]
    assert found.gates[1].value == found.skill
    assert "fails 1 of 2 gates: skill is" in found.sentence


def test_slices_are_values_of_a_category_and_quarters_of_a_number():
    found = judge(evaluation={"metric": "mae", "slices": ["kind", "price"], "replicates": 50})
    kinds = {part.value: part for part in found.slices if part.column == "kind"}
    assert set(kinds) == {"a", "b", "c"}
    assert sum(part.rows for part in kinds.values()) == ROWS
    frame = rows()
    chosen = (frame["kind"] == "a").to_numpy()
    assert kinds["a"].metrics["mae"] == pytest.approx(np.abs(error(ROWS, 2.0)[chosen]).mean())
    assert [part.rows for part in found.slices if part.column == "price"] == [ROWS // 4] * 4


@pytest.mark.parametrize(("minimum", "kept"), [(40, 1), (41, 0)])
def test_a_slice_needs_its_minimum_of_rows_and_its_absence_is_noted(minimum, kept):
    frame = rows()
    frame["kind"] = pd.Categorical(["rare"] * 40 + ["common"] * (ROWS - 40))
    found = judge(frame=frame, evaluation={"metric": "mae", "slices": ["kind"], "min_slice_rows": minimum})
    assert sum(part.value == "rare" for part in found.slices) == kept
    assert any("1 slices of kind" in note for note in found.notes) is not bool(kept)


def test_rows_without_a_value_are_a_slice_of_their_own():
    frame = rows()
    frame.loc[:99, "kind"] = None
    assert [part.rows for part in judge(frame=frame).slices if part.value == "missing"] == [100]


def test_values_of_personal_columns_are_never_shown():
    found = judge(personal=("kind",))
    assert {part.value for part in found.slices} == {"group 1", "group 2", "group 3"}


def test_a_slice_that_is_no_column_is_refused_by_name():
    with pytest.raises(EvaluationError, match="slice 'colour' is not a column"):
        judge(evaluation={"metric": "mae", "slices": ["colour"]})


def test_rows_without_a_label_are_left_out_and_counted():
    frame = rows()
    frame.loc[:71, "sales"] = np.nan
    found = judge(frame=frame)
    assert found.rows == ROWS - 72
    assert "72 rows without a label were not judged." in found.notes


def test_a_hold_out_without_any_label_cannot_judge():
    with pytest.raises(EvaluationError, match="none of the 672 rows of 2024-03-01 has a sales"):
        judge(frame=rows().assign(sales=np.nan))


def test_rows_out_of_order_are_put_in_order():
    spec, frame = toy.spec("nowhere"), rows()
    shuffled = frame.sample(frac=1, random_state=0)
    found = HoldOut.of(spec, shuffled, {"2024-03-01": 300, "2024-04-01": ROWS - 300})
    pd.testing.assert_frame_equal(found.frame, frame)
    assert found.within(["2024-03-01"]).sum() == 300
    assert not shuffled.index.is_monotonic_increasing


def test_few_rows_are_said_to_be_few():
    assert any("5 rows are few" in note for note in judge(frame=rows(count=5)).notes)


def binary(labels, probability, classes=("down", "up"), history=("down", "up"), **changes):
    frame = rows(count=len(labels)).drop(columns="sales").assign(sales=pd.Categorical(labels))
    spec = toy.spec("nowhere", **{"task": "binary", "evaluation": {"metric": "roc_auc", "slices": ["kind"]}, **changes})
    past = HISTORY.assign(sales=pd.Categorical(np.resize(history, len(HISTORY))))
    holdout = HoldOut.of(spec, frame, {"2024-03-01": len(labels)})
    predicted = np.column_stack([1 - probability, probability])
    return evaluate(spec, candidate(classes=classes), holdout, predicted, past, NO_CHAMPION)


def test_a_binary_target_is_judged_by_the_probability_of_the_second_class():
    labels = np.random.default_rng(0).choice(["down", "up"], 400)
    found = binary(labels, np.where(labels == "up", 0.8, 0.3))
    assert found.metrics["roc_auc"].value == 1
    assert found.skill == 1
    assert found.baseline["roc_auc"].value == 0.5


def test_one_class_only_is_said_and_fails_the_gates_that_need_two():
    gates = [
        {"metric": "roc_auc", "at_least": 0.1},
        {"metric": "skill", "at_least": -9},
        {"metric": "log_loss", "at_most": 9},
    ]
    found = binary(["up"] * 400, np.full(400, 0.7), gates=gates)
    assert set(found.metrics) == {"accuracy", "log_loss", "brier"}
    assert found.absent["roc_auc"] == "the rows or the predictions hold one class only"
    assert [(gate.value is None, gate.passed) for gate in found.gates] == [(True, False), (True, False), (False, True)]
    assert "roc_auc is undefined on 400 unseen rows" in found.sentence


def test_a_model_that_learned_one_class_only_is_refused():
    frame = rows().drop(columns="sales").assign(sales=pd.Categorical(["up"] * ROWS))
    spec = toy.spec("nowhere", task="binary", evaluation={"metric": "roc_auc"})
    holdout = HoldOut.of(spec, frame, {"2024-03-01": ROWS})
    with pytest.raises(EvaluationError, match="has 1 classes in fitting and hold-out"):
        evaluate(spec, candidate(classes=("up",)), holdout, np.ones((ROWS, 1)), HISTORY, NO_CHAMPION)


def test_a_third_label_of_a_binary_target_is_refused():
    with pytest.raises(EvaluationError, match=r"has 3 classes .* Declare multiclass"):
        binary(["up", "down", "sideways"] * 100, np.full(300, 0.7))


def test_a_class_that_fitting_never_saw_counts_against_the_candidate_and_is_noted():
    labels = np.array(["a", "b", "new", "b"] * 100)
    frame = rows(count=400).drop(columns="sales").assign(sales=pd.Categorical(labels))
    spec = toy.spec("nowhere", task="multiclass", evaluation={"metric": "accuracy"}, gates=[])
    past = HISTORY.assign(sales=pd.Categorical(np.resize(["a", "b"], len(HISTORY))))
    predicted = np.where((labels == "a")[:, None], [0.9, 0.1], [0.2, 0.8])
    holdout = HoldOut.of(spec, frame, {"2024-03-01": 400})
    found = evaluate(spec, candidate(classes=("a", "b")), holdout, predicted, past, NO_CHAMPION)
    assert found.metrics["accuracy"].value == 0.75
    assert any("never saw: new" in note for note in found.notes)


def test_probabilities_are_put_in_the_order_of_the_classes():
    wide = aligned(np.array([[0.2, 0.8]]), ("b", "c"), ("a", "c", "b"))
    assert wide.tolist() == [[0, 0.8, 0.2]]


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.links = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in {"src", "href"}]


def test_the_page_shows_everything_and_needs_nothing_else():
    found = judge(1.0, contender(2.0), evaluation={"metric": "mae", "slices": ["kind", "price"]})
    page = html(found, [charts.density(rows()["sales"], rows()["sales"])])
    assert "Against the champion" in page
    assert found.sentence in page
    assert Page(page).tags >= {"table", "svg", "section"}
    assert Page(page).links == []


def test_the_page_escapes_every_text():
    nasty = report(
        candidate(),
        mlflow_run_id=NASTY,
        partitions=(NASTY,),
        baseline_name=NASTY,
        champion_absent=NASTY,
        absent={NASTY: NASTY},
        slices=[{"column": NASTY, "value": NASTY, "rows": 1, "metrics": {}}],
        notes=(NASTY,),
        sentence=NASTY,
    )
    assert "script" not in Page(html(nasty, [])).tags
    assert "&lt;script&gt;" in html(nasty, [])
