"""The assets: one module a stage, each a function from a ModelSpec to that stage's Dagster definitions."""

from collections.abc import Callable, Sequence

import dagster as dg

from mlops_assets.lifecycle.answering import answering
from mlops_assets.lifecycle.champion import champion
from mlops_assets.lifecycle.data import data
from mlops_assets.lifecycle.evaluation import evaluation
from mlops_assets.lifecycle.labels import labels
from mlops_assets.lifecycle.monitoring import monitoring
from mlops_assets.lifecycle.performance import performance
from mlops_assets.lifecycle.registration import registration
from mlops_assets.lifecycle.retraining import retraining
from mlops_assets.lifecycle.rollback import drills, rollback, rollback_job
from mlops_assets.lifecycle.sensors.alerting import alerting, deliver_alerts, raise_alerts
from mlops_assets.lifecycle.sensors.new_labels import new_labels
from mlops_assets.lifecycle.sensors.overdue import overdue
from mlops_assets.lifecycle.sensors.performance_drop import performance_drop
from mlops_assets.lifecycle.sensors.release_approved import release_approved
from mlops_assets.lifecycle.sensors.retrain_on_decision import retrain_on_decision
from mlops_assets.lifecycle.sensors.watch_champions import watch_champions
from mlops_assets.lifecycle.training import told_to_mlflow, training
from mlops_assets.lifecycle.validation import validation
from mlops_assets.ml.spec import ModelSpec

STAGES = (
    data,
    validation,
    labels,
    training,
    evaluation,
    registration,
    champion,
    rollback,
    monitoring,
    performance,
    retraining,
)
WATCHERS: tuple[Callable[[Sequence[ModelSpec]], dg.SensorDefinition], ...] = (
    new_labels,
    retrain_on_decision,
    watch_champions,
    release_approved,
    performance_drop,
    overdue,
    raise_alerts,
    deliver_alerts,
)


def lifecycle(spec: ModelSpec) -> dg.Definitions:
    """The whole life of one model: every stage's assets, checks, jobs and sensors, in lifecycle order."""
    return told_to_mlflow(dg.Definitions.merge(*(stage(spec) for stage in STAGES)))


def watching(specs: Sequence[ModelSpec]) -> dg.Definitions:
    """What looks at all models at once, so that many models cost little more than one, and where alerts are seen."""
    return dg.Definitions(
        assets=[alerting()],
        sensors=[watcher(specs) for watcher in WATCHERS],
        schedules=[drills(specs)],
        jobs=[rollback_job(), *answering(specs)],
    )
