"""Tracking: one MLflow run a training, which ends as its Dagster run ends, and nothing left behind in the process."""

import contextlib
import os
import signal
import socket
import sqlite3
import threading
import time
import traceback
from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.lifecycle.training import told_to_mlflow
from mlops_assets.ml.artifacts import UnsafeModelError
from mlops_assets.ml.training import Manifest
from mlops_assets.resources.tracking import RUN_ID, Tracking, TrackingUnavailableError
from mlops_assets_tests.faults.forking import forked
from mlops_assets_tests.ml.test_features import rows
from mlops_assets_tests.resources.tracked import logged, tracking_in, trained

SECRET = "hunter2"


@pytest.fixture
def tracking(tmp_path):
    return tracking_in(tmp_path)


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def runs(tracking, **tags):
    """Every MLflow run with these tags."""
    with tracking.asking("list runs"):
        client = tracking.client
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        query = " and ".join(f"tags.{name} = '{value}'" for name, value in tags.items())
        return list(client.search_runs(experiments, query))


def status(tracking, run_id):
    with tracking.asking("give a run"):
        return tracking.client.get_run(run_id).info.status


def training(tracking, model="toy", fails=None):
    """An asset that is tracked as `trained_model` is, and fails as it is told."""

    @dg.asset(key_prefix=model, name="trained_model")
    def trained_model(context: dg.AssetExecutionContext, tracking: Tracking):
        with tracking.run(model, context.run.run_id) as run:
            if fails:
                raise fails
        return dg.MaterializeResult(metadata={RUN_ID: run.id})

    return trained_model


def step(after, fails):
    @dg.asset(key_prefix="toy", deps=[after])
    def evaluation_report():
        if fails:
            raise ValueError("boom")

    return evaluation_report


def execute(instance, tracking, assets, checks=(), how="button"):
    """Run assets as `dg.materialize` does, or as the UI's button does: through the implicit job."""
    definitions = told_to_mlflow(
        dg.Definitions(
            assets=assets, asset_checks=checks, resources={"tracking": tracking}, executor=dg.in_process_executor
        )
    )
    if how == "materialize":
        return dg.materialize(
            list(definitions.assets), instance=instance, resources={"tracking": tracking}, raise_on_error=False
        )
    job = definitions.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=instance, raise_on_error=False)


def test_a_run_exists_before_the_work_starts_and_is_finished_after_it(tracking):
    with tracking.run("toy", "dagster-1") as run:
        assert status(tracking, run.id) == "RUNNING"
        (found,) = runs(tracking, dagster_run_id="dagster-1")
        assert found.info.run_id == run.id
    assert status(tracking, run.id) == "FINISHED"
    assert run.url.endswith(f"/#/runs/{run.id}")
    assert found.data.tags["dagster_run_url"].endswith("/runs/dagster-1")


@pytest.mark.parametrize(
    ("error", "end"),
    [(ValueError("boom"), "FAILED"), (SystemExit(1), "FAILED"), (KeyboardInterrupt(), "KILLED")],
)
def test_a_run_ends_as_its_work_ends(tracking, error, end):
    with pytest.raises(type(error)), tracking.run("toy", "dagster-1") as run:
        raise error
    assert status(tracking, run.id) == end


def test_everything_about_a_model_is_in_its_run(tracking):
    made = logged(tracking)
    with tracking.asking("give a run"):
        from mlflow.artifacts import download_artifacts

        found = tracking.client.get_run(made.mlflow_run_id)
        model = tracking.client.get_logged_model(made.model_uri.removeprefix("models:/"))
        kept = download_artifacts(f"{found.info.artifact_uri}/manifest.json", tracking_uri=tracking.tracking_uri)
    assert found.data.params == {"estimator": "sklearn.linear_model.Ridge", "seed": "7"}
    assert found.data.metrics == {"fitted_rows": 300}
    assert [output.model_id for output in found.outputs.model_outputs] == [model.model_id]
    assert (str(model.status), model.source_run_id) == ("READY", made.mlflow_run_id)
    assert Manifest.model_validate_json(Path(kept).read_text()) == trained().manifest
    tracking.log_metrics(made, {"mae": 1.5})
    assert runs(tracking)[0].data.metrics["mae"] == 1.5
    assert status(tracking, made.mlflow_run_id) == "FINISHED"


