"""Months of the shipped models' lives, played in one process: delivered, seen by the real sensors, run, and told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from mlops_assets import settings
from mlops_assets.definitions import defs
from mlops_assets.demo.player import Player, Ran
from mlops_assets.lifecycle.labels import RAW_LABELS
from mlops_assets.ml.charts import figure
from mlops_assets.ml.evaluation import EvaluationReport
from mlops_assets.ml.monitoring import DriftReport
from mlops_assets.ml.performance import PerformanceReport
from mlops_assets.ml.planning import DECISION
from mlops_assets.ml.registration import Champion, RegisteredVersion
from mlops_assets.ml.retraining import RetrainingDecision
from mlops_assets.ml.validation import QuarantinedPartition
from mlops_assets.resources.records import Records
from mlops_assets.simulation.delivery import World, backdate
from mlops_assets.simulation.provider import Provider

HISTORY = {"bike_demand": 9, "electricity_price": 48}
PLAYED_A_MONTH = {"bike_demand": 1, "electricity_price": 2}
MOST_LOOKS = 4
TELLING = ("performance_drop", "raise_alerts", "deliver_alerts")
VALIDATION, GATE = "validation", "evaluation_report"
LONGEST_NOTE = 300
ESTIMATED = "~"


@dataclass
class Line:
    """A line of the closing table: what became of a delivery of rows or of labels, or of a decision to learn again.

    By `metric`, `measured` is what the champion had on the delivery, or with ESTIMATED before it what is expected of it
    while there are no labels, `candidate` and `champion` what both had on the same rows. `wrong` says that something
    failed which should have worked.
    """

    model: str
    delivery: str
    rows_in: int | None = None
    quarantined: int | None = None
    drift: str = ""
    metric: str = ""
    measured: str = ""
    decision: str = ""
    candidate: str = ""
    champion: str = ""
    version: str = ""
    notes: list[str] = field(default_factory=list)
    wrong: bool = False


@dataclass(frozen=True)
class Stage:
    """Where the demo plays: who runs, what was recorded, and who is told how far it is."""

    player: Player
    records: Records
    tell: Callable[[str, str], None]


def play_all(console: Console, providers: Sequence[Provider], months: int) -> list[Line]:
    """Every world played, with a progress display; what the runs print goes to a file."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    log = Path(settings.home()) / "demo.log"
    lines: list[Line] = []
    with log.open("a") as stream, Progress(*columns, console=console) as progress, dg.DagsterInstance.get() as instance:
        models = [provider.world.model for provider in providers]
        tasks = {model: progress.add_task(f"{model}: waiting", total=None) for model in models}

        def tell(model: str, what: str) -> None:
            progress.update(tasks[model], description=f"{model}: {what}")

        with redirect_stdout(stream), redirect_stderr(stream):
            stage = Stage(Player(defs(), instance), Records(root=settings.home()), tell)
            for model, provider in zip(models, providers, strict=True):
                lines += play(stage, provider, months)
                progress.update(tasks[model], description=f"{model}: done", total=1, completed=1)
    return lines


def play(stage: Stage, provider: Provider, months: int) -> Iterator[Line]:
    """A history delivered at once (unless some was before), then delivery by delivery; the sensors look after each."""
    world = provider.world
    missing = HISTORY[world.model] - len(provider.delivered())
    if missing > 0:
        history = world.starts()[HISTORY[world.model] - missing : HISTORY[world.model]]
        for start in history:
            _send(provider, start, world.attempts(start) - 1)
        yield from _watched(stage, world, f"{len(history)} from {history[0]}", bad=False)
    played: set[date] = set()
    for start, attempt in provider.coming():
        if len(played | {start}) > months * PLAYED_A_MONTH[world.model]:
            break
        played.add(start)
        _send(provider, start, attempt)
        bad = attempt + 1 < world.attempts(start)
        yield from _watched(stage, world, f"{start}{', corrected' if attempt else ''}", bad)


def _send(provider: Provider, start: date, attempt: int) -> None:
    for path in provider.send(start, attempt):
        backdate(path, provider.world.comes(start) + attempt * timedelta(days=1))


