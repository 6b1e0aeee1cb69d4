"""The digest of code: it changes with any byte of a named source, and with nothing else; nothing is run for it."""

import sys
from functools import cache
from io import BytesIO
from zipfile import ZipFile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.ml.code import (
    BadArchiveError,
    archive,
    code_version,
    digest_of_archive,
    digest_of_files,
    own_modules,
    source_file,
)
from mlops_assets_tests import toy


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes a module that must not be imported, and gives its name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name, body):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit  # {body}\n")
        return name

    return write


def test_a_module_is_found_without_being_run(written, tmp_path):
    assert source_file(written("never_run", "one")) == tmp_path / "never_run.py"
    assert "never_run" not in sys.modules


def test_a_module_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"^there is no module 'mlops_assets\.nowhere'\.$"):
        source_file("mlops_assets.nowhere")


def test_the_version_follows_the_declared_values_and_the_sources(written):
    names = [written("one", "a"), written("two", "b")]
    before = code_version({"seed": 1}, names)
    assert code_version({"seed": 1}, reversed(names)) == before
    assert code_version({"seed": 2}, names) != before
    assert code_version({"seed": 1}, names[:1]) != before
    written("two", "c")
    assert code_version({"seed": 1}, names) != before
    written("two", "b")
    assert code_version({"seed": 1}, names) == before


def test_files_that_change_places_have_another_digest(tmp_path):
    one, two = tmp_path / "1", tmp_path / "2"
    one.write_bytes(b"one")
    two.write_bytes(b"two")
    assert digest_of_files({"a": one, "b": two}) == digest_of_files({"b": two, "a": one})
    assert digest_of_files({"a": one, "b": two}) != digest_of_files({"a": two, "b": one})


def test_a_models_own_modules_are_its_contracts_and_its_functions():
    steps = [{"path": "mlops_assets_tests.ml.test_features.ratio"}, {"calendar": ["hour"]}]
    assert own_modules(toy.spec("landing", features=steps)) == [
        "mlops_assets_tests.toy",
        "mlops_assets_tests.ml.test_features",
    ]


@cache
def archived() -> tuple[bytes, str]:
    files = {name: source_file(f"mlops_assets.ml.{name}") for name in ("code", "spec", "uris")}
    return archive(files), digest_of_files(files)


def unpacked(content: bytes) -> dict[str, bytes]:
    with ZipFile(BytesIO(content)) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def test_an_archive_is_proven_to_hold_the_files_of_a_digest():
    content, digest = archived()
    assert digest_of_archive(content) == digest
    assert ZipFile(BytesIO(content)).read("code") == source_file("mlops_assets.ml.code").read_bytes()


@given(st.integers(0, 8 * len(archived()[0]) - 1))
def test_a_flipped_bit_anywhere_in_an_archive_changes_no_source_unseen(place):
    content, digest = archived()
    flipped = bytearray(content)
    flipped[place // 8] ^= 1 << place % 8
    try:
        found = digest_of_archive(bytes(flipped))
    except BadArchiveError:
        return
    assert (found == digest) == (unpacked(bytes(flipped)) == unpacked(content))


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_archive_is_said_to_be_none(content):
    with pytest.raises(BadArchiveError):
        digest_of_archive(content)
