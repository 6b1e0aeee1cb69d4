"""The chart mlops-platform: what Helm makes of it, what Kubernetes says to that, who may do what under its rules."""

import ast
import itertools
import json
import re
from pathlib import Path

import dagster_k8s.client
import helm_python as helm
import pytest

from mlops_assets import compute
from mlops_assets.compute.rules import restricted
from mlops_assets.ml.uris import holds_password
from mlops_assets_tests.deploy.crds import SCHEMAS, refused_custom
from mlops_assets_tests.deploy.dagster_chart import DIGEST, Values, container_context
from mlops_assets_tests.deploy.dagster_chart import values as dagster_values
from mlops_assets_tests.deploy.folder import ENVIRONMENTS, PROVIDERS, over, read
from mlops_assets_tests.deploy.platform_chart import (
    CHART,
    WORKLOADS,
    containers,
    named,
    of_kind,
    pods,
    rendered,
    rendered_at,
    values,
)
from mlops_assets_tests.deploy.schemas import refused
from mlops_assets_tests.deploy.traffic import may_come_in, may_reach_address, may_reach_pod

EVERYWHERE = list(itertools.product(ENVIRONMENTS, PROVIDERS))
DATABASE, STORE, KUBERNETES, METADATA = (
    ("10.1.2.3", 5432),
    ("52.1.2.3", 443),
    ("10.0.0.1", 6443),
    ("169.254.169.254", 80),
)
RUN = {"mlops/role": "run", "app.kubernetes.io/component": "run_worker"}
STEP = {"mlops/role": "run", "app.kubernetes.io/component": "step_worker"}
ROLES = {
    **{name: {"mlops/role": name} for name in ("webserver", "daemon", "code", "mlflow", "exporter", "watch")},
    "run": RUN,
    "step": STEP,
}


@pytest.fixture(scope="module", params=EVERYWHERE, ids="-".join)
def everywhere(request):
    return rendered_at(*request.param)


@pytest.fixture(scope="module")
def production():
    return rendered_at("prod", "eks")


@pytest.fixture(scope="module")
def policies(production):
    return of_kind(production, "NetworkPolicy")


@pytest.mark.parametrize(("environment", "provider"), EVERYWHERE)
def test_helm_finds_nothing_to_warn_of(environment, provider):
    report = helm.lint(CHART, values(environment, provider), strict=True, namespace="mlops", kube_version="v1.31.0")
    assert report["errors"] == []
    assert [each for each in report["messages"] if each["severity"] > 1] == []


def test_every_object_is_one_that_kubernetes_accepts(everywhere):
    assert len(everywhere) > 25
    for body in everywhere:
        custom = (body["apiVersion"], body["kind"]) in SCHEMAS
        assert (refused_custom(body) if custom else refused(body)) == []


def test_the_namespace_lets_only_restricted_pods_start():
    namespace = read("namespace.yaml")
    assert refused(namespace) == []
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_every_pod_is_one_that_the_namespace_lets_start(everywhere):
    workloads = of_kind(everywhere, *WORKLOADS)
    assert len(workloads) == 4
    assert [str(fault) for each in workloads for fault in restricted(each)] == []
    roots = {container["securityContext"]["readOnlyRootFilesystem"] for _, container in containers(everywhere)}
    assert roots == {True}


def test_every_image_is_given_by_its_digest(everywhere):
    images = [container["image"] for _, container in containers(everywhere)]
    assert len(images) >= 3
    assert [image for image in images if not DIGEST.fullmatch(image)] == []


def test_every_container_asks_for_cpu_and_memory_and_may_not_have_more_memory(everywhere):
    for name, container in containers(everywhere):
        resources = container["resources"]
        assert {"cpu", "memory"} <= resources["requests"].keys(), name
        assert resources["limits"]["memory"] == resources["requests"]["memory"], name
        assert "cpu" not in resources["limits"], name


def test_no_secret_is_written_anywhere(everywhere):
    assert of_kind(everywhere, "Secret") == []
    secretive = re.compile("PASSWORD|SECRET|TOKEN|ACCESS_KEY")
    for name, container in containers(everywhere):
        written = [
            each["name"] for each in container.get("env", ()) if secretive.search(each["name"]) and "value" in each
        ]
        assert written == [], name
    settings = named(everywhere, "ConfigMap", "mlops-assets-settings")["data"]
    assert [name for name in settings if secretive.search(name)] == []
    assert [value for value in (*settings.values(), *mlflow_arguments(everywhere)) if holds_password(value)] == []


def mlflow_arguments(objects):
    return named(objects, "Deployment", "mlflow")["spec"]["template"]["spec"]["containers"][0]["args"]


