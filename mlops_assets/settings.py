"""Every environment variable that the project reads, in one table. Read when asked for, never at import."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from mlops_assets.ml.uris import holds_password

MOST = 1e6


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
LEDGER = Setting(
    "MLOPS_LEDGER",
    "The database of the ledger of releases: SQLite, or PostgreSQL as postgresql://user@host/database.",
    "sqlite:///$MLOPS_HOME/ledger.db",
)
LEDGER_ANCHORS = Setting(
    "MLOPS_LEDGER_ANCHORS",
    "Where the head of the ledger is kept after each entry, so that a cut is found: a folder or an object-store URI.",
    "$MLOPS_HOME/ledger",
)
MLFLOW_UI = Setting(
    "MLOPS_MLFLOW_UI",
    "Where a person's browser finds MLflow: links in metadata start with it.",
    "http://127.0.0.1:5000",
)
DAGSTER_UI = Setting(
    "MLOPS_DAGSTER_UI",
    "Where a person's browser finds Dagster: links in MLflow start with it.",
    "http://127.0.0.1:3000",
)
REPORTS_UI = Setting(
    "MLOPS_REPORTS_UI",
    "Where a person's browser finds $MLOPS_HOME/reports, on an origin of their own: they hold HTML made from data.",
    "http://127.0.0.1:3001",
)
COMPUTE_PROVIDER = Setting(
    "COMPUTE_PROVIDER",
    "Whose labels and taints compute profiles are rendered for: generic, eks, gke or aks.",
    "generic",
)
CHECKPOINT_SECONDS = Setting(
    "MLOPS_CHECKPOINT_SECONDS",
    "After how many seconds the state of a training that can resume is kept again: as much is lost when it is killed.",
    "60",
)
COMPUTE = Setting(
    "MLOPS_COMPUTE",
    "Where steps run: local (in the run's own process, without heed of compute profiles) or kubernetes (a pod for each "
    "step that asks for one).",
    "local",
)
DATABASE_PATIENCE = Setting(
    "MLOPS_DATABASE_PATIENCE_SECONDS",
    "How long whoever connects to PostgreSQL waits for one that is away.",
    "120",
)
COMPUTE_PROFILES = Setting(
    "MLOPS_COMPUTE_PROFILES",
    "A file of this deployment's own compute profiles, laid over the shipped ones field by field.",
    "",
)
CONTAINER_CONTEXT = Setting(
    "DAGSTER_CLI_API_GRPC_CONTAINER_CONTEXT",
    "What this code location gives every pod, as JSON: Dagster's chart sets it, `compute show` and `explain` read it.",
    "",
)
DAGSTER_HOME = Setting(
    "DAGSTER_HOME", "Where Dagster keeps its configuration and history: a local folder.", "$MLOPS_HOME/dagster"
)

RUNBOOKS = Setting(
    "MLOPS_RUNBOOKS", "Where a person finds docs/runbooks: messages name <it>/<kind of alert>.md.", "docs/runbooks"
)
ALERTS = Setting(
    "MLOPS_ALERTS",
    "Where alerts are told: URIs of apprise with a space between them, or file:/path, a file that holds them.",
    "",
)
ALERTS_AGAIN = Setting("MLOPS_ALERTS_AGAIN_HOURS", "After how many hours an alert that lasts is told again.", "24")
STUCK = Setting("MLOPS_STUCK_MINUTES", "How many minutes a run may be queued, starting or under way.", "120")
SIGNING_KEY = Setting(
    "MLOPS_SIGNING_KEY", "The file of the Ed25519 private key of whoever acts in this process: PEM or OpenSSH.", ""
)
TRUSTED_KEYS = Setting(
    "MLOPS_TRUSTED_KEYS",
    "Whose signatures count: a file with a line `person ssh-ed25519 ...` a key, or a folder with a file person.pub "
    "each. Where it is set, only what is signed counts.",
    "",
)
SERVING_PYTHON = Setting(
    "MLOPS_SERVING_PYTHON",
    "The interpreter of the environment in which models serve, in which the drill loads them; this process's own "
    "where it is unset.",
    "",
)
PROXY_HEADER = Setting(
    "MLOPS_PROXY_HEADER",
    "The header in which the proxy before `mlops-assets webserver` says who is logged in, such as X-Forwarded-Email.",
    "",
)

ALL = (
    HOME,
    LANDING,
    TRACKING_URI,
    LEDGER,
    LEDGER_ANCHORS,
    MLFLOW_UI,
    DAGSTER_UI,
    REPORTS_UI,
    COMPUTE,
    COMPUTE_PROVIDER,
    CHECKPOINT_SECONDS,
    DATABASE_PATIENCE,
    COMPUTE_PROFILES,
    CONTAINER_CONTEXT,
    DAGSTER_HOME,
    RUNBOOKS,
    ALERTS,
    ALERTS_AGAIN,
    STUCK,
    SIGNING_KEY,
    TRUSTED_KEYS,
    SERVING_PYTHON,
    PROXY_HEADER,
)

STORE_ATTEMPTS = Setting(
    "AWS_MAX_ATTEMPTS",
    "How often an object store is asked that refuses or does not answer: eight times take half a minute.",
    "8",
)

LIBRARIES = (
    Setting(
        "CUBLAS_WORKSPACE_CONFIG",
        "The memory in which CUDA's matrix products work: with this one they give the same twice.",
        ":4096:8",
    ),
    STORE_ATTEMPTS,
    Setting("AWS_RETRY_MODE", "How boto3 waits before it asks again: ever longer, and by chance.", "standard"),
    Setting("DO_NOT_TRACK", "Nothing is reported to the makers of MLflow and Evidently.", "true"),
    Setting("MLFLOW_DISABLE_TELEMETRY", "Nothing is reported to the makers of MLflow.", "true"),
    Setting("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "How often MLflow asks a server again that does not answer.", "2"),
    Setting("MLFLOW_HTTP_REQUEST_TIMEOUT", "Seconds that MLflow waits for one answer.", "10"),
    Setting(
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR",
        "Seconds before MLflow's first retry; each later one waits twice as long.",
        "1",
    ),
    Setting("MLFLOW_LOGGING_LEVEL", "From which severity on MLflow speaks.", "WARNING"),
    Setting(
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "Whether MLflow draws a bar for each file that it copies.", "false"
    ),
    Setting(
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION",
        "Whether an MLflow server runs jobs that anyone who reaches it may send.",
        "false",
    ),
)


def set_library_defaults() -> None:
    """Give every variable of LIBRARIES its default, for this process and its children, where the user gave none."""
    for setting in LIBRARIES:
        os.environ.setdefault(setting.name, setting.default)


class SecretInUriError(ValueError):
    """A URI holds a password, and would carry it into metadata, messages and the UI."""


class NoNumberError(ValueError):
    """A setting that counts something is no such number."""


def home() -> str:
    """The storage root: an absolute path, or an object-store URI without a trailing slash."""
    return _absolute(_without_password(HOME))


def landing() -> str:
    """The folder or URI under which each shipped model has a folder of deliveries."""
    return _absolute(_within_home(_without_password(LANDING)))


def tracking_uri() -> str:
    """MLflow's tracking URI."""
    return _within_home(_without_password(TRACKING_URI))


