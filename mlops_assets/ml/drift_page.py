"""The page that a person opens: the verdict and the figures from all rows, and Evidently's pictures of a sample.

Evidently writes names and values into its page as they are, and stops at a column that it cannot draw: what it is
given here is plain numbers and inert text, and what it is not given is named with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from threading import Lock

import numpy as np
import pandas as pd

from mlops_assets.ml.importing import for_good
from mlops_assets.ml.monitoring import PREDICTION, ColumnEffect, DriftReport
from mlops_assets.ml.pages import NO_SCRIPTS, Html, page, plain, section, table, verdict
from mlops_assets.ml.profiles import category_codes, numbers

DRAWN = 20
CATEGORIES_DRAWN = 20
DRAWABLE = 1e150
PART = 1 << 16
METHODS = {"psi": "psi", "js": "jensenshannon"}
SCRIPTS = f"{NO_SCRIPTS}; script-src 'unsafe-inline'; img-src data: blob:; font-src data:"
DRAWING = Lock()
FRAME = "border:0;width:100%;height:90vh;background:#fff"


def draw(report: DriftReport, reference: pd.DataFrame, current: pd.DataFrame) -> str:
    """The page of one report as HTML, with pictures of the rows in `reference` and `current`: bounded samples.

    Only columns that the report judged are drawn, those beyond their thresholds first; personal data are not among
    them. The predictions are drawn from the column PREDICTION where both samples have it.
    """
    judged = sorted(report.columns, key=lambda effect: not effect.beyond)
    effects = [*([report.prediction] if report.prediction else []), *judged]
    before, now, omitted = drawable(reference, current, [effect.column for effect in effects])
    drawn = [effect for effect in effects if inert(effect.column) in before.columns]
    return page(
        f"{report.model}, {report.partition}: {report.verdict}",
        f"{report.rows} rows ({report.usual_rows:.0f} are usual), judged against the {report.reference_rows} rows that "
        f"version {report.version} was fitted on",
        report.sentence,
        [
            *_cause(report),
            section("Every row", _table(effects)),
            *_reasons("Not judged", report.left_out),
            *_reasons("Not drawn", omitted),
            *([_pictures(drawn, before, now)] if drawn else []),
        ],
        policy=SCRIPTS,
    )


def _cause(report: DriftReport) -> list[Html]:
    if report.cause is None:
        return []
    found = [(each.kind, ", ".join(each.columns), each.sentence) for each in report.cause.findings]
    shown = [table(["finding", "columns", "what was found"], found, numeric=3)] if found else []
    good = report.cause.likely != "upstream"
    return [section("The likely cause", verdict(report.cause.likely, good=good), report.cause.sentence, *shown)]


def drawable(
    reference: pd.DataFrame, current: pd.DataFrame, names: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, str]]:
    """Both samples as what Evidently can draw, under inert names, and why the other columns are left out."""
    before, now, omitted = {}, {}, {}
    for name in names:
        reason = f"only {DRAWN} columns are drawn" if len(before) == DRAWN else _undrawable(reference, current, name)
        if reason:
            omitted[name] = reason
            continue
        pair = _as_numbers(reference[name], current[name]) or _as_text(reference[name], current[name])
        if any(side.isna().all() for side in pair):
            omitted[name] = "one side has no value that can be drawn"
            continue
        before[inert(name)], now[inert(name)] = pair
    return pd.DataFrame(before), pd.DataFrame(now), omitted


def inert(text: str) -> str:
    """Text that is markup in no page and a formula in no spreadsheet."""
    return escape(plain(text))


def attribute(text: str) -> str:
    """Text as the value of an attribute, in a byte a character: it is megabytes, and copied until it lies in a file."""
    parts = (text[start : start + PART] for start in range(0, len(text), PART))
    return "".join(escape(part).encode("latin-1", "xmlcharrefreplace").decode("latin-1") for part in parts)


def _undrawable(reference: pd.DataFrame, current: pd.DataFrame, name: str) -> str | None:
    for side, frame in (("reference", reference), ("partition", current)):
        if list(frame.columns).count(name) != 1:
            return f"the {side} holds {list(frame.columns).count(name)} columns of this name"
        if len(frame) < 2:
            return f"the {side} has fewer than two rows"
    return None


def _as_numbers(*columns: pd.Series) -> tuple[pd.Series, ...] | None:
    """Finite floats of a size that a picture can show, None where a column holds something else."""
    found = [values for values in map(numbers, columns) if values is not None]
    if len(found) < len(columns):
        return None
    return tuple(pd.Series(np.where(np.abs(values) < DRAWABLE, values, np.nan)) for values in found)


def _as_text(*columns: pd.Series) -> tuple[pd.Series, ...]:
    """Inert text, missing values as a category of their own, rare categories as one."""
    named = [_named(column) for column in columns]
    frequent = pd.concat([side.value_counts(normalize=True) for side in named]).groupby(level=0).sum()
    kept = set(frequent.sort_index().sort_values(ascending=False, kind="stable").index[:CATEGORIES_DRAWN])
    shown = {value: inert(value) for value in (*kept, "(other)")}
    return tuple(side.where(side.isin(kept), "(other)").map(shown) for side in named)


def _named(column: pd.Series) -> pd.Series:
    codes, values = category_codes(column)
    return pd.Series(np.append(np.array([str(value) for value in values], dtype=object), "(missing)")[codes])


def _pictures(effects: Sequence[ColumnEffect], before: pd.DataFrame, now: pd.DataFrame) -> Html:
    """Evidently's page in a frame of its own, which may run scripts and reach nothing."""
    return section(
        "Evidently",
        f"Pictures of samples: {len(before)} rows of the reference and {len(now)} of this partition. Evidently cuts "
        "bins of its own and never counts missing values, so its scores differ. The verdict above is from every row.",
        Html(
            f'<iframe title="Evidently" sandbox="allow-scripts" style="{FRAME}"'
            f' srcdoc="{attribute(_evidently(effects, before, now))}"></iframe>'
        ),
    )


