"""Tracking: one MLflow run for each model and training, through dagster-mlflow, true to its Dagster run.

dagster-mlflow searches for its run and creates one where it finds none (a race), lets models of one Dagster run share
it, and reports a failed run as finished where no hook is attached. Here a run is created before the work starts, its
id handed over, and its end decided by what becomes of the Dagster run.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import dagster as dg
from dagster import DagsterEventType, DagsterExecutionInterruptedError

from mlops_assets import settings
from mlops_assets.ml.artifacts import UnsafeModelError, load_model, trusted_types
from mlops_assets.ml.importing import for_good
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.training import Candidate, Fitted, Manifest
from mlops_assets.resources.mlflow_database import create

if TYPE_CHECKING:
    from dagster_mlflow.resources import MlFlow
    from mlflow import MlflowClient
    from mlflow.entities import Run

RUN_ID = "mlflow_run_id"
DAGSTER_RUN, DAGSTER_URL, SETTLED, MODEL = "dagster_run_id", "dagster_run_url", "mlops_settled", "mlops_model"
ENDS = {
    dg.DagsterRunStatus.SUCCESS: "FINISHED",
    dg.DagsterRunStatus.FAILURE: "FAILED",
    dg.DagsterRunStatus.CANCELED: "KILLED",
}


class TrackingUnavailableError(dg.DagsterError):
    """MLflow does not answer, or does not do what it is asked to."""


@dataclass(frozen=True)
class TrackedRun:
    """An MLflow run of one training, and where a browser finds it."""

    id: str
    experiment_id: str
    dagster_run_id: str
    name: str
    url: str


class Logged(NamedTuple):
    """A model in MLflow, and the SHA-256 of each file of it."""

    uri: str
    files: dict[str, str]


class Tracking(dg.ConfigurableResource):
    """MLflow at `tracking_uri`, one experiment a model; artifacts under `root` unless a server keeps them itself."""

    root: str
    tracking_uri: str

    @contextmanager
    def run(self, model: str, dagster_run_id: str) -> Iterator[TrackedRun]:
        """An MLflow run for the work inside, created before it starts and ended as the work ends.

        Raises TrackingUnavailableError before any work is done where MLflow does not answer.
        """
        run = self._create(model, dagster_run_id)
        status = "FAILED"
        try:
            yield run
            status = "FINISHED"
        except (KeyboardInterrupt, DagsterExecutionInterruptedError):
            status = "KILLED"
            raise
        finally:
            self._end(run, status)

    def log_model(
        self, run: TrackedRun, spec: ModelSpec, fitted: Fitted, manifest: Manifest, metrics: Mapping[str, float]
    ) -> Logged:
        """Log parameters, metrics, manifest and model."""
        from mlops_assets.resources.mlmodel import MANIFEST, write_model

        params = {"estimator": spec.estimator.path, **spec.estimator.params, "seed": spec.seed}
        with self._session(run, spec.name) as mlflow, tempfile.TemporaryDirectory() as folder:
            mlflow.log_params(params)
            mlflow.log_metrics(dict(metrics))
            mlflow.log_text(manifest.model_dump_json(indent=1), MANIFEST)
            logged = mlflow.tracking_client.create_logged_model(
                run.experiment_id, name=spec.name, source_run_id=run.id, model_type=spec.task
            )
            files = write_model(Path(folder), fitted, manifest, logged, run.id)
            self._publish(mlflow.tracking_client, run, logged.model_id, folder)
        return Logged(f"models:/{logged.model_id}", files)

    def log_metrics(self, candidate: Candidate, metrics: Mapping[str, float]) -> None:
        """Add to the run of a candidate what was found out about it later."""
        with self.asking("record metrics"):
            from mlflow.entities import Metric

            now = int(time.time() * 1000)
            found = [Metric(name, value, now, 0) for name, value in metrics.items()]
            self.client.log_batch(candidate.mlflow_run_id, found)

    def load(self, candidate: Candidate) -> Any:
        """The candidate's pipeline. Raises UnsafeModelError when it is not what was stored."""
        trusted = trusted_types(candidate.manifest.spec)
        return load_model(self.artifact(candidate), candidate.model_sha256, trusted)

    def artifact(self, candidate: Candidate) -> bytes:
        """The candidate's artifact. Raises UnsafeModelError where anything in its folder is not as it was stored.

        What does not belong there is refused before anything is fetched, and nothing but the artifact is ever parsed.
        """
        from mlops_assets.resources.mlmodel import ARTIFACT, changed, digests, strangers

        expected = candidate.files or {ARTIFACT: candidate.model_sha256}
        with self.asking(f"give {candidate.model_uri}"), tempfile.TemporaryDirectory() as folder:
            from mlflow.artifacts import download_artifacts, list_artifacts

            logged = self.client.get_logged_model(candidate.model_uri.removeprefix("models:/"))
            there = list_artifacts(logged.artifact_location, tracking_uri=self.tracking_uri)
            stands = [f"{PurePosixPath(each.path).name}{'/' if each.is_dir else ''}" for each in there]
            if not (wrong := strangers(stands, expected)):
                for name in expected:
                    uri = f"{logged.artifact_location}/{name}"
                    download_artifacts(uri, dst_path=folder, tracking_uri=self.tracking_uri)
                wrong = changed(digests(Path(folder)), expected)
            if wrong:
                raise UnsafeModelError(
                    f"{candidate.model_uri} of {candidate.model} is not as it was stored: {'; '.join(wrong)}. "
                    "Nothing of it was loaded. Restore its folder from a backup, or train again."
                )
            return (Path(folder) / ARTIFACT).read_bytes()

    def fail(self, run_ids: list[str]) -> None:
        """Mark MLflow runs as failed, because the Dagster run that they belong to has failed."""
        with self.asking("mark runs as failed"):
            for run_id in run_ids:
                self._settle(run_id, "FAILED")

    def reconcile(self, instance: dg.DagsterInstance) -> dict[str, str]:
        """Give every MLflow run whose Dagster run is over the status that it deserves; what changed, by MLflow run.

        A killed process ends nothing, and a later step may fail where no hook of ours is attached.
        """
        changed = {}
        with self.asking("look for unfinished runs"):
            for run in self._unsettled():
                found = instance.get_run_by_id(run.data.tags[DAGSTER_RUN])
                if found is None or found.status not in ENDS:
                    continue
                if run.info.status != (status := ENDS[found.status]):
                    self.client.set_terminated(run.info.run_id, status, run.info.end_time)
                    changed[run.info.run_id] = status
                self.client.set_tag(run.info.run_id, SETTLED, "yes")
        return changed

    def url(self, candidate: Candidate) -> str:
        """Where a browser finds the MLflow run of a candidate."""
        return _url(candidate.mlflow_run_id)

    @property
    def client(self) -> MlflowClient:
        """MLflow's client, to be used while `asking`."""
        with for_good():
            from mlflow import MlflowClient

        create(self.tracking_uri)
        return MlflowClient(tracking_uri=self.tracking_uri)

    @contextmanager
    def asking(self, what: str) -> Iterator[None]:
        """Ask MLflow something, with short patience and an environment of its own."""
        with _environment():
            with for_good():
                from mlflow import MlflowException
                from sqlalchemy.exc import SQLAlchemyError

            try:
                yield
            except (MlflowException, OSError, SQLAlchemyError) as error:
                # MLflow's errors quote the URI, password included, and Dagster would store the whole chain of them.
                shown = _redacted(self.tracking_uri)
                raise TrackingUnavailableError(
                    f"MLflow at {shown} did not {what}: {str(error).replace(self.tracking_uri, shown)} "
                    f"Start it, or set {settings.TRACKING_URI.name} to one that runs."
                ) from None

    def _create(self, model: str, dagster_run_id: str) -> TrackedRun:
        tags = {
            DAGSTER_RUN: dagster_run_id,
            DAGSTER_URL: f"{settings.DAGSTER_UI.value().rstrip('/')}/runs/{dagster_run_id}",
            SETTLED: "no",
            MODEL: model,
        }
        with self.asking("create a run"):
            experiment = self._experiment(model)
            name = f"{model} {dagster_run_id[:8]}"
            run = self.client.create_run(experiment, tags=tags, run_name=name).info
        return TrackedRun(run.run_id, experiment, dagster_run_id, name, _url(run.run_id))

    def _experiment(self, model: str) -> str:
        """The id of the model's experiment, made by the first who needs it."""
        from mlflow import MlflowException

        client = self.client
        found = client.get_experiment_by_name(model)
        if found is None:
            kept_here = not self.tracking_uri.startswith(("http://", "https://"))
            try:
                return client.create_experiment(model, f"{self.root}/mlflow/{model}" if kept_here else None)
            except MlflowException as error:
                found = client.get_experiment_by_name(model)
                if found is None or error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
        return found.experiment_id

    def _end(self, run: TrackedRun, status: str) -> None:
        """End a run. Where MLflow does not answer any more, `reconcile` ends it later."""
        try:
            with self.asking("end the run"):
                if status == "FINISHED":
                    self.client.set_terminated(run.id)
                else:
                    self._settle(run.id, status)
        except TrackingUnavailableError as error:
            logging.getLogger(__name__).warning("MLflow run %s is left as it is: %s", run.id, error)

    @contextmanager
    def _session(self, run: TrackedRun, model: str) -> Iterator[MlFlow]:
        """dagster-mlflow's resource with `run` active, and nothing of it left behind."""
        with self.asking("record the training"), warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.BetaWarning)
            import mlflow
            from dagster_mlflow.resources import MlFlow
            from mlflow.tracking import fluent
            from mlflow.tracking._tracking_service.utils import _use_tracking_uri

            if other := mlflow.active_run():
                raise TrackingUnavailableError(
                    f"MLflow run {other.info.run_id} is active in this process, and would receive what belongs to "
                    f"{run.id}: end it first."
                )
            context = SimpleNamespace(
                log=logging.getLogger(__name__),
                dagster_run=SimpleNamespace(job_name=run.name),
                run_id=run.dagster_run_id,
                resource_config={"experiment_name": model, "mlflow_run_id": run.id, "extra_tags": {MODEL: model}},
            )
            experiment = fluent._active_experiment_id
            with _use_tracking_uri(self.tracking_uri):
                try:
                    yield MlFlow(context)
                finally:
                    fluent._active_experiment_id = experiment
                    mlflow.end_run()

    def _settle(self, run_id: str, status: str) -> None:
        """Give a run its last status. Only those that are not settled are looked at again."""
        self.client.set_terminated(run_id, status)
        self.client.set_tag(run_id, SETTLED, "yes")

    def _publish(self, client: MlflowClient, run: TrackedRun, model_id: str, folder: str) -> None:
        from mlflow.entities import LoggedModelOutput

        client.log_model_artifacts(model_id, folder)
        client.finalize_logged_model(model_id, "READY")
        client.log_outputs(run.id, [LoggedModelOutput(model_id, step=0)])

    def _unsettled(self) -> list[Run]:
        client = self.client
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return list(client.search_runs(experiments, f"tags.{SETTLED} = 'no'"))


@dg.failure_hook(name="fails_in_mlflow_too", required_resource_keys={"tracking"})
def fails_in_mlflow_too(context: dg.HookContext) -> None:
    """The MLflow runs of trainings in this Dagster run are failed, when a step of it fails."""
    events = context.instance.get_records_for_run(
        context.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION
    ).records
    materialized = [event.event_log_entry.asset_materialization for event in events]
    found = [entry.metadata[RUN_ID].value for entry in materialized if entry and RUN_ID in entry.metadata]
    if found:
        context.resources.tracking.fail([str(run_id) for run_id in found])


@contextmanager
def _environment() -> Iterator[None]:
    """The environment that MLflow needs, inside; outside, the process's own as it was, whatever MLflow wrote to it."""
    before = dict(os.environ)
    settings.set_library_defaults()
    try:
        yield
    finally:
        for name in {*os.environ, *before}:
            if name not in before:
                os.environ.pop(name, None)
            elif os.environ.get(name) != before[name]:
                os.environ[name] = before[name]


def _url(run_id: str) -> str:
    return f"{settings.MLFLOW_UI.value().rstrip('/')}/#/runs/{run_id}"


def _redacted(uri: str) -> str:
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
