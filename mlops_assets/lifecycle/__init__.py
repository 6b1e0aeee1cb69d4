"""The assets: one module a stage, each a function from a ModelSpec to that stage's Dagster definitions."""

from mlops_assets.lifecycle.data import data
from mlops_assets.lifecycle.evaluation import evaluation
from mlops_assets.lifecycle.monitoring import monitoring
from mlops_assets.lifecycle.registration import registration
from mlops_assets.lifecycle.training import training
from mlops_assets.lifecycle.validation import validation

STAGES = (data, validation, training, evaluation, registration, monitoring)
