"""Terraform for EKS: what it asks for agrees with what steps and charts expect, and it is tested with a mocked AWS."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "terraform" / "eks"
WRITTEN = "\n".join(path.read_text() for path in sorted(FOLDER.glob("*.tf")))
PLUGINS = [Path(folder) for folder in ("/opt/tf-plugins", os.environ.get("TF_PLUGIN_DIR", "")) if folder]


def test_every_pool_of_the_cluster_model_has_machines_and_no_other_has():
    pools = yaml.safe_load((ROOT / "deploy" / "cluster-model" / "eks.yaml").read_text())["pools"]
    declared = re.search(r'variable "pools".*?default = \{\n(.*?)\n  \}', WRITTEN, re.DOTALL).group(1)
    assert set(re.findall(r"^\s+([\w-]+)\s+= \{", declared, re.MULTILINE)) == {pool["name"] for pool in pools}


def test_labels_of_pools_name_entries_of_the_device_plugin_that_there_are():
    said = (ROOT / "deploy" / "gpu" / "device-plugin.yaml").read_text()
    entries = set(re.findall(r"^  ([\w-]+): \|", said, re.MULTILINE))
    named = set(re.findall(r'"nvidia\.com/device-plugin\.config" = "([\w-]+)"', WRITTEN))
    assert named
    assert named <= entries


def test_every_service_account_of_the_charts_has_a_role_and_no_other_has():
    values = yaml.safe_load((ROOT / "deploy" / "helm" / "mlops-platform" / "values-eks.yaml").read_text())
    arns = {name: each["eks.amazonaws.com/role-arn"] for name, each in values["identities"].items()}
    roles = dict(re.findall(r"(\w+)\s+= \{ accounts = \[([^\]]*)\]", WRITTEN))
    trusted = {account: role for role, accounts in roles.items() for account in re.findall(r'"([\w-]+)"', accounts)}
    assert {name: arn.rpartition("/mlops-")[2] for name, arn in arns.items()} == trusted


def test_every_bucket_is_encrypted_versioned_closed_and_cleared_of_cut_off_uploads():
    per_bucket = re.findall(r'resource "(aws_s3_bucket_\w+)" "this" \{\n  for_each = local\.buckets', WRITTEN)
    assert {name.removeprefix("aws_s3_bucket_") for name in per_bucket} == {
        "versioning",
        "server_side_encryption_configuration",
        "public_access_block",
        "lifecycle_configuration",
    }
    assert "abort_incomplete_multipart_upload" in WRITTEN


def test_nothing_allows_everything_and_nothing_holds_a_password():
    assert not re.search(r'"[\w-]+:\*"|actions\s+= \["\*"\]|resources\s+= \["\*"\]', WRITTEN)
    assert not re.search(r'(?i)(password|secret)\w*\s*=\s*"', WRITTEN)


@pytest.fixture(scope="module")
def initialised(tmp_path_factory):
    """The folder in a place of its own, with the provider; or why that cannot be had here."""
    if not os.environ.get("MLOPS_DEPLOY_CHECK"):
        pytest.skip("half a minute: `make deploy-check` runs it")
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not on this machine")
    plugins = next((folder for folder in PLUGINS if list(folder.rglob("terraform-provider-aws*"))), None)
    if plugins is None:
        pytest.skip(f"no AWS provider of Terraform in {', '.join(map(str, PLUGINS))}; set TF_PLUGIN_DIR")
    folder = tmp_path_factory.mktemp("terraform") / "deploy"
    for part in ("terraform", "cluster-model"):
        shutil.copytree(ROOT / "deploy" / part, folder / part, ignore=shutil.ignore_patterns(".terraform*"))
    ran = terraform(folder / "terraform" / "eks", "init", "-backend=false", f"-plugin-dir={plugins}")
    assert ran.returncode == 0, ran.stderr
    return folder / "terraform" / "eks"


def terraform(folder, *arguments):
    return subprocess.run(
        ["terraform", *arguments, *(["-no-color"] if arguments[0] != "fmt" else [])],
        cwd=folder, env=os.environ | {"TF_CLI_CONFIG_FILE": os.devnull}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_terraform_finds_it_valid_and_well_written(initialised):
    assert terraform(initialised, "validate").returncode == 0
    assert terraform(initialised, "fmt", "-check", "-recursive").stdout == ""


def test_terraform_would_ask_for_what_the_tests_beside_it_say(initialised):
    ran = terraform(initialised, "test")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^Success! [1-9]\d* passed, 0 failed", ran.stdout, re.MULTILINE)


def test_terraform_tells_of_a_node_that_takes_what_it_should_not(initialised, tmp_path):
    """The positive control: a GPU pool whose taint was forgotten."""
    broken = tmp_path / "deploy"
    shutil.copytree(initialised.parents[1], broken, symlinks=True)
    model = broken / "cluster-model" / "eks.yaml"
    model.write_text(re.sub(r"    taints:\n      - \{ key: nvidia.com/gpu[^\n]*\n", "", model.read_text(), count=1))
    ran = terraform(broken / "terraform" / "eks", "test", "-filter=tests/shape.tftest.hcl")
    assert ran.returncode != 0
    assert 'run "every_pool_is_a_node_group"... fail' in ran.stdout