def _watched(stage: Stage, world: World, delivery: str, bad: bool) -> Iterator[Line]:
    """What the sensors make of a delivery; `bad` says that it should be refused."""
    stage.tell(world.model, delivery)
    new_data = f"{world.model}_new_data"
    line = _line(stage.records, world.model, delivery, _looks(stage.player, new_data), bad)
    yield line
    if world.late and (labelled := _looks(stage.player, "new_labels")):
        newest = max((partition for ran in labelled for partition in ran.made.get(RAW_LABELS, ())), default="none")
        runs = [*labelled, *_looks(stage.player, new_data)]
        later = _line(stage.records, world.model, f"labels to {newest}", runs, bad=False)
        later.notes = [note for note in later.notes if note not in line.notes]
        yield later
    for ran in _looks(stage.player, "retrain_on_decision"):
        yield _line(stage.records, ran.model, f"{ran.because}, retrained", [ran], bad=False)
    for sensor in TELLING:
        stage.player.tick(sensor)


def _looks(player: Player, sensor: str) -> list[Ran]:
    """The runs of a sensor that is looked at until it asks for no more."""
    runs: list[Ran] = []
    for _ in range(MOST_LOOKS):
        asked = player.tick(sensor)
        if not asked:
            break
        runs += asked
    return runs


def _line(records: Records, model: str, delivery: str, runs: Sequence[Ran], bad: bool) -> Line:
    line = Line(model, delivery)
    for ran in runs:
        _count_rows(line, records, ran)
        _judge(line, records, ran)
    refused = any(VALIDATION in ran.failed for ran in runs)
    line.wrong = not runs or refused != bad or any(_broke(ran) for ran in runs)
    if not runs:
        line.notes.append("the sensor asked for no run")
    return line


def _broke(ran: Ran) -> bool:
    """Whether something failed that is neither a refused delivery nor a candidate kept out by its gates."""
    return bool(ran.crashed or set(ran.failed) - {VALIDATION, GATE, "registered_version", "champion"})


def _count_rows(line: Line, records: Records, ran: Ran) -> None:
    for partition in ran.made.get("quarantined_rows", ()):
        kept = records.get(QuarantinedPartition, line.model, "quarantined_rows", partition)
        if kept is not None:
            line.rows_in = (line.rows_in or 0) + kept.rows_in
            line.quarantined = (line.quarantined or 0) + kept.rows_quarantined


def _judge(line: Line, records: Records, ran: Ran) -> None:
    model, made = line.model, ran.made
    for partition in made.get("drift_report", ()):
        drift = records.get(DriftReport, model, "drift_report", partition)
        line.drift = f"{drift.verdict} ({drift.weighted_share:.0%})" if drift else ""
    for partition in made.get("performance_report", ()):
        if found := records.get(PerformanceReport, model, "performance_report", partition):
            line.metric, line.measured = found.metric, _measured(found)
    if DECISION in made and (decision := records.get(RetrainingDecision, model, DECISION)):
        line.decision = decision.verdict
        line.notes += [] if decision.verdict == "WAIT" else [decision.sentence]
    if "evaluation_report" in made and (report := records.get(EvaluationReport, model, "evaluation_report")):
        ours = report.metrics.get(report.metric)
        line.metric, line.candidate = report.metric, figure(ours.value) if ours else "undefined"
        line.champion = (
            f"{figure(report.champion.champion.value)} ({report.champion.verdict})" if report.champion else ""
        )
        line.notes += [str(result) for result in report.gates if not result.passed]
    if "registered_version" in made and (version := records.get(RegisteredVersion, model, "registered_version")):
        serves = records.get(Champion, model, "champion")
        line.version = (
            f"v{version.version}, {'champion' if serves and serves.version == version.version else 'challenger'}"
        )
    line.notes += [_short(why) for asset, why in ran.failed.items() if asset != GATE or ran.crashed]


def _measured(report: PerformanceReport) -> str:
    if report.measured:
        return figure(report.measured.value)
    return f"{ESTIMATED}{figure(report.estimated.value)}" if report.estimated else ""


def _short(text: str) -> str:
    """The line that says what is wrong with a partition, or the first."""
    lines = text.splitlines() or [""]
    told = next((line for line in lines if "]: " in line), lines[0])
    return told if len(told) <= LONGEST_NOTE else f"{told[: LONGEST_NOTE - 1]}…"
