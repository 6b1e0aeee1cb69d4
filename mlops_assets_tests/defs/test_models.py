"""The shipped models: sound declarations, contracts that fit simulated and public data, and one setting to switch."""

import io
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from mlops_assets.components.declared import declared
from mlops_assets.lifecycle.common import partitions_definition
from mlops_assets.ml import contracts, validation
from mlops_assets.ml.reading import read
from mlops_assets.ml.windows import Windows
from mlops_assets.simulation.delivery import content
from mlops_assets.simulation.provider import simulated_worlds
from mlops_assets.simulation.recorded import BIKES, recorded_worlds

SIMULATED = {world.model: world for world in simulated_worlds()}
BELOW = {"bike_demand": [""], "electricity_price": ["", "/labels"]}
SETTINGS = {"bike_demand": "BIKE_DEMAND_URI", "electricity_price": "ELECTRICITY_PRICE_URI"}


def sources():
    """Where each shipped model looks for its rows, and for its labels where they come later."""
    return {
        spec.name: [each.source.uri for each in (spec, *([spec.labels] if spec.labels else []))] for spec in declared()
    }


@pytest.fixture(scope="module")
def specs():
    return {spec.name: spec for spec in declared() if spec.name in SIMULATED}


def judged(spec, world, start, attempt=0):
    contract = contracts.load_contract(spec.contract)
    name = world.file_name(start)
    table = read(io.BytesIO(content(world, start, attempt)), name, spec.source, contracts.column_types(contract, spec))
    window = Windows.of(spec.partitions).bounds(start.isoformat())
    return validation.judge({name: table}, spec, contract, window)


@pytest.mark.parametrize("model", SIMULATED)
def test_every_window_of_the_world_is_a_partition_of_the_model(specs, model):
    keys = partitions_definition(specs[model]).get_partition_keys()
    assert [start.isoformat() for start in SIMULATED[model].starts()] == keys


@pytest.mark.parametrize("model", SIMULATED)
def test_usual_deliveries_pass_and_the_dirty_one_is_refused_until_it_is_corrected(specs, model):
    spec, world = specs[model], SIMULATED[model]
    limit = spec.quality.max_bad_share
    dirty = next(start for start in world.starts() if world.attempts(start) > 1)
    for start in world.starts()[:8]:
        found = judged(spec, world, start)
        assert 0 < found.bad_share < limit
        assert found.rows_in == len(found.good) + found.quarantined.num_rows
    assert judged(spec, world, dirty).bad_share > limit
    assert judged(spec, world, dirty, attempt=1).bad_share < limit


@pytest.mark.parametrize("model", SIMULATED)
def test_every_window_of_the_public_data_passes(specs, model, real_data):
    spec = specs[model]
    world = next(world for world in recorded_worlds(real_data) if world.model == model)
    assert {start.isoformat() for start in world.starts()} <= set(partitions_definition(spec).get_partition_keys())
    contract = contracts.load_contract(spec.contract)
    shares = {}
    for start in world.starts():
        rows = world.partition(start).drop(columns=list(world.late))
        window = Windows.of(spec.partitions).bounds(start.isoformat())
        found = validation.judge({"rows": pa.Table.from_pandas(rows)}, spec, contract, window)
        shares[start.isoformat()] = found.bad_share
    assert max(shares.values()) < spec.quality.max_bad_share
    bad = {start for start, share in shares.items() if share}
    assert bad == ({"2011-03-01"} if model == "bike_demand" else set())


def test_a_day_of_broken_humidity_is_quarantined_with_the_rule(specs, real_data):
    world = recorded_worlds(real_data)[0]
    start = pd.Timestamp("2011-03-01").date()
    found = judged(specs["bike_demand"], world, start)
    (rule,) = found.broken
    assert (rule.column, rule.count) == ("hum", 22)


@pytest.mark.parametrize("model", SIMULATED)
def test_deliveries_are_looked_for_under_mlops_home_unless_one_setting_says_otherwise(model, monkeypatch, tmp_path):
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    monkeypatch.delenv("MLOPS_LANDING", raising=False)
    monkeypatch.delenv(SETTINGS[model], raising=False)
    assert sources()[model] == [str(tmp_path / "landing" / model) + below for below in BELOW[model]]
    monkeypatch.setenv(SETTINGS[model], "s3://bucket/elsewhere")
    assert sources()[model] == [f"s3://bucket/elsewhere{below}" for below in BELOW[model]]


def sorted_out(source, spec, name):
    from mlops_assets.ml.sources import Sighting, sort_out

    now = pd.Timestamp("2026-01-01", tz="UTC").to_pydatetime()
    return sort_out([Sighting(name, 1, 0)], source.files, spec.partitions, now)


def test_the_public_folder_of_bicycles_holds_a_file_that_the_declaration_asks_for(specs, real_data):
    assert (real_data / BIKES).is_file()
    spec = specs["bike_demand"]
    assert sorted_out(spec.source, spec, Path(BIKES).name).to_split


@pytest.mark.parametrize("recorded", [False, True], ids=["simulated", "recorded"])
def test_what_a_market_delivers_is_what_the_declaration_asks_for_rows_and_labels_apart(specs, request, recorded):
    spec, worlds = specs["electricity_price"], SIMULATED
    if recorded:
        worlds = {world.model: world for world in recorded_worlds(request.getfixturevalue("real_data"))}
    world = worlds["electricity_price"]
    week, later = world.starts()[2:4]
    assert list(sorted_out(spec.source, spec, world.file_name(week)).partitions) == [f"{week}"]
    names = list(world.labels(later))
    assert len(names) == (1 if recorded else 2)
    found = [list(sorted_out(spec.labels.source, spec, name).partitions) for name in names]
    assert found == [[f"{start}"] for start in (week, world.starts()[1])][: len(names)]
    assert {spec.target, spec.labels.known, *spec.time.columns} <= set(world.labels(later)[names[0]])
