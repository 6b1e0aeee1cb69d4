"""A stage asks for the compute profile that it declares: tags, pool and retries; and a refusal is never retried."""

from typing import get_args

import dagster as dg
import pytest

from mlops_assets.compute import profiles
from mlops_assets.lifecycle import STAGES
from mlops_assets.lifecycle.refusing import refusals, unrepeated
from mlops_assets.ml.spec import Stage
from mlops_assets_tests import toy
from mlops_assets_tests.lifecycle.stages import failure, run, validated

ONCE_MORE = dg.RetryPolicy(max_retries=1, delay=0)


def steps(asked: dict[str, str]) -> list[dg.AssetsDefinition]:
    """The steps of the toy model, with these profiles."""
    model = toy.spec("/nowhere", compute=asked)
    return [asset for stage in STAGES for asset in stage(model).assets or ()]


def stage_of(step: dg.AssetsDefinition) -> str:
    return next(iter(step.specs)).tags["mlops/stage"]


def fitting(stage: str) -> str:
    return "gpu" if stage in profiles.ACCELERATED else "cpu-large"


@pytest.mark.parametrize("stage", get_args(Stage))
def test_the_steps_of_one_stage_get_its_profile_and_the_others_none(stage):
    name = fitting(stage)
    asked = {stage_of(step): step.op.tags.get("mlops/compute") for step in steps({stage: name})}
    assert asked == {other: name if other == stage else None for other in get_args(Stage)}


def test_a_step_gets_tags_pool_and_retries_from_its_profile_and_keeps_its_own_tags():
    asked = steps({"training": "gpu-spot", "retraining": "cpu-small"})
    by_key = {step.key.path[-1]: step.op for step in asked if len(step.keys) == 1}
    trained, decided, unasked = (by_key[name] for name in ("trained_model", "retraining_decision", "champion"))
    assert (trained.pool, trained.retry_policy.max_retries) == ("gpu-spot", 4)
    assert trained.retry_policy.backoff is dg.Backoff.EXPONENTIAL
    assert trained.retry_policy.jitter is dg.Jitter.PLUS_MINUS
    assert (decided.pool, decided.retry_policy.max_retries) == (None, 1)
    assert (decided.tags["dagster/priority"], decided.tags["mlops/compute"]) == ("10", "cpu-small")
    assert (unasked.pool, unasked.retry_policy, dict(unasked.tags)) == (None, None, {})


def test_a_profile_that_does_not_exist_is_refused_with_the_allowed_names():
    with pytest.raises(
        ValueError, match=r"toy: compute.data: 'huge' is not a compute profile\. Allowed: cpu-small, .*gpu-spot"
    ):
        steps({"data": "huge"})


@pytest.mark.parametrize("stage", get_args(Stage))
def test_an_accelerator_is_for_the_stages_that_run_the_estimator_and_nothing_else(stage):
    if stage in ("training", "evaluation"):
        assert any(step.op.pool == "gpu" for step in steps({stage: "gpu"}))
    else:
        with pytest.raises(ValueError, match=rf"compute.{stage}: 'gpu' holds an accelerator, which {stage} would"):
            steps({stage: "gpu"})


def attempts(error: Exception, *, wrapped: bool) -> int:
    """How often Dagster runs an asset that always raises this, under a policy of one retry."""
    counted = []

    def model() -> None:
        counted.append(1)
        raise error

    asset = dg.asset(retry_policy=ONCE_MORE)(unrepeated(model) if wrapped else model)
    assert not dg.materialize([asset], raise_on_error=False).success
    return len(counted)


@pytest.mark.parametrize("refused", refusals())
def test_a_refusal_is_never_retried(refused):
    error = refused("shop.csv", "is empty") if refused.__name__ == "UnreadableFileError" else refused("no")
    assert attempts(error, wrapped=True) == 1


def test_what_may_be_the_machines_fault_is_retried_and_so_would_a_refusal_be_that_nobody_wrapped():
    assert attempts(OSError("a node that is going away"), wrapped=True) == 2
    assert attempts(refusals()[0]("no"), wrapped=False) == 2


def test_neither_a_blocking_check_nor_an_error_of_dagsters_own_kind_is_retried():
    counted = []

    @dg.asset(retry_policy=ONCE_MORE, check_specs=[dg.AssetCheckSpec("honest", asset="checked", blocking=True)])
    @unrepeated
    def checked():
        counted.append(1)
        yield dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=False)])

    assert not dg.materialize([checked], raise_on_error=False).success
    assert len(counted) == 1
    assert attempts(dg.DagsterInvariantViolationError("no"), wrapped=False) == 1


def test_every_stage_tells_its_refusals_apart():
    assert [step.key for step in steps({}) if not hasattr(step.op.compute_fn.decorated_fn, "__wrapped__")] == []


def test_a_training_that_refuses_ends_at_its_first_attempt(workshop):
    nothing = {"path": "sklearn.linear_model.Nothing"}
    result = run(validated(workshop(compute={"training": "cpu-small"}, estimator=nothing)), "trained_model")
    assert [event for event in result.all_events if event.is_step_up_for_retry] == []
    assert "sklearn.linear_model.Nothing" in failure(result)
