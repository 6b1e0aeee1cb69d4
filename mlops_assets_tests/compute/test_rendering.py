"""The Job that dagster-k8s makes of a profile: schemas, rules, and the layer that each field comes from."""

import itertools
import json

import kubernetes.client
import kubernetes_validate
import pytest
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import UserDefinedDagsterK8sConfig
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.compute import rules
from mlops_assets.compute.layering import FIELDS, Layer, as_job, lay
from mlops_assets.compute.profile import PROVIDERS
from mlops_assets.compute.profiles import catalog, names
from mlops_assets.compute.rendering import (
    KINDS,
    NoLauncherError,
    commented,
    launcher_config,
    location_config,
    misspelt,
    rendered,
)

SECRET = {"secret_ref": {"name": "mlflow-creds"}}
LAUNCHER = {
    "container_config": {
        "env_from": [SECRET],
        "env": [{"name": "A", "value": "1"}],
        "resources": {"limits": {"memory": "1Gi"}},
    },
    "pod_spec_config": {"service_account_name": "mlops-run"},
}
LOCATION = {"container_config": {"env": [{"name": "B", "value": "2"}]}, "job_metadata": {"labels": {"team": "shop"}}}
EVERY = list(itertools.product(names(), PROVIDERS))


@pytest.mark.parametrize(("profile", "provider"), EVERY)
def test_every_job_is_taken_by_the_oldest_and_the_newest_kubernetes_and_breaks_no_rule(profile, provider):
    job = rendered(profile, provider).job
    for version in rules.KUBERNETES:
        kubernetes_validate.validate(job, version, strict=True)
    assert [*rules.kubernetes(job), *rules.restricted(job), *rules.ours(job)] == []


def test_the_schemas_alone_would_let_half_a_gpu_pass():
    job = rendered("gpu", "generic").job
    job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = "0.5"
    kubernetes_validate.validate(job, rules.KUBERNETES[1], strict=True)
    assert rules.kubernetes(job) != []


@pytest.mark.parametrize(("profile", "provider"), EVERY)
def test_what_is_checked_at_load_is_what_dagster_k8s_makes(profile, provider):
    ours, theirs = as_job(catalog().render(profile, provider)), rendered(profile, provider).job
    pod, made = ours["spec"]["template"]["spec"], theirs["spec"]["template"]["spec"]
    (box,) = pod.pop("containers")
    ours["spec"].pop("template")
    assert {key: made[key] for key in pod} == pod
    assert {key: made["containers"][0][key] for key in box} == box
    assert {key: theirs["spec"][key] for key in ours["spec"]} == ours["spec"]


TEXT = st.sampled_from(["a", "b", "c"])


def sorted_items(entry):
    return tuple(sorted(entry.items()))


LISTS = st.lists(st.fixed_dictionaries({"name": TEXT, "value": TEXT}), unique_by=sorted_items, max_size=3)
SECTION = st.fixed_dictionaries(
    {},
    optional={
        "env": LISTS,
        "command": st.lists(TEXT, max_size=2),
        "image": TEXT,
        "resources": st.fixed_dictionaries(
            {}, optional={"limits": st.dictionaries(TEXT, TEXT), "requests": st.dictionaries(TEXT, TEXT)}
        ),
    },
)
POD = st.fixed_dictionaries(
    {},
    optional={
        "node_selector": st.dictionaries(TEXT, TEXT),
        "tolerations": st.lists(
            st.fixed_dictionaries({"key": TEXT, "effect": TEXT}),
            unique_by=sorted_items,
            max_size=3,
        ),
        "termination_grace_period_seconds": st.integers(1, 9),
    },
)
PART = st.fixed_dictionaries({}, optional={"container_config": SECTION, "pod_spec_config": POD})


@settings(max_examples=25)
@given(st.lists(PART, min_size=1, max_size=4))
def test_layers_are_laid_as_dagster_k8s_lays_them(parts):
    theirs = K8sContainerContext()
    for part in parts:
        theirs = theirs.merge(K8sContainerContext(run_k8s_config=UserDefinedDagsterK8sConfig.from_dict(part)))
    laid = lay([Layer(str(number), part) for number, part in enumerate(parts)])
    merged = {name: dict(theirs.run_k8s_config.to_dict()[name]) for name in FIELDS}
    assert {name: laid.config.get(name) or {} for name in FIELDS} == merged
    for leaf, (layer, where) in laid.origins.items():
        assert reached(laid.config, leaf) == reached(parts[int(layer)], where)


