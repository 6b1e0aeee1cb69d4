"""Compute profiles: what they ask for, what they refuse, and that dagster-k8s makes the Job that is meant."""

import itertools
import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from mlops_assets.compute import names, op_tags
from mlops_assets.compute.documents import Document, DocumentError
from mlops_assets.compute.profile import PROVIDERS, Accelerator, Profile, cores
from mlops_assets.compute.profiles import catalog, catalog_of, devices

SMALL = {"cpu": "1", "memory": "8Gi", "max_runtime": "1h"}
HOLDS_A_GPU = {"accelerator": {"resource": "nvidia.com/gpu", "count": 1}, "pool": "gpu"}


COMMON = {"job_spec_config": {"backoff_limit": 0, "ttl_seconds_after_finished": 86400}}


def built(**sections):
    return catalog_of(Document({"common": COMMON, **sections}), "generic")


def job(profile: str):
    """The Kubernetes Job that dagster-k8s makes of a step with this profile, as a plain mapping."""
    from dagster_k8s.job import (
        DagsterK8sJobConfig,
        UserDefinedDagsterK8sConfig,
        construct_dagster_k8s_job,
        get_user_defined_k8s_config,
    )

    tags = {"dagster-k8s/config": json.dumps(op_tags(profile)["dagster-k8s/config"])}
    config = get_user_defined_k8s_config(tags)
    assert config == UserDefinedDagsterK8sConfig.from_dict(op_tags(profile)["dagster-k8s/config"])
    made = construct_dagster_k8s_job(
        DagsterK8sJobConfig(job_image="image", dagster_home="/home"), ["step"], "step", user_defined_k8s_config=config
    )
    return made.to_dict()


@pytest.mark.parametrize(("profile", "count"), [(None, 0), ("cpu-large", 0), ("gpu", 1), ("gpu-4x", 4), ("gpu-mig", 1)])
def test_a_profile_holds_as_many_devices_as_it_asks_for(profile, count):
    assert devices(profile) == count


