"""The platform on a laptop: a typed reading of its compose file, and of what it is given."""

import os
import re
import subprocess
from typing import Annotated, Any, Literal

import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mlops_assets_tests.deploy.folder import DEPLOY, ROOT, read
from mlops_assets_tests.s3 import s3_server

COMPOSE = DEPLOY / "compose"
ONCE = {"buckets", "tables"}
Seconds = Annotated[str, Field(pattern=r"^\d+s$")]


class Strict(BaseModel):
    """A part of the file that refuses what it does not know."""

    model_config = ConfigDict(extra="forbid")


class Health(Strict):
    """How a service shows that it is well."""

    test: list[str]
    interval: Seconds
    timeout: Seconds
    retries: int
    start_period: Seconds = "0s"


class Build(Strict):
    """Where an image comes from."""

    context: Literal["../.."]
    dockerfile: Literal["deploy/docker/Dockerfile"]
    target: str


class After(Strict):
    """What a service waits for."""

    condition: Literal["service_started", "service_healthy", "service_completed_successfully"]


class Service(Strict):
    """One container: it may do nothing that root may, keeps to its memory, and publishes to this machine alone."""

    image: Annotated[str, Field(pattern=r"^[a-z0-9./-]+:(local|\d[\d.]+)$")]
    build: Build | None = None
    restart: Literal["unless-stopped", "no"] = "no"
    user: Literal["${RUN_AS:-1000:1000}"] | None = None
    read_only: bool = False
    cap_drop: Annotated[list[Literal["ALL"]], Field(min_length=1)]
    security_opt: Annotated[list[Literal["no-new-privileges:true"]], Field(min_length=1)]
    environment: dict[str, str]
    entrypoint: list[str] | None = None
    command: list[str] | None = None
    tmpfs: list[str] = []
    volumes: list[Annotated[str, Field(pattern=r"^\.{1,2}/\S+:/\S+$")]] = []
    ports: list[Annotated[str, Field(pattern=r"^127\.0\.0\.1:\d+:\d+$")]] = []
    networks: Annotated[list[Literal["inside", "outside"]], Field(min_length=1)]
    mem_limit: Annotated[str, Field(pattern=r"^\d+[gm]$")]
    healthcheck: Health | None = None
    depends_on: dict[str, After] = {}

    @model_validator(mode="after")
    def _not_root(self) -> "Service":
        ours = self.image.endswith(":local")
        if not ours and self.user is None:
            raise ValueError(f"{self.image} would run as root: say `user`.")
        if ours and not self.read_only:
            raise ValueError(f"{self.image}: its root need not be written to.")
        return self


class Compose(Strict):
    """The whole file; fragments for the eye begin with x-."""

    name: str
    services: dict[str, Service]
    networks: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def compose() -> Compose:
    found = yaml.load((COMPOSE / "compose.yaml").read_text(), Loader=yaml.CSafeLoader)
    return Compose.model_validate({key: value for key, value in found.items() if not key.startswith("x-")})


def test_the_whole_platform_is_there(compose):
    assert set(compose.services) == {"postgres", "s3", "mlflow", "code", "webserver", "daemon", "watch", *ONCE}


def test_a_service_waits_for_what_it_needs_and_that_can_be_waited_for(compose):
    by_image = {"mlflow": True}  # its image has a HEALTHCHECK of its own
    for name, service in compose.services.items():
        for target, after in service.depends_on.items():
            there = compose.services[target]
            if after.condition == "service_healthy":
                assert there.healthcheck or by_image[target], f"{name} would wait for ever for {target}"
            if after.condition == "service_completed_successfully":
                assert target in ONCE
                assert there.restart == "no"


def test_what_goes_on_is_looked_after_and_started_again(compose):
    lasting = {name: each for name, each in compose.services.items() if name not in ONCE}
    assert [name for name, each in lasting.items() if each.restart != "unless-stopped"] == []
    unwatched = {name for name, each in lasting.items() if each.healthcheck is None}
    assert unwatched == {"mlflow", "watch"}


def test_only_two_ports_are_published_and_everything_else_has_no_way_out(compose):
    assert compose.networks["inside"] == {"internal": True}
    outside = {name for name, each in compose.services.items() if "outside" in each.networks}
    assert outside == {name for name, each in compose.services.items() if each.ports} == {"webserver", "mlflow"}


def test_no_password_stands_in_the_file_and_each_comes_from_the_example(compose):
    example = dict(
        line.split("=", 1)
        for line in (COMPOSE / "env.example").read_text().splitlines()
        if "=" in line and line[0] != "#"
    )
    assert {name for name, value in example.items() if not value} == {
        "POSTGRES_PASSWORD",
        "S3_ACCESS_KEY",
        "S3_SECRET_KEY",
    }
    text = (COMPOSE / "compose.yaml").read_text()
    assert set(re.findall(r"\$\{(\w+)", text)) == set(example)
    for each in compose.services.values():
        for name, value in each.environment.items():
            if re.search("PASSWORD|SECRET|ACCESS_KEY", name):
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), name
    assert "deploy/compose/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_every_file_that_is_mounted_is_there(compose):
    mounted = {volume.split(":")[0] for each in compose.services.values() for volume in each.volumes}
    files = {path for path in mounted if not path.startswith("./data/")}
    assert [path for path in files if not (COMPOSE / path).is_file()] == []
    assert read("compose/workspace.yaml")["load_from"][0]["grpc_server"]["host"] in compose.services


def test_its_instance_is_one_that_dagster_opens(tmp_path):
    (tmp_path / "dagster.yaml").write_text((DEPLOY / "dagster" / "dagster.yaml").read_text())
    assert dagster_instance_config(str(tmp_path))[0]["compute_logs"]["class"] == "StoredComputeLogs"


def test_the_databases_that_are_named_are_made(compose):
    made = {"dagster", *re.findall(r"CREATE DATABASE (\w+);", (COMPOSE / "databases.sql").read_text())}
    text = (COMPOSE / "compose.yaml").read_text()
    assert set(re.findall(r"@postgres:5432/(\w+)", text)) == made == {"dagster", "ledger", "mlflow"}


def test_the_buckets_that_are_named_are_made_once(compose, monkeypatch):
    named = set(re.findall(r"s3://([a-z-]+)", (COMPOSE / "compose.yaml").read_text()))
    with s3_server(monkeypatch, "mlops"):
        import boto3

        for _ in range(2):
            exec((COMPOSE / "buckets.py").read_text(), {})  # noqa: S102 - the file that the container runs
        assert {each["Name"] for each in boto3.client("s3").list_buckets()["Buckets"]} == named


def test_the_s3_server_is_told_its_one_identity_by_the_environment(tmp_path):
    weed = tmp_path / "weed"
    script = (COMPOSE / "s3.sh").read_text().replace("/tmp/", f"{tmp_path}/")  # noqa: S108
    weed.write_text(f"#!/bin/sh\ncat {tmp_path}/s3.json\n")
    weed.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "S3_ACCESS_KEY": "who", "S3_SECRET_KEY": "hush"}
    said = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, check=True).stdout
    [identity] = yaml.safe_load(said)["identities"]
    assert identity["credentials"] == [{"accessKey": "who", "secretKey": "hush"}]


def test_a_service_that_would_run_as_root_is_refused(compose):
    postgres = compose.services["postgres"].model_dump(exclude_unset=True)
    with pytest.raises(ValueError, match="would run as root"):
        Service.model_validate({key: value for key, value in postgres.items() if key != "user"})
