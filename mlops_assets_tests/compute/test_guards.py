"""What may not be loaded: a step with an accelerator that no cluster would give it, and tags that none could follow."""

import dagster as dg
import pytest

from mlops_assets.compute.guards import accelerators, check, faults
from mlops_assets.compute.profiles import op_tags
from mlops_assets.definitions import defs
from mlops_assets.lifecycle import lifecycle
from mlops_assets_tests import toy

RAW = {"container_config": {"resources": {"limits": {"nvidia.com/gpu": "1"}}}}


def asset(name="model", **asked):
    @dg.asset(name=name, **asked)
    def made(): ...

    return made


GPU = {"op_tags": op_tags("gpu"), "pool": "gpu"}


def loaded(*assets, **others):
    return faults(dg.Definitions(assets=assets, **others))


def test_the_shipped_definitions_and_a_model_with_every_profile_may_be_loaded():
    assert faults(defs()) == []
    model = toy.spec("/nowhere", compute={"training": "gpu-spot", "evaluation": "gpu", "data": "cpu-small"})
    assert faults(lifecycle(model)) == []


def test_an_accelerator_needs_a_pool():
    assert loaded(asset(**GPU)) == []
    assert "holds an accelerator (profile gpu) and has no pool" in loaded(asset(op_tags=op_tags("gpu")))[0]


def test_an_accelerator_comes_by_a_profile_only():
    assert accelerators({"dagster-k8s/config": RAW}) == {"nvidia.com/gpu": "1"}
    (fault,) = loaded(asset(op_tags={"dagster-k8s/config": RAW}, pool="gpu"))
    assert "model: asks for nvidia.com/gpu in a raw dagster-k8s/config: name a profile" in fault


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"container_confg": {}}, "container_confg: is no field of it. Did you mean 'container_config'?"),
        (
            {"container_config": {"resurces": {}}},
            "container_config.resurces: is no field of it. Did you mean 'resources'?",
        ),
        ({"pod_spec_config": {"tolerations": [{"key": "a", "operator": "Exist"}]}}, "'Exist': Equal or Exists"),
        ({"container_config": {"resources": {"limits": {"gpu": "1"}}}}, "'gpu' has no prefix"),
        ({"pod_spec_config": {"priority_class_name": "batch"}}, None),
        ({"merge_behavior": "SHALLOW", "job_config": {}}, None),
    ],
)
def test_a_typo_in_a_raw_tag_is_found_at_load(config, said):
    found = loaded(asset(op_tags={"dagster-k8s/config": config}))
    assert [each for each in found if "asks for" not in each] == [] if said is None else said in "\n".join(found)


def test_a_typo_in_the_tags_of_a_job_is_found_at_load():
    job = dg.define_asset_job("all", selection="*", tags={"dagster-k8s/config": {"pod_spec": {}}})
    assert "job all: dagster-k8s/config: pod_spec: is no field of it" in loaded(asset(), jobs=[job])[0]


def test_what_may_not_be_loaded_stops_the_code_location():
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="has no pool"):
        check(dg.Definitions(assets=[asset(op_tags=op_tags("gpu"))]))


def test_an_unknown_provider_stops_the_code_location(monkeypatch):
    monkeypatch.setenv("COMPUTE_PROVIDER", "cloud")
    with pytest.raises(ValueError, match=r"COMPUTE_PROVIDER is 'cloud'\. Allowed: generic, eks, gke, aks\."):
        faults(dg.Definitions())
