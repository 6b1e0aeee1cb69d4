"""A step asks for the compute profile that its stage declares, and for none where none is declared."""

from typing import get_args

import pytest

from mlops_assets.lifecycle import STAGES
from mlops_assets.ml.spec import Stage
from mlops_assets_tests import toy


def profiles(compute: dict[str, str]) -> dict[str, str | None]:
    """The profile of every step of the toy model, by its stage."""
    model = toy.spec("/nowhere", compute=compute)
    assets = [asset for stage in STAGES for asset in stage(model).assets or ()]
    return {next(iter(asset.specs)).tags["mlops/stage"]: asset.op.tags.get("mlops/compute") for asset in assets}


@pytest.mark.parametrize("stage", get_args(Stage))
def test_the_steps_of_one_stage_get_its_profile_and_the_others_none(stage):
    asked = profiles({stage: "gpu"})
    assert asked == {other: "gpu" if other == stage else None for other in get_args(Stage)}


def test_a_profile_that_does_not_exist_is_refused_with_the_allowed_names():
    with pytest.raises(ValueError, match=r"'huge' is not a compute profile\. Allowed: cpu-small, .*gpu-spot"):
        profiles({"data": "huge"})
