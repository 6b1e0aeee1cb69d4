"""The images, as far as they can be judged without building them: there is no Docker engine where these tests run."""

import os
import re
import stat
import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest
from packaging.utils import canonicalize_name
from typer.main import get_command

from mlops_assets.cli import app
from mlops_assets_tests.deploy.dockerfile import Dockerfile
from mlops_assets_tests.deploy.folder import DEPLOY, ROOT, read

DOCKER = DEPLOY / "docker"
IMAGES = ("platform", "gpu", "serving", "mlflow")
LOCKS = ("runtime", "dev", "torch", "serving", "mlflow", "wheel")


@pytest.fixture(scope="module")
def images() -> Dockerfile:
    return Dockerfile.parse((DOCKER / "Dockerfile").read_text())


def pinned(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^]]+\])?==([^ ]+)", text, re.MULTILINE))


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_as_a_user_with_a_number(images, image):
    [*_, last] = [each for each in images.whole(image) if each.word == "USER"]
    assert last.rest == "10001:10001"
    assert [each.word for each in images.stages[image].instructions][-1] == "CMD"
    user = read("helm/dagster/values.yaml")["dagsterDaemon"]["podSecurityContext"]["runAsUser"]
    assert last.rest == f"{user}:{user}"


def test_every_base_is_one_argument_with_a_tag_and_never_the_latest(images):
    [argument] = images.before
    assert re.fullmatch(r"PYTHON=\S+:3\.11[a-z.0-9-]*", argument.rest)
    assert {stage.start for stage in images.stages.values() if stage.start not in images.stages} == {"${PYTHON}"}


def test_what_is_installed_is_locked_by_hash_and_never_compiled_from_source(images):
    runs = [each.rest for stage in images.stages.values() for each in stage.of("RUN")]
    installs = [run for run in runs if "pip install" in run or "pip wheel" in run]
    from_lock = [run for run in installs if "--requirement" in run]
    assert len(from_lock) == 5
    for run in from_lock:
        assert "--require-hashes --only-binary :all: --no-deps" in run
    for run in set(installs) - set(from_lock):  # our own wheel, from our own source
        assert "--no-index --no-deps /dist" in run or "--no-deps --no-build-isolation" in run
    assert not [run for run in runs if re.search(r"\b(curl|wget|apt-get|git clone)\b", run)]


def test_what_changes_often_is_copied_after_what_takes_long(images):
    for name in ("platform-packages", "serving-packages"):
        words = [each.rest for each in images.stages[name].instructions if each.word in {"COPY", "RUN"}]
        locked = next(number for number, rest in enumerate(words) if "--require-hashes" in rest)
        ours = next(number for number, rest in enumerate(words) if "--from=wheel" in rest)
        assert locked < ours


def test_no_secret_can_be_given_to_a_build_or_stays_in_an_image(images):
    every = [each for stage in images.stages.values() for each in stage.instructions] + images.before
    told = [each.rest for each in every if each.word in {"ARG", "ENV", "LABEL"}]
    assert [rest for rest in told if re.search("PASSWORD|SECRET|TOKEN|_KEY|://[^/ ]*:[^/ ]*@", rest)] == []


def test_an_image_gets_nothing_but_what_is_copied_by_name(images):
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {line[1:] for line in rules if line.startswith("!")}
    every = [each for stage in images.stages.values() for each in stage.of("COPY")]
    sources = {source for each in every if "--from=" not in each.rest for source in each.arguments[:-1]}
    assert {source.split("/")[0] if source.startswith("requirements") else source for source in sources} == allowed
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_only_the_image_that_trains_on_gpus_holds_pytorch_and_serving_holds_no_dagster(images):
    assert "gpu-packages" in images.needs("gpu")
    assert "gpu-packages" not in images.needs("platform")
    assert images.needs("serving") == {"serving", "base", "serving-packages", "installer", "wheel"}
    assert {"dagster", "mlflow", "torch"} & set(pinned("serving")) == set()
    assert "torch" in pinned("torch")


@pytest.mark.parametrize("lock", LOCKS)
def test_every_lock_agrees_with_what_the_tests_run_with(lock):
    there, tested = pinned(lock), pinned("dev") | pinned("torch-cpu")
    assert there
    differing = {name: version for name, version in there.items() if tested.get(name, version) != version}
    assert differing == {}


def test_what_serves_a_model_needs_nothing_beyond_its_own_lock():
    allowed = {canonicalize_name(name) for name in pinned("serving")}
    beyond = {
        module
        for module, packages in packages_distributions().items()
        if not {canonicalize_name(name) for name in packages} & allowed
    }
    beyond -= {"mlops_assets", *sys.stdlib_module_names}
    assert {"dagster", "mlflow", "evidently", "sqlalchemy"} <= beyond
    program = f"""
import sys
class Beyond:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {beyond!r}:
            raise ImportError(name + " is not in requirements/serving.txt")
sys.meta_path.insert(0, Beyond())
import mlops_assets.serving.rehearsal
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=os.environ)


# ---- the two commands that take the place of Dagster's


@pytest.fixture
def commands(tmp_path):
    """A function that runs one of the image's commands and says what it started: every program is a stand-in."""
    for name in ("mlops-assets", "dagster-daemon", "dagster-webserver"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "{name} $*"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def run(name: str, *arguments: str, **environment: str) -> str:
        path = {"PATH": f"{tmp_path}:/usr/bin:/bin", "DAGSTER_BIN": str(tmp_path)}
        command = [str(DOCKER / "bin" / name), *arguments]
        return subprocess.run(command, env={**path, **environment}, capture_output=True, text=True, check=True).stdout

    return run


def test_the_daemon_of_the_chart_is_the_one_that_holds_the_lease(commands):
    assert commands("dagster-daemon", "run", "-w", "/dagster-workspace/workspace.yaml") == (
        "mlops-assets daemon -w /dagster-workspace/workspace.yaml\n"
    )
    assert commands("dagster-daemon", "liveness-check") == "dagster-daemon liveness-check\n"


def test_the_web_server_that_launches_knows_who_is_logged_in_where_a_proxy_says_so(commands):
    asked = ("dagster-webserver", "-h", "0.0.0.0", "-p", "3000", "-w", "workspace.yaml")  # noqa: S104
    known = commands(*asked, MLOPS_PROXY_HEADER="X-Forwarded-Email")
    assert known == "mlops-assets webserver -h 0.0.0.0 -p 3000 -w workspace.yaml\n"
    assert commands(*asked).startswith("dagster-webserver -h")
    assert commands(*asked, "--read-only", MLOPS_PROXY_HEADER="X-Forwarded-Email").startswith("dagster-webserver -h")


def test_the_commands_of_the_image_take_what_the_chart_gives_them():
    commands = get_command(app).commands
    flags = {name: {flag for each in commands[name].params for flag in each.opts} for name in ("daemon", "webserver")}
    assert "-w" in flags["daemon"]
    assert {"-h", "-p", "-w"} <= flags["webserver"]
