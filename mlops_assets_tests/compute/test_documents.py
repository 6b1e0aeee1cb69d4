"""A deployment's own profiles over the shipped ones: field by field, and every mistake with file, line and field."""

import textwrap
from pathlib import Path

import pytest
import yaml

from mlops_assets.compute.documents import DocumentError, read
from mlops_assets.compute.profiles import catalog, names, refusal


@pytest.fixture
def own(monkeypatch, tmp_path):
    """A function that gives this deployment profiles of its own, and reads the catalog."""
    path = tmp_path / "profiles.yaml"
    monkeypatch.setenv("MLOPS_COMPUTE_PROFILES", str(path))
    written = iter(range(100))

    def write(text):
        file = path.with_name(f"profiles{next(written)}.yaml")
        monkeypatch.setenv("MLOPS_COMPUTE_PROFILES", str(file))
        file.write_text(textwrap.dedent(text))
        return catalog()

    return write


def refused(own, text):
    with pytest.raises(DocumentError) as caught:
        own(text)
    return str(caught.value)


def test_a_field_of_a_shipped_profile_is_replaced_and_what_extends_it_follows(own):
    found = own("profiles: {gpu: {memory: 48Gi, next_up: null}}")
    assert (found.profiles["gpu"].memory, found.profiles["gpu"].cpu) == ("48Gi", "4")
    assert found.profiles["gpu-spot"].memory == "48Gi"
    assert found.profiles["gpu-4x"].memory == "180Gi"
    assert found.profiles["gpu"].next_up is None


def test_a_profile_of_ones_own_may_extend_a_shipped_one_in_several_steps(own):
    found = own(
        """
        profiles:
          gpu-h100: {extends: gpu-big, pool: h100}
          gpu-big: {extends: gpu, memory: 64Gi}
        """
    )
    assert (found.profiles["gpu-h100"].memory, found.profiles["gpu-h100"].pool) == ("64Gi", "h100")
    assert found.profiles["gpu-h100"].accelerator == found.profiles["gpu"].accelerator
    assert "gpu-h100" in names()
    assert refusal("training", "gpu-h100") is None


def test_a_profile_is_taken_away_with_null(own):
    assert "gpu-mig" not in own("profiles: {gpu-mig: null}").profiles


def test_what_a_capacity_means_at_a_provider_is_replaced_field_by_field(own):
    found = own("capacity: {gpu: {eks: {node_selector: {mlops/pool: null, karpenter.sh/nodepool: gpu}}}}")
    meant = found.capacity["gpu"]["eks"]
    assert meant["node_selector"] == {"karpenter.sh/nodepool": "gpu"}
    assert meant["tolerations"][0]["key"] == "nvidia.com/gpu"


CHART = Path(__file__).parents[2] / "deploy" / "helm" / "mlops-platform"


@pytest.mark.parametrize("values", ["values.yaml", "values-kueue.yaml"])
def test_what_our_chart_lays_over_the_profiles_is_in_every_job(own, values):
    laid = yaml.safe_load((CHART / values).read_text())["computeProfiles"]
    found = own(yaml.safe_dump(laid))
    for section, fields in laid["common"].items():
        for name, value in fields.items():
            made = found.render("gpu", "generic")[section][name]
            assert made == value or value.items() <= made.items()


