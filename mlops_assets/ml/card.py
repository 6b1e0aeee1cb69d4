"""The model card: what one registered version is, what it was made of, how good it is, and what nobody knows about it.

Values in, values out. A card is told in chapters of sentences and tables, which are written as Markdown for Dagster's
metadata and as HTML for people. It holds no value of any row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from mlops_assets.ml.charts import figure
from mlops_assets.ml.evaluation import Comparison, Estimate, EvaluationReport
from mlops_assets.ml.gates import GateResult, bar, measured, written
from mlops_assets.ml.holdout import listed
from mlops_assets.ml.ledger import Link
from mlops_assets.ml.metrics import MEANING
from mlops_assets.ml.monitoring import DriftReport
from mlops_assets.ml.pages import Html, section, table
from mlops_assets.ml.resource_card import sentence
from mlops_assets.ml.spec import FairnessGate, Value
from mlops_assets.ml.training import Candidate
from mlops_assets.ml.validation import ValidatedPartition

DIGEST = 12
FINGERPRINT = len("SHA256:") + DIGEST
HEAVIEST = 12
SAYINGS = ("waived", "asked", "approved", "refused", "reproduced")
PERSONAL = "Values of columns that are marked as personal data are shown nowhere, in slices neither."


class Table(Value):
    """Rows of text under their columns, of which those from the `numeric`-th on are figures."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: int = 1


class Chapter(Value):
    """A part of a card: sentences, then tables."""

    title: str
    says: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()


class Part(Value):
    """One partition that a version learned from or was judged on, as it was then. Without rows: as far as is known."""

    partition: str
    role: str
    delivery: str
    content: str
    first: datetime | None = None
    last: datetime | None = None
    rows: int | None = None
    quarantined: int | None = None

    @property
    def bad_share(self) -> float | None:
        """The share of delivered rows that was quarantined."""
        if self.rows is None or self.quarantined is None or not self.rows + self.quarantined:
            return None
        return self.quarantined / (self.rows + self.quarantined)


class Said(Value):
    """What a person said of a version or of a gate of it, by an entry of the ledger."""

    entry: int
    what: str
    who: str
    why: str
    when: datetime
    expires: datetime | None = None
    known_by: str = ""


class Card(Value):
    """A version as it was registered. `drift` is how far its hold-out lay from what it had learned from."""

    model: str
    version: int
    registered: datetime
    candidate: Candidate
    report: EvaluationReport
    parts: tuple[Part, ...]
    drift: DriftReport | None = None
    said: tuple[Said, ...] = ()

    @property
    def spec(self) -> Mapping[str, Any]:
        """The declaration that the version was made by, as its manifest has it."""
        return self.candidate.manifest.spec

    @property
    def name(self) -> str:
        """The version as people call it."""
        return f"{self.model} v{self.version}"


def parts_of(
    candidate: Candidate, known: Mapping[str, ValidatedPartition], contents: Mapping[str, str]
) -> tuple[Part, ...]:
    """What a candidate was made of, oldest first; of a partition that was corrected since only the digests are known.

    `contents` are, by partition, the digests of the rows as they are now.
    """
    manifest = candidate.manifest
    roles = dict.fromkeys(manifest.fitted_partitions, "learned from") | dict.fromkeys(
        manifest.holdout_partitions, "judged on"
    )
    return tuple(_part(key, role, candidate, known.get(key), contents) for key, role in roles.items())


def _part(
    key: str, role: str, candidate: Candidate, now: ValidatedPartition | None, contents: Mapping[str, str]
) -> Part:
    manifest = candidate.manifest
    delivery, content = manifest.deliveries.get(key, ""), manifest.contents.get(key, "")
    about: dict[str, Any] = {"partition": key, "role": role, "delivery": delivery, "content": content}
    if now is not None and contents.get(key) == content:
        about |= {"first": now.first, "last": now.last, "rows": now.rows_out, "quarantined": now.rows_quarantined}
    return Part(**about)


