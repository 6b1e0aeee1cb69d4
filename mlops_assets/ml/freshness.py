"""Freshness: which partitions and which labels should have come by now, by cadence, time zone and usual delay."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from statistics import median
from zoneinfo import ZoneInfo

from mlops_assets.ml.spec import Labels, ModelSpec, Value
from mlops_assets.ml.windows import Windows

USUAL_OF = 3
DAYS = {"hourly": 1 / 24, "daily": 1.0, "weekly": 7.0, "monthly": 31.0}


class Overdue(Value):
    """What has not come: how many partitions, the first and the last of them, and since when it is late."""

    count: int
    first: str
    last: str
    since: datetime
    sentence: str


class Outlook(Value):
    """What is overdue now, and the moment at which something more will be if nothing comes."""

    overdue: Overdue | None = None
    next_due: datetime | None = None


class Unlabelled(Value):
    """A validated partition that lacks labels: where its rows end, when they came, and how many have a label."""

    partition: str
    ended: datetime
    delivered: datetime
    rows: int
    labelled: int


def length(spec: ModelSpec) -> timedelta:
    """How much time a window covers, at most. Raises KeyError for batches, which have no cadence."""
    return timedelta(days=DAYS[spec.partitions.every])


def ended(spec: ModelSpec, windows: Windows, key: str) -> datetime:
    """The moment from which on a window is over by the clocks of UTC and by those of the declared time zone."""
    _, end = windows.bounds(key)
    return max(end, end.replace(tzinfo=ZoneInfo(spec.time.timezone)).astimezone(UTC))


def exists(spec: ModelSpec, windows: Windows, key: str) -> bool:
    """Whether a window begins at a time that the declared time zone knows: clocks that go forward leave out an hour."""
    begin, _ = windows.bounds(key)
    local = begin.replace(tzinfo=ZoneInfo(spec.time.timezone))
    return local.astimezone(UTC).astimezone(local.tzinfo).replace(tzinfo=None) == begin.replace(tzinfo=None)


def outlook(
    spec: ModelSpec, held: Collection[str], delivered: Mapping[str, datetime], began: datetime, now: datetime
) -> Outlook:
    """What should have come of a model that holds these partitions. Batches have no cadence: of them nothing is due.

    A window is late `quality.max_age_partitions` windows after the time at which it usually comes: its end, and the
    median delay of the newest that are known with the time of their delivery. So history that is played again is due as
    fast as it is played. Before anything has come, the first window counts from `began`, when the model was first seen.
    """
    if spec.partitions.every == "batch":
        return Outlook()
    windows, patience = Windows.of(spec.partitions), length(spec) * spec.quality.max_age_partitions
    over = range(windows.first(), windows.last(now) + 1)
    if not held:
        return _nothing_yet(windows, over, began + length(spec) + patience, now)
    delay = usual_delay(spec, windows, delivered) + patience
    late: list[tuple[str, datetime]] = []
    for key in _expected(windows, over, held):
        due = ended(spec, windows, key) + delay
        if due > now:
            return Outlook(overdue=_told(late, delay), next_due=due)
        if exists(spec, windows, key):
            late.append((key, due))
    return Outlook(overdue=_told(late, delay))


def usual_delay(spec: ModelSpec, windows: Windows, delivered: Mapping[str, datetime]) -> timedelta:
    """How long after its end a window usually comes: the median of the newest USUAL_OF, and no less than nothing."""
    newest = sorted(delivered, key=windows.position)[-USUAL_OF:]
    after = [(delivered[key] - ended(spec, windows, key)).total_seconds() for key in newest]
    return timedelta(seconds=max(median(after), 0.0)) if after else timedelta()


def overdue_labels(labels: Labels, parts: Sequence[Unlabelled], now: datetime) -> Outlook:
    """What should have been labelled by now: `delay_days` after the rows ended, or came where they came later."""
    lacking = [part for part in parts if part.labelled == 0 or part.labelled / part.rows < labels.matured]
    due = {part.partition: max(part.ended, part.delivered) + timedelta(days=labels.delay_days) for part in lacking}
    late = [part for part in lacking if due[part.partition] <= now]
    next_due = min((moment for moment in due.values() if moment > now), default=None)
    if not late:
        return Outlook(next_due=next_due)
    first, last = late[0], late[-1]
    found = Overdue(
        count=len(late),
        first=first.partition,
        last=last.partition,
        since=due[first.partition],
        sentence=f"The labels of {_partitions(len(late), first.partition, last.partition)} are overdue: "
        f"{first.labelled} of the {first.rows} rows of {first.partition} have one {labels.delay_days:g} days after "
        f"they came; {labels.matured:.0%} are enough.",
    )
    return Outlook(overdue=found, next_due=next_due)


def _expected(windows: Windows, over: range, held: Collection[str]) -> Iterator[str]:
    """The windows that have not come, in order, and at the end the one that is over next."""
    known = set(windows.positions(held).tolist())
    yield from (windows.key(number) for number in over if number not in known)
    after = next(number for number in count(over.stop) if number not in known)
    if windows.end is None or windows.begin(after) < windows.end:
        yield windows.key(after)


def _nothing_yet(windows: Windows, over: range, due: datetime, now: datetime) -> Outlook:
    if not over or due > now:
        return Outlook(next_due=due if due > now else windows.bounds(windows.key(over.start))[1])
    first, last = windows.key(over[0]), windows.key(over[-1])
    sentence = (
        f"Nothing has ever come: {_partitions(len(over), first, last)} {'is' if len(over) == 1 else 'are'} over. "
        "Look whether the source is where it is declared, and whether its files fit the declared patterns."
    )
    return Outlook(overdue=Overdue(count=len(over), first=first, last=last, since=due, sentence=sentence))


def _told(late: Sequence[tuple[str, datetime]], delay: timedelta) -> Overdue | None:
    if not late:
        return None
    (first, since), (last, _) = late[0], late[-1]
    sentence = (
        f"{_partitions(len(late), first, last)} should have come: {first} was due at {since:%Y-%m-%d %H:%M} UTC, "
        f"{delay / timedelta(days=1):.3g} days after its end, which allows for the usual delay."
    )
    return Overdue(count=len(late), first=first, last=last, since=since, sentence=sentence)


def _partitions(number: int, first: str, last: str) -> str:
    return first if number == 1 else f"{number} partitions from {first} to {last}"
