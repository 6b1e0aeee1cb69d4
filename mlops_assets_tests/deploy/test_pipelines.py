"""The pipelines: what they are allowed to do, and what their programs do, with stand-ins for docker, helm and so on."""

import importlib.util
import json
import os
import re
import stat
import subprocess

import pytest
import yaml

from mlops_assets_tests.deploy.folder import DEPLOY, ENVIRONMENTS, PROVIDERS, ROOT, read
from mlops_assets_tests.deploy.platform_chart import CHART

CI = DEPLOY / "ci"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
IMAGES = ("platform", "gpu", "serving", "mlflow")
DIGEST = "sha256:" + "ab" * 32
STAND_IN = """#!/bin/sh
printf "%s" "${0##*/}" >> "$SAID"
for each in "$@"; do printf " %s" "$each" >> "$SAID"; done
echo >> "$SAID"
"""


def jobs() -> dict[str, dict]:
    found = [yaml.load(path.read_text(), Loader=yaml.CSafeLoader) for path in WORKFLOWS]
    return {f"{each['name']}/{name}": job for each in found for name, job in each["jobs"].items()}


@pytest.fixture
def machine(tmp_path):
    """A function that runs one of the programs where every other is a stand-in that writes down how it was called."""
    for name in ("docker", "helm", "kubectl", "cosign"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(STAND_IN)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    said = tmp_path / "said"

    def run(program: str, *arguments: str, **environment: str) -> tuple[subprocess.CompletedProcess, list[str]]:
        around = {
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "SAID": str(said),
            "OUT": str(tmp_path / "out"),
            "REGISTRY": "registry.example.com",
            "REVISION": "c0ffee",
        }
        command = [str(CI / program), *arguments]
        ended = subprocess.run(command, cwd=ROOT, env=around | environment, capture_output=True, text=True, check=False)
        return ended, said.read_text().splitlines() if said.exists() else []

    return run


@pytest.fixture(scope="module")
def judge():
    spec = importlib.util.spec_from_file_location("judge", CI / "judge.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- what the pipelines may do


def test_every_action_is_named_by_the_commit_it_is():
    uses = [step["uses"] for job in jobs().values() for step in job["steps"] if "uses" in step]
    assert uses
    assert [each for each in uses if not re.fullmatch(r"actions/(checkout|setup-python)@[0-9a-f]{40}", each)] == []


def test_a_workflow_may_read_and_only_the_one_that_signs_gets_a_token():
    for path in WORKFLOWS:
        assert yaml.load(path.read_text(), Loader=yaml.CSafeLoader)["permissions"] == {"contents": "read"}
    more = {name: job["permissions"] for name, job in jobs().items() if "permissions" in job}
    assert more == {"deliver/images": {"contents": "read", "id-token": "write"}}
    every = [
        step for job in jobs().values() for step in job["steps"] if step.get("uses", "").startswith("actions/checkout")
    ]
    assert [step for step in every if step["with"]["persist-credentials"] is not False] == []


def test_nothing_is_interpolated_into_a_command():
    commands = [step["run"] for job in jobs().values() for step in job["steps"] if "run" in step]
    assert [each for each in commands if "${{" in each] == []


def test_production_comes_after_staging_and_by_the_digests_that_were_scanned():
    prod, staging = jobs()["deliver/prod"], jobs()["deliver/staging"]
    assert prod["needs"] == ["images", "staging"]
    assert prod["env"] == staging["env"]
    assert (prod["environment"], staging["environment"]) == ("prod", "staging")
    gitlab = read("ci/gitlab-ci.yml")
    assert gitlab["prod"]["needs"] == ["images", "staging"]
    assert gitlab["prod"]["rules"][0]["when"] == "manual"


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_built_then_scanned_then_signed_in_both_pipelines(image):
    github = "\n".join(step["run"] for step in jobs()["deliver/images"]["steps"] if "run" in step)
    gitlab = "\n".join(read("ci/gitlab-ci.yml")["images"]["script"])
    for text in (github, gitlab):
        order = [text.index(f"deploy/ci/{program} {image} ") for program in ("build", "scan", "sign")]
        assert order == sorted(order)


def test_both_pipelines_run_the_checks_of_a_persons_machine():
    assert [step.get("run") for step in jobs()["check/check"]["steps"]][-1] == ".ci/run"
    assert read("ci/gitlab-ci.yml")["check"]["script"] == [".ci/run"]


# ---- their programs


def test_an_image_is_built_from_a_base_by_digest_with_its_bill_of_materials(machine):
    base = f"docker.io/library/python@{DIGEST}"
    _, said = machine("build", "platform", "registry.example.com/mlops-assets", PYTHON_IMAGE=base)
    [build] = said
    assert "--target platform" in build
    assert f"--build-arg PYTHON={base}" in build
    assert "--sbom true" in build
    assert "--tag registry.example.com/mlops-assets:c0ffee --push" in build
    ended, said = machine("build", "gpu", "x", PYTHON_IMAGE="docker.io/library/python:3.11")
    assert (ended.returncode, len(said)) == (1, 1)
    assert "has to be a digest" in ended.stderr


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_deployment_names_files_that_are_there_and_images_by_their_digests(machine, environment, provider):
    given = {
        "PLATFORM_DIGEST": DIGEST,
        "MLFLOW_DIGEST": DIGEST,
        "SIGNER": "^https://example",
        "SIGNER_ISSUER": "https://x",
    }
    ended, said = machine("deploy", environment, provider, **given)
    assert ended.returncode == 0, ended.stderr
    assert [line.split()[0] for line in said] == ["cosign", "cosign", "kubectl", "helm", "helm"]
    files = re.findall(r"(?:--values|--filename) (\S+)", " ".join(said))
    assert [path for path in files if not (ROOT / path).exists()] == []
    assert len(files) == 7
    dagster = said[-1]
    assert "--version 1.13.27" in dagster
    for part in ("dagsterWebserver", "dagsterDaemon", "dagster-user-deployments.deployments[0]"):
        assert f"{part}.image.repository=registry.example.com/mlops-assets@sha256" in dagster
        assert f"{part}.image.tag={'ab' * 32}" in dagster


@pytest.mark.parametrize("digest", ["latest", "sha256:abc", "sha256:" + "0" * 64, ""])
def test_nothing_is_deployed_by_what_is_no_digest(machine, digest):
    ended, said = machine(
        "deploy", "prod", "eks", PLATFORM_DIGEST=digest, MLFLOW_DIGEST=DIGEST, SIGNER="x", SIGNER_ISSUER="x"
    )
    assert (ended.returncode, said) == (1, [])
    assert "is no digest of an image" in ended.stderr


def test_the_names_that_a_deployment_sets_are_ones_that_the_charts_have():
    text = (CI / "deploy").read_text()
    ours = read("helm/mlops-platform/values.yaml")
    for name in re.findall(r'--set-string "([a-z.]+)=', text):
        at = ours
        for key in name.split("."):
            at = at[key]
    assert CHART.name in text


# ---- what a scan is worth


def scan(names, *, severity="LOW", fixed="2", licence="MIT"):
    packages = [{"Name": name, "Version": "1"} for name in names]
    found = [
        {
            "VulnerabilityID": "CVE-1",
            "PkgName": "one",
            "InstalledVersion": "1",
            "Severity": severity,
            "FixedVersion": fixed,
        }
    ]
    licences = [{"PkgName": "one", "Name": licence}]
    return {
        "Results": [
            {"Target": "Python", "Class": "lang-pkgs", "Packages": packages, "Vulnerabilities": found},
            {"Target": "Python", "Class": "license", "Licenses": licences},
        ]
    }


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (scan(["one", "Two.b"]), []),
        (scan(["one", "two-b"], severity="HIGH", fixed=""), []),
        (scan(["one", "two-b"], severity="HIGH"), ["CVE-1 in one 1: mended in 2"]),
        (scan(["one", "two-b"], severity="CRITICAL"), ["CVE-1 in one 1: mended in 2"]),
        (scan(["one"]), ["not scanned: 1 of 2 locked packages, such as two-b"]),
        ({}, ["not scanned: 2 of 2 locked packages, such as one"]),
        (scan(["one", "two-b"], licence="AGPL-3.0"), ["one: licence AGPL-3.0"]),
        (scan(["one", "two-b"], licence="GPL-2.0-only"), ["one: licence GPL-2.0-only"]),
        (scan(["one", "two-b"], licence="LGPL-3.0"), []),
    ],
)
def test_an_image_passes_only_a_scan_that_looked_at_all_of_it_and_found_nothing_that_can_be_mended(judge, found, said):
    assert judge.refusals(found, {"one", "two-b"}) == said


@pytest.mark.parametrize("image", IMAGES)
def test_a_scan_is_held_against_the_locks_of_its_image(judge, image, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(ROOT)
    pins = judge.pinned(CI / "locks" / image)
    assert len(pins) > 20
    whole = tmp_path / "scan.json"
    whole.write_text(json.dumps(scan(sorted(pins))))
    assert judge.main(str(whole), str(CI / "locks" / image)) == 0
    whole.write_text(json.dumps({"Results": []}))
    assert judge.main(str(whole), str(CI / "locks" / image)) == 1
    assert "not scanned" in capsys.readouterr().out