def test_without_a_file_of_its_own_a_deployment_has_the_shipped_profiles(monkeypatch):
    monkeypatch.delenv("MLOPS_COMPUTE_PROFILES", raising=False)
    assert names() == ("cpu-small", "cpu-large", "gpu", "gpu-4x", "gpu-mig", "gpu-shared", "gpu-spot")


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("{cpu: 0, memory: 1Gi, max_runtime: 1h}", "profiles.mine.cpu: Input should be a valid string"),
        ("{cpu: '0', memory: 1Gi, max_runtime: 1h}", "profiles.mine.cpu: '0' is no amount of CPU above zero"),
        ("{cpu: '0.5', memory: 1Gi, max_runtime: 1h}", "'0.5' is no amount of CPU above zero, such as 500m or 4"),
        ("{cpu: '1', memory: 1G, max_runtime: 1h}", "profiles.mine.memory: '1G' is no amount of memory"),
        ("{cpu: '1', memory: 1Gi, max_runtime: 0h}", "profiles.mine.max_runtime: '0h' is no time above zero"),
        ("{cpu: '1', memory: 1Gi}", "profiles.mine.max_runtime: Field required"),
        (
            "{cpu: '1', memry: 1Gi, max_runtime: 1h}",
            "Profile has no field 'memry'. Did you mean 'memory'? Allowed: cpu",
        ),
        ("{extends: gpu, accelerator: {resource: nvidia.com/gpu, count: 0.5}}", "0.5 devices: they are whole"),
        ("{extends: gpu, accelerator: {resource: nvidia.com/gpu, count: true}}", "True devices: they are whole"),
        ("{extends: gpu, accelerator: {resource: gpu, count: 1}}", "'gpu' has no prefix"),
        ("{extends: gpu, accelerator: {resource: nvidia.com/gpu.shared, count: 2}}", "count must be 1"),
        ("{extends: gpu, accelerator: {resource: nvidia.com/mig-1g10gb, count: 1}}", "is no slice: NVIDIA's plugin"),
        ("{extends: gpu, accelerator: {resource: nvidia.com/gpu, count: 1, at: {azure: a.b/c}}}", "at.azure"),
        ("{extends: gpu, pool: null, retries: 1}", "an accelerator needs a pool"),
        ("{extends: gpu, shm: 13Gi}", "shm (13Gi) must not exceed half of memory (24Gi)"),
        ("{extends: gpu-spot, retries: 0}", "capacity spot is taken away at any time: retries must be 1 or more"),
        ("{extends: gpu-spot, grace_seconds: 31}", "31 is too long: generic takes a spot node back 30 seconds after"),
        ("{extends: gpu, capacity: [gpus, moon]}", "profiles.mine.capacity: 'moon' is no capacity. Allowed: gpu, gpus"),
        ("{extends: gpu-big}", "profiles.mine.extends: 'gpu-big' is no profile. Allowed: cpu-small"),
        ("{extends: mine}", "profiles.mine.extends: comes round again: mine -> mine."),
        ("{extends: gpu, next_up: mine}", "profiles.mine.next_up: 'mine' must have more memory"),
        ("[gpu]", "profiles.mine: must hold fields"),
    ],
)
def test_a_profile_that_cannot_be_is_refused_with_file_line_field_and_reason(own, profile, said):
    text = refused(own, f"# mine\nprofiles:\n  mine: {profile}\n")
    assert said in text
    assert ".yaml:3: profiles.mine" in text


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("common:\n  pod_spec_confg: {}", "2: common.pod_spec_confg", "Did you mean 'pod_spec_config'?"),
        ("common:\n  pod_spec_config:\n    tolerationz: []", "3: common.pod_spec_config.tolerationz", "Did you mean"),
        (
            "common: {pod_spec_config: {nodeSelector: {a: b}}}",
            "1: common.pod_spec_config.nodeSelector",
            "node_selector",
        ),
        ("common: {container_config: {security_context: {runAsUser: 3}}}", "1: common", "write run_as_user"),
        ("common: {job_spec_config: {backoff_limit: 2}}", "1: common.job_spec_config.backoff_limit", "must be 0"),
        ("common: {job_spec_config: {ttl_seconds_after_finished: 5}}", "1: common.job_spec_config", "3600 or more"),
        ("common:\n  job_metadata: {labels: {team: -a}}", "2: common.job_metadata.labels.team", "is no label"),
        ("common: {job_metadata: {annotations: {a b: c}}}", "1: common.job_metadata.annotations.a b", "is no key"),
        (
            "common: {pod_spec_config: {volumes: [{name: dshm, secret: {}}]}}",
            "",
            "'dshm' stands there twice. (profile gpu at generic)",
        ),
        (
            "common: {container_config: {volume_mounts: [{name: dshm, mount_path: /x}]}}",
            "",
            "there is no volume 'dshm'",
        ),
        (
            "common: {container_config: {resources: {requests: {nvidia.com/gpu: '1'}}}}",
            "1: common.container_config.resources",
            "limits does not: of devices both are the same",
        ),
        (
            "common: {container_config: {resources: {limits: {ephemeral-storage: lots}}}}",
            "1: common.container_config.resources.limits.ephemeral-storage",
            "'lots' is no quantity",
        ),
        (
            "capacity:\n  spot:\n    aks:\n      tolerations: [{key: a, operator: Exists, value: b}]",
            "4: capacity.spot.aks.tolerations.0",
            "takes no value. (profile gpu-spot at aks)",
        ),
        ("capacity: {gpu: {gke: {node_selector: {a: true}}}}", "1: capacity.gpu.gke.node_selector.a", "in quotes"),
        ("capacity: {gpu: {gke: {node_selectr: {}}}}", "1: capacity.gpu.gke.node_selectr", "Did you mean"),
        ("capacity: {gpu: {azure: {}}}", "1: capacity.gpu.azure", "Input should be 'generic', 'eks', 'gke' or 'aks'"),
        (
            "capacity: {fast: {eks: {}}}\nprofiles: {gpu: {capacity: [fast]}}",
            "2: profiles.gpu.capacity",
            "generic, gke",
        ),
        ("capacities: {}", "", "Catalog has no field 'capacities'. Did you mean 'capacity'?"),
        ("profiles: 3", "1: profiles", "must hold profiles by their names"),
    ],
)
def test_what_kubernetes_would_refuse_is_refused_at_load_with_its_place(own, text, place, said):
    found = refused(own, text)
    assert said in found, found
    assert f".yaml:{place}" in found, found


