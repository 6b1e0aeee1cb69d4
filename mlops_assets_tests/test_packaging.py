"""An installed wheel works as well as a checkout."""

import json
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

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


def test_definitions_load_from_the_wheel_as_from_the_checkout(installed, tmp_path):
    program = """
import json, mlops_assets
from mlops_assets.definitions import defs
keys = sorted(key.to_user_string() for key in defs().resolve_asset_graph().get_all_asset_keys())
print(json.dumps([mlops_assets.__file__, keys]))
"""
    there, here = (
        json.loads(subprocess.run([python, "-c", program], cwd=folder, capture_output=True, check=True).stdout)
        for python, folder in ((installed, tmp_path), (sys.executable, ROOT))
    )
    assert there[0].startswith(str(installed.parents[1]))
    assert here[0].startswith(str(ROOT))
    assert there[1] == here[1] != []


def test_the_instance_is_prepared_from_the_wheel(installed, tmp_path):
    program = "from mlops_assets.instance import prepare; print((prepare('home') / 'dagster.yaml').read_text())"
    elsewhere = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    finished = subprocess.run([installed, "-c", program], cwd=tmp_path, env=elsewhere, capture_output=True, check=True)
    assert finished.stdout.decode().strip() == (ROOT / "dagster.yaml").read_text().strip()


def test_the_command_is_installed(installed):
    finished = subprocess.run([installed.with_name("mlops-assets"), "--help"], capture_output=True, check=True)
    assert b"demo" in finished.stdout