def test_what_is_loaded_is_what_was_fitted(tracking):
    served = tracking.load(logged(tracking))
    assert served.predict(rows(20)).tolist() == trained().fitted.pipeline.predict(rows(20)).tolist()


def test_mlflows_own_tools_can_read_the_model_and_know_its_inputs_and_requirements(tracking, tmp_path):
    made = logged(tracking)
    with tracking.asking("load a model"):
        import mlflow
        from mlflow.tracking._tracking_service.utils import _use_tracking_uri

        with _use_tracking_uri(tracking.tracking_uri):
            model = mlflow.pyfunc.load_model(made.model_uri)
            requirements = mlflow.pyfunc.get_model_dependencies(made.model_uri)
    assert model.metadata.get_input_schema().input_names() == list(made.inputs)
    assert model.metadata.metadata["sha256"] == made.model_sha256
    assert "scikit-learn==" in Path(requirements).read_text()
    given = (
        rows(5)
        .drop(columns="sales")
        .astype(
            {
                "kind": str,
            }
        )
    )
    given["event_time"] = given["event_time"].dt.tz_localize(None)
    assert model.predict(given).tolist() == tracking.load(made).predict(rows(5)).tolist()


def test_a_changed_artifact_is_refused(tracking, tmp_path):
    made = logged(tracking)
    (artifact,) = tmp_path.rglob("model.skops")
    artifact.write_bytes(artifact.read_bytes()[:-1] + b"x")
    with pytest.raises(UnsafeModelError, match=f"expected {made.model_sha256}"):
        tracking.load(made)


def test_a_lost_artifact_is_named(tracking, tmp_path):
    made = logged(tracking)
    next(tmp_path.rglob("model.skops")).unlink()
    with pytest.raises(UnsafeModelError, match=f"{made.model_uri} of toy .*: model.skops is missing"):
        tracking.load(made)


@pytest.mark.parametrize("name", ["conftest.py", "code", "registered_model_meta.py"])
def test_what_does_not_belong_to_a_model_is_named_and_nothing_is_loaded(tracking, tmp_path, name):
    made = logged(tracking)
    folder = next(tmp_path.rglob("model.skops")).parent
    stranger = folder / name
    stranger.mkdir() if name == "code" else stranger.write_text("")
    if name == "code":
        (stranger / "innocent.py").write_text("")
    with pytest.raises(UnsafeModelError, match=rf"not as it was stored: {name}/? does not belong there\."):
        tracking.load(made)


def test_a_model_from_before_its_files_were_digested_is_held_to_the_digest_of_its_artifact(tracking, tmp_path):
    made = logged(tracking).model_copy(update={"files": {}})
    assert len(tracking.load(made).predict(rows(5))) == 5
    folder = next(tmp_path.rglob("model.skops")).parent
    (folder / "innocent.py").write_text("")
    with pytest.raises(UnsafeModelError, match=r"innocent\.py does not belong there"):
        tracking.load(made)


def test_nothing_of_a_training_stays_in_the_process(tracking):
    import mlflow
    from mlflow.tracking import fluent
    from mlflow.tracking._tracking_service import utils

    before = (dict(os.environ), utils._tracking_uri, fluent._active_experiment_id)
    logged(tracking)
    assert (dict(os.environ), utils._tracking_uri, fluent._active_experiment_id) == before
    assert mlflow.active_run() is None