def test_every_mistake_is_told_at_once(own):
    found = refused(own, "profiles: {gpu: {cpu: some, memory: more}}")
    assert "profiles.gpu.cpu" in found
    assert "profiles.gpu.memory" in found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("profiles: {a: 1", "is not YAML"),
        ("profiles: {a: {}, a: {}}", "profiles.a: stands there twice"),
        ("", None),
    ],
)
def test_a_file_that_is_no_document_is_refused_with_its_line(own, text, said):
    if said is None:
        assert own(text).profiles
    else:
        assert said in refused(own, text)
        assert ".yaml:1" in refused(own, text)


def test_a_file_that_is_not_there_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("MLOPS_COMPUTE_PROFILES", str(tmp_path / "none.yaml"))
    with pytest.raises(DocumentError, match=r"none\.yaml cannot be read: No such file"):
        catalog()


def test_the_notice_of_the_provider_here_bounds_the_grace(monkeypatch, own):
    monkeypatch.setenv("COMPUTE_PROVIDER", "eks")
    text = "profiles: {gpu-spot: {grace_seconds: GRACE}}"
    assert own(text.replace("GRACE", "120")).profiles["gpu-spot"].grace_seconds == 120
    assert "eks takes a spot node back 120 seconds" in refused(own, text.replace("GRACE", "121"))


def test_places_are_of_the_file_that_said_it_last(tmp_path):
    (tmp_path / "a.yaml").write_text("a:\n  b: 1\n  c: 2\n")
    (tmp_path / "b.yaml").write_text("# over it\n\na: {b: 3}\n")
    both = read(tmp_path / "a.yaml").under(read(tmp_path / "b.yaml"))
    assert both.data == {"a": {"b": 3, "c": 2}}
    assert both.place(("a", "b")).endswith("b.yaml:3: ")
    assert both.place(("a", "c", "deeper")).endswith("a.yaml:3: ")
