"""The exporter on a real instance: a model's life, read over HTTP."""

import threading
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import get_args

import dagster as dg
import pytest
from dagster._daemon.types import DaemonHeartbeat

from mlops_assets import settings
from mlops_assets.exporter.families import FAMILIES
from mlops_assets.exporter.history import Files, Outbox, Releases
from mlops_assets.exporter.serving import Clocks, Exporter, server
from mlops_assets.exporter.storage import Storage
from mlops_assets.ml.alerts import Alert
from mlops_assets.ml.monitoring import DriftReport, Verdict
from mlops_assets.ml.planning import MONITORING, TRAINING, VALIDATION
from mlops_assets_tests import toy
from mlops_assets_tests.exporter.reading import parsed, scraped, value
from mlops_assets_tests.homes import instance_at
from mlops_assets_tests.toy import Workshop

MONTHS, COMING = ("2024-01", "2024-02", "2024-03"), "2024-04"
NOON = datetime(2024, 6, 15, 12, tzinfo=UTC)
TAGS = {"mlops/model": "toy"}


def made(shop: Workshop, now=lambda: NOON, **options) -> Exporter:
    """An exporter of a workshop, that has read nothing yet."""
    resources = shop.resources
    return Exporter(
        Storage(shop.instance),
        Files(resources["records"]),
        Releases(resources["ledger"]),
        Outbox(resources["alerts"]),
        Clocks(now=now),
        **options,
    )


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Three months learned from, a fourth in which the prices moved, and a fifth that was refused."""
    folder = tmp_path_factory.mktemp("exported")
    with instance_at(folder) as instance:
        opened = Workshop(folder / "home", instance, {"gates": []})
        for month in MONTHS:
            toy.deliver(opened.landing, month)
        assert opened.run(MONTHS, [*VALIDATION, *TRAINING], TAGS).success
        toy.deliver(opened.landing, COMING, toy.rows(COMING, shift=15))
        assert opened.run([COMING], [*VALIDATION, *MONITORING], TAGS).success
        toy.deliver(opened.landing, "2024-05", toy.rows("2024-05").assign(price=-1.0))
        assert not opened.run(["2024-05"], VALIDATION, TAGS).success
        opened.resources["alerts"].raise_(
            Alert(
                kind="drift",
                model="toy",
                partition="2024-04-01",
                about="drift of toy",
                sentence="It moved.",
                link=None,
                raised=NOON - timedelta(hours=1),
            )
        )
        instance.add_daemon_heartbeat(DaemonHeartbeat(NOON.timestamp(), "SENSOR", "1", []))
        yield opened


@pytest.fixture(scope="module")
def series(shop):
    """What Prometheus reads of it, over HTTP."""
    with server(made(shop), "127.0.0.1", 0) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield scraped(f"http://127.0.0.1:{serving.server_port}/metrics")
        serving.shutdown()


def test_runs_are_counted_by_how_they_ended_with_their_seconds_and_what_they_cost(series):
    job = {"model": "toy", "job": "toy_lifecycle"}
    assert value(series, "mlops_runs_total", **job, status="SUCCESS") >= 1
    assert value(series, "mlops_runs_total", **job, status="FAILURE") >= 1
    seconds = value(series, "mlops_run_seconds_total", **job)
    assert seconds > 0
    assert value(series, "mlops_cost_total", model="toy", currency="EUR") == pytest.approx(seconds / 3600 * 0.05)


def test_what_was_made_and_checked_is_told_by_asset_with_no_label_of_a_partition(series):
    begun = time.time()
    for asset in ("raw_data", "trained_model", "champion"):
        name = "mlops_asset_last_materialization_timestamp_seconds"
        assert 0 < begun - value(series, name, model="toy", asset=asset) < 3600
    check = {"model": "toy", "asset": "validated_features", "check": "honours_contract"}
    assert value(series, "mlops_check_passed", **check) == 0.0
    assert value(series, "mlops_check_passed", **check | {"asset": "trained_model", "check": "stands_on_current_data"})
    assert begun - value(series, "mlops_check_last_evaluation_timestamp_seconds", **check) < 3600
    assert "2024-" not in str([labels for _, labels in series])


def test_drift_decision_champion_alerts_and_what_is_missing_are_told(shop, series):
    report = shop.resources["records"].get(DriftReport, "toy", "drift_report", f"{COMING}-01")
    assert report.verdict != "stable"
    said = {each: value(series, "mlops_drift_verdict", model="toy", verdict=each) for each in get_args(Verdict)}
    assert said == {each: float(each == report.verdict) for each in get_args(Verdict)}
    assert value(series, "mlops_drift_weighted_share_ratio", model="toy") == report.weighted_share > 0
    assert value(series, "mlops_drift_prediction_effect", model="toy") > 0
    decided = [value(series, "mlops_retraining_decision", model="toy", verdict=each) for each in ("RETRAIN", "WAIT")]
    assert sum(decided) == 1.0
    assert value(series, "mlops_champion_version", model="toy") == 1.0
    assert value(series, "mlops_approvals_waiting", model="toy") == 0.0
    assert value(series, "mlops_partitions_behind", model="toy") == 1.0, "May is over and is not validated"
    assert value(series, "mlops_alerts_open", model="toy", kind="drift") == 1.0
    assert value(series, "mlops_alert_oldest_timestamp_seconds", kind="drift") == NOON.timestamp() - 3600
    assert value(series, "mlops_daemon_heartbeat_timestamp_seconds", daemon="SENSOR") == NOON.timestamp()
    assert {value(series, "mlops_exporter_source_up", source=each) for each in ("storage", "records", "ledger")} == {1}


def test_every_metric_that_is_exported_is_declared_and_every_name_is_one_that_prometheus_takes(series):
    declared = {f"{each.name}_total" if each.kind == "counter" else each.name for each in FAMILIES}
    assert {name for name, _ in series} <= declared
    assert len(declared) == len(FAMILIES)
    for family in FAMILIES:
        assert family.name.startswith("mlops_")
        assert not family.name.endswith(("_total", "_count", "_sum", "_bucket"))
        assert not {"partition", "run", "run_id", "row"} & set(family.labels)


def test_an_exporter_that_was_started_again_counts_the_same_and_one_that_went_on_counts_only_what_is_new(shop):
    now = [NOON]
    lasting = made(shop, lambda: now[0], fresh_seconds=0)
    before = parsed(lasting.page().decode())
    assert parsed(lasting.page().decode())[TOTAL] == before[TOTAL]
    shop.run(["2024-05"], VALIDATION, TAGS)
    after = parsed(lasting.page().decode())
    assert after[TOTAL] == before[TOTAL] + 1
    assert parsed(made(shop).page().decode())[TOTAL] == after[TOTAL]


TOTAL = (
    "mlops_runs_total",
    frozenset({("model", "toy"), ("job", "toy_lifecycle"), ("status", "FAILURE")}),
)


def test_a_page_is_looked_up_once_for_as_long_as_it_is_fresh(shop):
    seconds = [0.0]
    exporter = made(shop, fresh_seconds=15)
    exporter.clocks = Clocks(steady=lambda: seconds[0], now=lambda: NOON)
    first = exporter.page()
    shop.instance.add_daemon_heartbeat(DaemonHeartbeat(NOON.timestamp() + 5, "SENSOR", "1", []))
    seconds[0] = 14.9
    assert exporter.page() == first
    seconds[0] = 15.0
    assert exporter.page() != first
    shop.instance.add_daemon_heartbeat(DaemonHeartbeat(NOON.timestamp(), "SENSOR", "1", []))


def test_a_source_that_cannot_be_read_is_said_to_be_down_and_takes_no_other_with_it(shop, monkeypatch):
    monkeypatch.setenv(settings.DATABASE_PATIENCE.name, "0.1")
    exporter = made(shop)
    exporter.releases = Releases(type(shop.resources["ledger"])(uri="postgresql://nobody@127.0.0.1:9/x", anchors="x"))
    read = parsed(exporter.page().decode())
    assert value(read, "mlops_exporter_source_up", source="ledger") == 0.0
    assert value(read, "mlops_exporter_source_up", source="storage") == 1.0
    assert value(read, "mlops_champion_version", model="toy") is None


def test_a_run_that_is_under_way_is_no_ended_one_until_it_ends(tmp_path):
    with instance_at(tmp_path) as instance:
        shop = Workshop(tmp_path / "home", instance)
        exporter = made(shop, fresh_seconds=0)
        job = dg.GraphDefinition(name="nothing").to_job()
        run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=TAGS)
        under_way = {"model": "toy", "status": "STARTED"}
        assert value(parsed(exporter.page().decode()), "mlops_runs_under_way", **under_way) == 1.0
        instance.add_run_tags(run.run_id, {"mlops/step_failure": "oom, something new"})
        instance.report_run_failed(run)
        read = parsed(exporter.page().decode())
        assert value(read, "mlops_runs_under_way", **under_way) is None
        assert value(read, "mlops_runs_total", model="toy", job="nothing", status="FAILURE") == 1.0
        assert value(read, "mlops_step_failures_total", model="toy", cause="oom") == 1.0
        assert value(read, "mlops_step_failures_total", model="toy", cause="unknown") == 1.0


def test_what_is_no_page_is_told_what_there_is(shop):
    with server(made(shop), "127.0.0.1", 0) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{serving.server_port}"
        assert urllib.request.urlopen(f"{url}/-/healthy", timeout=30).read() == b"well\n"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url}/", timeout=30)
        serving.shutdown()
