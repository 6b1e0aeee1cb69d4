"""The model card: it says what a version is, and as loudly what nobody knows about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.ml.card import Card, Part, chapters, limits, markdown, parts_of, said_of
from mlops_assets.ml.evaluation import SliceMetrics
from mlops_assets.ml.gates import GateResult
from mlops_assets.ml.ledger import Entry, Link
from mlops_assets.ml.resource_card import Usage, resource_card
from mlops_assets.ml.spec import FairnessGate, MetricGate, Retraining
from mlops_assets.ml.training import LeftOut
from mlops_assets_tests.evidence import candidate, comparison, drift, report, validated

NOON = datetime(2024, 4, 1, 12, tzinfo=UTC)
HOSTILE = "</td><script>alert(1)</script> | [x](javascript:y) `z` *b*\n# h"


def made(**changes):
    """A candidate whose manifest knows the digests of its partitions."""
    plain = candidate()
    every = (*plain.manifest.fitted_partitions, *plain.manifest.holdout_partitions)
    digests = {
        "deliveries": {key: f"bytes of {key}" for key in every},
        "contents": {key: f"rows of {key[:7]}" for key in every},
        "spec": {"description": "Sales of a shop.", "owner": "team:shop", "task": "regression", "target": "sales"},
    }
    return plain.model_copy(update={"manifest": plain.manifest.model_copy(update={**digests, **changes})})


TOOK = Usage(seconds=12.0, cpu_seconds=11.0, cores=1.0, memory=2**30)


def known():
    return {f"{month}-01": validated(month, rows_quarantined=100) for month in ("2024-01", "2024-02", "2024-03")}


def card(of=None, judged=None, **changes):
    of = of or made()
    contents = {key: part.content for key, part in known().items()}
    fields = {"parts": parts_of(of, known(), contents), "report": judged or report(of)}
    return Card(model="toy", version=2, registered=NOON, candidate=of, **{**fields, **changes})


def chapter(told: Card, title: str):
    [found] = [each for each in chapters(told) if each.title.startswith(title)]
    return found


def test_partitions_are_told_with_dates_rows_digests_and_the_quarantined_share():
    told = chapter(card(), "Data")
    assert (
        told.says[0]
        == "900 rows of 3 partitions; 300 more rows (25.00% of what was delivered) broke the contract: quarantined."
    )
    first = told.tables[0].rows[0]
    assert first[:4] == ("2024-01-01", "learned from", "2024-01-01 00:00", "2024-01-01 00:00")
    assert first[4:] == ("300", "25.00%", "bytes of 202", "rows of 2024")
    assert [row[1] for row in told.tables[0].rows] == ["learned from", "learned from", "judged on"]


def test_of_a_partition_that_was_corrected_since_only_the_digests_are_told():
    contents = {key: part.content for key, part in known().items()} | {"2024-02-01": "other rows"}
    parts = parts_of(made(), known(), contents)
    assert [part.rows for part in parts] == [300, None, 300]
    told = card(parts=parts)
    assert chapter(told, "Data").tables[0].rows[1][2:6] == ("?", "?", "?", "?")
    assert "Corrected since, so that only digests are known of what it was made of: 2024-02-01." in list(limits(told))


@pytest.mark.parametrize(
    ("rows", "quarantined", "share"), [(3, 1, 0.25), (3, 0, 0.0), (0, 0, None), (None, None, None)]
)
def test_the_quarantined_share_is_of_what_was_delivered(rows, quarantined, share):
    part = Part(partition="p", role="judged on", delivery="", content="", rows=rows, quarantined=quarantined)
    assert part.bad_share == share


def test_the_comparison_is_told_and_what_may_be_chance_is_a_limit():
    of = made()
    told = card(of, report(of, champion=comparison(0.2), champion_absent=None))
    rows = chapter(told, "Against the champion: undecided").tables[0].rows
    assert rows[2] == ("gain (positive is better)", "0.2", "-0.3 to 0.7")
    assert "Its difference from the champion may be chance: the interval of the gain holds 0." in list(limits(told))


def test_no_champion_no_slices_undefined_metrics_and_notes_are_limits():
    of = made()
    found = list(limits(card(of, report(of, absent={"r2": "the target is constant"}, notes=("30 rows are few.",)))))
    assert "It was compared with no champion: There is no champion yet." in found
    assert "It was judged as a whole only: no slice of the rows has figures of its own." in found
    assert "r2 was not judged: the target is constant." in found
    assert "30 rows are few." in found
    assert any(text.startswith("It was judged on rows until 2024-03-01") for text in found)


def test_a_slice_takes_that_limit_away_and_is_told():
    of = made()
    part = SliceMetrics(column="kind", value="a", rows=40, metrics={"mae": 2.0})
    told = card(of, report(of, slices=(part,)))
    assert chapter(told, "Slices").tables[0].rows == (("kind", "a", "40", "2"),)
    assert not [text for text in limits(told) if "as a whole only" in text]


def test_partitions_left_out_are_told_with_the_reason_as_data_and_as_a_limit():
    left = {"2023-12-01": LeftOut(delivery="d", first=NOON, reason="price was stuck at 20.")}
    told = card(made(left_out=left))
    assert "2023-12-01 lay in the window and was left out: price was stuck at 20." in chapter(told, "Data").says
    assert any("2023-12-01 was left out" in text for text in limits(told))


def test_drift_is_told_with_its_sentence_or_as_unknown():
    assert chapter(card(drift=drift("2024-03", "stable")), "Drift at release: stable").says == ("stable: by hand.",)
    assert "not known" in chapter(card(), "Drift at release").says[0]


def said(**fields):
    entry = {"model": "toy", "version": 2, "who": "ada", "why": "By hand.", "when": NOON, **fields}
    return Link.after(None, Entry.model_validate(entry))


def test_what_people_said_is_told_with_until_when_it_holds_and_by_which_key():
    waiver = said(kind="waived", version=None, candidate="c" * 64, gate="skill", expires=NOON + timedelta(days=7))
    signed = said(kind="refused", candidate="c" * 64, via="key", key="SHA256:abc", signature="x")
    found = said_of([waiver, signed], "toy", 2, "c" * 64)
    rows = chapter(card(said=found), "Waivers").tables[0].rows
    assert rows[0][1:] == ("waived skill", "ada", "By hand.", "", "2024-04-01 12:00", "2024-04-08 12:00")
    assert (rows[1][1], rows[1][4]) == ("refused", "key SHA256:abc")


def test_what_was_said_of_another_version_model_or_candidate_is_not_told():
    others = [said(kind="refused", version=1), said(kind="refused", model="other"), said(kind="released")]
    assert said_of(others, "toy", 2, "c" * 64) == ()
    assert len(said_of([said(kind="refused", version=2)], "toy", 2, "c" * 64)) == 1


def test_the_method_names_everything_that_decides_what_the_model_is():
    spec = {
        "estimator": {"path": "sklearn.linear_model.Ridge", "params": {"alpha": 2}},
        "features": [{"calendar": ["hour"]}, {"cyclic": ["month"]}, {"path": "a.b", "params": {"n": 1}}],
        "seed": 7,
        "training": {"window": 6},
    }
    told = dict(chapter(card(made(spec=spec)), "Method").tables[0].rows)
    assert told["estimator"] == "sklearn.linear_model.Ridge"
    assert told["parameters"] == '{"alpha": 2}'
    assert told["features"] == 'calendar: hour; cyclic: month; a.b {"n": 1}'
    assert (told["seed"], told["window"]) == ("7", "6; 2 taught it")
    assert {"manifest", "code", "locked packages", "environment"} <= set(told)


def test_hostile_text_stays_text_in_markdown():
    left = {"2023-12-01": LeftOut(delivery="d", first=NOON, reason=HOSTILE)}
    spec = {"description": HOSTILE, "owner": "team:shop"}
    of = made(left_out=left, spec=spec)
    part = SliceMetrics(column="kind", value=HOSTILE, rows=40, metrics={"mae": 2.0})
    written = markdown(card(of, report(of, slices=(part,), notes=(HOSTILE,))))
    assert "<script" not in written
    assert "[x](" not in written
    assert "\n# h" not in written


@given(st.text(min_size=1, max_size=40))
def test_whatever_a_slice_is_called_its_row_keeps_its_cells(value):
    of = made()
    part = SliceMetrics(column="kind", value=value, rows=40, metrics={"mae": 2.0})
    lines = markdown(card(of, report(of, slices=(part,)))).split("\n")
    [row] = [line for line in lines if line.startswith("| kind |")]
    assert row.replace("\\\\", "").replace("\\|", "").count("|") == 5
    assert "<" not in row


def test_every_gate_is_told_with_its_figure_its_interval_and_the_figures_that_it_came_from():
    fair = FairnessGate(fairness="metric_ratio", between="kind", at_least=0.8)
    finding = {
        "value": 0.5,
        "low": 0.4,
        "high": 0.6,
        "rows": 300,
        "about": "mae of kind",
        "parts": {"a": 2.0, "b": 4.0},
    }
    result = GateResult(gate=fair, passed=False, **finding)
    missing = GateResult(gate=MetricGate(metric="r2", at_least=0.5), passed=False, missing="the target is constant")
    told = card(made(), report(made(), gates=(result, missing)))
    first, second = chapter(told, "Gates").tables[0].rows
    assert first[0] == fair.called
    assert first[2:] == ("0.5", "0.4 to 0.6", "mae of kind; a 2; b 4; 300 rows or cases", "failed")
    assert second[2:] == ("undefined (the target is constant)", "", "", "failed")


def test_where_no_gate_compares_groups_that_is_a_limit():
    unfair = "Whether it serves groups of people alike was not judged: no gate compares any."
    assert unfair in list(limits(card()))
    fair = FairnessGate(fairness="metric_ratio", between="kind", at_least=0.8)
    judged = report(made(), gates=(GateResult(gate=fair, value=0.9, passed=True),))
    assert unfair not in list(limits(card(made(), judged)))


def test_what_the_training_took_is_told_where_it_is_known():
    resources = resource_card(TOOK, None, (), Retraining(cpu_hour=3.6, memory_hour=0.0))
    told = chapter(card(candidate(resources=resources)), "Method")
    assert ("training took", "12.0 s, 1.00 GiB of memory at most, 0.011 EUR") in told.tables[0].rows
    assert "training took" not in {name for name, _ in chapter(card(), "Method").tables[0].rows}
