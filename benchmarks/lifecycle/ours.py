"""The lifecycle as mlops_assets runs it, in one process: one run for the history, then the newest week's drift."""

import sys
from pathlib import Path

import dagster as dg
import pandas as pd
from world import START, WEEKS

from mlops_assets.defs.resources import resources
from mlops_assets.lifecycle import lifecycle
from mlops_assets.ml.spec import ModelSpec

source, home = Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute()
home.mkdir(parents=True, exist_ok=True)
sys.path.insert(0, str(Path(__file__).parent))
spec = ModelSpec.model_validate({
    "name": "world", "owner": "team:benchmarks", "task": "binary",
    "description": "The benchmark's world of sixteen columns.",
    "source": {"uri": str(source), "files": ["world-{partition:%Y-%m-%d}.parquet"], "settle_seconds": 0},
    "partitions": {"every": "weekly", "start": "2024-01-01", "end": "2024-12-30"}, "time": {"columns": ["ts"]},
    "contract": "contract.Contract", "target": "target",
    "estimator": {"path": "sklearn.ensemble.HistGradientBoostingClassifier", "params": {"max_iter": 50}}, "seed": 7,
    "evaluation": {"metric": "roc_auc", "slices": ["c0"], "replicates": 100},
    "gates": [{"metric": "roc_auc", "at_least": 0.6}],
})  # fmt: skip
wiring = dg.Definitions(resources=resources(str(home), f"sqlite:///{home}/mlflow.db"), executor=dg.in_process_executor)
job = dg.Definitions.merge(lifecycle(spec), wiring).resolve_job_def("world_lifecycle")
weeks = [f"{START + pd.Timedelta(weeks=week):%Y-%m-%d}" for week in (0, WEEKS - 1)]
with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
    span = {"dagster/asset_partition_range_start": weeks[0], "dagster/asset_partition_range_end": weeks[1]}
    names = ("raw_data", "validated_features", "quarantined_rows")
    names += ("trained_model", "evaluation_report", "registered_version", "champion")
    history = job.execute_in_process(
        instance=instance, tags=span, asset_selection=[dg.AssetKey(["world", name]) for name in names]
    )
    drift = job.execute_in_process(
        instance=instance, partition_key=weeks[1], asset_selection=[dg.AssetKey(["world", "drift_report"])]
    )
    assert history.success
    assert drift.success
