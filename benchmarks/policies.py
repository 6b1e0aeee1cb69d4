"""Policies of retraining on four real histories, lived through partition by partition: python -m benchmarks.policies.

`best` is the best of the naive policies in hindsight, set by set. Fits are kept under --kept, so that a second run with
another rule costs only what is new.
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlops_assets.lifecycle.inspection import compared_columns
from mlops_assets.ml.backtest import History, Life, Replay, Version, replay
from mlops_assets.ml.contracts import inputs, load_contract, pii_columns
from mlops_assets.ml.evaluation import Estimate
from mlops_assets.ml.gain import PRIOR, Prior
from mlops_assets.ml.policies import POLICIES, Gain
from mlops_assets.ml.profiles import Profile, profile
from mlops_assets.ml.retraining import TrainingFacts
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.training import Split, in_window
from mlops_assets.ml.validation import ValidatedPartition

REGRESSOR = "sklearn.ensemble.HistGradientBoostingRegressor"
CLASSIFIER = "sklearn.ensemble.HistGradientBoostingClassifier"
EITHER = (6, None)
PERIODS = {"monthly": "M", "weekly": "W-SUN"}
NAIVE = {
    "never": ("never", None),
    "always": ("always", None),
    "always_w6": ("always", 6),
    "every3": ("every_n", None),
    "on_drift": ("on_drift", None),
}


def bike(folder: Path) -> tuple[ModelSpec, pd.DataFrame]:
    """Two years of rentals by the month: growth and seasons."""
    rows = pd.read_csv(folder / "bike_sharing_hourly" / "hour.csv")
    rows["event_time"] = pd.to_datetime(rows["dteday"] + " " + rows["hr"].astype(str), format="%Y-%m-%d %H", utc=True)
    spec = declared(
        "bike",
        task="regression",
        partitions={"every": "monthly", "start": "2011-01-01"},
        contract="mlops_assets.defs.models.bike_demand.contract.BikeHour",
        target="cnt",
        exclude=["instant", "yr", "casual", "registered"],
        calendar=["season", "mnth"],
        estimator={"path": REGRESSOR, "params": {"loss": "poisson", "max_iter": 80}},
        training={"min_partitions": 4},
        evaluation={"metric": "mae", "replicates": 100},
    )
    return spec, rows


def market(folder: Path) -> tuple[ModelSpec, pd.DataFrame]:
    """Two and a half years of an electricity market by the month: concept drift, and a market that opens."""
    rows = pd.read_parquet(folder / "elec2_nsw" / "elec2_with_ts_derived.parquet")
    rows["event_time"] = pd.to_datetime(rows["ts"], utc=True)
    spec = declared(
        "market",
        task="binary",
        partitions={"every": "monthly", "start": "1996-05-01"},
        contract="mlops_assets_tests.real_data.contracts.SettledHalfHour",
        target="class",
        exclude=["nswprice"],
        estimator={"path": CLASSIFIER, "params": {"max_iter": 80}},
        training={"min_partitions": 4},
        evaluation={"metric": "roc_auc", "replicates": 100},
    )
    return spec, rows


def air(folder: Path) -> tuple[ModelSpec, pd.DataFrame]:
    """A year of cheap sensors by the week: they age, and the seasons turn."""
    rows = pd.read_csv(folder / "air_quality_uci" / "AirQualityUCI.csv", na_values=["-200", "-200.0"])
    rows["event_time"] = pd.to_datetime(rows["Date"] + " " + rows["Time"], format="%d-%m-%y %H:%M:%S", utc=True)
    spec = declared(
        "air",
        task="regression",
        partitions={"every": "weekly", "start": "2004-03-08"},
        contract="mlops_assets_tests.real_data.contracts.AirHour",
        target="CO(GT)",
        exclude=["C6H6(GT)", "NMHC(GT)", "NOx(GT)", "NO2(GT)"],
        features=[{"cyclic": ["hour", "weekday"]}],
        estimator={"path": REGRESSOR, "params": {"max_iter": 60}},
        training={"min_partitions": 6},
        evaluation={"metric": "mae", "replicates": 100},
    )
    return spec, rows


def weather(folder: Path) -> tuple[ModelSpec, pd.DataFrame]:
    """Three years of Australian weather by the month: seasons, and stations that stop to report."""
    rows = pd.read_csv(folder / "weather_australia" / "weatherAUS.zip")
    rows["event_time"] = pd.to_datetime(rows["Date"], utc=True)
    rows = rows[rows["Date"].between("2008-01-01", "2010-12-31")]
    spec = declared(
        "weather",
        task="binary",
        partitions={"every": "monthly", "start": "2008-01-01"},
        contract="mlops_assets_tests.real_data.contracts.WeatherDay",
        target="RainTomorrow",
        features=[{"cyclic": ["dayofyear"]}],
        estimator={"path": CLASSIFIER, "params": {"max_iter": 40}},
        training={"min_partitions": 6},
        evaluation={"metric": "roc_auc", "replicates": 100},
    )
    return spec, rows


SETS = {"bike": bike, "market": market, "air": air, "weather": weather}


def declared(name: str, **fields: Any) -> ModelSpec:
    """A declaration with what is alike in all of them."""
    alike = {
        "name": name,
        "owner": "team:benchmarks",
        "description": "One of the real histories.",
        "source": {"uri": "nowhere", "files": ["*.csv"]},
        "time": {"columns": ["event_time"]},
        "seed": 1,
    }
    return ModelSpec.model_validate({**alike, **fields})


def history(spec: ModelSpec, rows: pd.DataFrame, kept: MutableMapping[str, Any] | None = None) -> History:
    """The rows that honour the contract, cut into the partitions of a history that lies in memory."""
    contract = load_contract(spec.contract)
    rows = honoured(contract, rows[[name for name in contract.columns if name in rows.columns]])
    rows = rows.sort_values("event_time", kind="stable", ignore_index=True)
    period = rows["event_time"].dt.tz_convert(None).dt.to_period(PERIODS[spec.partitions.every])
    frames = {str(when.start_time.date()): frame for when, frame in rows.groupby(period)}
    compared = compared_columns(contract, spec)
    parts = [partition(spec, key, frame, profile(frame, compared)) for key, frame in frames.items()]

    def read(wanted: Any, columns: Any) -> pd.DataFrame:
        chosen = pd.concat([frames[part.partition] for part in wanted], ignore_index=True)
        return chosen if columns is None else chosen[list(columns)]

    own = {} if kept is None else kept
    return History(parts, read, inputs(contract, spec), pii_columns(contract), kept=own)


def honoured(contract: Any, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows without those that break a rule."""
    import pandera.errors

    rows = rows.reset_index(drop=True)
    try:
        return contract.validate(rows, lazy=True)
    except pandera.errors.SchemaErrors as broken:
        bad = broken.failure_cases["index"].dropna().unique()
        return contract.validate(rows.drop(index=bad), lazy=True)


