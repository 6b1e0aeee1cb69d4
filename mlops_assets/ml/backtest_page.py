"""How a back-test is shown: its figures by policy, the page, and the picture for a slide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO

from mlops_assets.ml import charts
from mlops_assets.ml.backtest import Replay, Step
from mlops_assets.ml.charts import figure
from mlops_assets.ml.pages import Html, page, section, table
from mlops_assets.ml.spec import Retraining

BARS = "▁▂▃▄▅▆▇█"
HEAD = ("policy", "metric", "gained", "retrainings", "promoted", "cost", "alarms", "fix upstream")


@dataclass(frozen=True)
class Comparison:
    """Replays of one history under several policies, with what is known of it.

    `changes` are days on which the world changed, `faults` days on which the feed was broken. `notes` are what a person
    has to know beside the figures.
    """

    replays: Sequence[Replay]
    rule: Retraining
    changes: Sequence[datetime] = ()
    within: int = 3
    faults: Sequence[datetime] = ()
    notes: Sequence[str] = ()

    @property
    def reference(self) -> Replay:
        """What the others are held against: the policy that never retrains, else the first."""
        return next((each for each in self.replays if each.policy == "never"), self.replays[0])

    @property
    def judged(self) -> int:
        """How many partitions were judged."""
        return len(self.reference.judged)

    def gained(self, replay: Replay) -> float:
        """How much better than the reference, on average over the partitions."""
        ours, theirs = replay.mean, self.reference.mean
        return theirs - ours if replay.better == "lower" else ours - theirs

    def rows(self) -> list[tuple[str, ...]]:
        """One row of figures for each policy, under HEAD."""
        return [self._row(replay) for replay in self.replays]

    def _row(self, replay: Replay) -> tuple[str, ...]:
        alarms = replay.alarms([*self.changes, *self.faults], self.within)
        promoted = sum(step.became_champion and step.verdict is not None for step in replay.steps)
        return (
            replay.policy,
            figure(replay.mean),
            f"{self.gained(replay):+.4g}",
            str(replay.retrainings),
            str(promoted),
            f"{replay.cost(self.rule):.2g} {self.rule.currency}",
            _counted(alarms, apart=bool(self.changes)),
            _counted(replay.faults(self.faults), apart=bool(self.faults)),
        )


def _counted(found: tuple[int, int], *, apart: bool) -> str:
    true, false = found
    return f"{true} true, {false} false" if apart else str(true + false)


def courses(compared: Comparison) -> list[str]:
    """The metric over time as a line of text for each policy, all on one scale, higher being a higher figure."""
    found = [[step.measured.value for step in replay.judged if step.measured] for replay in compared.replays]
    low, high = (edge((value for values in found for value in values), default=0.0) for edge in (min, max))
    tallest = (len(BARS) - 1) / ((high - low) or 1)
    return ["".join(BARS[round((value - low) * tallest)] for value in values) for values in found]


def html(compared: Comparison) -> str:
    """The comparison as a page that needs nothing else."""
    first = compared.replays[0]
    return page(
        f"{first.model}: back-test",
        f"{compared.judged} partitions, {_span(first.steps)}, each predicted by the champion of its moment",
        sentence(compared),
        [
            section(f"{first.metric} by policy ({first.better} is better)", table(HEAD, compared.rows())),
            section("Over time", *(Html(f"<p>{picture}</p>") for picture in _pictures(compared))),
            *([section("What to know of these figures", *compared.notes)] if compared.notes else []),
            *(_decisions(replay) for replay in compared.replays if replay.retrainings),
            *(_blamed(replay) for replay in compared.replays if replay.blamed),
        ],
    )


def sentence(compared: Comparison) -> str:
    """What came out best, and what it took."""
    best = max(compared.replays, key=compared.gained)
    if not math.isfinite(best.mean):
        return "No partition could be judged: there are no labels yet, or too few partitions for a first version."
    gained = figure(compared.gained(best))
    return (
        f"{best.policy} did best: {best.metric} {figure(best.mean)} on average over {compared.judged} partitions, "
        f"{gained} better than {compared.reference.policy}, with {best.retrainings} retrainings."
    )


def _span(steps: Sequence[Step]) -> str:
    return f"{steps[0].partition} to {steps[-1].partition}"


def _pictures(compared: Comparison) -> list[str]:
    replays = compared.replays
    labels = [step.partition for step in replays[0].steps]
    lines = {
        replay.policy: [step.measured.value if step.measured else None for step in replay.steps] for replay in replays
    }
    trained = {
        replay.policy: [step.trained and step.verdict is not None for step in replay.steps] for replay in replays
    }
    blamed = {replay.policy: [step in replay.blamed for step in replay.steps] for replay in replays}
    known = {replays[0].place(day) for day in (*compared.changes, *compared.faults)} - {-1}
    title = f"{replays[0].metric} over time, trainings as dots"
    title += ", broken feeds as crosses" if any(replay.blamed for replay in replays) else ""
    return [charts.courses(labels, lines, trained, sorted(known), title, blamed)]


def _decisions(replay: Replay) -> Html:
    rows = [
        (step.partition, "new champion" if step.became_champion else step.note or "stays challenger", step.sentence)
        for step in replay.steps
        if step.trained and step.verdict is not None
    ]
    return section(f"What {replay.policy} trained", table(("partition", "came of it", "because"), rows, numeric=3))


def _blamed(replay: Replay) -> Html:
    rows = [(step.partition, step.sentence) for step in replay.blamed]
    return section(f"What {replay.policy} called a broken feed", table(("partition", "because"), rows, numeric=2))


def draw(compared: Comparison, target: BinaryIO) -> None:
    """The comparison as a PNG: the metric over time, and above each policy's own lane its trainings and alarms."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    replays = compared.replays
    picture = Figure(figsize=(11, 4.6 + 0.32 * len(replays)), layout="constrained", facecolor="white")
    FigureCanvasAgg(picture)
    above, below = picture.subplots(2, 1, sharex=True, height_ratios=[4.2, 0.5 + 0.32 * len(replays)])
    colours = dict(zip([replay.policy for replay in replays], charts.LINES * len(replays), strict=False))
    for replay in replays:
        _line(above, replay, colours[replay.policy], compared)
    for lane, replay in enumerate(reversed(replays)):
        _lane(below, lane, replay, colours[replay.policy])
    _dressed(above, below, compared)
    picture.savefig(target, format="png", dpi=130)


