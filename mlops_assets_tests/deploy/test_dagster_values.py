"""Our values for Dagster's own chart: the instance that comes of them, and the pods that this instance would launch."""

import copy
import itertools
import tomllib
from pathlib import Path

import pytest
import yaml
from dagster._core.errors import DagsterInvalidConfigError
from dagster._core.instance.config import dagster_instance_config
from packaging.requirements import Requirement
from pydantic import ValidationError

from mlops_assets import settings
from mlops_assets.compute import names, op_tags
from mlops_assets_tests.deploy.dagster_chart import Values, instance, values
from mlops_assets_tests.deploy.folder import ENVIRONMENTS, PROVIDERS, ROOT, over, read
from mlops_assets_tests.deploy.jobs import faults, job
from mlops_assets_tests.deploy.schemas import refused

EVERYWHERE = list(itertools.product(ENVIRONMENTS, PROVIDERS))
# Where a cluster is another thing than one machine; everything else of our own dagster.yaml has to hold there as well.
OTHERWISE = {
    "run_queue.max_concurrent_runs": "it is the cluster that is shared, not one machine",
    "run_queue.dequeue_interval_seconds": "a pod takes longer than that to start",
    "run_queue.tag_concurrency_limits": "beside pools it has to stand in `concurrency`: looked at below",
    "run_monitoring.cancel_timeout_seconds": "a pod has a period of grace",
    "run_monitoring.max_runtime_seconds": "a run waits for nodes",
    "run_monitoring.max_resume_run_attempts": "a run pod can be started again, a local process cannot",
    "run_monitoring.free_slots_after_run_end_seconds": "the pods of a dead run are given time to go",
    "run_retries.max_retries": "an evicted run pod is resumed first",
    "code_servers.local_startup_timeout": "code servers are pods of their own",
}


@pytest.fixture(params=EVERYWHERE, ids="-".join)
def given(request) -> Values:
    return Values.model_validate(values(*request.param))


@pytest.fixture
def production() -> dict:
    return values("prod", "eks")


def opened(home: Path, config: dict) -> dict:
    """What Dagster reads in a folder with this configuration."""
    (home / "dagster.yaml").write_text(yaml.safe_dump(config))
    return dagster_instance_config(str(home))[0]


def leaves(config: dict, *above: str) -> dict[str, object]:
    """Every value of a nested mapping by its path."""
    found = {}
    for key, value in config.items():
        here = (*above, key)
        found |= leaves(value, *here) if isinstance(value, dict) else {".".join(here): value}
    return found


def changed(config: dict, path: str, value: object) -> dict:
    """The same values with one of them replaced."""
    *above, last = path.split("/")
    result = copy.deepcopy(config)
    at = result
    for key in above:
        at = at[int(key) if isinstance(at, list) else key]
    at[last] = value
    return result


def test_the_chart_is_of_the_release_of_dagster_that_is_installed():
    [dagster] = [
        Requirement(each)
        for each in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        if Requirement(each).name == "dagster"
    ]
    assert str(dagster.specifier) == f"=={read('helm/dagster/chart.yaml')['version']}"


def test_what_the_chart_renders_is_an_instance_that_dagster_opens(given, tmp_path):
    config = opened(tmp_path, instance(given))
    assert config["run_launcher"]["class"] == "K8sRunLauncher"
    assert config["run_storage"]["config"]["postgres_db"]["password"] == {"env": "DAGSTER_PG_PASSWORD"}


def test_dagster_refuses_the_limits_of_runs_in_two_places(given, tmp_path):
    config = over(instance(given), {"run_queue": {"max_concurrent_runs": 5}})
    with pytest.raises(DagsterInvalidConfigError, match="incompatible"):
        opened(tmp_path, config)


def test_what_our_own_instance_demands_holds_on_the_cluster_too(given):
    ours = leaves(yaml.safe_load((ROOT / "dagster.yaml").read_text()))
    there = leaves(instance(given))
    assert OTHERWISE.keys() <= ours.keys()
    assert {path: there.get(path) for path in ours.keys() - OTHERWISE.keys()} == {
        path: ours[path] for path in ours.keys() - OTHERWISE.keys()
    }
    [limit] = yaml.safe_load((ROOT / "dagster.yaml").read_text())["run_queue"]["tag_concurrency_limits"]
    assert limit in instance(given)["concurrency"]["runs"]["tag_concurrency_limits"]
    assert instance(given)["concurrency"]["pools"]["granularity"] == "op"


