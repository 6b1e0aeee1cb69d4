"""Dagster on a simulated cluster: a code server, and an instance with the unmodified K8sRunLauncher."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._cli.job import _create_run
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import GrpcServerTarget
from dagster._grpc.client import DagsterGrpcClient

from mlops_assets.instance import DATABASES
from mlops_assets_tests import homes
from mlops_assets_tests.cluster.processes import IMPORTED, ROOT, Process, Warm, warmed
from mlops_assets_tests.cluster.simulated import Cluster, simulated_cluster
from mlops_assets_tests.cluster.waiting import until

IMAGE = "registry.example/mlops-assets@sha256:" + 64 * "0"
MODULE = "mlops_assets_tests.cluster.location"
NAME = "scenarios"
GPU = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
SPOT = {"key": "mlops/spot", "value": "true", "effect": "NoSchedule"}
STORAGE = {"module": "mlops_assets.sqlite_storage", "class": "SqliteStorage"}
QUICK = {
    "DAGSTER_STEP_DELEGATING_EXECUTOR_SLEEP_SECONDS": "0.1",
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
}


@dataclass
class Site:
    """A simulated cluster and the Dagster that runs on it."""

    cluster: Cluster
    instance: dg.DagsterInstance
    home: Path
    workspace: WorkspaceProcessContext
    warm: Warm

    def launch(self, job: str, **tags: str) -> str:
        """The id of a run that was started as the command line starts one."""
        context = self.workspace.create_request_context()
        location = context.get_code_location(NAME)
        repository = location.get_repository("__repository__")
        found = repository.get_full_job(job)
        run = _create_run(self.instance, location, repository, found, {}, tags, None, None)
        self.instance.submit_run(run.run_id, context)
        return run.run_id

    def ended(self, run_id: str) -> dg.DagsterRun:
        """The run, once it is over."""
        return until(lambda: self._over(run_id), f"the end of run {run_id}")

    def told(self, run_id: str) -> list[str]:
        """What a run's events say, each with its type and, where it has one, why it failed."""
        events = [log.dagster_event for log in self.instance.all_logs(run_id) if log.dagster_event]
        return [f"{event.event_type_value} {event.step_key or ''} {event.message} {_error(event)}" for event in events]

    def why(self, run_id: str, step: str) -> str:
        """Why a step failed, or is tried again."""
        kinds = ("STEP_FAILURE", "STEP_UP_FOR_RETRY")
        return "\n".join(line for line in self.told(run_id) if line.startswith(kinds) and f" {step} " in line)

    def metadata(self, asset: dg.AssetKey) -> Mapping[str, Any]:
        """What the newest materialization of an asset says."""
        (record,) = self.instance.fetch_materializations(asset, limit=1).records
        assert record.asset_materialization
        return record.asset_materialization.metadata

    def _over(self, run_id: str) -> dg.DagsterRun | None:
        assert self.cluster.is_turning, "the simulated cluster's controllers have died"
        run = self.instance.get_run_by_id(run_id)
        return run if run and run.is_finished else None


def _error(event: dg.DagsterEvent) -> str:
    error = getattr(event.event_specific_data, "error", None)
    return error.message if error else ""


@contextmanager
def site(folder: Path, module: str = MODULE, **config: Any) -> Iterator[Site]:
    """A cluster with one CPU node and one GPU node, and Dagster on it. `config` is more for dagster.yaml."""
    home = folder / "dagster"
    home.mkdir(parents=True)
    with (
        warmed(folder / "warm.log", [*IMPORTED, module]) as warm,
        simulated_cluster(folder / "cluster", warm, {IMAGE}) as cluster,
        tempfile.TemporaryDirectory(prefix="grpc") as sockets,  # short: a socket's path has at most 107 characters
    ):
        furnish(cluster)
        write_instance(home, cluster, folder, config)
        socket = f"{sockets}/socket"
        server = start_code_server(warm, home, module, socket, folder / "code_server.log")
        target = GrpcServerTarget(host="localhost", port=None, socket=socket, location_name=NAME)
        with (
            dg.DagsterInstance.from_config(str(home)) as instance,
            _answering(server, socket, folder / "code_server.log"),
            WorkspaceProcessContext(instance, target) as workspace,
        ):
            yield Site(cluster, instance, home, workspace, warm)


def furnish(cluster: Cluster) -> None:
    """What an operator makes before anything runs: machines, a service account, a runtime class, secrets."""
    cluster.nodes.add("cpu-1", {"cpu": "16", "memory": "64Gi"})
    add_gpu_node(cluster, "gpu-1")
    cluster.store.put("ServiceAccount", "dagster-run", cluster.namespace)
    cluster.store.put("RuntimeClass", "nvidia", handler="nvidia")
    cluster.store.put("Secret", "tracking", cluster.namespace, data={"MLFLOW_TRACKING_TOKEN": "told to nobody"})


def add_gpu_node(cluster: Cluster, name: str, spot: bool = False) -> None:
    """A machine with one accelerator, kept for those who tolerate that."""
    labels, taints = {"nvidia.com/gpu.present": "true"}, [GPU]
    if spot:
        labels, taints = {**labels, "mlops/capacity": "spot"}, [GPU, SPOT]
    cluster.nodes.add(name, {"cpu": "16", "memory": "64Gi", "nvidia.com/gpu": "1"}, labels, taints)


def write_instance(home: Path, cluster: Cluster, folder: Path, config: Mapping[str, Any]) -> None:
    """A prepared instance whose runs are Jobs."""
    for name in DATABASES:
        shutil.copytree(homes.prepared() / "dagster" / name, home / name)
    variables = {**QUICK, "MLOPS_HOME": str(folder / "home")}
    launcher = {
        "service_account_name": "dagster-run",
        "instance_config_map": "dagster-instance",
        "dagster_home": str(home),
        "job_namespace": cluster.namespace,
        "load_incluster_config": False,
        "kubeconfig_file": str(cluster.kubeconfig),
        "env_secrets": ["tracking"],
        "env_vars": [f"{name}={value}" for name, value in variables.items()],
        "run_k8s_config": {
            "container_config": {
                "resources": {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}
            }
        },
    }
    said = {
        "telemetry": {"enabled": False},
        "storage": {"custom": {**STORAGE, "config": {"base_dir": str(home)}}},
        "run_launcher": {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": launcher},
        "run_coordinator": {"module": "dagster.core.run_coordinator", "class": "DefaultRunCoordinator"},
        **config,
    }
    (home / "dagster.yaml").write_text(yaml.safe_dump(said))


def start_code_server(warm: Warm, home: Path, module: str, socket: str, log: Path) -> Process:
    """Dagster's own code server, which says in which image its code is."""
    words = ["--socket", socket, "--container-image", IMAGE, "--location-name", NAME, "--inject-env-vars-from-instance"]
    environment = {**os.environ, **QUICK, "DAGSTER_HOME": str(home)}
    return warm.start(["dagster", "api", "grpc", "-m", module, *words], environment, home, log)


@contextmanager
def _answering(server: Process, socket: str, log: Path) -> Iterator[None]:
    client = DagsterGrpcClient(socket=socket)

    def answers() -> bool:
        assert not server.ended.is_set(), log.read_text()
        with contextlib.suppress(DagsterUserCodeUnreachableError):
            client.ping("")
            return True
        return False

    try:
        until(answers, "the code server's answer")
        yield
    finally:
        server.signal(signal.SIGKILL, everybody=True)
