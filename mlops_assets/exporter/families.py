"""Every metric that is exported: its name, kind, labels and meaning. Rules and dashboards are checked against these.

No label has a partition, a run or a row: how many series there are depends on how many models are declared.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Family(NamedTuple):
    """One metric. A counter's samples are called `name` with `_total` behind it."""

    name: str
    kind: Literal["counter", "gauge"]
    labels: tuple[str, ...]
    meaning: str


RUNS = Family("mlops_runs", "counter", ("model", "job", "status"), "Runs that ended.")
RUN_SECONDS = Family("mlops_run_seconds", "counter", ("model", "job"), "Seconds that ended runs took.")
RUNS_UNDER_WAY = Family("mlops_runs_under_way", "gauge", ("model", "status"), "Runs that have not ended.")
RUN_ENDED = Family(
    "mlops_run_last_end_timestamp_seconds", "gauge", ("model", "job", "status"), "When the newest such run ended."
)
STEP_FAILURES = Family(
    "mlops_step_failures", "counter", ("model", "cause"), "Ended runs in which a step's pod died, by its cause."
)
COST = Family("mlops_cost", "counter", ("model", "currency"), "What ended runs cost: their hours at the model's price.")
MATERIALIZED = Family(
    "mlops_asset_last_materialization_timestamp_seconds",
    "gauge",
    ("model", "asset"),
    "When an asset was materialized last.",
)
CHECK_PASSED = Family(
    "mlops_check_passed", "gauge", ("model", "asset", "check"), "Whether a check's newest evaluation passed (1 or 0)."
)
CHECKED = Family(
    "mlops_check_last_evaluation_timestamp_seconds", "gauge", ("model", "asset", "check"), "When it was evaluated."
)
DRIFT = Family("mlops_drift_verdict", "gauge", ("model", "verdict"), "1 for the verdict of the newest drift report.")
DRIFT_SHARE = Family(
    "mlops_drift_weighted_share_ratio",
    "gauge",
    ("model",),
    "The importance held by the columns that moved, in the newest drift report.",
)
PREDICTION_DRIFT = Family(
    "mlops_drift_prediction_effect", "gauge", ("model",), "By how much the predictions moved: an effect size."
)
DECISION = Family("mlops_retraining_decision", "gauge", ("model", "verdict"), "1 for the newest retraining decision.")
CHAMPION = Family("mlops_champion_version", "gauge", ("model",), "The version that serves.")
CHAMPION_SINCE = Family(
    "mlops_champion_since_timestamp_seconds", "gauge", ("model",), "When the version that serves was released."
)
WAITING = Family("mlops_approvals_waiting", "gauge", ("model",), "Versions that wait for people.")
WAITING_SINCE = Family(
    "mlops_approval_asked_timestamp_seconds", "gauge", ("model",), "When people were asked about the one that waits."
)
BEHIND = Family(
    "mlops_partitions_behind", "gauge", ("model",), "Windows that are over since the newest validated partition."
)
ALERTS = Family("mlops_alerts_open", "gauge", ("model", "kind"), "Alerts that are not over.")
ALERT_SINCE = Family(
    "mlops_alert_oldest_timestamp_seconds", "gauge", ("kind",), "Since when the oldest open alert of a kind lasts."
)
OUTBOX = Family("mlops_outbox_messages", "gauge", (), "Messages that a channel has not taken yet.")
HEARTBEAT = Family(
    "mlops_daemon_heartbeat_timestamp_seconds", "gauge", ("daemon",), "When a daemon last gave a sign of life."
)
DAEMON_ERRORS = Family("mlops_daemon_errors", "gauge", ("daemon",), "Errors in a daemon's newest sign of life.")
TICKS_FAILED = Family("mlops_ticks_failed", "counter", ("sensor",), "Looks of a sensor that failed.")
SENSOR_SUCCEEDED = Family(
    "mlops_sensor_last_success_timestamp_seconds", "gauge", ("sensor",), "When a sensor's newest look ended well."
)
SOURCE_UP = Family(
    "mlops_exporter_source_up", "gauge", ("source",), "Whether a source could be read at the newest look (1 or 0)."
)
LOOK_SECONDS = Family("mlops_exporter_look_seconds", "gauge", (), "How long the newest look took.")
LOOKED = Family("mlops_exporter_look_timestamp_seconds", "gauge", (), "When the newest look ended.")

FAMILIES: tuple[Family, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Family))