def _line(axes: Any, replay: Replay, colour: str, compared: Comparison) -> None:
    steps = replay.judged
    wide = 2.4 if replay is max(compared.replays, key=compared.gained) else 1.4
    label = f"{replay.policy}: {figure(replay.mean)}"
    times, values = [step.first for step in steps], [step.measured.value for step in steps if step.measured]
    axes.plot(times, values, color=colour, linewidth=wide, label=label)


def _lane(axes: Any, lane: int, replay: Replay, colour: str) -> None:
    axes.axhline(lane, color=charts.GRID, linewidth=1, zorder=0)
    alarms = [step.first for step in replay.steps if step.alarm]
    axes.vlines(alarms, lane - 0.32, lane + 0.32, color=colour, linewidth=1.6)
    axes.scatter([step.first for step in replay.blamed], [lane] * len(replay.blamed), s=60, marker="x", color=colour)
    for promoted in (True, False):
        times = [step.first for step in replay.steps if _retrained(step) and step.became_champion is promoted]
        filled = colour if promoted else "white"
        axes.scatter(times, [lane] * len(times), s=46, facecolors=filled, edgecolors=colour, zorder=3)


def _retrained(step: Step) -> bool:
    return step.trained and step.verdict is not None


def _dressed(above: Any, below: Any, compared: Comparison) -> None:
    """Titles, legends, and the declared changes (dotted) and faults (dashed)."""
    first, names = compared.replays[0], [replay.policy for replay in reversed(compared.replays)]
    above.set_title(f"{first.model}: back-test of retraining policies", loc="left", fontweight="bold", fontsize=13)
    above.set_ylabel(f"{first.metric} ({first.better} is better)")
    above.grid(axis="y", color=charts.GRID)
    above.legend(frameon=False, ncols=3, fontsize=9, loc="upper left", bbox_to_anchor=(0, -0.02))
    below.set_yticks(range(len(names)), names)
    below.set_ylim(-0.7, len(names) - 0.3)
    below.set_xlabel(
        "filled: trained and promoted   hollow: trained, not promoted   bar: drift has lasted   cross: broken feed",
        fontsize=9,
    )
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        for days, style in ((compared.changes, ":"), (compared.faults, "--")):
            for day in days:
                axes.axvline(day, color=charts.INK, linestyle=style, linewidth=1.4)
