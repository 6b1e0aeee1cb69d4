"""Pictures: whole SVG whatever the figures are, nothing unescaped, small however many rows they stand for."""

import base64
import itertools
import math
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.ml import charts
from mlops_assets.ml.charts import Moment, Point

NASTY = '</text><script>alert(1)</script>"&'
SVG = "{http://www.w3.org/2000/svg}"
numbers = st.floats(allow_nan=True, allow_infinity=True)


def texts(svg):
    return [node.text or "" for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314


def tags(svg):
    return {node.tag.removeprefix(SVG) for node in ElementTree.fromstring(svg).iter()}  # noqa: S314


@given(st.lists(st.tuples(st.text(), numbers, st.none() | st.floats(0, 10)), max_size=6), st.text())
@settings(max_examples=60, deadline=None)
def test_bars_are_drawn_for_any_figures_and_names(rows, title):
    labels, values, limits = zip(*rows, strict=True) if rows else ((), (), ())
    drawn = charts.bars(labels, values, limits, title)
    assert len(texts(drawn)) == 1 + 2 * len(rows)


@pytest.mark.parametrize("values", [[], [0.0], [math.nan], [1.0, math.inf], [3.0, 3.0], [-2.0, 5.0], [1e-12, 1e12]])
def test_every_picture_is_whole_whatever_the_figures_are(values):
    points = [Point(f"v{place}", value, value, math.nan) for place, value in enumerate(values)]
    finite = np.array([value for value in values if math.isfinite(value)])
    for drawn in (
        charts.line(points, "t"),
        charts.bars([p.label for p in points], values),
        charts.density(finite, finite),
    ):
        assert tags(drawn) >= {"svg", "title", "rect"}
        assert 'nan"' not in drawn
        assert 'inf"' not in drawn


@pytest.mark.parametrize("points", [[], [(0.0, 1.0)], [(240.0, 0.3), (250.0, 0.3), (400.0, 1.0)]])
def test_the_arrival_of_labels_rises_in_steps_to_the_share_that_has_come(points):
    drawn = charts.steps(points, NASTY)
    assert "script" not in tags(drawn)
    assert texts(drawn)[-1] == f"{points[-1][1] if points else 0:.0%}"


def test_a_figure_that_is_not_settled_is_hollow():
    settled, open_ = (charts.line([Point("p", 1, 0, 2, settled=settled)], "t") for settled in (True, False))
    assert settled.count(f'fill="{charts.CARD}" stroke="{charts.BLUE}"') == 0
    assert open_.count(f'fill="{charts.CARD}" stroke="{charts.BLUE}"') == 1


def test_names_are_escaped_in_every_picture():
    drawn = [
        charts.bars([NASTY], [1], None, NASTY),
        charts.line([Point(NASTY, 1, 0, 2)], NASTY),
        charts.density(np.arange(9.0), np.arange(9.0), NASTY),
        charts.calibration(np.array([0, 1]), np.array([0.2, 0.7]), NASTY),
        charts.confusion(np.eye(2), [NASTY, "b"], NASTY),
    ]
    assert all("script" not in tags(svg) for svg in drawn)


def test_a_bar_over_its_threshold_stands_out_and_one_at_it_does_not():
    assert charts.VERMILION in charts.bars(["a"], [0.21], [0.2])
    assert charts.VERMILION not in charts.bars(["a"], [0.2], [0.2])


@pytest.mark.parametrize(("label", "count"), [("1997-03-{:02}", 12), ("v{}", 14), ("1997-03-{:02}", 1)])
def test_labels_below_a_line_do_not_touch_and_the_newest_is_named(label, count):
    named = [label.format(number) for number in range(1, count + 1)]
    drawn = charts.line([Point(name, 1.0, 0.9, 1.1) for name in named], "metric")
    nodes = [node for node in ElementTree.fromstring(drawn).iter(f"{SVG}text") if node.text in named]  # noqa: S314
    shown = {node.text: float(node.attrib["x"]) for node in nodes}
    assert named[-1] in shown
    places = sorted(shown.values())
    assert all(b - a > 6.5 * len(named[-1]) for a, b in itertools.pairwise(places))
    assert len(shown) >= min(count, 6)


def test_champions_are_marked_on_the_line():
    plain = charts.line([Point("v1", 1, 0, 2), Point("v2", 2, 1, 3)])
    marked = charts.line([Point("v1", 1, 0, 2, champion=True), Point("v2", 2, 1, 3)])
    assert "champion" not in texts(plain)
    assert "champion" in texts(marked)
    assert marked.count("<polygon") == 2


def test_a_density_counts_every_row_and_stays_small():
    random = np.random.default_rng(0)
    actual = random.gamma(2, 90, 200_000)
    drawn = charts.density(actual, actual + random.normal(0, 40, len(actual)))
    assert "200,000 rows" in texts(drawn)
    assert len(drawn) < 25_000


def test_one_wild_prediction_does_not_hide_the_others():
    actual = np.arange(10_000.0)
    predicted = actual.copy()
    predicted[0] = 1e9
    assert not any("e+" in text or text == "1,000,000,000" for text in texts(charts.density(actual, predicted)))


def test_calibration_places_a_dot_for_each_group_that_has_rows():
    drawn = charts.calibration(np.array([0, 1, 1, 1]), np.array([0.05, 0.05, 0.95, 1.0]))
    assert drawn.count("<circle") == 2


def test_confusion_shows_the_share_of_each_actual_class():
    assert {"75%", "25%", "100%", "0%"} <= set(texts(charts.confusion([[3, 1], [0, 2]], ["a", "b"])))


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234567.8, "1,234,568"), (0.123456, "0.1235"), (12.0, "12"), (math.nan, "\u2013"), (-1000, "-1,000")],
)
def test_figures_are_written_for_people(value, text):
    assert charts.figure(value) == text