def said_of(links: Iterable[Link], model: str, version: int | None, candidate: str) -> tuple[Said, ...]:
    """What people said of a version, or of the candidate that became it, in order."""
    about = [(link.sequence, link.entry) for link in links if link.model == model and link.entry.kind in SAYINGS]
    return tuple(
        Said(
            entry=sequence,
            what=f"{entry.kind} {entry.gate}" if entry.gate else entry.kind,
            who=entry.who,
            why=entry.why,
            when=entry.when,
            expires=entry.expires,
            known_by=" ".join(filter(None, (entry.via, (entry.key or "")[:FINGERPRINT]))),
        )
        for sequence, entry in about
        if entry.candidate == candidate or (entry.version is not None and entry.version == version)
    )


def chapters(card: Card) -> tuple[Chapter, ...]:
    """Everything that the card says, in the order in which a person asks."""
    return (
        _purpose(card),
        _metrics(card.report),
        against_champion(card.report),
        _gates(card.report),
        _slices(card.report),
        _limits(card),
        _drift(card.drift),
        _data(card),
        _method(card),
        people(card.said),
    )


def markdown(card: Card) -> str:
    """The card as Markdown, as Dagster shows it."""
    return "\n\n".join([f"# {_inert(card.name)}", *(part for each in chapters(card) for part in _told(each))])


def as_sections(told: Iterable[Chapter]) -> Iterator[Html]:
    """Chapters as sections of a page."""
    for each in told:
        tables = [table(part.columns, part.rows, part.numeric) for part in each.tables]
        yield section(each.title, *each.says, *tables)


def _purpose(card: Card) -> Chapter:
    spec = card.spec
    task = f"{spec.get('task', 'unknown')} of {spec.get('target', 'unknown')}"
    facts = [
        ("owner", str(spec.get("owner", "unknown"))),
        ("task", task),
        ("registered", f"{card.registered:%Y-%m-%d %H:%M} UTC"),
        ("model", card.candidate.model_sha256),
        ("MLflow run", card.candidate.mlflow_run_id),
    ]
    says = str(spec.get("description", "No purpose is declared."))
    return Chapter(title="Purpose", says=(says,), tables=(_facts(facts),))


def _metrics(report: EvaluationReport) -> Chapter:
    naive = report.baseline
    rows = tuple(
        (
            name,
            MEANING[name],
            figure(found.value),
            _range(found),
            figure(naive[name].value) if name in naive else "undefined",
        )
        for name, found in report.metrics.items()
    )
    columns = ("metric", "meaning", "value", f"{report.confidence:.0%} interval", f"naive: {report.baseline_name}")
    absent = tuple(f"{name} is undefined: {why}." for name, why in report.absent.items())
    skill = () if report.skill is None else (f"{report.skill:.1%} of the naive guess's error is gone.",)
    about = f"On {report.rows:,} rows of {listed(report.partitions)}, which it had not seen."
    return Chapter(
        title="Metrics", says=(about, *skill, *absent), tables=(Table(columns=columns, rows=rows, numeric=2),)
    )


def against_champion(report: EvaluationReport) -> Chapter:
    """The comparison with the champion on the same rows, or why there is none."""
    if report.champion is None:
        return Chapter(title="Against the champion", says=(str(report.champion_absent),))
    return Chapter(
        title=f"Against the champion: {report.champion.verdict}", tables=(_compared(report.champion, report),)
    )


def _compared(against: Comparison, report: EvaluationReport) -> Table:
    rows = (
        (f"champion v{against.champion_version}", figure(against.champion.value), _range(against.champion)),
        ("this version", figure(against.candidate.value), _range(against.candidate)),
        ("gain (positive is better)", figure(against.gain.value), _range(against.gain)),
    )
    of = f"{report.metric} on the same {against.rows:,} rows of {listed(against.partitions)}"
    return Table(columns=(of, report.metric, "interval"), rows=rows)


def _gates(report: EvaluationReport) -> Chapter:
    if not report.gates:
        return Chapter(title="Gates", says=("No gate is declared.",))
    rows = tuple(_gate(each) for each in report.gates)
    columns = ("gate", "asks for", "is", "interval", "from", "verdict")
    return Chapter(title="Gates", tables=(Table(columns=columns, rows=rows, numeric=len(columns)),))