def _evidently(effects: Sequence[ColumnEffect], before: pd.DataFrame, now: pd.DataFrame) -> str:
    with for_good():
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import ValueDrift

    numeric = [name for name in before.columns if before[name].dtype.kind == "f"]
    definition = DataDefinition(
        numerical_columns=numeric, categorical_columns=[name for name in before.columns if name not in numeric]
    )
    pictures = [
        ValueDrift(column=inert(effect.column), method=METHODS[effect.method], threshold=effect.threshold)
        for effect in effects
    ]
    sides = [Dataset.from_pandas(side, data_definition=definition) for side in (now, before)]
    with _no_template():
        return Report(pictures, include_tests=False).run(*sides).get_html_str(as_iframe=False)


@contextmanager
def _no_template() -> Iterator[None]:
    """Figures made inside are drawn on white, without the 7 KB of colours that plotly copies into each and checks."""
    from plotly.io import templates

    with DRAWING:
        usual, templates.default = templates.default, None
        try:
            yield
        finally:
            templates.default = usual


def _table(effects: Sequence[ColumnEffect]) -> Html:
    return table(
        ("column", "effect", "limit", "method", "weight", "missing before", "missing now", "new categories"),
        [
            (
                effect.column,
                verdict(f"{effect.effect:.4g}", good=not effect.beyond),
                f"{effect.threshold:.4g}",
                effect.method,
                "" if effect.column == PREDICTION else f"{effect.weight:.1%}",
                f"{effect.nulls_before:.1%}",
                f"{effect.nulls_now:.1%}",
                f"{effect.new_category_share:.1%}",
            )
            for effect in effects
        ],
    )


def _reasons(title: str, reasons: Mapping[str, str]) -> list[Html]:
    return [section(title, table(("column", "because"), list(reasons.items()), numeric=2))] if reasons else []
