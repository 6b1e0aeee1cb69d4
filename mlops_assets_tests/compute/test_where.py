"""Which executor runs where, and that no accelerator can be asked for in vain."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from mlops_assets.compute.profiles import names, op_tags
from mlops_assets.compute.where import IgnoredAcceleratorError, executor_here, guarded, local_executor


@pytest.fixture
def on_kubernetes(monkeypatch):
    monkeypatch.setenv("MLOPS_COMPUTE", "kubernetes")


@dg.asset(op_tags=op_tags("gpu"))
def trained() -> None:
    """An asset that holds an accelerator."""


@dg.asset(op_tags=op_tags("cpu-large"))
def prepared() -> None:
    """An asset that asks for a big machine."""


@dg.asset
def plain() -> None:
    """An asset that asks for nothing."""


def test_steps_run_here_unless_kubernetes_is_named(monkeypatch):
    assert executor_here() is local_executor
    monkeypatch.setenv("MLOPS_COMPUTE", "kubernetes")
    assert executor_here().name == "kubernetes"


@pytest.mark.parametrize("place", ["k8s", "Kubernetes", "multiprocess"])
def test_another_place_is_refused_with_the_ones_that_are(place, monkeypatch):
    monkeypatch.setenv("MLOPS_COMPUTE", place)
    with pytest.raises(ValueError, match=f"MLOPS_COMPUTE is '{place}'. Allowed: local, kubernetes."):
        executor_here()


def everything() -> dg.JobDefinition:
    job = dg.define_asset_job("everything", [trained, prepared, plain])
    defs = dg.Definitions(assets=[trained, prepared, plain], jobs=[job], executor=local_executor)
    return defs.resolve_job_def("everything")


def modest() -> dg.JobDefinition:
    job = dg.define_asset_job("modest", [plain])
    return dg.Definitions(assets=[plain], jobs=[job], executor=local_executor).resolve_job_def("modest")


def notices(job: Any) -> list[str | None]:
    """What a run says of profiles."""
    with dg.instance_for_test() as instance, dg.execute_job(job, instance) as result:
        assert result.success
        return [event.message for event in result.all_events if "not heeded" in (event.message or "")]


def test_a_local_run_says_once_which_profiles_it_does_not_heed():
    assert notices(dg.reconstructable(everything)) == [
        "Compute profiles are not heeded, because MLOPS_COMPUTE is local: every step runs in this process, with what "
        "this machine has. Asked for: cpu-large by prepared; gpu by trained."
    ]


def test_a_local_run_without_profiles_says_nothing():
    assert notices(dg.reconstructable(modest)) == []


@pytest.mark.parametrize("profile", sorted(names()))
def test_no_job_may_bring_an_executor_that_ignores_an_accelerator(profile):
    @dg.asset(op_tags=op_tags(profile))
    def asked() -> None: ...

    job = dg.define_asset_job("mine", [asked], executor_def=dg.in_process_executor)
    defs = dg.Definitions(assets=[asked], jobs=[job], executor=executor_here())
    if profile.startswith("gpu"):
        with pytest.raises(IgnoredAcceleratorError, match=r"Job mine .*'in_process'.* but asked ask for one"):
            guarded(defs)
    else:
        assert guarded(defs) is defs


def test_a_job_of_ops_is_looked_into_as_well():
    @dg.op(tags=op_tags("gpu-mig"))
    def fit() -> None: ...

    @dg.job(executor_def=dg.multiprocess_executor)
    def mine() -> None:
        fit()

    with pytest.raises(IgnoredAcceleratorError, match="Job mine"):
        guarded(dg.Definitions(jobs=[mine]))


def test_on_kubernetes_only_its_executor_may_run_an_accelerator(on_kubernetes):
    job = dg.define_asset_job("mine", [trained])
    assert guarded(dg.Definitions(assets=[trained], jobs=[job], executor=executor_here()))
    for executor in (dg.in_process_executor, dg.multiprocess_executor, None):
        with pytest.raises(IgnoredAcceleratorError):
            guarded(dg.Definitions(assets=[trained], jobs=[job], executor=executor))
        assert guarded(dg.Definitions(assets=[plain], executor=executor))


def test_every_job_of_this_project_runs_where_the_setting_says(on_kubernetes):
    from mlops_assets.definitions import defs

    repository = defs().get_repository_def()
    assert {job.executor_def.name for job in repository.get_all_jobs()} == {"kubernetes"}
