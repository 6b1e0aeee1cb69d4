"""Row 22: a second daemon on the same instance: refused by the lease, and what it would do without."""

import pytest

from mlops_assets_tests.faults import doubled, forking

pytestmark = [pytest.mark.fault(22), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What two daemons did, with the lease and without."""
    return {line["kind"]: line for line in forking.told(doubled.main, tmp_path_factory.mktemp("two"))}


def test_two_daemons_without_a_lease_start_runs_twice_in_spite_of_run_keys(told, record_figure):
    control = told["control"]
    record_figure(control=True, deliveries=control["deliveries"], duplicate_runs=control["duplicates"])
    assert control["deliveries"] == 12
    assert control["duplicates"] > 0


def test_with_the_lease_one_of_them_is_refused_and_every_delivery_has_one_run(told, record_figure):
    held = told["lease"]
    record_figure(deliveries=held["deliveries"], duplicate_runs=held["duplicates"])
    assert (held["deliveries"], held["runs"], held["duplicates"]) == (12, 12, 0)
    assert held["refused"].startswith("The daemon of this instance is process ")


def test_the_command_refuses_to_start_a_second_daemon_and_says_who_the_first_is(tmp_path, monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text("load_from: []\n")
    daemon = (forking.command, tmp_path, "mlops-assets", "daemon", "--workspace", str(workspace))
    with forking.started(*daemon) as first:
        while "Instance is configured with the following daemons" not in first.output:
            assert first.process.is_alive(), first.errors
            first.process.join(0.05)
        with forking.started(*daemon) as second:
            assert second.ended() == 1
            assert f"The daemon of this instance is process {first.process.pid} on" in second.errors
