"""What runs for the whole instance rather than for one model."""

import dagster as dg

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