def test_a_section_that_the_chart_renders_stands_nowhere_else(production):
    twice = changed(production, "additionalInstanceConfig/telemetry", {"enabled": True})
    with pytest.raises(ValueError, match="telemetry: rendered by the chart and in additionalInstanceConfig"):
        instance(Values.model_validate(twice))


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("profile", names())
def test_every_profile_becomes_a_job_that_kubernetes_accepts(profile, provider, monkeypatch):
    monkeypatch.setenv(settings.COMPUTE_PROVIDER.name, provider)
    body = job(Values.model_validate(values("prod", provider)), op_tags(profile))
    assert faults(body) == []


def test_a_run_asks_for_no_device_and_is_not_moved_away(given):
    body = job(given, step=False)
    template = body["spec"]["template"]
    assert faults(body) == []
    assert set(template["spec"]["containers"][0]["resources"]["limits"]) == {"memory", "ephemeral-storage"}
    assert template["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"


def test_what_is_set_for_the_code_server_reaches_no_step(production, monkeypatch):
    monkeypatch.setenv(settings.COMPUTE_PROVIDER.name, "eks")
    server = "dagster-user-deployments/deployments/0"
    small = {"requests": {"memory": "512Mi"}, "limits": {"memory": "512Mi", "ephemeral-storage": "1Gi"}}
    with_limits = changed(production, f"{server}/resources", small)
    sound = job(Values.model_validate(with_limits), op_tags("cpu-large"))
    assert faults(sound) == []
    assert sound["spec"]["template"]["spec"]["serviceAccountName"] == "mlops-run"

    trap = changed(with_limits, f"{server}/includeConfigInLaunchedRuns", {"enabled": True})
    caught = job(Values.model_validate(trap), op_tags("cpu-large"))
    assert refused(caught) == []  # a schema does not see it
    twice, too_much = faults(caught)
    assert "'tmp' stands there twice" in twice
    assert "ephemeral-storage: 2Gi is more than the limit 1Gi" in too_much
    assert caught["spec"]["template"]["spec"]["serviceAccountName"] == "mlops-code"  # which may start no step


def test_no_job_holds_a_secret_but_by_its_name(given):
    container = job(given)["spec"]["template"]["spec"]["containers"][0]
    assert {"secretRef": {"name": "mlops-assets"}} in container["envFrom"]
    by_value = {each["name"] for each in container["env"] if "value" in each}
    assert by_value == {"DAGSTER_HOME"}


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("dagsterDaemon/image/tag", "1.4.2", "end the repository in @sha256"),
        ("dagsterWebserver/replicas", 2, "Extra inputs are not permitted"),
        ("dagsterDaemon/env", [{"name": "PGPASSWORD", "value": "x"}], "PGPASSWORD: values come from"),
        ("dagsterDaemon/resources/limits", {"cpu": "1", "memory": "2Gi"}, "a limit of cpu throttles"),
        ("dagsterDaemon/resources/limits", {"memory": "4Gi"}, "both alike"),
        ("dagsterWebserver/securityContext/readOnlyRootFilesystem", False, "readOnlyRootFilesystem"),
        ("postgresql/postgresqlPassword", "hunter2", "postgresqlPassword"),
        ("runLauncher/config/k8sRunLauncher/envVars", ["PGPASSWORD"], "envVars"),
        ("rbacEnabled", True, "rbacEnabled"),
        ("telemetry/enabled", True, "telemetry"),
    ],
)
def test_a_value_that_would_be_wrong_in_production_is_refused_by_its_name(production, path, value, said):
    with pytest.raises(ValidationError, match=said):
        Values.model_validate(changed(production, path, value))


def test_values_lie_over_each_other_as_helm_lays_them():
    assert over({"a": {"b": 1, "c": [1]}, "d": 2}, {"a": {"c": [2], "b": None}}) == {"a": {"c": [2]}, "d": 2}
