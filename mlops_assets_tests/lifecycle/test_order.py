"""What is blamed on its feed in a run is not learned from in the same run, however its steps are executed."""

import dagster as dg
import pytest

from mlops_assets.defs.resources import resources
from mlops_assets.lifecycle import lifecycle
from mlops_assets.ml.training import Candidate
from mlops_assets_tests import toy
from mlops_assets_tests.faults.forking import IMPORTED
from mlops_assets_tests.lifecycle.stages import LIFE, validate

BROKEN = "2024-04"
FORKED = {"forkserver": {"preload_modules": list(IMPORTED)}}


def side_by_side(home: str) -> dg.JobDefinition:
    """The toy's life, each step in a process of its own, two at once."""
    wiring = dg.Definitions(resources=resources(home, f"sqlite:///{home}/mlflow.db"), executor=dg.multiprocess_executor)
    return dg.Definitions.merge(lifecycle(toy.spec(f"{home}/landing")), wiring).resolve_job_def("toy_lifecycle")


def break_down(shop):
    """A month without most of its wind."""
    rows = toy.rows(BROKEN)
    validate(shop, BROKEN, rows.assign(wind=rows["wind"].where(rows.index < 90)))


@pytest.fixture
def shop(lives):
    """A workshop with a champion, and a month without most of its wind that is validated and not yet judged."""
    with lives.begun(*LIFE, break_down) as shop:
        yield shop


def test_training_comes_after_the_drift_report_in_the_graph(shop):
    graph = shop.definitions.resolve_asset_graph()
    before = graph.get_ancestor_asset_keys(dg.AssetKey(["toy", "trained_model"]))
    assert dg.AssetKey(["toy", "drift_report"]) in before
    assert dg.AssetKey(["toy", "retraining_decision"]) not in before


def test_steps_that_run_side_by_side_do_not_train_on_what_is_being_blamed(shop):
    chosen = [dg.AssetKey(["toy", asset]) for asset in ("drift_report", "trained_model")]
    with dg.execute_job(
        dg.build_reconstructable_job(__name__, side_by_side.__name__, (str(shop.home),)),
        shop.instance,
        run_config={"execution": {"config": {"max_concurrent": 2, "start_method": FORKED}}},
        tags={"dagster/partition": f"{BROKEN}-01"},
        asset_selection=chosen,
    ) as result:
        assert result.success
    learned = shop.resources["records"].get(Candidate, "toy", "trained_model").manifest
    assert list(learned.left_out) == [f"{BROKEN}-01"]
    assert f"{BROKEN}-01" not in learned.deliveries


def test_where_the_drift_report_fails_nothing_is_learned_in_that_run_and_the_next_may(shop):
    reference = shop.resources["records"].get(Candidate, "toy", "trained_model").reference
    stored = next(shop.home.rglob(f"*{reference}*"))
    whole = stored.read_bytes()
    stored.write_bytes(b"no profile")
    both = shop.run([BROKEN], ("drift_report", "trained_model"))
    stored.write_bytes(whole)
    assert not both.success
    assert {event.step_key for event in both.all_events if event.is_step_failure} == {"toy__drift_report"}
    assert both.get_asset_materialization_events() == []
    assert shop.run((), ("trained_model",)).success
