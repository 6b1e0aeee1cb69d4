"""What runs for the whole instance rather than for one model."""

import dagster as dg

from mlops_assets.components.supervised_model import SupervisedModel
from mlops_assets.lifecycle import watching
from mlops_assets.resources.tracking import Tracking


def _reconcile(context: dg.RunStatusSensorContext, tracking: Tracking) -> dg.SkipReason:
    changed = tracking.reconcile(context.instance)
    told = ", ".join(f"{run} is {status}" for run, status in changed.items())
    return dg.SkipReason(told or f"MLflow agrees with Dagster about run {context.dagster_run.run_id}.")


@dg.run_status_sensor(run_status=dg.DagsterRunStatus.FAILURE, default_status=dg.DefaultSensorStatus.RUNNING)
def mlflow_follows_failed_runs(context: dg.RunStatusSensorContext, tracking: Tracking) -> dg.SkipReason:
    """MLflow runs whose Dagster run failed are failed too, also where the process that ran them was killed."""
    return _reconcile(context, tracking)


@dg.run_status_sensor(run_status=dg.DagsterRunStatus.CANCELED, default_status=dg.DefaultSensorStatus.RUNNING)
def mlflow_follows_canceled_runs(context: dg.RunStatusSensorContext, tracking: Tracking) -> dg.SkipReason:
    """MLflow runs whose Dagster run was canceled are killed too."""
    return _reconcile(context, tracking)


@dg.definitions
def defs(context: dg.ComponentLoadContext) -> dg.Definitions:
    """The sensors that follow every run, and those that look at all models at once."""
    specs = [each.spec for each in context.component_tree.get_all_components(of_type=SupervisedModel)]
    following = dg.Definitions(sensors=[mlflow_follows_failed_runs, mlflow_follows_canceled_runs])
    return dg.Definitions.merge(following, watching(specs))
