"""Which runs the deliveries of a model ask for, decided from what lies there and what was done with it.

A delivery is asked for once. What a run died on before it came to a verdict is asked for once more, each partition by
itself, then given up. In an outage of a service it is asked for a few times more, after ever longer pauses. What a
person cancelled is given up at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Literal

from pydantic import Field

from mlops_assets.ml.spec import ModelSpec, Value, digest_of

MAX_PARTITIONS = 400
ATTEMPTS = 2
PAUSES = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=25))
ATTEMPTS_IN_OUTAGES = len(PAUSES) + 1
VALIDATION = ("raw_data", "validated_features", "quarantined_rows")
DECISION = "retraining_decision"
PERFORMANCE = "performance_report"
MONITORING = ("drift_report", "predictions", PERFORMANCE, DECISION)
TRAINING = ("trained_model", "evaluation_report", "registered_version", "champion")
LABELS, LABELLING = "labels", ("raw_labels", "labels")
DIED = f"runs died on it {ATTEMPTS} times"
OUTAGE = f"a service did not answer in {ATTEMPTS_IN_OUTAGES} runs"
CANCELLED = "its run was cancelled"
UNFINISHED = {"cancelled": CANCELLED, "died": DIED, "outage": OUTAGE}


class Request(Value):
    """One run: for neighbouring partitions with the versions delivered, or for training alone when there are none."""

    run_key: str
    deliveries: dict[str, str]
    assets: tuple[str, ...]
    reason: Literal["new_data", "corrected_data", "training", "new_labels"]
    because: str
    attempt: int = 1


class GivenUp(Value):
    """What is not asked for any more: the version, and why."""

    version: str
    reason: str


class Memory(Value):
    """What the sensor remembers between two looks: little, however many files there are.

    `asked` are the requests of which no verdict is known yet, `given_up` what lies there but is not asked for any more,
    `trained_on` the validated state that was trained on or asked to be, `training_given_up` the one whose training came
    to nothing, `growing` when a file was first seen at a size and time of change, and `looked_to` the newest window
    that a database was asked for.
    """

    asked: tuple[Request, ...] = ()
    given_up: dict[str, GivenUp] = Field(default_factory=dict)
    trained_on: str | None = None
    training_given_up: GivenUp | None = None
    requests: int = 0
    growing: dict[str, tuple[int, int, float]] = Field(default_factory=dict)
    looked_to: str | None = None


@dataclass(frozen=True)
class State:
    """What is known at one look.

    `found` maps partitions to the versions that lie in the source, `held` to those that `raw_data` holds, `validated`
    to the content of `validated_features`. `unlearned` says which of the newest of those the newest candidate has not
    learned from. `learnable` is what of it has labels, by the version of both, where they come later than the rows.
    Requests whose run ended without a verdict are `died`, `outages` where a service did not answer, or
    `cancelled`. `by_hand` are partitions whose version was validated since it was given up.
    """

    found: Mapping[str, str]
    held: Mapping[str, str]
    validated: Mapping[str, str]
    unlearned: Callable[[], Sequence[str]] = tuple
    learnable: Mapping[str, str] | None = None
    champion: bool = False
    reported: Set[str] = frozenset()
    died: tuple[Request, ...] = ()
    outages: tuple[Request, ...] = ()
    cancelled: tuple[Request, ...] = ()
    by_hand: Set[str] = frozenset()

    @property
    def teaches(self) -> Mapping[str, str]:
        """What training may look at."""
        return self.validated if self.learnable is None else self.learnable

    @property
    def lost(self) -> Iterator[tuple[Request, str]]:
        """The requests that are not made again, each with the reason."""
        yield from ((request, CANCELLED) for request in self.cancelled)
        yield from ((request, DIED) for request in self.died if request.attempt >= ATTEMPTS)
        yield from ((request, OUTAGE) for request in self.outages if request.attempt >= ATTEMPTS_IN_OUTAGES)


@dataclass(frozen=True)
class Plan:
    """The requests to make, what to remember, and what was left alone with the reason."""

    requests: tuple[Request, ...]
    memory: Memory
    left: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Task:
    partition: str
    version: str
    attempt: int
    drift: bool
    alone: bool
    rows: bool = True


def attempts(how: Literal["died", "outage"]) -> int:
    """How often something is asked for whose runs end without a verdict in this way."""
    return ATTEMPTS if how == "died" else ATTEMPTS_IN_OUTAGES


def pause(attempt: int) -> timedelta:
    """How long after the end of a run that came to nothing the next is asked for, longer each time."""
    return PAUSES[min(attempt, len(PAUSES)) - 1]


def plan(spec: ModelSpec, state: State, memory: Memory, position: Callable[[str], int]) -> Plan:
    """Decide. `position` numbers partitions so that neighbours, which one run may cover, differ by one."""
    tasks, given_up, left = _tasks(state, memory, position)
    groups = _groups(tasks, position)
    learn = spec.retraining.policy == "always" or not state.champion
    late = state.learnable is not None
    teachers = state.teaches.keys() | {task.partition for task in tasks if not late}
    enough = len(teachers) >= spec.training.min_partitions
    train = learn and enough and len(groups) == 1 and not late
    number = memory.requests
    requests = [
        _request(spec.name, group, _assets(state, group, train), number + offset, state.held)
        for offset, group in enumerate(groups, 1)
    ]
    stopped = _training_given_up(state, memory)
    trained_on = stopped.version if stopped else memory.trained_on
    if stopped and not train:
        left["trained_model"] = f"{stopped.reason}; materialize it by hand, or wait for the next delivery"
    if not groups and learn and enough:
        requests = [*_training_alone(spec, state, memory, trained_on)]
        trained_on = digest_of(dict(state.teaches))
    remembered = memory.model_copy(
        update={
            "asked": tuple(requests),
            "given_up": given_up,
            "trained_on": trained_on,
            "training_given_up": stopped,
            "requests": number + len(requests),
        }
    )
    return Plan(tuple(requests), remembered, left)


def plan_labels(spec: ModelSpec, state: State, memory: Memory, position: Callable[[str], int]) -> Plan:
    """Decide about labels that were delivered: `found` and `held` are theirs, `reported` is what was predicted.

    Where the rows have come, they are joined; where they were predicted, it is said how well. Before, they are kept.
    Where a champion is, it is decided anew: it may have learned from what is corrected.
    """
    tasks, given_up, left = _tasks(state, memory, position)
    predicted, validated = state.reported, state.validated
    tasks = [replace(each, drift=each.partition in predicted, rows=each.partition in validated) for each in tasks]
    requests = []
    for number, group in enumerate(_groups(tasks, position), memory.requests + 1):
        assets = (*LABELLING[: 2 if group[0].rows else 1], *((PERFORMANCE,) if group[0].drift else ()))
        assets += (DECISION,) if group[0].drift or (state.champion and group[0].rows) else ()
        request = _request(f"{spec.name}/labels", group, assets, number, {})
        requests.append(request.model_copy(update={"reason": "new_labels"}))
    asked = {"asked": tuple(requests), "given_up": given_up, "requests": memory.requests + len(requests)}
    return Plan(tuple(requests), memory.model_copy(update=asked), left)


def _tasks(
    state: State, memory: Memory, position: Callable[[str], int]
) -> tuple[list[_Task], dict[str, GivenUp], dict[str, str]]:
    """What is to be done, in order; the versions given up; and what is left alone, with the reason."""
    again = {
        partition: request
        for request in (*state.died, *state.outages)
        for partition, version in request.deliveries.items()
        if state.found.get(partition) == version
    }
    given_up = _given_up(state, memory)
    there = {version: key for key, version in state.held.items() if state.found.get(key, version) == version}
    due = {key for key, version in state.found.items() if state.held.get(key) != version or key in again}
    tasks, left = [], {}
    for key in sorted(due | given_up.keys(), key=position):
        owner = there.setdefault(state.found[key], key)
        if key in given_up:
            left[key] = f"{given_up[key].reason}; materialize it by hand or deliver it again"
        elif owner != key:
            left[key] = f"holds the same bytes as {owner}: delivered twice, counted once"
        else:
            tasks.append(_task(key, state, again.get(key)))
    return tasks, given_up, left


def _given_up(state: State, memory: Memory) -> dict[str, GivenUp]:
    """The versions that are not asked for any more, as long as they lie there and nobody saw to them."""
    known = {key: each for key, each in memory.given_up.items() if key not in state.by_hand}
    for request, reason in state.lost:
        known |= {key: GivenUp(version=version, reason=reason) for key, version in request.deliveries.items()}
    return {key: each for key, each in known.items() if state.found.get(key) == each.version}


def _task(key: str, state: State, before: Request | None) -> _Task:
    """Drift is judged where a champion is that cannot have learned from the partition, or that judged it before.

    A partition that a run over several died with is tried by itself: only the one to blame may be given up.
    """
    judged = (
        key not in state.validated
        or key in state.reported
        or (before is not None and set(MONITORING) <= set(before.assets))
    )
    return _Task(
        key,
        state.found[key],
        attempt=before.attempt + 1 if before else 1,
        drift=state.champion and judged,
        alone=before in state.died,
    )


def _groups(tasks: list[_Task], position: Callable[[str], int]) -> list[list[_Task]]:
    """Neighbours that one run can treat alike, at most MAX_PARTITIONS together."""
    groups: list[list[_Task]] = []
    for task in tasks:
        last = groups[-1][-1] if groups else None
        if (
            last is not None
            and position(task.partition) == position(last.partition) + 1
            and not task.alone
            and replace(task, partition="", version="") == replace(last, partition="", version="")
            and len(groups[-1]) < MAX_PARTITIONS
        ):
            groups[-1].append(task)
        else:
            groups.append([task])
    return groups


def _assets(state: State, group: list[_Task], train: bool) -> tuple[str, ...]:
    """What is made of a group. Where a champion is, it is decided anew: it may have learned from what is corrected."""
    decided = (DECISION,) if state.champion else ()
    joined = () if state.learnable is None else (LABELS,)
    return VALIDATION + joined + (MONITORING if group[0].drift else decided) + (TRAINING if train else ())


def _request(model: str, group: list[_Task], assets: tuple[str, ...], number: int, held: Mapping[str, str]) -> Request:
    deliveries = {task.partition: task.version for task in group}
    first, last = group[0].partition, group[-1].partition
    corrected = sum(1 for key in deliveries if key in held)
    what = first if first == last else f"{len(group)} partitions, {first} to {last}"
    return Request(
        run_key=f"{model}/{first}/{last}/{digest_of([number, group[0].attempt, deliveries])[:16]}",
        deliveries=deliveries,
        assets=assets,
        reason="corrected_data" if corrected else "new_data",
        because=what,
        attempt=group[0].attempt,
    )


def _training_given_up(state: State, memory: Memory) -> GivenUp | None:
    """The validated state whose training came to nothing, until it is learned from or another."""
    validated = digest_of(dict(state.teaches))
    reasons = [reason for request, reason in state.lost if not request.deliveries]
    known = GivenUp(version=validated, reason=reasons[0]) if reasons else memory.training_given_up
    return known if known and known.version == validated and state.unlearned() else None


def _training_alone(spec: ModelSpec, state: State, memory: Memory, trained_on: str | None) -> Iterator[Request]:
    """A run of training alone, where the newest validated partitions are not what the newest candidate learned from."""
    before = next((request for request in (*state.died, *state.outages) if not request.deliveries), None)
    validated = dict(state.teaches)
    if trained_on == digest_of(validated) and (before is None or any(before is lost for lost, _ in state.lost)):
        return
    if unlearned := state.unlearned():
        attempt = before.attempt + 1 if before else 1
        yield Request(
            run_key=f"{spec.name}/training/{digest_of([memory.requests + 1, attempt, validated])[:16]}",
            deliveries={},
            assets=TRAINING,
            reason="training",
            because=f"{len(unlearned)} validated partitions are not learned from yet, the newest {unlearned[-1]}",
            attempt=attempt,
        )