def test_markdown_carries_the_picture_and_a_harmless_caption():
    text = charts.markdown("<svg/>", "a [b](c)\n d")
    assert text.startswith("![a b(c) d](data:image/svg+xml;base64,")
    assert base64.b64decode(text.split("base64,")[1].rstrip(")")) == b"<svg/>"


def test_courses_draw_a_line_for_each_and_a_dot_where_one_is_marked():
    lines = {NASTY: [1.0, None, math.nan, 4.0], "flat": [2.0, 2.0, 2.0, 2.0]}
    drawn = charts.courses(list("abcd"), lines, {"flat": [False, True, False, True]}, [2], NASTY)
    assert "script" not in tags(drawn)
    assert drawn.count("<polyline") == 2
    assert drawn.count("<circle") == 2
    assert {"a", "b", "c", "d", "flat"} <= set(texts(drawn))
    assert charts.courses([], {}, {}).endswith("</svg>")


def test_courses_bear_a_cross_where_one_is_known_and_crossed():
    lines = {"one": [1.0, None, math.nan, 4.0], "flat": [2.0, 2.0, 2.0, 2.0]}
    plain = charts.courses(list("abcd"), lines, {})
    crossed = charts.courses(list("abcd"), lines, {}, crossed={"one": [False, True, True, True]})
    assert crossed.count("<path") == plain.count("<path") + 1


figures = st.none() | st.integers(-(10**6), 10**6).map(lambda thousandths: thousandths / 1000)
odd = st.sampled_from([math.nan, math.inf, -math.inf])
moments = st.builds(
    Moment,
    st.text(max_size=20),
    figures | odd,
    figures | odd,
    st.booleans(),
    st.sampled_from([None, "RETRAIN", "WAIT"]),
    st.sampled_from([None, "champion", "challenger"]),
)


@given(st.lists(moments, max_size=12), st.text())
@settings(max_examples=60, deadline=None)
def test_a_timeline_is_drawn_for_any_figures_and_names(known, title):
    drawn = charts.timeline(known, title)
    assert "script" not in tags(drawn)
    assert 'points="nan' not in drawn
    assert drawn.count("<circle") == sum(each.value is not None and math.isfinite(each.value) for each in known)


def test_a_timeline_marks_trainings_and_the_verdict_on_each_partition():
    drawn = charts.timeline([Moment("p1", 3.0, 6.0, verdict="WAIT"), Moment("p2", 5.0, 6.0, verdict="RETRAIN")])
    trained = charts.timeline([Moment("p1", 3.0), Moment("p2", 4.0, trained="champion")])
    assert {"W", "R", "p1", "p2"} <= set(texts(drawn))
    assert (drawn.count("<polyline"), trained.count("<polyline")) == (2, 1)
    assert (drawn.count('dasharray="2 3"'), trained.count('dasharray="2 3"')) == (0, 1)
