"""The cause of drift: whether a broken feed or a changed world is the likelier reason that columns moved."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from math import isfinite
from typing import Literal, NamedTuple

from pydantic import Field

from mlops_assets.ml.distributions import distance, quantiles
from mlops_assets.ml.observed import History, Leap, Observed, leaps
from mlops_assets.ml.sources import Delivery
from mlops_assets.ml.spec import ModelSpec, Partitions, Value
from mlops_assets.ml.symptoms import Finding, is_finer, missing_groups, symptoms
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.ml.windows import Windows, oldest_first

Likely = Literal["upstream", "world", "unknown"]
RECENT = 6
NAMED = 5
QUARANTINED_JUMP = 0.005
CYCLES = {"hourly": (24, 48, 168), "daily": (7, 14, 364), "weekly": (52,), "monthly": (12,)}


class Cause(Value):
    """What most likely moved the data, the evidence for it, and the sentence that says so."""

    likely: Likely
    findings: tuple[Finding, ...]
    sentence: str


class Feed(Value):
    """How a partition came to be: what its files are called and hold, and the code that made its assets.

    `producer` is the file names without their digits, `layout` the delivered columns with their types, in order;
    `code` maps each upstream asset to its code version. What is not known is empty.
    """

    producer: tuple[str, ...] = ()
    layout: tuple[str, ...] = ()
    correction: bool = False
    quarantined: float = 0.0
    code: dict[str, str] = Field(default_factory=dict)


class Earlier(NamedTuple):
    """What a partition is held against: the most `recent` before it, oldest first, and those a cycle or a year ago."""

    recent: Sequence[ValidatedPartition]
    likewise: Sequence[ValidatedPartition] = ()

    def without(self, broken: Collection[str]) -> Earlier:
        """The same without the recent ones that are said to come from a broken feed, which are no measure.

        Unless all of them are: then that is how the world is now.
        """
        return self._replace(recent=[part for part in self.recent if part.partition not in broken] or self.recent)

    def all_in(self, broken: Collection[str]) -> bool:
        """Whether all of the recent ones are said to come from a broken feed."""
        return bool(self.recent) and all(part.partition in broken for part in self.recent)


def accepted(blamed: Sequence[ValidatedPartition], beside_them: Cause, beside_sound: Cause) -> dict[str, str]:
    """The blamed partitions, by delivery, that the one after them shows to be how the world is now.

    Beside them nothing is wrong with it, and beside the sound ones before them there would be: where there is not, the
    feed was repaired.
    """
    if beside_them.likely == "upstream" or beside_sound.likely != "upstream":
        return {}
    return {part.partition: part.delivery for part in blamed}


def observed(part: ValidatedPartition) -> Observed:
    """A validated partition as the search for a cause sees it."""
    return Observed(part.partition, part.first, part.last, part.rows_in, part.profile)


def feed(part: ValidatedPartition, delivery: Delivery | None, code: Mapping[str, str]) -> Feed:
    """How a partition came to be, as far as it is on record."""
    files = () if delivery is None else delivery.origins or delivery.files
    return Feed(
        producer=tuple(sorted({re.sub(r"\d+", "#", file.name) for file in files})),
        layout=part.layout,
        correction=delivery is not None and delivery.corrects is not None,
        quarantined=part.rows_quarantined / max(part.rows_in, 1),
        code=dict(code),
    )


def comparable(keys: Sequence[str], partition: str, partitions: Partitions) -> tuple[list[str], list[str]]:
    """The keys that `partition` is held against: the most recent before it, and those a cycle or a year ago.

    `keys` are those that there are, in order of time.
    """
    recent = keys[: bisect_left(keys, partition)][-RECENT:]
    windows = Windows.of(partitions)
    here = windows.position(partition)
    back = [windows.key(here - cycle) for cycle in CYCLES[partitions.every]]
    return list(recent), [key for key in back if key in keys and key not in recent]


def earlier(known: Mapping[str, ValidatedPartition], part: ValidatedPartition, partitions: Partitions) -> Earlier:
    """Those of the partitions that are known which one is held against. Batches know no cycle."""
    if partitions.every == "batch":
        return Earlier(oldest_first(each for each in known.values() if each.first < part.first)[-RECENT:])
    recent, likewise = comparable(sorted(known), part.partition, partitions)
    return Earlier([known[key] for key in recent], [known[key] for key in likewise])


def explain(
    spec: ModelSpec, part: ValidatedPartition, before: Earlier, feeds: Mapping[str, Feed], moved: Collection[str]
) -> Cause:
    """The likelier cause of what is seen in a partition. `feeds` are by partition; one that is missing is unknown."""
    history = History([observed(each) for each in before.recent], [observed(each) for each in before.likewise])
    here, *lately = [feeds.get(each.partition, Feed()) for each in (part, *before.recent)]
    return find_cause(observed(part), history, (here, lately), moved, spec.target, spec.quality.row_count_ratio[0])


def find_cause(
    now: Observed,
    history: History,
    feeds: tuple[Feed, Sequence[Feed]],
    moved: Collection[str],
    target: str,
    least_rows: float,
) -> Cause:
    """The likelier cause, with the evidence.

    A symptom of a broken feed says `upstream` by itself. So does a column that leapt, farther than it ever did from one
    partition to the next, in the very partition in which something upstream changed. A leap that the target took
    part in, or a move that was no leap, is the `world`'s. Any other leap may be either: `unknown`.
    """
    if not history.recent:
        return Cause(likely="unknown", findings=(), sentence="There is no earlier partition to compare with.")
    found = symptoms(now, history, least_rows)
    explained = {name for finding in found for name in finding.columns}
    leapt = {name: leap for name, leap in leaps(now, history).items() if leap.abrupt and name not in explained}
    changed = [*changes(*feeds), *_finer(now, history, leapt)]
    if found:
        return _cause("upstream", [*found, *changed, *missing_groups(now, history)])
    if not leapt:
        return _no_leap(now, history, moved)
    together = _together(leapt, history)
    if changed:
        return _cause("upstream", [*changed, together])
    if target in leapt:
        return _cause("world", [together.model_copy(update={"kind": "target"})])
    return _cause("unknown", [together, *missing_groups(now, history)])


def changes(now: Feed, before: Sequence[Feed]) -> Iterator[Finding]:
    """What changed upstream of a partition: in none of the partitions before was it so."""
    if not before:
        return
    if now.producer and all(each.producer for each in before) and all(each.producer != now.producer for each in before):
        yield _change("files", f"The files are called {_few(now.producer)}, and were {_few(before[-1].producer)}.")
    if now.layout and all(each.layout for each in before) and all(each.layout != now.layout for each in before):
        other = sorted(set(now.layout) ^ set(before[-1].layout))
        yield _change("schema", f"The files hold other columns or types: {_few(other) if other else 'another order'}.")
    for asset, version in now.code.items():
        known = [each.code[asset] for each in before if asset in each.code]
        if known and version not in known:
            yield _change("code", f"{asset} was made by other code (version {version}, before {known[-1]}).")
    if now.correction:
        yield _change("correction", "The delivery is a correction of an earlier one.")
    most = max(each.quarantined for each in before)
    if now.quarantined >= max(most + QUARANTINED_JUMP, 3 * most):
        yield _change(
            "quarantined", f"{now.quarantined:.1%} of the rows broke the contract, and at most {most:.1%} before."
        )


def _finer(now: Observed, history: History, leapt: Collection[str]) -> list[Finding]:
    """The columns that leapt and are written with more decimals than ever."""
    finer = [name for name in leapt if is_finer(now.profile.columns[name], history.columns(name))]
    sentence = f"{_few(finer)}: written with more decimals than ever before."
    return [Finding(kind="decimals", columns=tuple(finer), sentence=sentence)] if finer else []


def _change(kind: str, sentence: str) -> Finding:
    return Finding(kind=kind, columns=(), sentence=sentence)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _no_leap(now: Observed, history: History, moved: Collection[str]) -> Cause:
    """Nothing leapt: what has moved since training did so step by step, or with the season."""
    if not moved:
        return Cause(likely="unknown", findings=(), sentence="Nothing moved that would need a cause.")
    seasonal = [name for name in moved if _like_last_cycle(now, history, name)]
    found = [
        Finding(
            kind="gradual",
            columns=tuple(moved),
            sentence=f"{_few(list(moved))} moved no farther in this partition than from one to the next of the "
            f"{len(history.recent)} before.",
        )
    ]
    if seasonal:
        sentence = f"{_few(seasonal)} lies nearer to the partition a cycle ago than to the one before."
        found.append(Finding(kind="season", columns=tuple(seasonal), sentence=sentence))
    return _cause("world", found)


def _like_last_cycle(now: Observed, history: History, name: str) -> bool:
    if not history.likewise:
        return False
    sides = [each.profile.columns.get(name) for each in (now, history.likewise[-1], history.recent[-1])]
    here, then, last = [None if side is None else quantiles(side) for side in sides]
    return here is not None and then is not None and last is not None and distance(here, then) < distance(here, last)


def _together(leapt: Mapping[str, Leap], history: History) -> Finding:
    farthest = sorted(leapt, key=lambda name: -leapt[name].apart / leapt[name].usual)
    first = leapt[farthest[0]]
    times = f"{first.apart / first.usual:.1f} times farther" if isfinite(first.apart) else "beyond measure farther"
    return Finding(
        kind="together" if len(leapt) > 1 else "leap",
        columns=tuple(farthest),
        sentence=(
            f"{_few(farthest)} leapt away from the partition before, {farthest[0]} {times} "
            f"than any two in a row of the {len(history.recent)} before lie from each other."
        ),
    )


def _cause(likely: Likely, findings: Sequence[Finding]) -> Cause:
    said = {
        "upstream": "Likely a broken feed:",
        "world": "Likely the world:",
        "unknown": "A broken feed or the world, it cannot be told:",
    }
    shown = " ".join(finding.sentence for finding in findings[:NAMED])
    more = f" And {len(findings) - NAMED} findings more." if len(findings) > NAMED else ""
    return Cause(likely=likely, findings=tuple(findings), sentence=f"{said[likely]} {shown}{more}")