def test_every_process_is_told_that_it_runs_on_a_cluster_and_whose(everywhere):
    settings = named(everywhere, "ConfigMap", "mlops-assets-settings")["data"]
    assert settings["MLOPS_COMPUTE"] == "kubernetes"
    assert settings["COMPUTE_PROVIDER"] in PROVIDERS
    assert "{{" not in json.dumps(settings)


# ---- who may ask Kubernetes for what


def called() -> set[tuple[str, str]]:
    """What dagster-k8s and our executor ask of Kubernetes: each call of a client, as resource and verb."""
    resources = {"job": "jobs", "job_status": "jobs/status", "pod": "pods", "pod_log": "pods/log", "event": "events"}
    verbs = {"create": "create", "delete": "delete", "list": "list", "read": "get"}
    sources = [Path(dagster_k8s.client.__file__), *Path(compute.__file__).parent.glob("*.py")]
    calls = {
        node.attr
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and "_namespaced_" in node.attr and not node.attr.endswith("_with_retries")
    }
    parted = [call.partition("_namespaced_") for call in calls]
    return {(resources[resource], verbs[verb]) for verb, _, resource in parted}


def granted(objects) -> set[tuple[str, str]]:
    return {
        (resource, verb)
        for role in of_kind(objects, "Role")
        for rule in role["rules"]
        for resource, verb in itertools.product(rule["resources"], rule["verbs"])
    }


def test_the_role_grants_what_is_called_and_nothing_else(production):
    assert ("pods", "delete") in called()  # a stopped run takes its pods with it
    assert granted(production) == called()


def test_nothing_is_granted_by_a_wildcard_or_beyond_the_namespace(everywhere):
    assert of_kind(everywhere, "ClusterRole", "ClusterRoleBinding") == []
    assert [each for each in granted(everywhere) if "*" in each or "secrets" in each[0]] == []
    [binding] = of_kind(everywhere, "RoleBinding")
    assert {each["name"] for each in binding["subjects"]} == {"mlops-dagster", "mlops-run"}


def test_no_pod_is_handed_a_token_that_it_has_no_use_for(everywhere):
    handed = {
        each["metadata"]["name"]
        for each in of_kind(everywhere, "ServiceAccount")
        if each["automountServiceAccountToken"]
    }
    assert handed == {"mlops-dagster"}
    assert [name for name, template in pods(everywhere) if template["spec"]["automountServiceAccountToken"]] == []


# ---- who may talk to whom


@pytest.mark.parametrize(
    ("target", "port", "may"),
    [
        ("mlflow", 5000, {"code", "run", "step"}),
        ("code", 3030, {"webserver", "daemon"}),
        ("webserver", 3000, set()),
        ("exporter", 9464, set()),
        ("mlflow", 22, set()),
        ("run", 5000, set()),
    ],
)
def test_a_pod_is_reached_by_those_who_need_it_and_by_nobody_else(policies, target, port, may):
    assert {name for name, labels in ROLES.items() if may_reach_pod(policies, labels, ROLES[target], port)} == may


@pytest.mark.parametrize(
    ("address", "may"),
    [
        (DATABASE, set(ROLES)),
        (STORE, set(ROLES)),
        (KUBERNETES, {"webserver", "daemon", "run"}),
        (METADATA, set()),
        (("52.1.2.3", 80), set()),
        (("10.1.2.3", 22), set()),
    ],
)
def test_an_address_outside_is_reached_by_those_who_need_it_and_by_nobody_else(policies, address, may):
    assert {name for name, labels in ROLES.items() if may_reach_address(policies, labels, *address)} == may


@pytest.mark.parametrize(
    ("namespace", "app", "may"),
    [
        ("ingress", "oauth2-proxy", {"webserver", "mlflow"}),
        ("ingress", "other", set()),
        ("monitoring", "prometheus", {"exporter"}),
        ("default", "oauth2-proxy", set()),
    ],
)
def test_from_outside_only_the_proxy_and_prometheus_come_in(policies, namespace, app, may):
    ports = {"webserver": 3000, "mlflow": 5000, "exporter": 9464, "code": 3030}
    caller = {"app.kubernetes.io/name": app}
    assert {name for name, port in ports.items() if may_come_in(policies, namespace, caller, ROLES[name], port)} == may


@pytest.mark.parametrize(("provider", "may"), [("eks", set()), ("gke", set(ROLES)), ("aks", set())])
def test_the_server_of_identities_is_reached_where_pods_get_theirs_from_it(provider, may):
    policies = of_kind(rendered_at("prod", provider), "NetworkPolicy")
    assert {name for name, labels in ROLES.items() if may_reach_address(policies, labels, *METADATA)} == may