def partition(spec: ModelSpec, key: str, frame: pd.DataFrame, profiled: Profile) -> ValidatedPartition:
    """The record of a partition, as validation would have left it."""
    first, last = (pd.Timestamp(at).to_pydatetime() for at in (frame["event_time"].min(), frame["event_time"].max()))
    return ValidatedPartition(
        model=spec.name,
        partition=key,
        delivery=key,
        delivered=last,
        rows_in=len(frame),
        rows_out=len(frame),
        rows_quarantined=0,
        broken_rules=(),
        first=first.astimezone(UTC),
        last=last.astimezone(UTC),
        table_version=0,
        files={key: key},
        content=key,
        profile=profiled,
    )


class Unjudged(Life):
    """The harsher way of naive policies: learn from everything up to now, and serve without being compared."""

    def train(self, validated: dict[str, ValidatedPartition]) -> dict[str, Any]:
        """The candidate serves."""
        parts = Split(tuple(in_window(validated, self.spec.training.widest)), ())
        _, made = self.history.trained(self.spec, [parts])
        self.versions += 1
        self.champion = Version(self.versions, made)
        newest, cost = parts.fitted[-1].partition, made.candidate.cpu_seconds
        nothing = Estimate(value=np.nan, low=np.nan, high=np.nan)
        facts = TrainingFacts(
            partition=newest,
            fitted=len(parts.fitted),
            holdout=nothing,
            gain=None,
            became_champion=True,
            cpu_seconds=cost,
            candidate=f"training {len(self.trainings) + 1}",
        )
        self.trainings = (*self.trainings, facts)
        return {"trained": True, "became_champion": True}


