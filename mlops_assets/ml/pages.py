"""Reports as HTML pages that need nothing else: no scripts, no fonts or styles from elsewhere, every text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

NO_SCRIPTS = "default-src 'none'; style-src 'unsafe-inline'"
STYLE = """
:root{color-scheme:light dark;
--ink:#1f2933;--muted:#5f6b7a;--line:#e2e7ed;--page:#f3f6f9;--card:#fcfdfe;
--good:#00714f;--bad:#b34700}
@media(prefers-color-scheme:dark){:root{
--ink:#e6ebf1;--muted:#9aa7b5;--line:#2d3947;--page:#101820;
--card:#18222d;--good:#4cc9a0;--bad:#ff9a57}}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 Inter,system-ui,sans-serif}
main{max-width:900px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:24px;margin:0 0 4px}h2{font-size:17px;margin:0 0 12px}
.lead{font-size:17px;margin:12px 0 24px}.muted{color:var(--muted)}.good{color:var(--good)}.bad{color:var(--bad)}
section{background:var(--card);border:1px solid var(--line);
border-radius:10px;padding:20px;margin:0 0 16px;overflow-x:auto}
table{border-collapse:collapse;width:100%}th,td{padding:6px 10px;text-align:left;border-bottom:1px solid var(--line)}
th{color:var(--muted);font-weight:500;font-size:13px}tr:last-child td{border-bottom:0}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}td.number{white-space:nowrap}
svg{max-width:100%;height:auto}
.boxes{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:12px;margin:0 0 16px}
.boxes>div{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 18px}
.boxes h3{margin:0 0 4px;font-size:13px;font-weight:500;color:var(--muted)}.boxes p{margin:0}
.boxes .good,.boxes .bad{color:inherit;border-left:4px solid var(--good)}.boxes .bad{border-left-color:var(--bad)}
.flow{display:flex;flex-wrap:wrap;gap:8px 26px;list-style:none;margin:0 0 12px;padding:0}
.flow li{position:relative;border:1px solid var(--line);border-radius:8px;padding:8px 14px}
.flow li+li::before{content:"→";position:absolute;left:-20px;top:50%;transform:translateY(-50%);color:var(--muted)}
.flow b{display:block;font-size:13px;font-weight:500;color:var(--muted)}
code,pre{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,monospace;overflow-wrap:anywhere}
pre{background:var(--page);border:1px solid var(--line);border-radius:8px;padding:10px 14px;margin:0 0 10px;
white-space:pre-wrap}
nav{margin:0 0 16px;font-size:13px}nav a{margin-right:14px}a{color:inherit}
td{overflow-wrap:break-word}section>:last-child{margin-bottom:0}
@media print{:root{color-scheme:light;--ink:#000;--muted:#444;--line:#bbb;--page:#fff;--card:#fff}
body{font-size:10.5pt}main{max-width:none;padding:0}nav{display:none}
section,.boxes>div{border-radius:0;overflow:visible;padding:10px 0;border-width:1px 0 0}
.boxes{grid-template-columns:repeat(4,1fr)}.boxes>div{padding-left:10px}svg{max-width:125mm}
h2{break-after:avoid}tr,svg,pre,.boxes>div,.flow li{break-inside:avoid}table{font-size:9pt}th,td{padding:3px 6px}}
"""


class Html(str):
    """Text that is HTML already and must not be escaped again."""

    __slots__ = ()


def page(title: str, subtitle: str, lead: str, sections: Iterable[Html], policy: str = NO_SCRIPTS) -> str:
    """A whole page, which loads nothing and sends nothing."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<style>{STYLE}</style></head><body><main><h1>{escape(title)}</h1>"
        f'<div class="muted">{escape(subtitle)}</div><p class="lead">{escape(lead)}</p>{"".join(sections)}'
        "</main></body></html>"
    )


def section(heading: str, *parts: str) -> Html:
    """A titled card with paragraphs, tables and pictures."""
    return Html(f"<section><h2>{escape(heading)}</h2>{''.join(_paragraph(part) for part in parts)}</section>")


def table(columns: Sequence[str], rows: Iterable[Sequence[str | float]], numeric: int = 1) -> Html:
    """A table whose columns from the `numeric`-th on are figures."""
    head = _row("th", columns, numeric)
    return Html(
        f"<table><thead>{head}</thead><tbody>{''.join(_row('td', row, numeric) for row in rows)}</tbody></table>"
    )


def boxes(told: Iterable[tuple[str, str, bool | None]]) -> Html:
    """A few sentences side by side, each under what it answers, marked as good or bad news or as neither."""
    marks = {True: "good", False: "bad", None: ""}
    return Html(
        '<div class="boxes">'
        + "".join(
            f'<div class="{marks[good]}"><h3>{escape(title)}</h3><p>{escape(text)}</p></div>'
            for title, text, good in told
        )
        + "</div>"
    )


def flow(stations: Iterable[tuple[str, str]]) -> Html:
    """What comes from what, from left to right: what each station is, and its name."""
    told = (f"<li><b>{escape(what)}</b>{escape(name)}</li>" for what, name in stations)
    return Html(f'<ol class="flow">{"".join(told)}</ol>')


def command(text: str) -> Html:
    """A command to be typed."""
    return Html(f"<pre><code>{escape(text)}</code></pre>")


def links(named: Iterable[tuple[str, str]]) -> Html:
    """Links to other pages, which open beside this one. What is no web address is left out."""
    safe = [(name, url) for name, url in named if url.startswith(("http://", "https://"))]
    told = (f'<a href="{escape(url)}" rel="noreferrer" target="_blank">{escape(name)}</a>' for name, url in safe)
    return Html(f"<nav>{''.join(told)}</nav>")


def verdict(text: str, *, good: bool) -> Html:
    """A few words in the colour of good or bad news."""
    return Html(f'<span class="{"good" if good else "bad"}">{escape(text)}</span>')


def plain(text: str) -> str:
    """Text that no spreadsheet takes for a formula, without characters that cannot be seen."""
    printable = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return f"'{printable}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else printable


def _row(tag: str, cells: Sequence[str | float], numeric: int) -> str:
    parts = [
        f"<{tag}>{_html(cell if isinstance(cell, Html) else plain(str(cell)))}</{tag}>"
        if place < numeric
        else f'<{tag} class="number">{_html(cell)}</{tag}>'
        for place, cell in enumerate(cells)
    ]
    return f"<tr>{''.join(parts)}</tr>"


def _paragraph(part: str) -> str:
    return part if isinstance(part, Html) else f"<p>{escape(part)}</p>"


def _html(cell: str | float) -> str:
    return cell if isinstance(cell, Html) else escape(str(cell))
