"""Row 14: markup and formulas in data or in names. Reports are escaped, cells are no formulas."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from mlops_assets.ml import charts, drift_page, evaluation_page, pages
from mlops_assets.ml.evaluation import SliceMetrics
from mlops_assets.ml.monitoring import Subject, judge, reference_profile
from mlops_assets_tests import evidence, toy
from mlops_assets_tests.html import Seen

ROWS = 300
HOSTILE = [
    "</script><img src=x onerror=alert('canary')>",
    '"><svg onload=alert("canary")>',
    "<script>alert('canary')</script>",
    "'><a href=javascript:canary>",
    "=HYPERLINK('canary')",
    "+canary",
    "-canary",
    "@canary",
    "\tcanary",
    "\rcanary",
]
FIRST = datetime(2024, 5, 1, tzinfo=UTC)
SUBJECT = Subject(partition="2024-05-01", first=FIRST, delivery="d5", version=3, usual_rows=ROWS)


def world() -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame({"kind": random.choice(HOSTILE, ROWS), **{name: random.normal(0, 1, ROWS) for name in HOSTILE}})


def naive_page(frame: pd.DataFrame) -> str:
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    definition = DataDefinition(categorical_columns=["kind"], numerical_columns=HOSTILE)
    side = Dataset.from_pandas(frame, data_definition=definition)
    pictures = [ValueDrift(column=name, method="psi") for name in frame.columns]
    return Report(pictures).run(side, side).get_html_str(as_iframe=False)


def drift_report_page(frame: pd.DataFrame) -> str:
    predicted = frame["kind"].astype("category")
    report = judge(
        toy.spec("landing", task="multiclass", evaluation={"metric": "accuracy"}, gates=[]),
        SUBJECT,
        reference_profile(frame, predicted),
        frame,
        predicted,
        dict.fromkeys(frame.columns, 1.0),
    )
    left_out = {f"{name} left out": name for name in HOSTILE}
    return drift_page.draw(report.model_copy(update={"left_out": left_out}), frame, frame)


def evaluation_report_page() -> str:
    slices = [SliceMetrics(column=name, value=name, rows=1, metrics={"mae": 1.0}) for name in HOSTILE]
    report = evidence.report(evidence.candidate(), slices=tuple(slices), sentence=HOSTILE[0], baseline_name=HOSTILE[1])
    picture = charts.bars(HOSTILE, [1.0] * len(HOSTILE), title=HOSTILE[2])
    return evaluation_page.html(report, [picture])


def hand_made_page() -> str:
    table = pages.table(HOSTILE, [HOSTILE], numeric=len(HOSTILE))
    return pages.page(HOSTILE[0], HOSTILE[1], HOSTILE[2], [pages.section(HOSTILE[3], table, HOSTILE[4])])


@pytest.mark.fault(14)
def test_nothing_in_data_or_names_becomes_markup_or_a_formula_in_a_report(record_figure):
    frame = world()
    naive = Seen(naive_page(frame))
    assert len(naive.live("canary")) > 0
    shown = [Seen(page) for page in (drift_report_page(frame), evaluation_report_page(), hand_made_page())]
    live = sum(len(page.live("canary")) for page in shown)
    formulas = sum(len(page.formulas()) for page in shown)
    record_figure(live_tags=live, live_formulas=formulas, live_tags_unguarded=len(naive.live("canary")))
    assert (live, formulas) == (0, 0)
    assert all(any("canary" in cell for cell in page.cells) for page in shown)


@pytest.mark.fault(14)
def test_a_picture_carries_hostile_names_as_text():
    svg = charts.bars(HOSTILE, [1.0] * len(HOSTILE), title=HOSTILE[0])
    assert Seen(svg).live("canary") == []
    assert "](" not in charts.markdown(svg, f"]({HOSTILE[0]})")[2:].split("](data:")[0]