def _gate(found: GateResult) -> tuple[str, ...]:
    """A gate with all its numbers: the figure, its interval, and the figures that it came from."""
    known = found.low is not None and found.high is not None
    parts = [f"{name} {_figure(value)}" for name, value in found.parts.items()]
    rows = [f"{found.rows:,} rows or cases"] if found.rows is not None else []
    return (
        found.gate.called,
        bar(found.gate),
        measured(found),
        f"{written(found.gate, found.low)} to {written(found.gate, found.high)}" if known else "",
        "; ".join(filter(None, [found.about, *parts, *rows])),
        "passed" if found.passed else "failed",
    )


def _slices(report: EvaluationReport) -> Chapter:
    if not report.slices:
        return Chapter(
            title="Slices", says=("How good it is on parts of the rows is not known: no slice has rows enough.",)
        )
    names = list(report.metrics)
    rows = tuple(
        (part.column, part.value, f"{part.rows:,}", *(_figure(part.metrics.get(name)) for name in names))
        for part in report.slices
    )
    return Chapter(title="Slices", tables=(Table(columns=("column", "value", "rows", *names), rows=rows, numeric=2),))


def _limits(card: Card) -> Chapter:
    return Chapter(title="Limits", says=tuple(limits(card)))


def limits(card: Card) -> Iterator[str]:
    """What was not judged, and what was left out: where the version is not to be relied upon."""
    report, manifest = card.report, card.candidate.manifest
    judged = [part for part in card.parts if part.role == "judged on" and part.last]
    until = max((part.last for part in judged if part.last), default=None)
    if until:
        yield f"It was judged on rows until {until:%Y-%m-%d %H:%M} UTC; nothing was known of later ones."
    if report.champion is None:
        yield f"It was compared with no champion: {report.champion_absent}"
    elif report.champion.verdict == "undecided":
        yield "Its difference from the champion may be chance: the interval of the gain holds 0."
    if not any(isinstance(each.gate, FairnessGate) for each in report.gates):
        yield "Whether it serves groups of people alike was not judged: no gate compares any."
    if not report.slices:
        yield "It was judged as a whole only: no slice of the rows has figures of its own."
    yield from (f"{name} was not judged: {why}." for name, why in report.absent.items())
    yield from report.notes
    for key, left in manifest.left_out.items():
        yield f"{key} was left out, of fitting and of judging: {left.reason}"
    if unknown := [part.partition for part in card.parts if part.rows is None]:
        yield f"Corrected since, so that only digests are known of what it was made of: {listed(unknown)}."
    yield PERSONAL


def _drift(found: DriftReport | None) -> Chapter:
    if found is None:
        return Chapter(
            title="Drift at release", says=("How far its hold-out lay from what it learned from is not known.",)
        )
    return Chapter(title=f"Drift at release: {found.verdict}", says=(found.sentence,), tables=(moved(found),))


def moved(found: DriftReport) -> Table:
    """The heaviest columns of a drift report, each with its effect and its limit."""
    effects = [*([found.prediction] if found.prediction else []), *found.columns[:HEAVIEST]]
    rows = tuple(
        (
            each.column,
            f"{each.effect:.4g}{' (beyond)' if each.beyond else ''}",
            f"{each.threshold:.4g}",
            each.method,
            f"{each.weight:.1%}",
        )
        for each in effects
    )
    return Table(columns=("column", "effect", "limit", "method", "weight"), rows=rows)


def _data(card: Card) -> Chapter:
    known = [part for part in card.parts if part.rows is not None]
    total, bad = sum(part.rows or 0 for part in known), sum(part.quarantined or 0 for part in known)
    share = f"{bad / (total + bad):.2%} of what was delivered" if total + bad else "none"
    says = [f"{total:,} rows of {len(known)} partitions; {bad:,} more rows ({share}) broke the contract: quarantined."]
    left = card.candidate.manifest.left_out
    says += [f"{key} lay in the window and was left out: {each.reason}" for key, each in left.items()]
    labels = card.candidate.manifest.labels
    late = [f"{key} {version[:DIGEST]}" for key, version in labels.items() if version]
    says += [f"Labels came later, in deliveries of their own: {', '.join(late)}."] if late else []
    columns = ("partition", "used as", "from", "to", "rows", "quarantined", "delivery", "content")
    rows = tuple(
        (
            part.partition,
            part.role,
            _day(part.first),
            _day(part.last),
            "?" if part.rows is None else f"{part.rows:,}",
            "?" if part.bad_share is None else f"{part.bad_share:.2%}",
            part.delivery[:DIGEST],
            part.content[:DIGEST],
        )
        for part in card.parts
    )
    return Chapter(title="Data", says=tuple(says), tables=(Table(columns=columns, rows=rows, numeric=2),))