def reached(value, path):
    for step in path:
        value = value[step]
    return value


def test_every_field_says_its_layer():
    made = rendered("gpu-spot", "gke", LAUNCHER, LOCATION)
    box = ("spec", "template", "spec", "containers", 0)
    assert made.layer_of(("spec", "backoffLimit")) == "common"
    assert made.layer_of((*box, "resources", "limits", "memory")) == "profile gpu-spot"
    assert made.layer_of((*box, "envFrom", 0, "secretRef", "name")) == "run launcher"
    env = made.job["spec"]["template"]["spec"]["containers"][0]["env"]
    layers = {each["name"]: made.layer_of((*box, "env", number, "value")) for number, each in enumerate(env)}
    assert layers == {"DAGSTER_HOME": "", "A": "run launcher", "B": "code location"}
    assert (
        made.layer_of(("spec", "template", "spec", "nodeSelector", "cloud.google.com/gke-spot"))
        == "capacity spot at gke"
    )
    assert made.layer_of(("spec", "template", "spec", "tolerations", 1)) == "capacity spot at gke"
    assert made.layer_of(("spec", "template", "spec", "tolerations")) == "capacity gpu at gke and capacity spot at gke"
    assert made.layer_of(("kind",)) == ""


def test_the_job_with_its_layers_is_yaml_of_the_same_job():
    import yaml

    made = rendered("gpu", "aks", LAUNCHER, LOCATION)
    text = "\n".join(commented(made))
    assert yaml.safe_load(text) == made.job
    assert "team: shop  # code location" in text


def test_the_launcher_and_the_code_location_are_read_as_dagster_reads_them(tmp_path):
    path = tmp_path / "dagster.yaml"
    assert launcher_config(path) == {}
    path.write_text("run_launcher: {module: dagster, class: DefaultRunLauncher}")
    assert launcher_config(path) == {}
    config = {
        "env_secrets": ["mlflow-creds"],
        "run_k8s_config": {"pod_spec_config": {"serviceAccountName": "mlops-run"}},
    }
    launcher = {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": {**config, "job_namespace": "ml"}}
    path.write_text(json.dumps({"run_launcher": launcher}))
    found = launcher_config(path)
    assert found["container_config"] == {"env_from": [SECRET]}
    assert found["pod_spec_config"] == {"service_account_name": "mlops-run"}
    located = location_config(json.dumps({"k8s": {"labels": {"team": "shop"}}}))
    assert located["job_metadata"] == {"labels": {"team": "shop"}}
    assert location_config("") == {}


@pytest.mark.parametrize("said", ["{", '{"k8s": {"labls": {}}}'])
def test_a_container_context_that_cannot_be_used_is_refused(said):
    with pytest.raises(NoLauncherError):
        location_config(said)


def test_a_dagster_yaml_that_is_none_is_refused(tmp_path):
    path = tmp_path / "dagster.yaml"
    path.write_text("run_launcher: [")
    with pytest.raises(NoLauncherError, match=r"is not a dagster\.yaml"):
        launcher_config(path)


def test_fields_deep_inside_are_held_against_the_client_that_is_installed():
    toleration = {"key": "a", "operator": "Exists", "tolerationSeconds": 3}
    sound = {"pod_spec_config": {"tolerations": [toleration], "node_selector": {"any_Thing": "b"}}}
    assert list(misspelt(sound)) == []
    wrong = {"pod_spec_config": {"tolerations": [toleration, {"toleration_secs": 3}]}}
    ((where, reason),) = misspelt(wrong)
    assert where == ("pod_spec_config", "tolerations", 1, "toleration_secs")
    assert "toleration_seconds" in reason


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_shipped_profile_is_spelt_right_to_the_last_field(provider):
    assert [fault for name in names() for fault in misspelt(catalog().render(name, provider))] == []


def test_the_kinds_of_the_sections_are_those_whose_fields_are_known_at_load():
    assert {name: set(getattr(kubernetes.client, kind).openapi_types) for name, kind in KINDS.items()} == FIELDS