def ledger() -> str:
    """The URL of the ledger's database."""
    return _within_home(_without_password(LEDGER))


def ledger_anchors() -> str:
    """The folder or URI under which the ledger's heads are kept."""
    return _absolute(_within_home(_without_password(LEDGER_ANCHORS)))


def dagster_home() -> str:
    """The folder of Dagster's configuration and history."""
    return _absolute(_within_home(DAGSTER_HOME.value()))


def signing_key() -> str:
    """The path of the private key of whoever acts here; empty where there is none."""
    return _path(SIGNING_KEY)


def trusted_keys() -> str:
    """The path of the file or folder that says whose signatures count; empty where none need be signed."""
    return _path(TRUSTED_KEYS)


def compute_profiles() -> str:
    """The path of this deployment's own compute profiles; empty where it has none."""
    return _path(COMPUTE_PROFILES)


def alerts_again() -> timedelta:
    """After how long an alert that lasts is told again."""
    return timedelta(hours=_positive(ALERTS_AGAIN))


def stuck_after() -> timedelta:
    """How long a run may be queued, starting or under way."""
    return timedelta(minutes=_positive(STUCK))


def checkpoint_seconds() -> float:
    """After how many seconds the state of a training is kept again."""
    return _positive(CHECKPOINT_SECONDS)


def database_patience() -> float:
    """For how many seconds a database is waited for that is away."""
    return _positive(DATABASE_PATIENCE)


def store_attempts() -> int:
    """How often an object store is asked before it is given up."""
    return max(1, round(_positive(STORE_ATTEMPTS)))


def _positive(setting: Setting) -> float:
    try:
        number = float(setting.value())
    except ValueError:
        number = math.nan
    if not 0 < number < MOST:
        raise NoNumberError(f"{setting.name} must be a number above 0 and below {MOST:g}; it is {setting.value()!r}.")
    return number


def _without_password(setting: Setting) -> str:
    value = setting.value()
    if holds_password(value):
        raise SecretInUriError(
            f"{setting.name} holds a password. Leave it out, and give it in a variable of its own: an object store's "
            "in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, an MLflow server's in MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, PostgreSQL's in PGPASSWORD or a password file."
        )
    return value


def _path(setting: Setting) -> str:
    value = setting.value()
    return str(Path(_within_home(value)).expanduser().absolute()) if value else ""


def _within_home(value: str) -> str:
    return value.replace("$MLOPS_HOME", home())


def _absolute(value: str) -> str:
    return value.rstrip("/") if "://" in value else str(Path(value).absolute())
