"""Row 43: a lock with a package that is not pinned, has no hash, is misspelt, badly licensed, or at fault."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from mlops_assets import supply_chain
from mlops_assets.cli import app
from mlops_assets.supply_chain import Pin, SupplyChainError, audit, distance, known_faults, near, pins, unlicensed

pytestmark = pytest.mark.fault(43)
ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
HASH = f"--hash=sha256:{'0' * 64}"
SAMPLE = {
    "id": "PYSEC-0000-1",
    "summary": "A poisoned file runs a command.",
    "affected": [
        {
            "package": {"name": "Shop_Tools", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "1.2"}, {"fixed": "1.4"}]}],
            "versions": ["0.9"],
        }
    ],
}


def line(name, version="1.0", hashed=HASH):
    return f"{name}=={version} \\\n    {hashed}\n    # via nobody\n"


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_package_that_we_lock_is_pinned_hashed_licensed_and_the_one_that_was_meant(path, record_figure):
    found = audit(path.read_text(), supply_chain.declared_here(), [SAMPLE])
    record_figure(lock=path.name, locked=found.locked, audited=found.audited, faults=len(found.faults))
    assert found.faults == ()
    assert found.audited == found.locked == len(re.findall(r"(?m)^[A-Za-z0-9]", path.read_text()))
    assert found.is_proof


def test_what_is_planted_in_a_lock_is_found_each_for_what_it_is(record_figure):
    planted = {
        "good": line("shop-good"),
        "unpinned": f"shop-loose>=1 \\\n    {HASH}\n",
        "unhashed": "shop-bare==1.0\n",
        "misspelt": line("pandsa"),
        "faulty": line("shop-tools", "1.3"),
    }
    found = audit("".join(planted.values()), ["pandas>=2"], [SAMPLE], installed=[])
    said = " ".join(found.faults)
    assert len(found.faults) == 4
    for wrong in ("shop-loose is not pinned", "shop-bare==1.0 has no hash", "pandsa is called nearly like pandas"):
        assert wrong in said
    assert "shop-tools==1.3: PYSEC-0000-1: A poisoned file" in said
    assert "shop-good" not in said
    record_figure(planted=4, found=len(found.faults), false_alarms=0)


@pytest.mark.parametrize(
    ("version", "faulty"),
    [("0.8", False), ("0.9", True), ("1.1", False), ("1.2", True), ("1.3.9", True), ("1.4", False), ("1.4rc1", True)],
)
def test_a_version_is_at_fault_from_where_it_came_in_to_where_it_was_mended(version, faulty):
    assert bool(list(known_faults(Pin("shop-tools", version, 1), [SAMPLE]))) is faulty


def test_an_advisory_of_another_ecosystem_or_of_another_name_says_nothing():
    other = json.loads(json.dumps(SAMPLE))
    other["affected"][0]["package"]["ecosystem"] = "npm"
    assert not list(known_faults(Pin("shop-tools", "1.3", 1), [other]))
    assert not list(known_faults(Pin("shop", "1.3", 1), [SAMPLE]))


def test_a_last_affected_version_is_the_last():
    last = json.loads(json.dumps(SAMPLE))
    last["affected"][0]["ranges"][0]["events"] = [{"introduced": "0"}, {"last_affected": "2.0"}]
    last["affected"][0]["versions"] = []
    told = [bool(list(known_faults(Pin("shop-tools", version, 1), [last]))) for version in ("2.0", "2.0.1")]
    assert told == [True, False]


@pytest.mark.parametrize(
    ("metadata", "classifiers", "fine"),
    [
        ({"License-Expression": "MIT"}, [], True),
        ({"License": "Apache License 2.0"}, [], True),
        ({}, ["License :: OSI Approved :: BSD License"], True),
        ({"License": "GPL-3.0-only"}, [], False),
        ({"License-Expression": "AGPL-3.0-or-later"}, [], False),
        ({}, [], False),
    ],
)
def test_a_licence_is_let_in_by_its_name_and_a_silent_package_is_not(metadata, classifiers, fine):
    assert (unlicensed("shop", metadata, classifiers) is None) is fine


@pytest.mark.parametrize(
    ("one", "other", "letters"),
    [
        ("pandas", "pandas", 0),
        ("pandas", "panda", 1),
        ("pandas", "pandsa", 1),
        ("numpy", "numpi", 1),
        ("abc", "xyz", 3),
    ],
)
def test_names_are_as_far_apart_as_the_letters_that_differ(one, other, letters):
    assert distance(one, other) == distance(other, one) == letters


@given(st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_only_the_same_name_is_no_letter_away(one, other):
    assert (distance(one, other) == 0) == (one == other)
    assert distance(one, other) <= max(len(one), len(other))


def test_a_package_that_was_declared_is_never_taken_for_a_misspelt_one():
    assert not list(near(["dagster", "Dagster"], ["dagster"]))


@pytest.mark.parametrize("text", ["", "# nothing\n", "--index-url x\n"])
def test_a_lock_that_names_nothing_was_not_examined(text):
    with pytest.raises(SupplyChainError, match="names no package"):
        pins(text)


@pytest.mark.parametrize("content", ["", "{}", "[]", '[{"id": "x"}]'])
def test_a_file_that_is_no_advisory_is_no_audit(tmp_path, content):
    path = tmp_path / "osv.json"
    path.write_text(content)
    with pytest.raises(SupplyChainError):
        supply_chain.advisories(path)


def told(*arguments):
    return CliRunner().invoke(app, ["supply-chain", *arguments])


def test_the_command_is_never_green_without_advisories_and_says_so(tmp_path, record_figure):
    silent = told()
    assert silent.exit_code == 2
    assert "No advisories were given: none of them was audited" in " ".join(silent.output.split())
    (tmp_path / "osv.json").write_text(json.dumps(SAMPLE))
    assert told("--advisories", str(tmp_path)).exit_code == 0
    lock = tmp_path / "lock.txt"
    lock.write_text(line("shop-tools", "1.3"))
    faulty = told("--advisories", str(tmp_path), "--lock", str(lock))
    assert (faulty.exit_code, "PYSEC-0000-1" in faulty.output) == (1, True)
    assert told("--advisories", str(tmp_path / "none.json")).exit_code == 1
    record_figure(looks_without_advisories=1, called_green=int(silent.exit_code == 0))


def test_what_is_installed_in_another_version_than_was_locked_is_named():
    text = (ROOT / "requirements" / "runtime.txt").read_text()
    changed = re.sub(r"(?m)^pydantic==\S+", "pydantic==0.0.1", text)
    found = audit(changed, supply_chain.declared_here(), None)
    assert [fault for fault in found.faults if fault.startswith("pydantic is locked as 0.0.1")]
    assert not found.is_proof