class OnDisk(MutableMapping):
    """A mapping whose values lie in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __getitem__(self, key: str) -> Any:
        try:
            # doctor: accepted pickle: the benchmark's own intermediate values, in a folder that whoever runs it names
            return pickle.loads((self.folder / key).read_bytes())
        except FileNotFoundError as error:
            raise KeyError(key) from error

    def __setitem__(self, key: str, value: Any) -> None:
        whole = self.folder / f".{key}"
        # doctor: accepted pickle: the benchmark's own intermediate values, in a folder that whoever runs it names
        whole.write_bytes(pickle.dumps(value))
        whole.rename(self.folder / key)

    def __delitem__(self, key: str) -> None:
        (self.folder / key).unlink()

    def __iter__(self) -> Iterator[str]:
        return (path.name for path in self.folder.iterdir())

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass
class Compared:
    """The replays of one set, by policy."""

    name: str
    replays: dict[str, Replay]

    def loss(self, name: str) -> float:
        """The mean of the metric, turned so that less is better."""
        found = self.replays[name]
        return found.mean if found.better == "lower" else -found.mean

    @property
    def best(self) -> str:
        """The naive policy that turned out best."""
        return min(NAIVE, key=self.loss)

    def closed(self, name: str) -> float:
        """The share of the gap between `never` and the best that a policy closes."""
        return (self.loss("never") - self.loss(name)) / (self.loss("never") - self.loss(self.best))

    @property
    def most(self) -> int:
        """How often `always` trained."""
        return self.replays["always"].retrainings

    def beside(self, other: Replay) -> Compared:
        """The same with one more policy."""
        return Compared(self.name, {**self.replays, other.policy: other})

    def effort(self, name: str) -> float:
        """The trainings of a policy, as a share of those of `always`."""
        return self.replays[name].retrainings / self.most


def ruled(spec: ModelSpec, policy: str, window: Any, **rule: Any) -> ModelSpec:
    """The declaration under a policy and a window; the naive trigger knows no cooldown."""
    told = spec.model_dump(mode="json")
    told["training"]["window"] = window
    told["retraining"] |= {"policy": policy, **({"cooldown": 0} if policy == "on_drift" else {}), **rule}
    return ModelSpec.model_validate(told)


def naive(spec: ModelSpec, lived: History, life: type[Life] = Life) -> dict[str, Replay]:
    """The naive policies on one history."""
    return {
        name: replay(lived, ruled(spec, policy, window), POLICIES[policy], name, life)
        for name, (policy, window) in NAIVE.items()
    }


def by_gain(spec: ModelSpec, lived: History, prior: Prior = PRIOR, window: Any = EITHER, **rule: Any) -> Replay:
    """The default policy on one history, with any of its settings changed."""
    return replay(lived, ruled(spec, "gain", window, **rule), Gain(prior=prior))


SETTINGS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "worth 0.1": {"worth": 0.1},
    "worth 0.2": {"worth": 0.2},
    "cooldown 0": {"cooldown": 0},
    "cooldown 2": {"cooldown": 2},
    "prior rate 0.03": {"prior": PRIOR._replace(rate=0.03, rate_deviation=0.03)},
    "prior rate 0.08": {"prior": PRIOR._replace(rate=0.08, rate_deviation=0.08)},
    "prior noise 0.15": {"prior": PRIOR._replace(gained_noise=0.15, seen_noise=0.15)},
    "window all": {"window": None},
    "window 6": {"window": 6},
}


def sensitivity(histories: dict[str, tuple[ModelSpec, History]], reference: dict[str, Compared]) -> None:
    """What other settings would have given, and what the setting chosen on the other sets gives on each."""
    closed: dict[str, dict[str, float]] = {}
    for label, setting in SETTINGS.items():
        found = {}
        for name, (spec, lived) in histories.items():
            both = reference[name].beside(by_gain(spec, lived, **setting))
            found[name] = both.closed("gain")
            print(row(label, name, both.replays["gain"], both), flush=True)
        closed[label] = found
        print(f"| {label} | **mean** | | {np.mean(list(found.values())):.0%} | |", flush=True)
    for name in histories:
        best = max(closed, key=lambda label: np.mean([closed[label][other] for other in histories if other != name]))
        print(f"| left out: {name} | {best} | | {closed[best][name]:.0%} | |")


def row(label: str, name: str, replayed: Replay, both: Compared) -> str:
    """A line of a table in Markdown."""
    share, effort = both.closed(label if label in both.replays else "gain"), replayed.retrainings
    return f"| {label} | {name} | {replayed.mean:.4g} | {share:.0%} | {effort} of {both.most} |"


def steady(folder: Path, kept: Path | None) -> None:
    """Streams in which nothing changes: what the default policy does in 24 partitions after the first version."""
    streams = {"simulated": simulated()} | {f"{name}, shuffled": shuffled(*made(folder)) for name, made in SETS.items()}
    for name, (spec, rows) in streams.items():
        lived = history(spec, rows, OnDisk(kept / name) if kept else None)
        found = by_gain(spec, lived)
        judged = [step for step in found.steps if step.verdict is not None][:24]
        trained, alarms = sum(step.trained for step in judged), sum(step.alarm for step in judged)
        gains = [float(f"{each.gain.value:.3g}") for each in found.trainings if each.gain][:trained]
        print(f"| {name} | {len(judged)} | {trained} | {alarms} | {gains} |", flush=True)


def simulated() -> tuple[ModelSpec, pd.DataFrame]:
    """The world of the tests' toy model, which never changes, over 28 months."""
    from mlops_assets_tests import toy

    months = pd.period_range("2024-01", periods=28, freq="M").astype(str)
    rows = pd.concat([toy.rows(month, 500) for month in months], ignore_index=True)
    rows["event_time"] = pd.to_datetime(rows.pop("ts"), utc=True)
    declared = {"time": {"columns": ["event_time"]}, "training": {"min_partitions": 4}, "gates": []}
    return toy.spec("/nowhere", **declared), rows


