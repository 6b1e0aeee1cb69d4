"""The drift page: whatever a column holds, the page is drawn, says what it leaves out, and nothing in it is live."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from html import unescape

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.ml.drift_page import CATEGORIES_DRAWN, DRAWN, PART, attribute, draw, drawable
from mlops_assets.ml.monitoring import PREDICTION, Subject, judge, reference_profile
from mlops_assets_tests import toy
from mlops_assets_tests.html import Seen

ROWS = 200
FIRST = datetime(2024, 5, 1, tzinfo=UTC)
SUBJECT = Subject(partition="2024-05-01", first=FIRST, delivery="d5", version=3, usual_rows=ROWS)
AWKWARD = {
    "all_null": np.full(ROWS, np.nan),
    "all_none": np.full(ROWS, None),
    "all_inf": np.full(ROWS, np.inf),
    "some_inf": np.r_[np.inf, -np.inf, np.arange(ROWS - 2.0)],
    "nullable_integer": pd.array([1, 2] * (ROWS // 2), dtype="Int64"),
    "nullable_integer_with_nulls": pd.array([1, None] * (ROWS // 2), dtype="Int64"),
    "truth": np.arange(ROWS) % 2 == 0,
    "decimal": [Decimal("1.5"), Decimal("2.5")] * (ROWS // 2),
    "huge": np.linspace(-1, 1, ROWS) * 1e300,
    "constant": np.ones(ROWS),
    "arrow": pd.array([1.5, None] * (ROWS // 2), dtype="double[pyarrow]"),
    "many": [f"level {row}" for row in range(ROWS)],
}


def page(before: pd.DataFrame, now: pd.DataFrame, **options) -> str:
    predicted = pd.Series(np.arange(len(now), dtype=float)) if len(now) else None
    reference = reference_profile(before, pd.Series(np.arange(len(before), dtype=float)))
    weights = dict.fromkeys(before.columns, 1.0)
    report = judge(toy.spec("landing"), SUBJECT, reference, now, predicted, weights, **options)
    return draw(report, before, now)


@pytest.mark.parametrize("name", AWKWARD)
def test_a_column_that_would_stop_evidently_is_drawn_or_left_out_with_the_reason(name):
    frame = pd.DataFrame({"plain": np.arange(ROWS, dtype=float), name: AWKWARD[name]})
    before, now, omitted = drawable(frame, frame, list(frame.columns))
    assert [*before.columns, *omitted] == ["plain", name] == [*now.columns, *omitted]
    assert all(side.dtypes[column] in (float, object) for side in (before, now) for column in side)
    assert (name in omitted) == (name in {"all_null", "all_inf", "huge"})


def test_all_awkward_columns_together_are_one_page():
    frame = pd.DataFrame(AWKWARD)
    shown = Seen(page(frame, frame))
    assert set(frame.columns) <= set(shown.cells)
    assert "one side has no value that can be drawn" in shown.cells


def unguarded(name):
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    frame = pd.DataFrame({name: AWKWARD[name]})
    side = Dataset.from_pandas(frame, data_definition=DataDefinition(numerical_columns=[name]))
    return Report([ValueDrift(column=name, method="psi")]).run(side, side)


@pytest.mark.parametrize("name", ["all_null", "all_none", "all_inf", "truth", "decimal", "many"])
def test_evidently_stops_at_the_same_column_when_it_is_not_guarded(name):
    with pytest.raises((ValueError, TypeError)):
        unguarded(name)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_partition_too_small_to_draw_still_has_its_page(rows):
    frame = pd.DataFrame({"x": np.arange(ROWS, dtype=float)})
    shown = page(frame, frame.head(rows))
    assert "the partition has fewer than two rows" in Seen(shown).cells
    assert "<iframe" not in shown


def test_columns_of_one_name_are_not_drawn():
    twice = pd.DataFrame(np.ones((ROWS, 2)), columns=["x", "x"])
    _, _, omitted = drawable(twice, twice, ["x"])
    assert omitted == {"x": "the reference holds 2 columns of this name"}


def test_no_more_columns_and_categories_are_drawn_than_a_person_looks_at():
    frame = pd.DataFrame({f"c{number:02}": np.arange(ROWS, dtype=float) for number in range(DRAWN + 2)})
    before, _, omitted = drawable(frame, frame, list(frame.columns))
    assert list(omitted) == ["c20", "c21"]
    assert len(before.columns) == DRAWN
    many = pd.DataFrame({"many": AWKWARD["many"]})
    before, _, _ = drawable(many, many, ["many"])
    assert before["many"].nunique() == CATEGORIES_DRAWN + 1


def test_missing_categories_are_drawn_as_such():
    frame = pd.DataFrame({"x": ["a", None] * (ROWS // 2)})
    before, _, _ = drawable(frame, frame, ["x"])
    assert set(before["x"]) == {"a", "(missing)"}


def test_what_moved_is_drawn_before_what_did_not():
    before = pd.DataFrame({"first": np.arange(ROWS, dtype=float), "second": np.arange(ROWS, dtype=float)})
    shown = page(before, before.assign(second=before["second"] + 150))
    cells = Seen(shown).cells
    assert cells.index("second") < cells.index("first")
    framed = unescape(shown)
    assert framed.index("Drift in column 'second'") < framed.index("Drift in column 'first'")


def test_predictions_are_drawn_where_both_samples_have_them():
    frame = pd.DataFrame({"x": np.arange(ROWS, dtype=float)})
    both = frame.assign(**{PREDICTION: np.arange(ROWS, dtype=float)})
    before, _, omitted = drawable(both, frame, [PREDICTION, "x"])
    assert list(before.columns) == ["x"]
    assert omitted == {PREDICTION: "the partition holds 0 columns of this name"}


def test_the_page_loads_nothing_and_frames_what_evidently_made():
    frame = pd.DataFrame({"x": np.arange(ROWS, dtype=float)})
    tags = Seen(page(frame, frame)).tags
    [policy] = [found["content"] for tag, found in tags if found.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    [frame_attributes] = [found for tag, found in tags if tag == "iframe"]
    assert frame_attributes["sandbox"] == "allow-scripts"


def test_pictures_are_drawn_on_white_and_plotly_keeps_its_own_colours_for_others():
    import plotly.io

    frame = pd.DataFrame({"x": np.arange(ROWS, dtype=float)})
    assert '"layout": {"xaxis"' in unescape(page(frame, frame))
    assert plotly.io.templates.default == "plotly"


@settings(max_examples=15)
@given(text=st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"])), before=st.integers(0, 9))
def test_what_is_framed_is_what_a_browser_reads_in_a_byte_a_character(text, before):
    text = "<&" * (PART // 2) + "-" * before + text
    value = attribute(text)
    [(_, read)] = Seen(f'<iframe srcdoc="{value}"></iframe>').tags[:1]
    assert read["srcdoc"] == text
    assert max(value) <= "\xff"
