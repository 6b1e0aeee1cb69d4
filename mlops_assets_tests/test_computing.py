"""`mlops-assets compute` as a person uses it, and the part of `mlops-assets check` that is about profiles."""

import json

import yaml
from typer.testing import CliRunner

from mlops_assets.cli import app
from mlops_assets.components import declared
from mlops_assets.components.declared import warnings
from mlops_assets_tests import toy


class Resuming:
    """An estimator that goes on from its checkpoints."""

    resumes = True

    def get_params(self):
        """As scikit-learn's estimators."""


def invoked(*arguments):
    return CliRunner().invoke(app, ["compute", *arguments])


def test_every_profile_is_listed_with_what_it_asks_for():
    text = invoked("list").output
    for word in (
        "EUR an hour",
        "2.32",
        "cpu-small",
        "gpu-spot",
        "1 x nvidia.com/mig-1g.10gb",
        "64Gi",
        "gpu, spot",
        "next up",
    ):
        assert word in text


def test_a_profile_is_shown_as_the_job_at_a_provider_with_the_layers():
    result = invoked("show", "gpu-spot", "--provider", "gke")
    assert result.exit_code == 0, result.output
    job = yaml.safe_load(result.output)
    assert job["spec"]["template"]["spec"]["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    assert "cloud.google.com/gke-spot: 'true'  # capacity spot at gke" in result.output


def test_what_the_instance_and_the_code_location_give_is_in_the_job(monkeypatch, tmp_path):
    launcher = {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": {"env_secrets": ["mlflow-creds"]}}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump({"run_launcher": launcher}))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_CLI_API_GRPC_CONTAINER_CONTEXT", '{"k8s": {"labels": {"team": "shop"}}}')
    text = invoked("show", "cpu-small").output
    assert "name: mlflow-creds  # run launcher" in text
    assert "team: shop  # code location" in text


def test_limits_of_the_code_server_below_what_a_step_requests_are_told_before_the_job(monkeypatch):
    limits = {"resources": {"limits": {"cpu": "250m"}}, "security_context": {"privileged": True}}
    monkeypatch.setenv("DAGSTER_CLI_API_GRPC_CONTAINER_CONTEXT", json.dumps({"k8s": limits}))
    first, second, *_ = invoked("show", "cpu-large").output.splitlines()
    assert first.endswith("containers[0].resources.requests.cpu: 4 is more than the limit 250m.")
    assert second.endswith("containers[0].securityContext.privileged: no container is privileged.")
    assert "cpu: 250m  # code location" in invoked("show", "cpu-large").output
    monkeypatch.delenv("DAGSTER_CLI_API_GRPC_CONTAINER_CONTEXT")
    assert not invoked("show", "cpu-large").output.startswith("#")


def test_a_step_is_explained_with_its_profile_and_where_that_is_declared(monkeypatch):
    model = toy.spec("/nowhere", compute={"training": "gpu"}, retraining={"gpu_hour": 3, "currency": "USD"})
    monkeypatch.setattr(declared, "declared", lambda: [model])
    text = invoked("explain", "toy/trained_model").output
    assert text.startswith("# toy/trained_model has the profile gpu: compute.training in the declaration of toy.")
    assert "# An hour of it costs 3.32 USD at the prices of toy.retraining." in text
    assert "memory: 24Gi  # profile gpu" in text
    assert "nvidia" not in invoked("explain", "toy/raw_data").output


def test_what_is_not_there_is_refused_with_what_is(monkeypatch):
    monkeypatch.setattr(declared, "declared", lambda: [toy.spec("/nowhere")])
    for arguments, said in {
        ("show", "warp"): "'warp' is not a compute profile. Allowed: cpu-small",
        ("show", "gpu", "--provider", "azure"): "There is no provider 'azure'. There are: generic, eks, gke, aks.",
        ("explain", "shop/model"): "There is no model 'shop'. There are: toy.",
        ("explain", "toy/model"): "toy has no asset 'model'. It has: raw_data",
    }.items():
        result = invoked(*arguments)
        assert result.exit_code == 1
        assert said in result.output


def test_a_shipped_step_says_the_file_in_which_nothing_is_declared():
    text = invoked("explain", "bike_demand/trained_model").output
    assert "has no profile: compute.training is not declared in" in text
    assert "defs.yaml." in text


def test_an_estimator_that_keeps_no_checkpoints_is_warned_of_on_spot_nodes_only():
    spot = {"training": "gpu-spot"}
    (said,) = warnings(toy.spec("x", compute=spot))
    assert "keeps no checkpoints, so on the spot nodes of gpu-spot each preemption starts its training anew" in said
    assert warnings(toy.spec("x", compute={"training": "gpu"})) == []
    assert warnings(toy.spec("x", compute=spot, estimator={"path": f"{__name__}.Resuming"})) == []
    assert warnings(toy.spec("x", compute=spot, estimator={"path": "no.such.Estimator"})) == []


def test_a_field_that_only_the_kubernetes_client_knows_not_to_exist_is_found_by_check(monkeypatch, tmp_path):
    path = tmp_path / "profiles.yaml"
    path.write_text("common: {pod_spec_config: {dns_config: {nameserver: [a]}}}")
    monkeypatch.setenv("MLOPS_COMPUTE_PROFILES", str(path))
    monkeypatch.setattr(declared, "declared", list)
    result = CliRunner().invoke(app, ["check"])
    assert result.exit_code == 1
    assert "pod_spec_config.dns_config.nameserver: is no field of it. Allowed: nameservers" in result.output