def test_a_gpu_is_whole_and_asked_for_exactly():
    container = job("gpu")["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"memory": "24Gi", "nvidia.com/gpu": "1"}
    assert container["resources"]["requests"] == {"cpu": "4", "memory": "24Gi", "nvidia.com/gpu": "1"}


def test_shared_memory_is_mounted_where_training_looks_for_it():
    pod = job("gpu")["spec"]["template"]["spec"]
    assert pod["containers"][0]["volume_mounts"][0]["mount_path"] == "/dev/shm"  # noqa: S108
    assert pod["volumes"][0]["empty_dir"] == {"medium": "Memory", "size_limit": "8Gi"}


def test_a_cpu_profile_asks_for_no_accelerator_and_no_particular_node():
    pod = job("cpu-small")["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"] == {
        "requests": {"cpu": "500m", "memory": "1Gi"},
        "limits": {"memory": "1Gi"},
        "claims": None,
    }
    assert pod["node_selector"] is None
    assert pod["tolerations"] is None


def test_kubernetes_never_repeats_a_step_and_never_lets_it_run_for_ever():
    spec = job("cpu-large")["spec"]
    assert (spec["backoff_limit"], spec["active_deadline_seconds"]) == (0, 4 * 3600)


def test_spot_capacity_adds_to_what_the_gpu_needs(monkeypatch):
    monkeypatch.setenv("COMPUTE_PROVIDER", "gke")
    pod = job("gpu-spot")["spec"]["template"]["spec"]
    assert pod["node_selector"] == {
        "cloud.google.com/gke-accelerator": "nvidia-l4",
        "cloud.google.com/gke-spot": "true",
    }
    assert [toleration["key"] for toleration in pod["tolerations"]] == ["nvidia.com/gpu", "cloud.google.com/gke-spot"]
    assert pod["termination_grace_period_seconds"] == 25


@pytest.mark.parametrize(("profile", "provider"), list(itertools.product(names(), PROVIDERS)))
def test_every_profile_becomes_a_job_that_carries_its_name(monkeypatch, profile, provider):
    monkeypatch.setenv("COMPUTE_PROVIDER", provider)
    made = job(profile)
    assert made["metadata"]["labels"]["mlops/compute-profile"] == profile
    assert made["spec"]["template"]["metadata"]["labels"]["mlops/compute-profile"] == profile
    assert op_tags(profile)["mlops/compute"] == profile


def test_rendering_twice_gives_equal_values_that_share_nothing():
    first, second = op_tags("gpu"), op_tags("gpu")
    first["dagster-k8s/config"]["pod_spec_config"]["tolerations"].clear()
    assert second == op_tags("gpu")


def test_an_unknown_profile_is_refused_with_the_allowed_names():
    with pytest.raises(ValueError, match=r"'gpu-small' is not a compute profile\. Allowed: cpu-small, .*, gpu-spot\."):
        op_tags("gpu-small")


def test_an_unknown_provider_is_refused_with_the_allowed_names(monkeypatch):
    monkeypatch.setenv("COMPUTE_PROVIDER", "cloud")
    with pytest.raises(ValueError, match=r"COMPUTE_PROVIDER is 'cloud'\. Allowed: generic, eks, gke, aks\."):
        op_tags("gpu")


@pytest.mark.parametrize("count", [0, -1, 0.5, "0.5"])
def test_part_of_a_device_cannot_be_said(count):
    with pytest.raises(ValidationError):
        Accelerator(resource="nvidia.com/gpu", count=count)


def test_a_shared_device_is_asked_for_once():
    Accelerator(resource="nvidia.com/gpu.shared", count=1)
    with pytest.raises(ValidationError, match="count must be 1"):
        Accelerator(resource="nvidia.com/gpu.shared", count=2)


@pytest.mark.parametrize("resource", ["gpu", "nvidia.com", "Nvidia.com/gpu"])
def test_an_accelerator_has_a_qualified_name(resource):
    with pytest.raises(ValidationError):
        Accelerator(resource=resource, count=1)


@pytest.mark.parametrize(
    "name",
    ["1g.5gb", "1g.10gb", "7g.80gb", "1g.10gb.me", "1g.24gb.gfx", "1g.24gb-me", "1g.24gb.me.all", "2g.20gb.shared"],
)
def test_a_slice_is_called_as_nvidias_plugin_calls_it(name):
    assert Accelerator(resource=f"nvidia.com/mig-{name}", count=1).count == 1


@pytest.mark.parametrize("name", ["mig", "mig-1g", "mig-1g.10", "mig-8g.80gb", "mig-1g.10gb+me", "mig-1G.10gb"])
def test_a_slice_by_another_name_is_refused_with_the_pattern(name):
    with pytest.raises(ValidationError, match=r"is no (slice|name of a device)"):
        Accelerator(resource=f"nvidia.com/{name}", count=1)


def test_a_device_may_be_called_otherwise_at_a_provider():
    mig = catalog().profiles["gpu-mig"].accelerator
    assert [mig.called(provider) for provider in PROVIDERS] == [
        "nvidia.com/mig-1g.10gb",
        "nvidia.com/mig-1g.10gb",
        "nvidia.com/gpu",
        "nvidia.com/mig-1g.10gb",
    ]


def test_shared_memory_may_take_half_of_the_memory_and_no_more():
    assert Profile(**SMALL, shm="4Gi").shm == "4Gi"
    with pytest.raises(ValidationError, match=r"shm \(4097Mi\) must not exceed half of memory \(8Gi\)"):
        Profile(**SMALL, shm="4097Mi")


@pytest.mark.parametrize(
    ("field", "value"), [("cpu", "0.5"), ("cpu", "0"), ("memory", "8G"), ("max_runtime", "8"), ("max_runtime", "soon")]
)
def test_quantities_have_one_spelling(field, value):
    with pytest.raises(ValidationError):
        Profile(**{**SMALL, field: value})


def test_a_capacity_has_to_mean_something_at_every_provider():
    everywhere = {"gpu": {provider: {} for provider in PROVIDERS}}
    profiles = {"one": {**SMALL, "capacity": ["gpu"]}}
    built(profiles=profiles, capacity=everywhere)
    del everywhere["gpu"]["aks"]
    with pytest.raises(DocumentError, match=r"profiles\.one\.capacity: capacity 'gpu' says nothing for aks"):
        built(profiles=profiles, capacity=everywhere)


def test_a_profile_that_extends_another_keeps_what_it_leaves_unsaid():
    made = built(profiles={"base": SMALL, "more": {"extends": "base", "cpu": "2"}})
    assert made.profiles["more"] == Profile(**{**SMALL, "cpu": "2"})


def test_rendering_imports_no_kubernetes_client():
    program = (
        "import sys; from mlops_assets.compute import op_tags; op_tags('gpu');"
        " sys.exit(bool({'kubernetes', 'dagster_k8s', 'dagster'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def layered(**profiles):
    return built(profiles={"base": {**SMALL, "next_up": "top"}, "top": {**SMALL, "memory": "16Gi"}, **profiles})


def test_the_next_profile_up_is_one_with_more_memory_and_no_less_of_anything_else():
    assert layered().profiles["base"].next_up == "top"
    for wrong, reason in {
        "nothing": r"profiles.base.next_up: 'nothing' is no profile\. Allowed: base, top\.",
        "base": "must have more memory",
    }.items():
        with pytest.raises(DocumentError, match=reason):
            layered(base={**SMALL, "next_up": wrong})


@pytest.mark.parametrize("less", [{"memory": "8Gi"}, {"cpu": "999m"}, HOLDS_A_GPU])
def test_a_next_profile_that_is_not_bigger_in_everything_is_refused(less):
    with pytest.raises(DocumentError, match=r"profiles\.base\.next_up: 'top' must have more memory, no less CPU"):
        layered(top={**SMALL, "memory": "16Gi", **less})


def test_steps_up_never_come_round_again():
    with pytest.raises(DocumentError, match=r"profiles\.top\.next_up: 'base' must have more memory"):
        layered(top={**SMALL, "memory": "16Gi", "next_up": "base"})


def test_what_comes_next_is_not_inherited():
    assert layered(more={"extends": "base"}).profiles["more"].next_up is None


@pytest.mark.parametrize("name", names())
def test_each_shipped_step_up_stays_with_the_kind_of_machine(name):
    profile = catalog().profiles[name]
    if profile.next_up:
        assert profile.smaller_than(catalog().profiles[profile.next_up])
        assert bool(devices(name)) == bool(devices(profile.next_up))


def test_an_accelerator_needs_a_pool():
    assert Profile(**SMALL, **HOLDS_A_GPU).pool == "gpu"
    with pytest.raises(ValidationError, match="an accelerator needs a pool"):
        Profile(**{**SMALL, **HOLDS_A_GPU, "pool": None})


@pytest.mark.parametrize(("retries", "fits"), [(0, True), (10, True), (11, False), (-1, False)])
def test_retries_are_few(retries, fits):
    if fits:
        assert Profile(**SMALL, retries=retries).retries == retries
    else:
        with pytest.raises(ValidationError):
            Profile(**SMALL, retries=retries)


@pytest.mark.parametrize(("cpu", "count"), [("500m", 0.5), ("1500m", 1.5), ("4", 4)])
def test_cores_are_counted(cpu, count):
    assert cores(cpu) == count
