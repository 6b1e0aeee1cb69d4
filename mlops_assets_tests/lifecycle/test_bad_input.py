"""Bad input of every kind at once, through the sensor: refused or quarantined with the reason, and the rest goes on.

One home holds three models: `toy` is sent all that is bad, a month of each kind, among good months; `neighbour` is
sent good months only; and all labels of `lonely` are the same.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mlops_assets.demo.player import Ran
from mlops_assets.ml.sources import Delivery
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.validation import QuarantinedPartition, ValidatedPartition
from mlops_assets.resources.records import Record
from mlops_assets_tests import toy
from mlops_assets_tests.house import House, at_home
from mlops_assets_tests.lifecycle.daemon import Daemon

ROWS = 300
FEW = 6


def csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False).encode()


def parquet(frame: pd.DataFrame) -> bytes:
    target = io.BytesIO()
    frame.to_parquet(target)
    return target.getvalue()


def doubled(frame: pd.DataFrame) -> bytes:
    """The price twice."""
    return csv(pd.concat([frame, frame["price"]], axis=1))


def few(column: str, value: object) -> Callable[[pd.DataFrame], bytes]:
    """The first rows have another value in a column."""

    def spoil(frame: pd.DataFrame) -> bytes:
        frame = frame.astype({column: object})
        frame.loc[: FEW - 1, column] = value
        return csv(frame)

    return spoil


@dataclass(frozen=True)
class Case:
    """What is delivered as a month, and what is said of it; `quarantined` rows, when the others are kept."""

    spoil: Callable[[pd.DataFrame], bytes]
    reason: str
    suffix: str = "csv"
    quarantined: int | None = None


CASES = {
    "truncated Parquet": Case(lambda frame: parquet(frame)[:-40], "is not a whole Parquet file", "parquet"),
    "Parquet that is none": Case(
        lambda _: b"PAR1 and then other things PAR1", "is not a whole Parquet file", "parquet"
    ),
    "Latin-1": Case(lambda frame: csv(frame.assign(kind="ä")).decode().encode("latin-1"), "is not UTF-8 in line 2"),
    "UTF-16": Case(lambda frame: csv(frame).decode().encode("utf-16"), "is UTF-16. Save it as UTF-8"),
    "an empty file": Case(lambda _: b"", "is empty"),
    "a header only": Case(lambda frame: csv(frame[:0]), "has columns and no rows"),
    "a column twice": Case(doubled, "has columns of the same name: 'price'"),
    "a column missing": Case(lambda frame: csv(frame.drop(columns="wind")), "missing columns: 'wind'"),
    "a column too many": Case(
        lambda frame: csv(frame.assign(more=1)), "columns that the contract does not have: 'more'"
    ),
    "every row invalid": Case(
        lambda frame: csv(frame.assign(price=-1.0)), "300 of 300 rows (100.00%) break the contract"
    ),
    "a column of nulls": Case(lambda frame: csv(frame.assign(price=None)), "column 'price' holds nothing at all"),
    "a row cut short": Case(lambda frame: csv(frame) + b'"2024', "has a quoted field that is never closed"),
    "a nullable column of nulls": Case(lambda frame: csv(frame.assign(wind=None)), "", quarantined=0),
    "infinities": Case(few("wind", "inf"), "is finite", quarantined=FEW),
    "times that are text": Case(few("ts", "yesterday"), "is a time (ISO 8601)", quarantined=FEW),
    "times in mixed zones": Case(few("ts", "2024-06-05T10:00:00+02:00"), "has the offset of UTC", quarantined=FEW),
    "times in the year 2041": Case(few("ts", "2041-01-01 00:00:00"), "to before", quarantined=FEW),
}
SPOILED = pd.period_range("2024-04", periods=len(CASES), freq="M").astype(str)
MONTHS = dict(zip(CASES, SPOILED, strict=True))
REFUSED = [name for name, case in CASES.items() if case.quarantined is None]
KEPT = [name for name in CASES if name not in REFUSED]
GOOD = ("2024-01", "2024-02", "2024-03")
ODD = ("shop 2024-01.csv", "shop-..-2024-01.csv", "schöp-2024-01.csv", "shop-2024-13.csv")


def partition(name: str) -> str:
    return f"{MONTHS[name]}-01"


def months_of(folder: Path, name: str, **changes: Any) -> ModelSpec:
    """The toy model under another name, with months enough for every case, in CSV or Parquet."""
    files = ["shop-{partition:%Y-%m}.csv", "shop-{partition:%Y-%m}.parquet"]
    declared = {
        "name": name,
        "source": {"uri": str(folder), "files": files, "settle_seconds": 0},
        "partitions": {"every": "monthly", "start": "2024-01-01", "end": "2026-01-01"},
    }
    return toy.spec(folder, **{**declared, **changes})


@dataclass(frozen=True)
class Lived:
    """What became of the three models, and the runs that led there."""

    house: House
    landing: Path
    runs: dict[str, list[Ran]]

    def record(self, kind: type[Record], asset: str, partition: str) -> Record | None:
        """A partition's record of an asset of `toy`."""
        return self.house.resources["records"].get(kind, "toy", asset, partition)


