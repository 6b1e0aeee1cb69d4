"""The one page that an approver reads: what is asked, what speaks for it, what is missing, and all that it rests on.

The page needs nothing else: it can be sent, printed and kept. Every text on it is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from pydantic import Field

from mlops_assets.ml import charts
from mlops_assets.ml.card import DIGEST, Card, as_sections, chapters, people
from mlops_assets.ml.evaluation import EvaluationReport
from mlops_assets.ml.evaluation_page import sections as of_report
from mlops_assets.ml.monitoring import DriftReport
from mlops_assets.ml.pages import Html, boxes, command, flow, links, page, section, table
from mlops_assets.ml.spec import Value

BARS, NAMED = 10, 3
ELSEWHERE = {"Metrics", "Gates", "Slices", "Waivers, approvals and refusals"}


class Case(Value):
    """A version that may be released, and everything that is to be known for it.

    `asks` is what is asked of whom, `advises` what the rules recommend and `speaks_for` whether that is to release it,
    `lacks` what is missing before it can serve. `evidence` is what the release rests on, by SHA-256.
    """

    card: Card
    asks: str
    advises: str
    speaks_for: bool
    lacks: str
    complete: bool
    commands: tuple[str, ...] = ()
    champion: int | None = None
    champion_drift: DriftReport | None = None
    evidence: dict[str, str] = Field(default_factory=dict)
    addresses: dict[str, str] = Field(default_factory=dict)
    written: datetime


def html(case: Case, pictures: Sequence[str]) -> str:
    """The page; `pictures` are SVG, drawn when the report was made."""
    card = case.card
    about = [
        str(card.spec.get("description", "")).rstrip("."),
        str(card.spec.get("owner", "")),
        f"registered {card.registered:%Y-%m-%d %H:%M} UTC",
        f"this page written {case.written:%Y-%m-%d %H:%M} UTC",
    ]
    lead = f"The rules {'recommend it' if case.speaks_for else 'advise against it'}. {case.advises} {case.lacks}"
    return page(case.asks, " \u00b7 ".join(filter(None, about)), lead, _sections(case, pictures))


def _sections(case: Case, pictures: Sequence[str]) -> Iterator[Html]:
    card = case.card
    yield boxes(_glance(case))
    yield links(case.addresses.items())
    if case.commands:
        yield section("Say yes or no", *(command(text) for text in case.commands), _binding(case))
    yield from as_sections([people(card.said)])
    yield from of_report(card.report, [*_gain(card.report), *pictures])
    yield _drifts(case)
    yield _lineage(case)
    told = [each for each in chapters(card) if each.title not in ELSEWHERE]
    yield from as_sections(each for each in told if not each.title.startswith(("Against", "Drift")))


def _glance(case: Case) -> Iterator[tuple[str, str, bool | None]]:
    """What there is to know, in a few words each."""
    report, drift = case.card.report, case.card.drift
    failed = [gate for gate in report.gates if not gate.passed]
    count = len(report.gates)
    cleared = {0: "none is declared", 1: "the only one is cleared"}.get(count, f"all {count} are cleared")
    yield "Gates", f"{len(failed)} of {count} failed" if failed else cleared, not failed if count else None
    against = report.champion
    beside = {"better": True, "worse": False, "undecided": None}
    told = f"{against.verdict}: gain {against.gain}" if against else str(report.champion_absent)
    yield "Against the champion", told, beside[against.verdict] if against else None
    yield "Drift of what judged it", *_stillness(drift)
    yield "Missing", "nothing" if case.complete else "an answer of people", case.complete


def _stillness(drift: DriftReport | None) -> tuple[str, bool | None]:
    """The verdict with what moved, and whether that is good news."""
    if drift is None:
        return "not known", None
    moved = f": {', '.join(drift.moved[:NAMED])} moved" if drift.moved else ""
    return f"{drift.verdict}{moved}", {"stable": True, "watch": None, "drifted": False}[drift.verdict]


def _binding(case: Case) -> str:
    digests = ", ".join(f"{name} {digest[:DIGEST]}" for name, digest in case.evidence.items())
    return f"An answer is bound to what is shown here ({digests}), and counts no more when any of it changes."


def _gain(report: EvaluationReport) -> list[str]:
    """How much better than the champion on the same rows, as a picture."""
    against = report.champion
    if against is None:
        return []
    title = f"Gain in {report.metric} on champion v{against.champion_version}, on the same {against.rows:,} rows"
    gain = against.gain
    return [charts.interval(against.verdict, (gain.value, gain.low, gain.high), title)]


def _drifts(case: Case) -> Html:
    """How far the data of both have moved from what each learned from."""
    found = [(f"{case.card.name}, on what judged it", case.card.drift)]
    if case.champion is not None and case.champion != case.card.version:
        found.append((f"Champion v{case.champion}, on its newest partition", case.champion_drift))
    parts: list[str] = []
    for who, drift in found:
        parts.append(f"{who}: {drift.sentence if drift else 'nothing is known of its drift.'}")
        parts += [Html(f"<p>{_bars(who, drift)}</p>")] if drift and drift.columns else []
    return section("Drift", *parts)


def _bars(who: str, drift: DriftReport) -> str:
    effects = [*([drift.prediction] if drift.prediction else []), *drift.columns]
    shown = sorted(effects, key=lambda effect: -effect.effect / effect.threshold)[:BARS]
    return charts.bars(
        [effect.column for effect in shown],
        [effect.effect for effect in shown],
        [effect.threshold for effect in shown],
        title=f"{who}: {drift.verdict} ({drift.partition})",
    )


def _lineage(case: Case) -> Html:
    """What came from what: raw bytes, partitions, manifest, model, version."""
    card, manifest = case.card, case.card.candidate.manifest
    known = [part.rows for part in card.parts if part.rows is not None]
    stations = [
        ("raw bytes", f"{len(set(manifest.deliveries.values()))} deliveries"),
        ("validated partitions", f"{len(card.parts)}, {sum(known):,} rows"),
        ("manifest", manifest.digest()[:DIGEST]),
        ("model", card.candidate.model_sha256[:DIGEST]),
        ("report", case.evidence.get("report", card.report.digest())[:DIGEST]),
        ("version", card.name),
    ]
    rests_on = {"model": card.candidate.model_sha256, "manifest": manifest.digest()} | case.evidence
    return section("Lineage", flow(stations), table(("what", "SHA-256"), list(rests_on.items()), numeric=2))
