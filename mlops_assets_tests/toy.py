"""A small model and its world: what the tests of every stage declare, deliver and run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series

from mlops_assets.ml.spec import ModelSpec


class Contract(pa.DataFrameModel):
    """Sales of a shop by the hour."""

    event_time: Series[pd.DatetimeTZDtype] = pa.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})
    kind: Series[pd.CategoricalDtype] = pa.Field(isin=["a", "b", "c"])
    price: Series[float] = pa.Field(ge=0, le=100)
    wind: Series[float] = pa.Field(nullable=True, ge=-50, le=50)
    sales: Series[float] = pa.Field(ge=0)

    class Config:
        """Nothing that is not declared."""

        strict = True
        coerce = True


MONTHS = ("2024-01", "2024-02", "2024-03", "2024-04", "2024-05", "2024-06")


def spec(folder: Path | str, **changes: Any) -> ModelSpec:
    """The declaration of the toy model, delivered into `folder`, with any field replaced."""
    declared: dict[str, Any] = {
        "name": "toy",
        "owner": "team:shop",
        "description": "Sales of a shop by the hour, to learn from.",
        "task": "regression",
        "source": {"uri": str(folder), "files": ["shop-{partition:%Y-%m}.csv"], "settle_seconds": 0},
        "partitions": {"every": "monthly", "start": "2024-01-01", "end": "2025-01-01"},
        "time": {"columns": ["ts"]},
        "contract": "mlops_assets_tests.toy.Contract",
        "target": "sales",
        "features": [{"calendar": ["hour"]}],
        "estimator": {"path": "sklearn.ensemble.HistGradientBoostingRegressor", "params": {"max_iter": 5}},
        "seed": 7,
        "training": {"min_partitions": 3},
        "retraining": {"policy": "always"},
        "evaluation": {"metric": "mae", "slices": ["kind"], "replicates": 100},
        "gates": [{"metric": "skill", "at_least": 0.2}],
    }
    return ModelSpec.model_validate({**declared, **changes})


def rows(month: str, count: int = 300, seed: int = 0, shift: float = 0.0) -> pd.DataFrame:
    """The shop's rows in one month as they are delivered; `shift` moves the prices: a change of the world."""
    start = pd.Timestamp(f"{month}-01")
    random = np.random.default_rng([seed, start.year, start.month])
    hours = np.sort(random.integers(0, 28 * 24, count))
    ts = start + pd.to_timedelta(hours, unit="h")
    kind = random.choice(["a", "b", "c"], count)
    price = np.clip(random.normal(20 + shift, 4, count), 0, 100)
    wind = random.normal(0, 5, count)
    busy = np.where((ts.hour > 8) & (ts.hour < 18), 30.0, 5.0)
    sales = np.clip(busy + 100 / (1 + price) + 10 * (kind == "a") + random.normal(0, 1, count), 0, None)
    return pd.DataFrame(
        {"ts": ts.strftime("%Y-%m-%d %H:%M:%S"), "kind": kind, "price": price, "wind": wind, "sales": sales}
    )


def deliver(folder: Path, month: str, frame: pd.DataFrame | None = None) -> Path:
    """Write one month's file into the landing folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"shop-{month}.csv"
    (rows(month) if frame is None else frame).to_csv(path, index=False)
    return path


@dataclass
class Workshop:
    """A model's definitions on a home, an instance and a landing folder of their own."""

    home: Path
    instance: dg.DagsterInstance
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def landing(self) -> Path:
        """Where deliveries are dropped."""
        return self.home / "landing"

    @cached_property
    def spec(self) -> ModelSpec:
        """The toy model's declaration, delivered into `landing`."""
        return spec(self.landing, **self.changes)

    @cached_property
    def resources(self) -> dict[str, Any]:
        """The real resources, on this home."""
        from mlops_assets.defs.resources import resources

        return resources(str(self.home), f"sqlite:///{self.home}/mlflow.db")

    @cached_property
    def definitions(self) -> dg.Definitions:
        """Every stage of the toy model and what watches it, with the real resources on this home."""
        from mlops_assets.lifecycle import lifecycle, watching

        wiring = dg.Definitions(resources=self.resources, executor=dg.in_process_executor)
        return dg.Definitions.merge(lifecycle(self.spec), watching([self.spec]), wiring)

    def run(
        self,
        months: Sequence[str] = (),
        assets: Sequence[str] | None = None,
        tags: Mapping[str, str] | None = None,
        run_id: str | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Materialize assets (all by default) for one month, or a range of them, in one run; failures are returned."""
        keys = [f"{month}-01" for month in months]
        span = (
            {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
            if len(keys) > 1
            else {}
        )
        return self.definitions.resolve_job_def("toy_lifecycle").execute_in_process(
            instance=self.instance,
            partition_key=keys[0] if len(keys) == 1 else None,
            tags={**span, **(tags or {})},
            asset_selection=[dg.AssetKey(["toy", asset]) for asset in assets] if assets else None,
            raise_on_error=False,
            run_id=run_id,
        )
