"""An installed wheel works as well as a checkout."""

import json
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mlops_assets
from mlops_assets.definitions import defs

ROOT = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
OFFLINE = ["--no-deps", "--no-index"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The project as a wheel, built from this checkout without a package index."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([*PIP, "wheel", *OFFLINE, "--no-build-isolation", "--wheel-dir", folder, ROOT], check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The Python of a fresh environment that holds the wheel, and sees this one's libraries but not the checkout."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    subprocess.run([*PIP, "--python", python, "install", *OFFLINE, wheel], check=True)
    libraries = next(environment.glob("lib/python*/site-packages")) / "libraries.pth"
    libraries.write_text(sysconfig.get_path("purelib"))
    return python


def test_the_wheel_holds_the_package_with_its_data_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names} == {"mlops_assets", f"{wheel.name.split('-py3')[0]}.dist-info"}
    data = ["pyproject.toml", "dagster.yaml", "requirements.txt", "compute/profiles.yaml"]
    models = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("mlops_assets/defs/models/*/defs.yaml")}
    assert models
    assert {f"mlops_assets/{name}" for name in data} | models <= names


def test_definitions_load_from_the_wheel_as_from_the_checkout_and_the_instance_is_prepared(installed, tmp_path):
    program = """
import json, mlops_assets
from mlops_assets.definitions import defs
from mlops_assets.instance import prepare
keys = [key.to_user_string() for key in defs().resolve_asset_graph().get_all_asset_keys()]
print(json.dumps([mlops_assets.__file__, keys, (prepare("home") / "dagster.yaml").read_text()]))
"""
    elsewhere = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    finished = subprocess.run([installed, "-c", program], cwd=tmp_path, env=elsewhere, capture_output=True, check=True)
    file, keys, configuration = json.loads(finished.stdout)
    assert file.startswith(str(installed.parents[1]))
    assert mlops_assets.__file__.startswith(str(ROOT))
    assert {*keys} == {key.to_user_string() for key in defs().resolve_asset_graph().get_all_asset_keys()} != set()
    assert configuration.startswith((ROOT / "dagster.yaml").read_text())


def test_the_command_is_installed(installed):
    finished = subprocess.run([installed.with_name("mlops-assets"), "--help"], capture_output=True, check=True)
    assert b"demo" in finished.stdout


def locked(name: str) -> dict[str, str]:
    """The version of each package in a requirements file, of which every entry has to be a pin with hashes."""
    text = re.sub(r"^ *#.*\n", "", (ROOT / "requirements" / name).read_text(), flags=re.MULTILINE)
    entries = re.split(r"\n(?=\S)", text.strip())
    pattern = re.compile(r"([a-z0-9._-]+)(?:\[[a-z,]+\])?==(\S+)(?: ; [^\\]+)?(?: \\\n    --hash=sha256:[0-9a-f]{64})+")
    pins = [pattern.fullmatch(entry) for entry in entries]
    assert None not in pins, entries[pins.index(None)]
    return {canonicalize_name(pin[1]): pin[2] for pin in pins if pin}


def test_the_lock_pins_by_hash_what_the_project_declares_and_is_what_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime, dev = locked("runtime.txt"), locked("dev.txt")
    needed = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["postgres"]]
    tools = project["dependency-groups"]["dev"]
    for requirement in map(Requirement, needed + tools):
        pinned = dev[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pinned), f"{requirement} is not {pinned}: run make lock"
        assert version(requirement.name) == pinned
    assert runtime.items() <= dev.items()
    assert {canonicalize_name(Requirement(each).name) for each in needed} <= set(runtime)