def test_alerts_and_databases_are_reached_once_they_are_named():
    mail, source = {"cidrs": ["192.0.2.1/32"], "port": 587}, {"cidrs": ["192.0.2.2/32"], "port": 3306}
    given = over(values("prod", "eks"), {"network": {"alerts": [mail], "sources": [source]}})
    policies = of_kind(rendered(given), "NetworkPolicy")
    tells = {name for name, labels in ROLES.items() if may_reach_address(policies, labels, "192.0.2.1", 587)}
    reads = {name for name, labels in ROLES.items() if may_reach_address(policies, labels, "192.0.2.2", 3306)}
    assert tells == {"code", "watch"}
    assert reads == {"code", "run", "step"}


# ---- with Dagster's chart


@pytest.mark.parametrize(("environment", "provider"), EVERYWHERE)
def test_what_the_values_of_dagsters_chart_name_is_made_here(environment, provider):
    theirs, objects = Values.model_validate(dagster_values(environment, provider)), rendered_at(environment, provider)
    made = {(each["kind"], each["metadata"]["name"]) for each in objects}
    pod = theirs.launcher.run_k8s_config.pod_spec_config
    servers = [theirs.dagster_webserver, theirs.dagster_daemon, *theirs.code_servers.deployments, theirs.launcher]
    assert {("ConfigMap", each.name) for server in servers for each in server.env_config_maps} <= made
    assert {"mlops-compute-profiles"} == {
        volume["configMap"]["name"]
        for server in servers
        for volume in server.volumes
        if "configMap" in volume and not volume["configMap"].get("optional")
    }
    assert ("ConfigMap", "mlops-compute-profiles") in made
    accounts = (theirs.service_account.name, theirs.code_servers.service_account.name, pod["serviceAccountName"])
    assert {("ServiceAccount", each) for each in accounts} <= made
    assert ("PriorityClass", pod["priorityClassName"]) in made
    assert {server.labels["mlops/role"] for server in servers} == {"webserver", "daemon", "code", "run"}
    settings = named(objects, "ConfigMap", "mlops-assets-settings")["data"]
    assert f"@{theirs.postgresql.postgresql_host}:" in settings["MLOPS_LEDGER"]
    assert theirs.postgresql.postgresql_params["sslmode"] == settings["PGSSLMODE"]
    assert container_context(theirs.code_servers.deployments[0], "mlops-code") == {}


# ---- values that are wrong


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"image": {"digest": "latest"}}, "'latest' does not match pattern"),
        ({"mlflow": {"replica": 2}}, "additional properties 'replica' not allowed"),
        ({"mlflow": {"allowedHosts": ["*"]}}, "allowedHosts"),
        ({"mlflow": {"backend": "sqlite:///mlflow.db"}}, "backend"),
        ({"mlflow": {"backend": "postgresql://mlflow:hunter2@host/mlflow"}}, "backend"),
        ({"mlflow": {"resources": {"limits": {"cpu": "1", "memory": "2Gi"}}}}, "limits"),
        ({"settings": {"PGPASSWORD": "hunter2"}}, "PGPASSWORD"),
        ({"settings": {"MLOPS_LEDGER": "postgresql://mlops:hunter2@host/ledger"}}, "MLOPS_LEDGER"),
        ({"settings": {"MLOPS_COMPUTE": "local"}}, "MLOPS_COMPUTE"),
        ({"settings": {"MLOPS_HOME": "/data"}}, "MLOPS_HOME"),
        ({"settings": {"COMPUTE_PROVIDER": "aws"}}, "COMPUTE_PROVIDER"),
        ({"identities": {"mlops-root": {}}}, "mlops-root"),
        ({"environment": "production"}, "environment"),
        ({"network": {"postgres": {"cidrs": ["database"]}}}, "cidrs"),
    ],
)
def test_a_wrong_value_is_refused_by_helm_with_its_name(wrong, said):
    with pytest.raises(helm.HelmError, match=re.escape(said)):
        rendered(over(values("prod", "eks"), wrong))


def test_the_schema_of_the_values_needs_no_other_address():
    schema = (CHART / "values.schema.json").read_text()
    assert all(found.startswith("#/$defs/") for found in re.findall(r'"\$ref": "([^"]+)"', schema))
    assert json.loads(schema)["additionalProperties"] is False


def test_a_database_is_migrated_before_an_upgrade_and_never_at_an_installation():
    migration = named(rendered(values("prod", "eks"), upgrade=True), "Job", "mlflow-migrate")
    assert migration["metadata"]["annotations"]["helm.sh/hook"] == "pre-upgrade"
