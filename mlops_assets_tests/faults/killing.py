"""The toy model's life, killed by SIGKILL before some of its writes, and gone on with by fresh processes.

A program, because processes are forked from one that has loaded every library and opened nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_assets import instance
from mlops_assets.demo.player import Player
from mlops_assets.lifecycle.common import GOING_ON
from mlops_assets.ml.evaluation import EvaluationReport
from mlops_assets.ml.importing import import_what_stores_models
from mlops_assets.ml.monitoring import DriftReport
from mlops_assets.ml.performance import PerformanceReport
from mlops_assets.ml.registration import Champion, RegisteredVersion
from mlops_assets.ml.retraining import RetrainingDecision
from mlops_assets.ml.sources import Delivery
from mlops_assets.ml.spec import Value, digest_of
from mlops_assets.ml.training import Candidate
from mlops_assets.ml.validation import QuarantinedPartition, ValidatedPartition
from mlops_assets.resources.blobs import CorruptBytesError
from mlops_assets.resources.records import UNPARTITIONED, Records
from mlops_assets.resources.registry import CHALLENGER, CHAMPION
from mlops_assets.resources.tables import Tables
from mlops_assets_tests import toy
from mlops_assets_tests.faults.forking import forked, load, say
from mlops_assets_tests.homes import prepare, without_logs, without_waiting_for_the_disk

HISTORY, NEXT = toy.MONTHS[:3], toy.MONTHS[3:4]
PARTITIONED = {"validated_features": ValidatedPartition, "quarantined_rows": QuarantinedPartition}
JUDGED = {"evaluation_report": EvaluationReport, "registered_version": RegisteredVersion, "champion": Champion}
HEAVY = (
    "dagster_mlflow",
    "dagster_pandera",
    "deltalake",
    "evidently.legacy.tests",
    "evidently.metrics",
    "evidently.presets",
    "mlflow.sklearn",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "pandera.pandas",
    "plotly.graph_objects",
    "sklearn.compose",
    "sklearn.ensemble",
)
LEARNED = ["raw_data", *PARTITIONED, "trained_model", "evaluation_report", "registered_version", "champion"]
CHEAP: dict[str, Any] = {
    "estimator": {"path": "sklearn.linear_model.Ridge"},
    "evaluation": {"metric": "mae", "replicates": 50},
    "gates": [{"metric": "mae", "at_most": 30}],
    "quality": {"max_bad_share": 0.1},
    "drift": {"report_rows": 100},
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
INSIDE = "inside Tables.write"


@dataclass(frozen=True)
class Point:
    """A moment just before something is made durable: the step, what is done, and its number within the step.

    Without a number it is the first time that this is done.
    """

    step: str
    what: str
    number: int | None = None


@dataclass
class Killer:
    """Notes every durable write of this process, and kills it before the `marked` one."""

    home: Path
    marked: Point | None = None
    step: str = "start"
    counted: Counter = field(default_factory=Counter)
    points: list[Point] = field(default_factory=list)

    def arm(self) -> None:
        """Watch files, tables and databases, from now until the process ends."""
        from sqlalchemy import Engine, event

        sys.addaudithook(self._audit)
        event.listen(Engine, "commit", lambda _: self._reach("commit"))
        for module, name in ((os, "fsync"), (Tables, "write")):
            setattr(module, name, self._watched(name, getattr(module, name)))
        setattr(InPlaceRecords, "emptied", lambda _, asset: self._reach(f"emptied {asset}"))  # noqa: B010

    def follow(self, entry: dg.EventLogEntry) -> None:
        """Take note of the step that is going on."""
        if entry.dagster_event and entry.dagster_event.is_step_start:
            self.step = entry.dagster_event.step_key or ""

    def _reach(self, what: str) -> None:
        self.counted[self.step] += 1
        point = Point(self.step, what, self.counted[self.step])
        self.points.append(point)
        if self.marked in {point, replace(point, number=None)}:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.marked == replace(point, what=INSIDE):
            threading.Thread(target=self._kill_at_a_table_file, args=(self._table_files(),), daemon=True).start()

    def _kill_at_a_table_file(self, known: set[Path]) -> None:
        """Die when the rows of a table are written, and not yet committed."""
        while self._table_files() <= known:
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    def _table_files(self) -> set[Path]:
        return set((self.home / "tables").rglob("*.parquet"))

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in {"open", "os.rename", "os.remove", "os.link"}:
            return
        path, *_, flags = arguments
        if str(path).startswith(str(self.home)) and (event != "open" or flags & WRITING):
            self._reach(event.removeprefix("os."))

    def _watched(self, what: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **named: Any) -> Any:
            self._reach(what)
            return act(*arguments, **named)

        return watched


class InPlaceRecords(Records):
    """The positive control: the file that readers read is emptied and filled, as by Dagster's own IO managers."""

    def put(self, model: str, asset: str, value: Value, partition: str = UNPARTITIONED) -> None:
        """Write over what was there."""
        path = Path(self.root, "records", model, asset, f"{partition}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        content = value.model_dump(mode="json")
        with path.open("w") as stream:
            self.emptied(asset)
            json.dump({"sha256": digest_of(content), "value": content}, stream)

    def emptied(self, asset: str) -> None:
        """What there was is lost, and what there will be is not written yet."""


@dataclass
class Life:
    """The toy model on a home that outlives the process: opened, run and looked at in processes that may die."""

    home: Path
    naive: bool = False

    @cached_property
    def workshop(self) -> toy.Workshop:
        """The model on its home, as a fresh process finds it."""
        made = dg.DagsterInstance.from_config(str(without_logs(instance.prepare(str(self.home)))))
        workshop = toy.Workshop(self.home, made, CHEAP)
        if self.naive:
            naive = InPlaceRecords(root=str(self.home))
            workshop.resources.update(io_manager=naive, records=naive)
        return workshop

    def deliver(self, months: Sequence[str]) -> None:
        """Drop some months, a few rows of which are broken."""
        _ = self.workshop
        for month in months:
            frame = toy.rows(month)
            frame.loc[:4, "price"] = -1.0
            toy.deliver(self.workshop.landing, month, frame)

    def run(self, months: Sequence[str], killer: Killer) -> list[dict[str, Any]]:
        """One run: of everything for the next month, or of the first training. The writes that it made."""
        run_id = str(uuid.uuid4())
        self.workshop.instance.add_event_listener(run_id, killer.follow)
        killer.arm()
        result = self.workshop.run(months, None if months == NEXT else LEARNED, run_id=run_id)
        if not result.success:
            raise AssertionError(f"the run of {months} failed")
        return [asdict(point) for point in killer.points]

    def run_again(self, months: Sequence[str], killer: Killer) -> list[dict[str, Any]]:
        """The same run, by a fresh process that knows what was going on when the one before it died."""
        made = self.workshop.instance
        for run in made.get_runs(dg.RunsFilter(statuses=list(GOING_ON))):
            made.report_run_failed(run)
        return self.run(months, killer)

    def left(self) -> dict[str, Any]:
        """What a fresh process finds of what was published."""
        try:
            return {"before": self.state()}
        except (CorruptBytesError, ValueError) as error:
            return {"lost": str(error)}

    def recovered(self, months: Sequence[str]) -> dict[str, Any]:
        """The state after the same run again, and what is asked for then."""
        self.run_again(months, Killer(self.home))
        asked = Player(self.workshop.definitions, self.workshop.instance).tick("toy_new_data")
        return {"after": self.state(), "asked": [ran.because for ran in asked]}

    def state(self) -> dict[str, Any]:
        """Everything that has been published, read to the last byte and used."""
        outside = ("records", "registry", "blobs", "ledger")
        records, registry, blobs, ledger = (self.workshop.resources[name] for name in outside)
        deliveries = records.all(Delivery, "toy", "raw_data")
        judged = {asset: records.get(kind, "toy", asset) for asset, kind in JUDGED.items()}
        candidate = records.get(Candidate, "toy", "trained_model")
        champion = registry.champion("toy")
        decision = records.get(RetrainingDecision, "toy", "retraining_decision")
        return {
            "bytes": sum(len(blobs.read(file.sha256)) for each in deliveries.values() for file in each.files),
            "rows": {asset: self._rows(asset) for asset in PARTITIONED},
            "judged": [asset for asset, record in judged.items() if record is not None],
            "candidate": candidate and candidate.model_sha256,
            "candidate_predicts": candidate and self._predicted(candidate),
            "versions": [version.candidate for version in registry.versions("toy")],
            "aliases": {alias: registry._number("toy", alias) for alias in (CHAMPION, CHALLENGER)},
            "ledger": [[link.entry.kind, link.entry.version] for link in ledger.links("toy")],
            "ledger_broken": ledger.verify(),
            "champion_predicts": champion and self._predicted(registry.candidate(champion)),
            "drift": sorted(self._drift(records, registry)),
            "measured": sorted(records.all(PerformanceReport, "toy", "performance_report")),
            "decided": decision and decision.partition,
            "mlflow_runs": self._mlflow_runs(),
            "orphans": self._orphans(),
        }

    def _rows(self, asset: str) -> dict[str, str]:
        """The digest of each partition's rows, as the newest record of it names them."""
        import pandas as pd

        records, tables = (self.workshop.resources[name] for name in ("records", "tables"))
        found = records.all(PARTITIONED[asset], "toy", asset)
        frames = {partition: tables.read("toy", asset, record.files) for partition, record in found.items()}
        return {
            partition: f"{len(frame)} rows {int(pd.util.hash_pandas_object(frame, index=False).sum()):x}"
            for partition, frame in frames.items()
        }

    def _predicted(self, candidate: Candidate) -> str:
        """What a model says of the newest month."""
        import numpy as np

        records, tables = (self.workshop.resources[name] for name in ("records", "tables"))
        *_, newest = records.all(ValidatedPartition, "toy", "validated_features").values()
        rows = tables.read("toy", "validated_features", newest.files)
        said = self.workshop.resources["tracking"].load(candidate).predict(rows[list(candidate.inputs)])
        return digest_of([newest.partition, np.round(said, 9).tolist()])

    def _drift(self, records: Records, registry: Any) -> Iterator[str]:
        """The partitions judged, each by a version that has been champion and did not learn from it."""
        judges = {version.number: version for version in registry.versions("toy")}
        for partition, report in records.all(DriftReport, "toy", "drift_report").items():
            judge = judges[report.version]
            learned = registry.candidate(judge).manifest.fitted_partitions
            if judge.reign and partition not in learned:
                yield partition

    def _mlflow_runs(self) -> dict[str, int]:
        client = self.workshop.resources["tracking"].client
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return Counter(run.info.status for run in client.search_runs(experiments))

    def _orphans(self) -> dict[str, int]:
        """What killed processes left behind that nothing refers to, by kind."""
        files = [path for path in self.home.rglob("*") if path.is_file()]
        logs = "".join(path.read_text() for path in files if path.parent.name == "_delta_log")
        client = self.workshop.resources["tracking"].client
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        models = client.search_logged_models(experiments)
        return {
            "temporary_files": sum(path.suffix == ".tmp" for path in files),
            "uncommitted_table_files": sum(path.suffix == ".parquet" and path.name not in logs for path in files),
            "unfinished_mlflow_models": sum(str(model.status) != "READY" for model in models),
        }


@dataclass
class Laboratory:
    """Trials in one folder: MLflow keeps absolute paths, so that every trial lives in the same place."""

    folder: Path

    @property
    def home(self) -> Path:
        """Where the model lives in each trial."""
        return self.folder / "home"

    def keep(self, name: str) -> None:
        """Remember the state of the home under a name."""
        shutil.copytree(self.home, self.folder / name)

    def restore(self, name: str) -> None:
        """Go back to a state."""
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.copytree(self.folder / name, self.home)

    def rehearse(self, months: Sequence[str]) -> tuple[list[Point], dict[str, Any]]:
        """The writes of a run that nobody kills, and the state that it ends in."""
        points = forked(lambda: Life(self.home).run(months, Killer(self.home)))
        return [Point(**point) for point in points], forked(lambda: Life(self.home).state())

    def trial(self, start: str, months: Sequence[str], marks: Sequence[Point]) -> dict[str, Any]:
        """A life that is killed at one point after the other, each time by a process that does the same again."""
        self.restore(start)
        kills = [self.kill(months, marked) for marked in marks]
        return {"kills": kills, **forked(lambda: Life(self.home).recovered(months))}

    def kill(self, months: Sequence[str], marked: Point, *, naive: bool = False) -> dict[str, Any]:
        """One death, and what it leaves."""
        killed = forked(lambda: Life(self.home, naive).run_again(months, Killer(self.home, marked))) is None
        return {**asdict(marked), "killed": killed, **forked(lambda: Life(self.home, naive).left())}


def spread(points: Sequence[Point], count: int) -> list[Point]:
    """`count` points over all steps alike; in each from the first to the last, most of them writes of files."""
    steps = list(dict.fromkeys(point.step for point in points if point.step != "start"))
    chosen = []
    for number, step in enumerate(steps):
        share = (count + number) // len(steps)
        mine = [point for point in points if point.step == step]
        files = [point for point in mine if point.what != "commit"]
        commits = [point for point in mine if point.what == "commit"]
        chosen += [*_evenly(files, share - share // 3), *_evenly(commits, share // 3)]
    return chosen


def with_one_inside(chosen: Sequence[Point], points: Sequence[Point]) -> list[Point]:
    """The same, but that the first in the step that is the last to write a table is inside of that."""
    *_, inside = [replace(point, what=INSIDE) for point in points if point.what == "write"]
    place = next(place for place, point in enumerate(chosen) if point.step == inside.step)
    return [*chosen[:place], inside, *chosen[place + 1 :]]


def _evenly(points: Sequence[Point], count: int) -> list[Point]:
    return [points[(2 * place + 1) * len(points) // (2 * count)] for place in range(min(count, len(points)))]


def main(folder: Path, kills: int, together: bool) -> None:
    """First training and the month after it, killed at points spread over all steps; then the naive way.

    The kills of the month are those of one life where they are `together`, and have a life each where they are not.
    """
    warnings.simplefilter("ignore")
    without_waiting_for_the_disk()
    import_what_stores_models()
    load(HEAVY)
    laboratory = Laboratory(folder)
    life = Life(laboratory.home)
    forked(lambda: str(prepare(laboratory.home)))
    forked(lambda: life.deliver(HISTORY))
    laboratory.keep("nothing")
    first, state = laboratory.rehearse(HISTORY)
    say(kind="reference", of="first", points=len(first), state=state)
    forked(lambda: life.deliver(NEXT))
    laboratory.keep("learned")
    points, state = laboratory.rehearse(NEXT)
    say(kind="reference", of="next", points=len(points), state=state)
    chosen = with_one_inside(spread(points, kills - kills // 8), points)
    for marks in [chosen] if together else [[point] for point in chosen]:
        say(kind="trial", of="next", **laboratory.trial("learned", NEXT, marks))
    for point in spread(first, kills // 8):
        say(kind="trial", of="first", **laboratory.trial("nothing", HISTORY, [point]))
    for asset in ("trained_model", "registered_version"):
        laboratory.restore("learned")
        emptied = Point(f"toy__{asset}", f"emptied {asset}")
        say(kind="control", of="next", **laboratory.kill(NEXT, emptied, naive=True))
