"""Every environment variable that the project reads, in one table. Read when asked for, never at import."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Setting:
    """An environment variable: its name, what it does, and its value when unset."""

    name: str
    meaning: str
    default: str

    def value(self) -> str:
        """What the environment says, or the default."""
        return os.environ.get(self.name) or self.default


HOME = Setting(
    "MLOPS_HOME",
    "Where raw bytes, tables, records and reports are kept: a folder, or an object-store URI such as s3://bucket/prefix.",
    ".mlops",
)
LANDING = Setting("MLOPS_LANDING", "Where the shipped models look for deliveries.", "$MLOPS_HOME/landing")
TRACKING_URI = Setting(
    "MLFLOW_TRACKING_URI", "MLflow's tracking server and registry.", "sqlite:///$MLOPS_HOME/mlflow.db"
)
MLFLOW_UI = Setting(
    "MLOPS_MLFLOW_UI", "Where a person's browser finds MLflow: links in metadata start with it.", "http://127.0.0.1:5000"
)
REPORTS_UI = Setting(
    "MLOPS_REPORTS_UI",
    "Where a person's browser finds $MLOPS_HOME/reports: an origin of its own, because reports hold HTML made from data.",
    "http://127.0.0.1:3001",
)

ALL = (HOME, LANDING, TRACKING_URI, MLFLOW_UI, REPORTS_UI)


def home() -> str:
    """The storage root: an absolute path, or an object-store URI without a trailing slash."""
    return _absolute(HOME.value())


def landing() -> str:
    """The folder or URI under which each shipped model has a folder of deliveries."""
    return _absolute(_within_home(LANDING.value()))


def tracking_uri() -> str:
    """MLflow's tracking URI."""
    return _within_home(TRACKING_URI.value())


def _within_home(value: str) -> str:
    return value.replace("$MLOPS_HOME", home())


def _absolute(value: str) -> str:
    return value.rstrip("/") if "://" in value else str(Path(value).absolute())
