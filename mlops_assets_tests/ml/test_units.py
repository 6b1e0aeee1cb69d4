"""Units: each conversion can be undone, has its opposite, and is thought of only where it makes sense."""

import numpy as np
import pytest

from mlops_assets.ml.units import CONVERSIONS, SCALES, TEMPERATURES

DECILES = np.linspace(1, 9, 9)


@pytest.mark.parametrize("way", CONVERSIONS, ids=lambda way: way.name)
def test_what_is_converted_and_undone_is_what_it_was_in_ascending_order(way):
    there = np.sort(DECILES * way.scale + way.offset)
    assert way.undone(there) == pytest.approx(DECILES)


def test_every_scale_works_both_ways():
    known = {round(way.scale, 12) for way in CONVERSIONS}
    assert all({round(scale, 12), round(1 / scale, 12)} <= known for scale in SCALES.values())


@pytest.mark.parametrize(("name", "factor"), [("undone", 3.6), ("km/h", 3.6), ("Fahrenheit", np.inf), ("sign", np.inf)])
def test_the_factor_is_at_least_one_and_infinite_where_zero_moves(name, factor):
    found = {way.factor for way in CONVERSIONS if name in way.name}
    assert factor in {round(each, 9) for each in found}
    assert min(way.factor for way in CONVERSIONS) >= 1


@pytest.mark.parametrize(("median", "fits"), [(-101, False), (-100, True), (500, True), (501, False), (1013, False)])
def test_only_what_may_be_a_temperature_is_taken_for_one(median, fits):
    [way] = [each for each in TEMPERATURES if each.name == "from degrees Celsius to kelvin"]
    assert way.fits(np.full(9, median + 273.15)) is fits