def test_plain_dagster_mlflow_leaves_its_server_its_experiment_and_its_run_behind(tracking, monkeypatch):
    import mlflow
    from mlflow.tracking import fluent
    from mlflow.tracking._tracking_service import utils

    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.setenv(name, "")
    with plain_dagster_mlflow() as resource:

        @dg.asset(required_resource_keys={"mlflow"})
        def model(context):
            return dg.MaterializeResult(metadata={"run": mlflow.active_run().info.run_id})

        config = {"experiment_name": "plain", "mlflow_tracking_uri": tracking.tracking_uri, "env": {}, "extra_tags": {}}
        assert dg.materialize([model], resources={"mlflow": resource.configured(config)}).success
        assert os.environ["MLFLOW_TRACKING_URI"] == utils._tracking_uri == tracking.tracking_uri
        assert os.environ["MLFLOW_EXPERIMENT_ID"] == fluent._active_experiment_id
        assert mlflow.active_run() is not None


@contextlib.contextmanager
def plain_dagster_mlflow():
    """The library as it is, with what it leaves behind swept up afterwards."""
    import dagster_mlflow
    import mlflow
    from mlflow.tracking import fluent
    from mlflow.tracking._tracking_service import utils

    environment, uri, experiment = dict(os.environ), utils._tracking_uri, fluent._active_experiment_id
    try:
        yield dagster_mlflow.mlflow_tracking
    finally:
        mlflow.end_run()
        utils.set_tracking_uri(uri)
        fluent._active_experiment_id = experiment
        os.environ.clear()
        os.environ.update(environment)


def test_another_run_that_is_active_is_neither_written_to_nor_ended(tracking):
    import mlflow
    from mlflow.tracking._tracking_service.utils import _use_tracking_uri

    with tracking.asking("record something"), _use_tracking_uri(tracking.tracking_uri), mlflow.start_run() as users:
        with pytest.raises(TrackingUnavailableError, match=f"MLflow run {users.info.run_id} is active"):
            logged(tracking)
        assert mlflow.active_run().info.run_id == users.info.run_id
        assert tracking.client.get_run(users.info.run_id).data.params == {}


def test_two_models_of_one_dagster_run_have_a_run_each(instance, tracking):
    result = execute(instance, tracking, [training(tracking, "one"), training(tracking, "two")])
    assert result.success
    found = runs(tracking, dagster_run_id=result.run_id)
    assert sorted(run.data.tags["mlops_model"] for run in found) == ["one", "two"]


def test_plain_dagster_mlflow_gives_two_models_of_one_dagster_run_one_run(instance, tracking):
    import mlflow

    with plain_dagster_mlflow() as resource:
        config = {"experiment_name": "plain", "mlflow_tracking_uri": tracking.tracking_uri, "env": {}, "extra_tags": {}}
        seen = []

        @dg.asset(required_resource_keys={"mlflow"})
        def one(context):
            seen.append(mlflow.active_run().info.run_id)

        @dg.asset(required_resource_keys={"mlflow"})
        def two(context):
            seen.append(mlflow.active_run().info.run_id)

        assert dg.materialize([one, two], instance=instance, resources={"mlflow": resource.configured(config)}).success
    assert len(seen) == 2
    assert len(set(seen)) == 1


@pytest.mark.parametrize("how", ["button", "materialize"])
def test_a_failed_training_is_failed_in_mlflow(instance, tracking, how):
    result = execute(instance, tracking, [training(tracking, fails=ValueError("boom"))], how=how)
    assert not result.success
    assert [run.info.status for run in runs(tracking, dagster_run_id=result.run_id)] == ["FAILED"]


@pytest.mark.parametrize("how", ["button", "materialize"])
@pytest.mark.parametrize(("fails", "end"), [(True, "FAILED"), (False, "FINISHED")])
def test_a_training_is_failed_in_mlflow_when_a_later_step_fails(instance, tracking, how, fails, end):
    first = training(tracking)
    result = execute(instance, tracking, [first, step(first, fails)], how=how)
    assert result.success != fails
    assert [run.info.status for run in runs(tracking, dagster_run_id=result.run_id)] == [end]


def test_a_training_is_failed_in_mlflow_when_a_blocking_check_fails(instance, tracking):
    first = training(tracking)

    @dg.asset_check(asset=first, blocking=True)
    def clears_every_gate():
        return dg.AssetCheckResult(passed=False)

    result = execute(instance, tracking, [first], [clears_every_gate])
    assert not result.success
    assert [run.info.status for run in runs(tracking, dagster_run_id=result.run_id)] == ["FAILED"]


