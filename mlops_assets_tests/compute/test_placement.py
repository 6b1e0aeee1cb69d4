"""Every profile lands on the nodes that it is meant for at each provider, and on no others."""

import itertools
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from mlops_assets.compute.layering import as_job
from mlops_assets.compute.placement import ClusterModel, NodePool, Taint, asked, pools_for, why_not
from mlops_assets.compute.profile import PROVIDERS
from mlops_assets.compute.profiles import catalog, names

MODELS = Path(__file__).parents[2] / "deploy" / "cluster-model"
INTENDED = {name: name for name in names()} | {"cpu-small": "cpu", "cpu-large": "cpu"}
TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


def cluster(provider):
    return ClusterModel.model_validate(yaml.safe_load((MODELS / f"{provider}.yaml").read_text()))


@pytest.mark.parametrize(("profile", "provider"), list(itertools.product(names(), PROVIDERS)))
def test_a_profile_lands_on_its_pool_and_nowhere_else(profile, provider):
    job = as_job(catalog().render(profile, provider))
    assert pools_for(job, cluster(provider)) == [INTENDED[profile]]


def test_a_pool_is_of_its_provider_and_its_quantities_can_be_read():
    assert [cluster(provider).provider for provider in PROVIDERS] == list(PROVIDERS)
    with pytest.raises(ValidationError, match="a lot: no quantities"):
        NodePool(name="cpu", labels={}, allocatable={"cpu": "a lot"})


def pod(**spec):
    return {
        "spec": {"template": {"spec": {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}], **spec}}}
    }


def pool(**changes):
    return NodePool(**{"name": "gpu", "labels": {"a": "b"}, "allocatable": {"nvidia.com/gpu": "1"}, **changes})


@pytest.mark.parametrize(
    ("job", "nodes", "reasons"),
    [
        (pod(), pool(), 0),
        (pod(nodeSelector={"a": "b"}), pool(), 0),
        (pod(nodeSelector={"a": "c"}), pool(), 1),
        (pod(), pool(allocatable={"cpu": "4"}), 1),
        (pod(), pool(taints=[TAINT]), 1),
        (pod(), pool(taints=[{**TAINT, "effect": "PreferNoSchedule"}]), 0),
        (pod(tolerations=[{"operator": "Exists"}]), pool(taints=[TAINT]), 0),
        (pod(tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists"}]), pool(taints=[TAINT]), 0),
        (pod(tolerations=[{"key": "nvidia.com/gpu", "value": "present"}]), pool(taints=[TAINT]), 0),
        (pod(tolerations=[{"key": "nvidia.com/gpu", "value": "absent"}]), pool(taints=[TAINT]), 1),
        (
            pod(tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoExecute"}]),
            pool(taints=[TAINT]),
            1,
        ),
    ],
)
def test_selectors_taints_and_devices_each_keep_a_pod_away(job, nodes, reasons):
    assert len(list(why_not(job, nodes))) == reasons


def test_a_pod_asks_for_what_all_its_containers_request_and_a_limit_is_a_request():
    two = [{"resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": "1", "nvidia.com/gpu": "1"}}}, {}]
    assert asked({"containers": [*two, *two]}) == {"cpu": 1.0, "nvidia.com/gpu": 2.0}


def test_a_taint_has_an_effect_that_exists():
    with pytest.raises(ValidationError):
        Taint(key="a", effect="NoWay")
