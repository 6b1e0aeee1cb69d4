"""Row 34: the secrets in the URIs of alert channels, looked for in every byte that raising and telling leave."""

import secrets
from datetime import UTC, datetime

import dagster as dg
import pytest
from typer.testing import CliRunner

from mlops_assets import settings
from mlops_assets.cli import app
from mlops_assets.lifecycle.sensors.alerting import deliver_alerts
from mlops_assets.ml.alerts import Alert
from mlops_assets.resources.alerts import Alerts
from mlops_assets_tests.faults.test_row_34_secrets import found
from mlops_assets_tests.homes import instance_at
from mlops_assets_tests.sinks import http_sink

pytestmark = pytest.mark.fault(34)
CHANNELS = (
    "json://user:{secret}@127.0.0.1:{port}/hook",
    "json://127.0.0.1:{port}/{secret}?-token={secret}",
    "refusing=json://user:{secret}@127.0.0.1:9/{secret}",
    "slack://{secret}/{secret}/{secret}",
    "mail=mailto://user:{secret}@127.0.0.1:9?from=a@example.com&mode=insecure",
    "nosuch://{secret}",
)


@pytest.fixture
def planted(monkeypatch):
    """The tokens in MLOPS_ALERTS, and a webhook that takes what is sent to it."""
    tokens = [f"canary{secrets.token_hex(12)}" for _ in CHANNELS]
    with http_sink() as sink:
        entries = [entry.format(secret=token, port=sink.port) for entry, token in zip(CHANNELS, tokens, strict=True)]
        monkeypatch.setenv(settings.ALERTS.name, " ".join(entries))
        yield tokens, sink


def test_telling_channels_that_take_it_and_that_do_not_writes_no_secret(planted, tmp_path, capfd, record_figure):
    tokens, sink = planted
    home, dagster = tmp_path / "home", tmp_path / "dagster"
    dagster.mkdir()
    raised = datetime.now(UTC)
    alert = Alert(kind="drift", model="toy", partition=None, about="x", sentence="It moved.", link=None, raised=raised)
    alerts = Alerts(root=str(home), ui="http://127.0.0.1:3000")
    alerts.raise_(alert)
    with instance_at(dagster) as instance:
        sensor = deliver_alerts([])
        with dg.build_sensor_context(instance=instance, resources={"alerts": alerts}) as context:
            seen = sensor.evaluate_tick(context)
        for event in seen.asset_events:
            instance.report_runless_asset_event(event)
    (tmp_path / "said").write_text(f"{seen}\n{alerts.tellings(9)}")
    assert len(sink.taken) == 2
    assert found(tokens, tmp_path, "".join(capfd.readouterr())) == []
    record_figure(alert_channels=len(CHANNELS), tokens_planted=len(tokens), tokens_found=0)


def test_the_commands_print_no_secret(planted, tmp_path, monkeypatch, capfd):
    tokens, sink = planted
    monkeypatch.setenv(settings.HOME.name, str(tmp_path))
    tried = CliRunner().invoke(app, ["alerts", "--test"])
    assert tried.exit_code == 1
    assert len(sink.taken) == 2
    listed = CliRunner().invoke(app, ["alerts", "--past"])
    assert listed.exit_code == 0
    (tmp_path / "said").write_text(tried.output + listed.output)
    assert found(tokens, tmp_path, "".join(capfd.readouterr())) == []


def test_a_setting_that_is_no_channel_is_refused_without_telling_it(tmp_path, monkeypatch):
    token = f"canary{secrets.token_hex(12)}"
    monkeypatch.setenv(settings.HOME.name, str(tmp_path))
    monkeypatch.setenv(settings.ALERTS.name, f"slack:{token}")
    refused = CliRunner().invoke(app, ["alerts", "--test"])
    assert (refused.exit_code, token in refused.output) == (1, False)
    assert "entry 1 is no channel" in refused.output
