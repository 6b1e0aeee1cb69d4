"""What of Dagster's Helm chart our values use: a typed model of the keys, and the dagster.yaml that it makes of them.

The chart is not at hand where these tests run, and its own schema refers to addresses elsewhere. So its templates were
read: `instance` does what `configmap-instance.yaml` and its helpers do, for the keys that are modelled here.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from mlops_assets_tests.deploy.folder import over, read

NAMESPACE, RELEASE = "mlops", "dagster"
DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")

Labels = dict[str, Annotated[str, Field(max_length=63)]]
Loose = dict[str, Any]


class Strict(BaseModel):
    """A part of the values that refuses a key the chart does not have."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


class Image(Strict):
    """An image, which the chart writes as `repository:tag`."""

    repository: str
    tag: str
    pull_policy: Literal["Always", "IfNotPresent", "Never"]

    @property
    def name(self) -> str:
        """As the chart writes it."""
        return f"{self.repository}:{self.tag}"


class OurImage(Image):
    """An image that holds our code: by digest, so that a pod is never of another build than the one that was tested."""

    @model_validator(mode="after")
    def _by_digest(self) -> Self:
        if not DIGEST.fullmatch(self.name):
            raise ValueError(f"{self.name}: end the repository in @sha256 and give the digest as the tag.")
        return self


class Named(Strict):
    """A ConfigMap or Secret whose entries become the environment."""

    name: str
    optional: bool | None = None


class Resources(Strict):
    """What a container asks for, and its limits. A limit of memory has to be there; one of CPU would throttle."""

    requests: dict[str, str]
    limits: dict[str, str]

    @model_validator(mode="after")
    def _memory_is_limited_to_what_is_asked_for(self) -> Self:
        if "memory" not in self.limits or self.limits["memory"] != self.requests.get("memory"):
            raise ValueError("memory has to be requested and limited, and both alike.")
        if "cpu" in self.limits:
            raise ValueError("a limit of cpu throttles: leave it out.")
        return self


class PodSecurity(Strict):
    """A pod's security context, as Pod Security `restricted` wants it."""

    run_as_non_root: Literal[True]
    run_as_user: Annotated[int, Field(ge=1000)]
    run_as_group: int
    fs_group: int
    seccomp_profile: dict[Literal["type"], Literal["RuntimeDefault"]]


class ContainerSecurity(Strict):
    """A container's security context, as Pod Security `restricted` wants it, and with a root that is not written to."""

    run_as_non_root: Literal[True]
    allow_privilege_escalation: Literal[False]
    read_only_root_filesystem: Literal[True]
    capabilities: dict[Literal["drop"], list[Literal["ALL"]]]


class Probe(Strict):
    """A probe; `enabled` is the chart's own."""

    enabled: bool | None = None
    http_get: Loose | None = None
    exec: Loose | None = None
    initial_delay_seconds: int | None = None
    period_seconds: int | None = None
    timeout_seconds: int | None = None
    failure_threshold: int | None = None


class Container(Strict):
    """What the chart's three deployments have in common."""

    image: OurImage
    env: list[Loose]
    env_config_maps: list[Named]
    env_secrets: list[Named]
    labels: Labels = {}
    node_selector: dict[str, str] = {}
    pod_security_context: PodSecurity
    security_context: ContainerSecurity
    resources: Resources
    volumes: list[Loose]
    volume_mounts: list[Loose]
    liveness_probe: Probe
    readiness_probe: Probe
    startup_probe: Probe

    @model_validator(mode="after")
    def _no_value_stands_in_the_environment(self) -> Self:
        if written := [each["name"] for each in self.env if "value" in each]:
            raise ValueError(f"{', '.join(written)}: values come from ConfigMaps and Secrets.")
        return self


class Service(Strict):
    """The web server's service."""

    type: Literal["ClusterIP"]
    port: Annotated[int, Field(ge=1024)]


class Workspace(Strict):
    """A workspace of code servers that another release runs; ours come from the subchart."""

    enabled: Literal[False]
    servers: list[Loose]


class Webserver(Container):
    """The web server."""

    replica_count: Annotated[int, Field(ge=1)]
    name_override: str
    service: Service
    workspace: Workspace
    enable_read_only: bool
    init_container_resources: Resources


class Workers(Strict):
    """How many threads look at sensors or schedules."""

    use_threads: Literal[True]
    num_workers: int
    num_submit_workers: int


class Off(Strict):
    """A section that is off in the chart."""

    enabled: Literal[False]


