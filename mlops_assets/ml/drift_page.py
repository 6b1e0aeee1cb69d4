"""The page that a person opens: the verdict and the figures from all rows, and Evidently's pictures of a sample.

Evidently writes names and values into its page as they are, and stops at a column that it cannot draw: what it is
given here is plain numbers and inert text, and what it is not given is named with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

import numpy as np
import pandas as pd

from mlops_assets.ml.monitoring import PREDICTION, ColumnEffect, DriftReport
from mlops_assets.ml.profiles import category_codes, numbers

DRAWN = 20
CATEGORIES_DRAWN = 20
DRAWABLE = 1e150
METHODS = {"psi": "psi", "js": "jensenshannon"}
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline';"
    " img-src data: blob:; font-src data:"
)
STYLE = """
.verdict { font: 15px/1.5 system-ui, sans-serif; max-width: 960px; margin: 24px auto; padding: 0 16px; color: #1f2933 }
.verdict h1 { font-size: 22px } .verdict h2 { font-size: 17px; margin-top: 28px }
.verdict table { border-collapse: collapse; width: 100% }
.verdict td, .verdict th { text-align: right; padding: 4px 10px; border-bottom: 1px solid #e2e7ed }
.verdict td:first-child, .verdict th:first-child { text-align: left }
.verdict .beyond td { color: #b34700; font-weight: 600 }
"""


def draw(report: DriftReport, reference: pd.DataFrame, current: pd.DataFrame) -> str:
    """The page of one report as HTML, with pictures of the rows in `reference` and `current`: bounded samples.

    Only columns that the report judged are drawn, those beyond their thresholds first; personal data are not among
    them. The predictions are drawn from the column PREDICTION where both samples have it.
    """
    judged = sorted(report.columns, key=lambda effect: not effect.beyond)
    found = [*([report.prediction] if report.prediction else []), *judged]
    before, now, omitted = drawable(reference, current, [effect.column for effect in found])
    effects = [effect for effect in found if inert(effect.column) in before.columns]
    header = _header(report, omitted, len(before), len(now))
    return _evidently(effects, before, now, header) if effects else _page(header)


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
    printable = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return escape(f"'{printable}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else printable)


def _undrawable(reference: pd.DataFrame, current: pd.DataFrame, name: str) -> str | None:
    for side, frame in (("reference", reference), ("partition", current)):
        if list(frame.columns).count(name) != 1:
            return f"the {side} holds {list(frame.columns).count(name)} columns of this name"
        if len(frame) < 2:
            return f"the {side} has fewer than two rows"
    return None


def _as_numbers(*columns: pd.Series) -> tuple[pd.Series, ...] | None:
    """Finite floats of a size that a picture can show, None where a column holds something else."""
    found = [numbers(column) for column in columns]
    if any(values is None for values in found):
        return None
    return tuple(pd.Series(np.where(np.abs(values) < DRAWABLE, values, np.nan)) for values in found)


def _as_text(*columns: pd.Series) -> tuple[pd.Series, ...]:
    """Inert text, missing values as a category of their own, rare categories as one."""
    named = [_named(column) for column in columns]
    frequent = pd.concat([side.value_counts(normalize=True) for side in named]).groupby(level=0).sum()
    kept = set(frequent.sort_index().sort_values(ascending=False, kind="stable").index[:CATEGORIES_DRAWN])
    return tuple(side.where(side.isin(kept), "(other)").map(inert) for side in named)


def _named(column: pd.Series) -> pd.Series:
    codes, values = category_codes(column)
    return pd.Series(np.append(np.array([str(value) for value in values], dtype=object), "(missing)")[codes])


def _evidently(effects: Sequence[ColumnEffect], before: pd.DataFrame, now: pd.DataFrame, header: str) -> str:
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
    page = Report(pictures, include_tests=False).run(*sides).get_html_str(as_iframe=False)
    start, body, end = page.partition("<body>")
    return f"{start.replace('<head>', f'<head>{_policy()}', 1)}{body}{header}{end}"


def _page(header: str) -> str:
    return f'<!DOCTYPE html><html lang="en"><head><meta charset="UTF-8">{_policy()}</head><body>{header}</body></html>'


def _policy() -> str:
    """The page loads nothing and sends nothing, whatever stands in it."""
    return f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><style>{STYLE}</style>'


def _header(report: DriftReport, omitted: dict[str, str], before: int, now: int) -> str:
    title = f"{report.model}, {report.partition}: {report.verdict}"
    pictures = f"Evidently's pictures and scores below are of samples: {before} rows of the reference, {now} of these."
    return f"""<main class="verdict"><h1>{inert(title)}</h1><p>{inert(report.sentence)}</p>
<p>{report.rows} rows ({report.usual_rows:.0f} are usual), judged against the {report.reference_rows} rows that version
{report.version} was fitted on. All figures in this table are from all rows.</p>
<table><tr><th>column</th><th>effect</th><th>limit</th><th>method</th><th>weight</th><th>missing before</th>
<th>missing now</th><th>new categories</th></tr>{"".join(_rows(report))}</table>
{_reasons("Not judged", report.left_out)}{_reasons("Not drawn", omitted)}
<p>{pictures if before and now else "Nothing could be drawn."}</p></main>"""


def _rows(report: DriftReport) -> Iterator[str]:
    for effect in (*([report.prediction] if report.prediction else []), *report.columns):
        cells = (
            inert(effect.column),
            f"{effect.effect:.4g}",
            f"{effect.threshold:.4g}",
            effect.method,
            "" if effect.column == PREDICTION else f"{effect.weight:.1%}",
            f"{effect.nulls_before:.1%}",
            f"{effect.nulls_now:.1%}",
            f"{effect.new_category_share:.1%}",
        )
        kind = ' class="beyond"' if effect.beyond else ""
        yield f"<tr{kind}>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _reasons(title: str, reasons: dict[str, str]) -> str:
    items = "".join(f"<li>{inert(name)}: {inert(reason)}</li>" for name, reason in reasons.items())
    return f"<h2>{title}</h2><ul>{items}</ul>" if items else ""