def test_plain_dagster_mlflow_finishes_the_run_of_a_failed_asset(instance, tracking):
    with plain_dagster_mlflow() as resource:
        config = {"experiment_name": "plain", "mlflow_tracking_uri": tracking.tracking_uri, "env": {}, "extra_tags": {}}

        @dg.asset(required_resource_keys={"mlflow"})
        def model(context):
            raise ValueError("boom")

        result = dg.materialize(
            [model], instance=instance, resources={"mlflow": resource.configured(config)}, raise_on_error=False
        )
    assert not result.success
    assert [run.info.status for run in runs(tracking, dagster_run_id=result.run_id)] == ["FINISHED"]


def dagster_run(instance, end=None):
    """A Dagster run that is over, or still going on."""
    run = instance.create_run_for_job(dg.GraphDefinition(name="lifecycle").to_job())
    report = {"FAILED": instance.report_run_failed, "KILLED": instance.report_run_canceled}.get(end)
    if report:
        report(run)
    return run.run_id


@pytest.mark.parametrize(("end", "settled"), [("FAILED", "FAILED"), ("KILLED", "KILLED"), (None, "FINISHED")])
def test_a_run_whose_dagster_run_ended_otherwise_is_put_right(instance, tracking, end, settled):
    with tracking.run("toy", dagster_run(instance, end)) as run:
        pass
    changed = tracking.reconcile(instance)
    assert changed == ({} if end is None else {run.id: settled})
    assert status(tracking, run.id) == settled
    assert tracking.reconcile(instance) == {}


def test_a_run_of_another_dagster_is_left_alone(instance, tracking):
    with tracking.run("toy", "run-of-another-instance") as run:
        assert tracking.reconcile(instance) == {}
        assert status(tracking, run.id) == "RUNNING"


def test_runs_that_are_settled_are_not_looked_at_again(instance, tracking):
    result = execute(instance, tracking, [training(tracking)])
    assert len(runs(tracking, mlops_settled="no")) == 1
    assert tracking.reconcile(instance) == {}
    assert runs(tracking, mlops_settled="no") == []
    assert [run.info.status for run in runs(tracking, dagster_run_id=result.run_id)] == ["FINISHED"]


def test_a_killed_training_is_failed_in_mlflow_once_its_dagster_run_is_known_to_be_over(instance, tracking):
    run_id = dagster_run(instance)

    def train():
        with tracking.run("toy", run_id):
            os.kill(os.getpid(), signal.SIGKILL)

    assert forked(train) is None
    (left,) = runs(tracking, dagster_run_id=run_id)
    assert left.info.status == "RUNNING"
    assert tracking.reconcile(instance) == {}
    instance.report_run_failed(instance.get_run_by_id(run_id))
    assert tracking.reconcile(instance) == {left.info.run_id: "FAILED"}


def test_a_server_that_is_down_stops_a_training_before_its_work(tmp_path):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        uri = f"http://user:{SECRET}@127.0.0.1:{held.getsockname()[1]}"
        started = time.monotonic()
        tracking = Tracking(root=str(tmp_path), tracking_uri=uri)
        with (
            pytest.raises(TrackingUnavailableError, match="did not create a run") as refused,
            tracking.run("toy", "dagster-1"),
        ):
            pytest.fail("work was done that nothing will remember")
    assert time.monotonic() - started < 30
    assert "MLFLOW_TRACKING_URI" in str(refused.value)
    assert SECRET not in "".join(traceback.format_exception(refused.value))


def test_two_first_starts_at_once_make_one_whole_database(tmp_path):
    tracking = Tracking(root=str(tmp_path), tracking_uri=f"sqlite:///{tmp_path}/new/mlflow.db")
    with tracking.asking("start"):
        threads = [threading.Thread(target=lambda: tracking.client) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with contextlib.closing(sqlite3.connect(tmp_path / "new" / "mlflow.db")) as database:
        assert database.execute("select count(*) from alembic_version").fetchone() == (1,)
    with tracking.run("toy", "dagster-1"):
        pass