class RunCoordinator(Off):
    """Off: `run_queue` stands in additionalInstanceConfig."""

    type: Literal["QueuedRunCoordinator"]
    config: Loose


class Daemon(Container):
    """The daemon, of which the chart runs one."""

    enabled: Literal[True]
    heartbeat_tolerance: int
    sensors: Workers
    schedules: Workers
    run_coordinator: RunCoordinator
    run_monitoring: Off
    run_retries: Off
    init_container_resources: Resources


class CodeServer(Container):
    """One code server."""

    name: str
    code_server_args: list[str]
    port: int
    include_config_in_launched_runs: dict[Literal["enabled"], bool]


class ServiceAccount(Strict):
    """An account that the chart names and does not make."""

    create: Literal[False]
    name: str


class CodeServers(Strict):
    """The subchart of code servers."""

    enabled: Literal[True]
    enable_subchart: Literal[True]
    rbac_enabled: Literal[False]
    service_account: ServiceAccount
    deployments: Annotated[list[CodeServer], Field(min_length=1)]


class RunK8sConfig(Strict):
    """Raw parts of the Job of each run, and of each step under its profile."""

    container_config: Loose = {}
    pod_spec_config: Loose = {}
    pod_template_spec_metadata: Loose = {}
    job_spec_config: Loose = {}
    job_metadata: Loose = {}


class Launcher(Strict):
    """K8sRunLauncher."""

    image_pull_policy: Literal["Always", "IfNotPresent", "Never"]
    load_incluster_config: Literal[True]
    fail_pod_on_run_failure: Literal[True]
    env_config_maps: list[Named]
    env_secrets: list[Named]
    env_vars: Annotated[list[str], Field(max_length=0)]  # a value would stand in every Job, readable
    labels: Labels
    volumes: list[Loose]
    volume_mounts: list[Loose]
    resources: Resources
    security_context: ContainerSecurity
    run_k8s_config: RunK8sConfig = Field(alias="runK8sConfig")


class RunLauncher(Strict):
    """How runs are launched."""

    type: Literal["K8sRunLauncher"]
    config: dict[Literal["k8sRunLauncher"], Launcher]


class CustomLogs(Strict):
    """A compute log manager by its class."""

    module: str
    class_: str = Field(alias="class")
    config: Loose


class ComputeLogs(Strict):
    """Where the output of steps is kept."""

    type: Literal["CustomComputeLogManager"]
    config: dict[Literal["customComputeLogManager"], CustomLogs]


class Postgres(Strict):
    """A database that is there already; its password is in a secret."""

    enabled: Literal[False]
    image: Image
    postgresql_host: str
    postgresql_username: str
    postgresql_password: Literal[""]
    postgresql_database: str
    postgresql_params: dict[str, str]
    postgresql_scheme: Literal["postgresql+psycopg2"]
    service: dict[Literal["port"], int]


class Purge(Strict):
    """After how many days ticks are forgotten."""

    purge_after_days: dict[Literal["skipped", "success", "failure", "started"], int]


class Retention(Strict):
    """What is forgotten."""

    enabled: Literal[True]
    sensor: Purge
    schedule: Purge


class Global(Strict):
    """What all subcharts see."""

    postgresql_secret_name: str
    dagster_home: str
    service_account_name: Literal[""]


class Busybox(Strict):
    """The image that waits for code servers."""

    image: Image


class Values(Strict):
    """Everything that our values set."""

    global_: Global = Field(alias="global")
    rbac_enabled: Literal[False]
    service_account: ServiceAccount
    dagster_webserver: Webserver
    code_servers: CodeServers = Field(alias="dagster-user-deployments")
    dagster_daemon: Daemon
    concurrency: Off
    additional_instance_config: Loose
    run_launcher: RunLauncher
    compute_log_manager: ComputeLogs
    postgresql: Postgres
    generate_postgresql_password_secret: Literal[False]
    generate_celery_config_secret: Literal[False]
    busybox: Busybox
    scheduler: Loose
    retention: Retention
    telemetry: Off
    python_logs: Loose
    migrate: dict[Literal["enabled"], bool]
    ingress: Off
    rabbitmq: Off
    redis: Off
    flower: Off
    image_pull_secrets: list[dict[Literal["name"], str]]

    @property
    def launcher(self) -> Launcher:
        """How runs are launched."""
        return self.run_launcher.config["k8sRunLauncher"]