@pytest.fixture(scope="module")
def lived(tmp_path_factory) -> Iterator[Lived]:
    folder = tmp_path_factory.mktemp("bad")
    landing, good, alike = (folder / name for name in ("landing", "good", "alike"))
    for month in GOOD:
        toy.deliver(landing, month)
        toy.deliver(good, month)
        toy.deliver(alike, month, toy.rows(month).assign(kind="a"))
    for name, case in CASES.items():
        (landing / f"shop-{MONTHS[name]}.{case.suffix}").write_bytes(case.spoil(toy.rows(MONTHS[name])))
    shutil.copy(landing / f"shop-{GOOD[0]}.csv", landing / "shop-2025-12.csv")
    for name in ODD:
        toy.deliver(folder / "odd", GOOD[0]).rename(landing / name)
    one_class = {
        "task": "multiclass",
        "target": "kind",
        "estimator": {"path": "sklearn.ensemble.HistGradientBoostingClassifier"},
        "evaluation": {"metric": "accuracy"},
        "gates": [],
    }
    models = (months_of(landing, "toy"), months_of(good, "neighbour"), months_of(alike, "lonely", **one_class))
    with at_home(folder / "home", *models) as house:
        yield Lived(house, landing, {spec.name: house.settle(spec.name) for spec in models})


@pytest.mark.parametrize("name", CASES)
def test_whatever_was_delivered_is_stored_as_it_came(name, lived):
    stored = lived.record(Delivery, "raw_data", partition(name))
    (file,) = stored.files
    sent = (lived.landing / f"shop-{MONTHS[name]}.{CASES[name].suffix}").read_bytes()
    assert lived.house.resources["blobs"].read(file.sha256) == sent


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_refused_by_partition_and_file_with_the_reason(name, lived):
    said = lived.runs["toy"][0].failed["validation"]
    (line,) = [line for line in said.splitlines() if f"validated_features[{partition(name)}]" in line]
    assert f"shop-{MONTHS[name]}.{CASES[name].suffix}" in line
    assert CASES[name].reason in line
    assert lived.record(ValidatedPartition, "validated_features", partition(name)) is None


@pytest.mark.parametrize("name", KEPT)
def test_a_few_bad_rows_are_quarantined_with_the_rule_and_the_others_are_kept(name, lived):
    kept = lived.record(ValidatedPartition, "validated_features", partition(name))
    bad = lived.record(QuarantinedPartition, "quarantined_rows", partition(name))
    assert (kept.rows_out, bad.rows_quarantined) == (ROWS - CASES[name].quarantined, CASES[name].quarantined)
    assert any(CASES[name].reason in rule.rule for rule in bad.broken_rules) or not bad.broken_rules
    assert {rule.count for rule in bad.broken_rules} <= {FEW}


def test_good_months_beside_the_bad_ones_are_learned_from(lived):
    first, *others = lived.runs["toy"]
    validated = {f"{month}-01" for month in GOOD} | {partition(name) for name in KEPT}
    assert set(first.made["validated_features"]) == validated
    assert set(first.failed) == {"validation"}
    assert not any(ran.crashed for ran in lived.runs["toy"])
    assert [ran.failed for ran in others] == [{}]
    assert lived.house.resources["registry"].champion("toy").number == 1


def test_another_model_knows_nothing_of_it(lived):
    (ran,) = lived.runs["neighbour"]
    assert ran.failed == {}
    assert lived.house.resources["registry"].champion("neighbour").number == 1


def test_labels_that_are_all_the_same_are_validated_and_not_learned_from(lived):
    ran = lived.runs["lonely"][0]
    assert len(ran.made["validated_features"]) == len(GOOD)
    assert set(ran.failed) == {"trained_model"}
    assert "kind has the same value in all 600 rows" in ran.failed["trained_model"]
    assert lived.house.resources["registry"].champion("lonely") is None


def test_odd_names_and_copies_start_nothing_and_are_said(lived):
    daemon = Daemon(lived.house)
    assert daemon.look() == []
    assert "2025-12-01: holds the same bytes as 2024-01-01: delivered twice, counted once" in daemon.said
    assert "Refused: shop-2024-13.csv: '2024-13' is no date of the form %Y-%m." in daemon.said
    assert all(f"{name}: fits no pattern" in daemon.said for name in ODD[:3])


def test_the_correction_of_a_bad_month_is_taken_up(lived):
    month = MONTHS["an empty file"]
    toy.deliver(lived.landing, month)
    (ran,) = lived.house.settle("toy")
    assert ran.failed == {}
    assert ran.made["validated_features"] == (f"{month}-01",)
    assert lived.record(Delivery, "raw_data", f"{month}-01").corrects is not None


def test_a_file_replaced_between_the_look_and_the_run_is_stored_as_it_is_then_and_asked_for_once(workshop):
    shop = workshop()
    toy.deliver(shop.landing, "2024-01")
    daemon = Daemon(shop)
    (request,) = daemon.look()
    newer = toy.deliver(shop.landing, "2024-01", toy.rows("2024-01", seed=1)).read_bytes()
    assert daemon.run(request, ("raw_data", "validated_features", "quarantined_rows")).success
    (file,) = shop.resources["records"].get(Delivery, "toy", "raw_data", "2024-01-01").files
    assert shop.resources["blobs"].read(file.sha256) == newer
    assert daemon.look() == []
