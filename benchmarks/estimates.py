"""How near estimates without labels come, and how often the truth falls inside. Run: python -m benchmarks.estimates.

Labels are hidden at first and come one partition late: a version is fitted when its hold-out has labels, and its
estimates go by those before them whose truth was known by then. Beside them what one would say without estimating: the
figure at registration with its interval, and the last figure that labels have given.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from benchmarks import policies
from mlops_assets.ml.contracts import inputs, load_contract
from mlops_assets.ml.estimation import with_estimate
from mlops_assets.ml.evaluation import Estimate, estimates
from mlops_assets.ml.features import pipeline
from mlops_assets.ml.holdout import HoldOut, Trial, aligned, answers
from mlops_assets.ml.performance import PerformanceReport
from mlops_assets.ml.relations import Relations, learn
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.training import needed_inputs
from mlops_assets.simulation.bike import BikeWorld
from mlops_assets.simulation.electricity import ElectricityWorld

MONDAY = np.datetime64("1970-01-05")
LATE = {"source": {"uri": "", "files": ["{partition:%Y-%m-%d}.csv"]}, "key": ["event_time"], "delay_days": 1}
REFITTED, FEWEST = 6, 100


@dataclass(frozen=True)
class World:
    """A declaration, and its rows in order of `times`: those of the rows, or others where days were dealt out anew."""

    name: str
    spec: ModelSpec
    rows: pd.DataFrame
    times: np.ndarray

    @cached_property
    def partitions(self) -> np.ndarray:
        """The partition of each row, counted from 0."""
        days = self.times.astype("M8[D]")
        weeks = (days - MONDAY) // np.timedelta64(7, "D")
        kept = weeks if self.spec.partitions.every == "weekly" else days.astype("M8[M]")
        return np.unique(kept, return_inverse=True)[1]

    def shuffled(self, seed: int = 5) -> World:
        """The same days in another order, so that nothing changes for good; the rows stay what they are."""
        days = self.times.astype("M8[D]")
        known = np.unique(days)
        dealt = np.random.default_rng(seed).permutation(known)[np.searchsorted(known, days)]
        times = self.times + (dealt - days)
        order = np.argsort(times, kind="stable")
        return World(f"{self.name}, days shuffled", self.spec, self.rows.iloc[order], times[order])


@dataclass(frozen=True)
class Version:
    """A fitted version: which partition judged it, what it had there, and what that says of its errors."""

    number: int
    at_registration: Estimate
    relations: Relations
    answer: Callable[[pd.DataFrame], np.ndarray]
    classes: tuple


def real(name: str, folder: Path) -> World:
    """One of the four real sets."""
    spec, rows = policies.SETS[name](folder)
    return world(name, spec, rows)


def simulated(name: str, seed: int, folder: Path) -> World:
    """One of the two simulated worlds, as every delivery was in the end."""
    made, like, every = {
        "bike": (BikeWorld(seed=seed), "bike", "monthly"),
        "electricity": (ElectricityWorld(seed=seed), "market", "weekly"),
    }[name]
    rows = pd.concat([made.partition(start, made.attempts(start) - 1) for start in made.starts()])
    spec, _ = policies.SETS[like](folder)
    time = rows["dteday"] + " " + rows["hr"].astype(str) + ":00" if name == "bike" else rows["ts"]
    rows["event_time"] = pd.to_datetime(time, utc=True)
    names = [each for each in load_contract(spec.contract).columns if each in rows.columns and each != "event_time"]
    rows[names] = rows[names].apply(pd.to_numeric, errors="coerce")
    spec = spec.model_copy(update={"partitions": spec.partitions.model_copy(update={"every": every})})
    return world(f"simulated {name} {seed}", spec, rows.dropna(subset=[spec.target]))


def world(name: str, spec: ModelSpec, rows: pd.DataFrame) -> World:
    """The rows that honour the contract and ever get a label, with late labels declared."""
    contract = load_contract(spec.contract)
    rows = policies.honoured(contract, rows[[each for each in contract.columns if each in rows.columns]])
    rows = rows.dropna(subset=[spec.target]).sort_values("event_time", kind="stable", ignore_index=True)
    spec = ModelSpec.model_validate({**spec.model_dump(mode="json"), "labels": LATE})
    return World(name, spec, rows, rows["event_time"].to_numpy("datetime64[ns]"))


def fitted(world: World, newest: int, number: int) -> Version:
    """The version whose hold-out is partition `newest`."""
    spec, target, place = world.spec, world.rows[world.spec.target], world.partitions
    given = list(needed_inputs(spec, inputs(load_contract(spec.contract), spec)))
    learned = world.rows[(place < newest) & target.notna().to_numpy()]
    with threadpool_limits(1):
        model = pipeline(spec).fit(learned[given], np.asarray(learned[spec.target]))
    classes = () if spec.task == "regression" else tuple(model.classes_.tolist())

    def answer(rows: pd.DataFrame) -> np.ndarray:
        with threadpool_limits(1):
            return answers(spec.task, model, rows, given)

    trial = judged(world, newest, classes)
    predicted = answer(trial.holdout.frame)
    found = estimates(spec, trial.scores(aligned(predicted, classes, trial.classes)))[0]
    return Version(number, found[spec.evaluation.metric], learn(trial, predicted), answer, classes)


def judged(world: World, partition: int, classes: tuple) -> Trial:
    """The labelled rows of a partition, to judge by."""
    here = world.partitions == partition
    where = here & world.rows[world.spec.target].notna().to_numpy()
    nowhere = np.zeros(where.sum(), int)
    holdout = HoldOut(world.rows[where], world.times[where], (str(partition),), nowhere, int(here.sum() - where.sum()))
    return Trial.of(world.spec, holdout, classes)


def lived(world: World, refitted: int | None) -> Iterator[PerformanceReport]:
    """The report of each partition as it stands when its labels have come, with the estimate that was made before."""
    known: list[PerformanceReport] = []
    known_rows = np.bincount(world.partitions, world.rows[world.spec.target].notna())
    enough = np.flatnonzero(known_rows >= FEWEST)
    first, count = int(enough[enough >= world.spec.training.min_partitions - 1][0]), len(known_rows)
    version = fitted(world, first, 1)
    for partition in range(first + 2, count):
        if refitted and partition > first + 2 and (partition - first - 2) % refitted == 0:
            version = fitted(world, partition - 2, version.number + 1)
        report = reported(world, version, partition)
        if report is not None:
            before = [each for each in known if int(each.partition) <= partition - 2]
            rows = world.rows[world.partitions == partition]
            known.append(with_estimate(world.spec, report, version.relations, version.answer(rows), before))
            yield known[-1]


def reported(world: World, version: Version, partition: int) -> PerformanceReport | None:
    """What labels say of a partition; nothing where they are too few to say anything."""
    where, spec = world.partitions == partition, world.spec
    labelled = int(world.rows[spec.target].notna()[where].sum())
    if labelled < FEWEST:
        return None
    trial = judged(world, partition, version.classes)
    scores = trial.scores(aligned(version.answer(trial.holdout.frame), version.classes, trial.classes))
    return PerformanceReport(
        model=spec.name,
        partition=str(partition),
        first=pd.Timestamp(world.times[where][0], tz="UTC").to_pydatetime(),
        version=version.number,
        delivery="",
        labels="",
        metric=spec.evaluation.metric,
        rows=int(where.sum()),
        labelled=labelled,
        mature=True,
        metrics=estimates(spec, scores)[0],
        at_registration=version.at_registration,
        sentence="",
    )


def measured(world: World, refitted: int | None) -> dict[str, object]:
    """The figures of one life."""
    found = [each for each in lived(world, refitted) if each.measured and each.estimated]
    truth = np.array([each.measured.value for each in found])
    estimate, registered = ([getattr(each, name) for each in found] for name in ("estimated", "at_registration"))
    last = np.array([registered[0].value, registered[0].value, *truth[:-2]])

    def off(said: np.ndarray) -> float:
        return round(float(np.abs(said - truth).mean()), 4)

    def inside(said: list[Estimate]) -> int:
        return int(sum(each.low <= value <= each.high for each, value in zip(said, truth, strict=True)))

    return {
        "world": world.name,
        "metric": world.spec.evaluation.metric,
        "versions": len({each.version for each in found}),
        "partitions": len(found),
        "estimate_off": off(np.array([each.value for each in estimate])),
        "registered_off": off(np.array([each.value for each in registered])),
        "last_known_off": off(last),
        "scores_alone_off": off(np.array([each.expected[each.metric].value for each in found])),
        "inside_estimate": inside(estimate),
        "inside_registered": inside(registered),
        "width": round(float(np.mean([each.high - each.low for each in estimate])), 4),
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", default=[*policies.SETS, "simulated bike", "simulated electricity"])
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2])
    options = parser.parse_args()
    made = [partial(real, name) for name in options.sets if name in policies.SETS]
    worlds = [name.removeprefix("simulated ") for name in options.sets if name not in policies.SETS]
    made += [partial(simulated, name, seed) for name in worlds for seed in options.seeds]
    for each in (make(options.data) for make in made):
        for life, refitted in ((each, None), (each, REFITTED), (each.shuffled(), REFITTED)):
            print(json.dumps(measured(life, refitted)), flush=True)


if __name__ == "__main__":
    main()