def values(environment: str, provider: str) -> dict[str, Any]:
    """The values of an environment at a provider, as Helm lays the three files over each other."""
    laid: dict[str, Any] = {}
    for name in ("values", f"values-{environment}", f"values-{provider}"):
        laid = over(laid, read(f"helm/dagster/{name}.yaml"))
    return laid


def instance(given: Values) -> dict[str, Any]:
    """The dagster.yaml that the chart renders."""
    sections = {
        "scheduler": {"module": "dagster.core.scheduler", "class": "DagsterDaemonScheduler"},
        **_storages(given),
        "run_launcher": {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": _launcher(given)},
        "compute_logs": given.compute_log_manager.config["customComputeLogManager"].model_dump(by_alias=True),
        "python_logs": {"python_log_level": given.python_logs["pythonLogLevel"]},
        "sensors": _workers(given.dagster_daemon.sensors),
        "schedules": _workers(given.dagster_daemon.schedules),
        "telemetry": {"enabled": given.telemetry.enabled},
        "retention": {
            kind: {"purge_after_days": getattr(given.retention, kind).purge_after_days}
            for kind in ("sensor", "schedule")
        },
    }
    twice = sections.keys() & given.additional_instance_config.keys()
    if twice:
        raise ValueError(f"{', '.join(sorted(twice))}: rendered by the chart and in additionalInstanceConfig as well.")
    return {**sections, **given.additional_instance_config}


def _storages(given: Values) -> dict[str, Any]:
    database = given.postgresql
    config = {
        "postgres_db": {
            "username": database.postgresql_username,
            "password": {"env": "DAGSTER_PG_PASSWORD"},
            "hostname": database.postgresql_host,
            "db_name": database.postgresql_database,
            "port": database.service["port"],
            "params": database.postgresql_params,
            "scheme": database.postgresql_scheme,
        }
    }
    classes = {
        "schedule_storage": ("dagster_postgres.schedule_storage", "PostgresScheduleStorage"),
        "run_storage": ("dagster_postgres.run_storage", "PostgresRunStorage"),
        "event_log_storage": ("dagster_postgres.event_log", "PostgresEventLogStorage"),
    }
    return {name: {"module": module, "class": found, "config": config} for name, (module, found) in classes.items()}


def _launcher(given: Values) -> dict[str, Any]:
    launcher, raw = given.launcher, given.launcher.run_k8s_config
    run_k8s_config = {
        "container_config": raw.container_config,
        "pod_spec_config": raw.pod_spec_config,
        "pod_template_spec_metadata": raw.pod_template_spec_metadata,
        "job_spec_config": raw.job_spec_config,
        "job_metadata": raw.job_metadata,
    }
    return {
        "load_incluster_config": launcher.load_incluster_config,
        "job_namespace": NAMESPACE,
        "image_pull_policy": launcher.image_pull_policy,
        "service_account_name": given.service_account.name,
        "dagster_home": given.global_.dagster_home,
        "instance_config_map": f"{RELEASE}-instance",
        "postgres_password_secret": given.global_.postgresql_secret_name,
        "env_config_maps": [each.name for each in launcher.env_config_maps],
        "env_secrets": [each.name for each in launcher.env_secrets],
        "volume_mounts": launcher.volume_mounts,
        "volumes": launcher.volumes,
        "labels": launcher.labels,
        "resources": launcher.resources.model_dump(by_alias=True),
        "fail_pod_on_run_failure": launcher.fail_pod_on_run_failure,
        "security_context": launcher.security_context.model_dump(by_alias=True),
        "run_k8s_config": {key: value for key, value in run_k8s_config.items() if value},
    }


def _workers(given: Workers) -> dict[str, Any]:
    return {
        "use_threads": given.use_threads,
        "num_workers": given.num_workers,
        "num_submit_workers": given.num_submit_workers,
    }


def container_context(server: CodeServer, account: str) -> dict[str, Any]:
    """What the chart puts into every run and step pod where includeConfigInLaunchedRuns is on; else nothing."""
    if not server.include_config_in_launched_runs["enabled"]:
        return {}
    return {
        "k8s": {
            "image_pull_policy": server.image.pull_policy,
            "env_config_maps": [each.name for each in server.env_config_maps],
            "env_secrets": [each.name for each in server.env_secrets],
            "volume_mounts": server.volume_mounts,
            "volumes": server.volumes,
            "labels": server.labels,
            "resources": server.resources.model_dump(by_alias=True),
            "namespace": NAMESPACE,
            "service_account_name": account,
            "run_k8s_config": {"pod_spec_config": {"automount_service_account_token": True}},
        }
    }
