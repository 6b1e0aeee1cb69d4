"""Row 39: a step that always fails, under the instance that the project ships."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.storage.tags import PARENT_RUN_ID_TAG, ROOT_RUN_ID_TAG
from dagster._daemon.auto_run_reexecution.auto_run_reexecution import should_retry

from mlops_assets import settings
from mlops_assets_tests import toy
from mlops_assets_tests.homes import prepare

pytestmark = pytest.mark.fault(39)
BOUND = 1
GIVE_UP = 10
PARTITION = {"dagster/partition": "2024-01-01"}
DEFAULTS = "telemetry: {enabled: false}\nrun_retries: {enabled: true, max_retries: 2}\n"
STUBBORN = dg.RetryPolicy(max_retries=3)


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """An instance configured as the project's dagster.yaml says."""
    for name in (settings.HOME.name, settings.DAGSTER_HOME.name, settings.TRACKING_URI.name):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv(settings.TRACKING_URI.name, "http://127.0.0.1:9")
    with dg.DagsterInstance.from_config(str(prepare(tmp_path / "home"))) as made:
        yield made


@pytest.fixture
def by_default(tmp_path):
    """An instance with Dagster's own idea of which runs to retry."""
    (tmp_path / "dagster.yaml").write_text(DEFAULTS)
    with dg.DagsterInstance.from_config(str(tmp_path)) as made:
        yield made


def attempts(made: dg.DagsterInstance) -> Counter:
    """How often each step was started, over all runs."""
    kinds = {dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_RESTARTED}
    return Counter(
        entry.step_key
        for run in made.get_runs()
        for entry in made.all_logs(run.run_id, of_type=kinds)
        if entry.step_key
    )


def until_given_up(
    made: dg.DagsterInstance, job: dg.JobDefinition, run_it: Callable[[dg.DagsterRun], Any], **tags: str
) -> int:
    """Run a job, and again as often as Dagster's daemon would; how many runs that were."""
    runs = [made.create_run_for_job(job, tags=tags)]
    while len(runs) < GIVE_UP:
        run_it(runs[-1])
        if not should_retry(made.get_run_by_id(runs[-1].run_id), made):
            break
        first, last = runs[0].run_id, runs[-1].run_id
        group = {ROOT_RUN_ID_TAG: first, PARENT_RUN_ID_TAG: last}
        runs.append(made.create_run_for_job(job, tags=tags | group, root_run_id=first, parent_run_id=last))
    return len(runs)


def executed(made: dg.DagsterInstance, job: dg.JobDefinition, **tags: str) -> int:
    """Execute a job until the daemon would give up."""
    return until_given_up(made, job, lambda run: execute_run(InMemoryJob(job), run, made), **tags)


def always_failing(error: Exception, policy: dg.RetryPolicy | None = None) -> dg.JobDefinition:
    """A job whose only step fails whenever it is tried."""

    @dg.op(retry_policy=policy)
    def fails() -> None:
        raise error

    @dg.job(executor_def=dg.in_process_executor)
    def hopeless() -> None:
        fails()

    return hopeless


def test_a_stage_that_refuses_is_tried_once(tmp_path, shipped, record_figure):
    shop = toy.Workshop(tmp_path / "shop", shipped)
    shop.landing.mkdir(parents=True)
    executed(shipped, shop.definitions.resolve_job_def("toy_lifecycle"), **PARTITION)
    tried = attempts(shipped)
    record_figure(attempts=tried["toy__raw_data"], bound=BOUND)
    assert tried == {"toy__raw_data": BOUND}


def test_a_stage_that_refuses_is_tried_once_even_where_somebody_adds_a_retry_policy(tmp_path, shipped):
    shop = toy.Workshop(tmp_path / "shop", shipped)
    shop.landing.mkdir(parents=True)
    stages = shop.definitions
    patient = dg.define_asset_job("patient", dg.AssetSelection.groups("toy"), op_retry_policy=STUBBORN)
    job = dg.Definitions.merge(stages, dg.Definitions(jobs=[patient])).resolve_job_def("patient")
    executed(shipped, job, **PARTITION)
    assert attempts(shipped) == {"toy__raw_data": BOUND}


def test_an_error_that_nobody_raised_on_purpose_is_tried_once(shipped):
    executed(shipped, always_failing(ZeroDivisionError()))
    assert attempts(shipped) == {"fails": BOUND}


def test_a_worker_that_dies_is_tried_as_often_as_the_configuration_says_and_no_more(shipped, record_figure):
    limit = 1 + shipped.run_retries_max_retries
    died = until_given_up(
        shipped, always_failing(OSError()), lambda run: shipped.report_run_failed(run, "the worker vanished")
    )
    record_figure(runs_of_a_worker_that_always_dies=died, bound=limit)
    assert died == limit == 3


def test_policies_of_steps_and_runs_multiply_where_both_retry(by_default, record_figure):
    executed(by_default, always_failing(ZeroDivisionError(), STUBBORN))
    tried = attempts(by_default)["fails"]
    record_figure(control=True, attempts=tried)
    assert tried == (1 + STUBBORN.max_retries) * 3 == 12


def test_no_asset_of_the_project_has_a_retry_policy_of_its_own():
    from mlops_assets.definitions import defs

    repository = defs().get_repository_def()
    nodes = [op for job in repository.get_all_jobs() for op in job.graph.nodes]
    assert nodes
    assert [op.name for op in nodes if op.retry_policy or op.definition.retry_policy] == []
