"""The resource card: what a training cost and the smallest profile for it, on both sides of each border."""

import pytest

from mlops_assets.ml.resource_card import (
    GIB,
    HEADROOM,
    Offer,
    Usage,
    figures,
    machines,
    markdown,
    resource_card,
    sentence,
    shortage,
)
from mlops_assets.ml.spec import Retraining

RULE = Retraining(cpu_hour=0.04, memory_hour=0.01, gpu_hour=2.0, currency="USD")
SMALL = Offer(name="small", cores=0.5, memory=GIB, seconds=3600)
LARGE = Offer(name="large", cores=4, memory=16 * GIB, seconds=14400)
SLICE = Offer(name="slice", cores=2, memory=8 * GIB, seconds=3600, devices=1, device="nvidia.com/mig-1g.10gb")
WHOLE = Offer(name="whole", cores=4, memory=24 * GIB, seconds=3600, devices=1, device="nvidia.com/gpu")
OFFERS = (LARGE, SMALL, WHOLE, SLICE)


def usage(**changes):
    took = {"seconds": 100.0, "cpu_seconds": 50.0, "cores": 0.9, "memory": GIB // 2}
    return Usage(**{**took, **changes})


def on_a_card(memory, **changes):
    return usage(devices=1, card="NVIDIA A100", card_memory=memory, card_size=40 * GIB, **changes)


def smallest(took, asked=None):
    return resource_card(took, asked, OFFERS, RULE).smallest


def test_machines_cost_by_the_hour_what_is_declared():
    assert machines(3600, 0, 0, RULE) == pytest.approx(0.04)
    assert machines(0, 1800, 0, RULE) == pytest.approx(1.0)
    assert machines(0, 0, 7200, RULE) == pytest.approx(0.02)
    took = usage(seconds=3600.0, cpu_seconds=7200.0, memory=2 * GIB)
    assert resource_card(took, None, OFFERS, RULE).cost == pytest.approx(0.08 + 0.02)
    assert resource_card(took, "whole", OFFERS, RULE).cost == pytest.approx(0.08 + 0.02 + 2.0)


def test_memory_needs_head_room():
    assert smallest(usage(memory=int(GIB / HEADROOM))) == "small"
    assert smallest(usage(memory=int(GIB / HEADROOM) + 2)) == "large"


def test_less_cpu_makes_it_longer_and_must_stay_within_the_time():
    assert smallest(usage(cpu_seconds=1800.0)) == "small"
    assert smallest(usage(cpu_seconds=1800.1)) == "large"
    told = resource_card(usage(cpu_seconds=400.0), "large", OFFERS, RULE).why
    assert told == "small would have fitted, and large was asked for. It would have taken about 800 s there."


def test_an_accelerator_that_was_used_is_needed_and_its_memory_with_head_room():
    fits = int(10e9 / HEADROOM)
    assert smallest(on_a_card(fits), "whole") == "slice"
    assert smallest(on_a_card(fits + 1), "whole") == "whole"
    assert smallest(usage(), "whole") == "small"


def test_a_card_of_unknown_size_is_not_claimed_to_suffice():
    took = on_a_card(int(20e9))
    assert shortage(took, WHOLE, SLICE) == "nvidia.com/gpu has an unknown amount of memory, and 23.28 GiB are needed"
    assert shortage(took, WHOLE, WHOLE) is None
    assert shortage(took, LARGE, WHOLE) == "large has no accelerator, and NVIDIA A100 was used"


def test_what_was_too_small_and_what_nothing_fits_is_said():
    tight = resource_card(usage(memory=GIB), "small", OFFERS, RULE)
    assert tight.why.startswith("small was too small: small has 1.00 GiB of memory, and 1.25 GiB are needed.")
    huge = resource_card(usage(memory=100 * GIB), "large", OFFERS, RULE)
    assert (huge.smallest, huge.why) == (
        None,
        "No profile would have fitted: whole has 24.00 GiB of memory, and 125 GiB are needed.",
    )
    assert resource_card(usage(), None, (), RULE).why == "No profile would have fitted: there is none."
    assert resource_card(usage(), "small", OFFERS, RULE).why == "small is the smallest profile that would have fitted."


def test_a_person_reads_it_as_a_table_and_a_machine_as_figures():
    card = resource_card(on_a_card(GIB), "whole", OFFERS, RULE)
    shown = markdown(card).splitlines()
    assert shown[0] == "| | asked for (whole) | took |"
    assert "| CPU cores | 4 | 0.9 at most, 0.5 on average |" in shown
    assert "| memory | 24.00 GiB | 0.50 GiB at most |" in shown
    assert "| accelerators | 1 nvidia.com/gpu | NVIDIA A100: 1.00 GiB of 40.00 GiB at most |" in shown
    assert figures(card)["fit_peak_gpu_memory_bytes"] == GIB
    assert figures(card)["fit_cost"] == card.cost
    assert sentence(card) == "100.0 s, 0.50 GiB of memory and 1.00 GiB of NVIDIA A100 at most, 0.05625 USD"
    plain = resource_card(usage(), None, OFFERS, RULE)
    assert "| accelerators |  | none used |" in markdown(plain)
    assert "fit_peak_gpu_memory_bytes" not in figures(plain)
