"""Profiles as offers: the figures that Kubernetes is asked for, as numbers."""

from mlops_assets.compute.offers import offers
from mlops_assets.compute.profiles import names

GIB = 2**30


def test_every_profile_is_an_offer_with_its_memory_time_and_devices():
    found = {offer.name: offer for offer in offers()}
    assert tuple(found) == names()
    small, slices, four = (found[name] for name in ("cpu-small", "gpu-mig", "gpu-4x"))
    assert (small.cores, small.memory, small.seconds, small.devices, small.device) == (0.5, GIB, 3600, 0, "")
    assert (slices.devices, slices.device) == (1, "nvidia.com/mig-1g.10gb")
    assert (four.devices, four.device) == (4, "nvidia.com/gpu")