def shuffled(spec: ModelSpec, rows: pd.DataFrame) -> tuple[ModelSpec, pd.DataFrame]:
    """The same rows at other times."""
    mixed = rows.drop(columns="event_time").sample(frac=1, random_state=0).reset_index(drop=True)
    return spec, mixed.assign(event_time=rows["event_time"].sort_values().to_numpy())


def main() -> None:
    """Measure, and print tables in Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--kept", type=Path)
    parser.add_argument("--what", nargs="*", default=["judged", "unjudged", "settings", "steady"])
    options = parser.parse_args()
    histories = {}
    for name in options.sets:
        spec, rows = SETS[name](options.data)
        histories[name] = spec, history(spec, rows, OnDisk(options.kept / name) if options.kept else None)
    reference = {}
    for what, life in (("judged", Life), ("unjudged", Unjudged)):
        if what in options.what or (what == "judged" and "settings" in options.what):
            reference |= {what: compare(what, histories, life)}
    if "settings" in options.what:
        sensitivity(histories, reference["judged"])
    if "steady" in options.what:
        steady(options.data, options.kept)


def compare(what: str, histories: dict[str, tuple[ModelSpec, History]], life: type[Life]) -> dict[str, Compared]:
    """Every policy on every history, and the sum of it."""
    found = {}
    for name, (spec, lived) in histories.items():
        found[name] = Compared(name, naive(spec, lived, life)).beside(by_gain(spec, lived))
        for label, each in found[name].replays.items():
            print(row(label, name, each, found[name]) + (" best |" if label == found[name].best else ""), flush=True)
    shares = [each.closed("gain") for each in found.values()]
    efforts = [each.effort("gain") for each in found.values()]
    capped = np.mean(np.minimum(shares, 1))
    print(f"{what}: closed {np.mean(shares):.0%} (each at most 1: {capped:.0%}), trainings {np.mean(efforts):.0%}")
    return found


if __name__ == "__main__":
    main()