def _method(card: Card) -> Chapter:
    spec, manifest = card.spec, card.candidate.manifest
    estimator, training = spec.get("estimator", {}), spec.get("training", {})
    steps = [_step(step) for step in spec.get("features", [])]
    facts = [
        ("estimator", str(estimator.get("path", "unknown"))),
        ("parameters", _json(estimator.get("params", {})) or "its defaults"),
        ("features", "; ".join(steps) or "the columns as they are"),
        ("inputs", ", ".join(card.candidate.inputs)),
        ("seed", str(spec.get("seed", "unknown"))),
        ("window", f"{training.get('window') or 'all partitions'}; {len(manifest.fitted_partitions)} taught it"),
        ("rows learned from", f"{card.candidate.fitted_rows:,}"),
        *([("training took", sentence(card.candidate.resources))] if card.candidate.resources else []),
        ("manifest", manifest.digest()),
        ("code", manifest.code),
        ("locked packages", manifest.lock),
        ("environment", ", ".join(f"{name} {version}" for name, version in manifest.environment.items())),
    ]
    ranked = sorted(card.candidate.importance.items(), key=lambda each: (-each[1], each[0]))[:HEAVIEST]
    weights = Table(columns=("input", "importance"), rows=tuple((name, f"{share:.1%}") for name, share in ranked))
    return Chapter(title="Method", tables=(_facts(facts), *([weights] if ranked else [])))


def people(said: Sequence[Said]) -> Chapter:
    """Waivers, approvals and refusals, each with how long it holds."""
    title = "Waivers, approvals and refusals"
    if not said:
        return Chapter(title=title, says=("Nothing was waived, approved or refused.",))
    rows = tuple(
        (
            str(each.entry),
            each.what,
            each.who,
            each.why,
            each.known_by,
            f"{each.when:%Y-%m-%d %H:%M}",
            f"{each.expires:%Y-%m-%d %H:%M}" if each.expires else "",
        )
        for each in said
    )
    columns = ("entry", "what", "who", "why", "known by", "when (UTC)", "holds until")
    return Chapter(title=title, tables=(Table(columns=columns, rows=rows, numeric=5),))


def _facts(facts: Sequence[tuple[str, str]]) -> Table:
    return Table(columns=("", ""), rows=tuple(facts), numeric=2)


def _step(step: Mapping[str, Any]) -> str:
    """A declared feature step in words."""
    if step.get("path"):
        return f"{step['path']} {_json(step.get('params'))}".strip()
    kind = "cyclic" if step.get("cyclic") else "calendar"
    return f"{kind}: {', '.join(step.get(kind, ()))}"


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True) if value else ""


def _range(estimate: Estimate) -> str:
    return f"{figure(estimate.low)} to {figure(estimate.high)}"


def _figure(value: float | None) -> str:
    return "undefined" if value is None else figure(value)


def _day(moment: datetime | None) -> str:
    return "?" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def _told(chapter: Chapter) -> Iterator[str]:
    """A chapter as Markdown."""
    yield f"## {_inert(chapter.title)}"
    yield from (_inert(text) for text in chapter.says)
    yield from (_grid(part) for part in chapter.tables if part.rows)


def _grid(part: Table) -> str:
    under = [("---:" if place >= part.numeric else "---") for place in range(len(part.columns))]
    lines = [part.columns, under, *part.rows]
    return "\n".join(f"| {' | '.join(_inert(str(cell)) for cell in line)} |" for line in lines)


def _inert(text: str) -> str:
    """Text that is no markup in Markdown, and stays in its cell."""
    shown = (character if character.isprintable() else "\ufffd" for character in text)
    kept = "".join(f"\\{character}" if character in "\\`*_[]|#" else character for character in shown)
    return kept.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
