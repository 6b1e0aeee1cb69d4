"""Dagster on a simulated cluster: a code server, and an instance with the unmodified K8sRunLauncher."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
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
from mlops_assets_tests.cluster.objects import Object
from mlops_assets_tests.cluster.processes import IMPORTED, ROOT, Process, Warm, warmed
from mlops_assets_tests.cluster.simulated import Cluster, simulated_cluster
from mlops_assets_tests.cluster.waiting import until

IMAGE = "registry.example/mlops-assets@sha256:" + 64 * "0"
MODULE = "mlops_assets_tests.cluster.location"
NAME = "scenarios"
GPU = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
SPOT = {"key": "mlops/spot", "value": "true", "effect": "NoSchedule"}
STORAGE = {"module": "mlops_assets.sqlite_storage", "class": "SqliteStorage"}
MONITORING = {"enabled": True, "max_resume_run_attempts": 2, "poll_interval_seconds": 1}
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
    mailbox: Path
    workspace: WorkspaceProcessContext
    socket: str
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

    def tags(self, run_id: str) -> Mapping[str, str]:
        """A run's tags as they are now."""
        run = self.instance.get_run_by_id(run_id)
        assert run
        return run.tags

    @contextmanager
    def daemon(self) -> Iterator[None]:
        """The project's own daemon, until the end of the block."""
        log = self.home / "daemon.log"
        workspace = self.home / "workspace.yaml"
        server = {"socket": self.socket, "host": "localhost", "location_name": NAME}
        workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
        environment = {**os.environ, **QUICK, "DAGSTER_HOME": str(self.home), "MLOPS_HOME": str(self.mailbox)}
        words = ["mlops-assets", "daemon", "--workspace", str(workspace)]
        process = self.warm.start(words, environment, self.home, log)
        try:
            yield
        finally:
            process.signal(signal.SIGKILL, everybody=True)

    def why(self, run_id: str, step: str) -> str:
        """Why a step failed, or is tried again."""
        kinds = ("STEP_FAILURE", "STEP_UP_FOR_RETRY")
        return "\n".join(line for line in self.told(run_id) if line.startswith(kinds) and f" {step} " in line)

    def metadata(self, asset: str) -> Mapping[str, Any]:
        """What the newest materialization of an asset says."""
        (record,) = self.instance.fetch_materializations(dg.AssetKey(asset.split("/")), limit=1).records
        assert record.asset_materialization
        return record.asset_materialization.metadata

    def _over(self, run_id: str) -> dg.DagsterRun | None:
        assert self.cluster.is_turning, "the simulated cluster's controllers have died"
        run = self.instance.get_run_by_id(run_id)
        return run if run and run.is_finished else None


def step_of(thing: Object) -> str | None:
    """The step that a Job or pod is of; None where it is the run's own."""
    return thing["metadata"]["labels"].get("dagster/op")


def _error(event: dg.DagsterEvent) -> str:
    error, said = getattr(event.event_specific_data, "error", None), []
    while error:
        said.append(error.message)
        error = error.cause
    return " ".join(said)


@contextmanager
def site(folder: Path, module: str = MODULE, imported: Sequence[str] = ()) -> Iterator[Site]:
    """A cluster with one CPU node and one GPU node, and Dagster on it, whose processes have imported what is said."""
    home, mailbox = folder / "dagster", folder / "home"
    for each in (home, mailbox):
        each.mkdir(parents=True)
    with (
        warmed(folder / "warm.log", [*IMPORTED, *imported, module]) as warm,
        simulated_cluster(folder / "cluster", warm, {IMAGE}) as cluster,
        tempfile.TemporaryDirectory(prefix="grpc") as sockets,  # short: a socket's path has at most 107 characters
    ):
        furnish(cluster)
        write_instance(home, cluster, mailbox)
        socket = f"{sockets}/socket"
        server = start_code_server(warm, home, mailbox, module, socket, folder / "code_server.log")
        target = GrpcServerTarget(host="localhost", port=None, socket=socket, location_name=NAME)
        with (
            dg.DagsterInstance.from_config(str(home)) as instance,
            _answering(server, socket, folder / "code_server.log"),
            WorkspaceProcessContext(instance, target) as workspace,
        ):
            yield Site(cluster, instance, home, mailbox, workspace, socket, warm)


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


def write_instance(home: Path, cluster: Cluster, mailbox: Path) -> None:
    """A prepared instance whose runs are Jobs."""
    for name in DATABASES:
        shutil.copytree(homes.prepared() / "dagster" / name, home / name)
    (mailbox / "mlflow.db").write_bytes(homes.empty_database())
    variables = {**QUICK, "MLOPS_HOME": str(mailbox)}
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
                "resources": {"requests": {"cpu": "250m", "memory": "4Gi"}, "limits": {"memory": "4Gi"}}
            }
        },
    }
    said = {
        "telemetry": {"enabled": False},
        "run_monitoring": MONITORING,
        "storage": {"custom": {**STORAGE, "config": {"base_dir": str(home)}}},
        "run_launcher": {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": launcher},
        "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"},
    }
    (home / "dagster.yaml").write_text(yaml.safe_dump(said))


def start_code_server(warm: Warm, home: Path, mailbox: Path, module: str, socket: str, log: Path) -> Process:
    """Dagster's own code server, which says in which image its code is."""
    words = ["--socket", socket, "--container-image", IMAGE, "--location-name", NAME, "--inject-env-vars-from-instance"]
    environment = {**os.environ, **QUICK, "DAGSTER_HOME": str(home), "MLOPS_HOME": str(mailbox)}
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
