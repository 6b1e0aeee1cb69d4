"""A clean room: what its process is given of the caller's environment, and how a recorded environment is installed."""

from __future__ import annotations

import sys
from zipfile import ZipFile

import pytest

from mlops_assets.ml.code import archive, as_files, digest_of_archive, roots
from mlops_assets.resources.cleanroom import NoEnvironmentError, Room, interpreter
from mlops_assets_tests import toy

RELEASE = "{}.{}".format(*sys.version_info)


@pytest.fixture
def room(tmp_path) -> Room:
    return Room(tmp_path)


def test_nothing_of_the_caller_is_handed_over(room, monkeypatch):
    for name in ("DATABASE_PASSWORD", "AWS_SECRET_ACCESS_KEY", "MLOPS_HOME", "DAGSTER_HOME", "PYTHONSTARTUP"):
        monkeypatch.setenv(name, "secret")
    found = room.environment(str(room.path / "home"), ("/elsewhere",), 3)
    assert "secret" not in found.values()
    assert {"OMP_NUM_THREADS": "3", "PYTHONHASHSEED": "0", "DO_NOT_TRACK": "true"}.items() <= found.items()
    assert found["PYTHONPATH"] == f"{room.path}/source:/elsewhere"
    assert found["HOME"].startswith(str(room.path))
    assert found["TMPDIR"].startswith(str(room.path))
    assert "OMP_NUM_THREADS" not in room.environment("/home")


def test_the_way_to_a_remote_storage_is_handed_over_where_there_is_one(room, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("DATABASE_PASSWORD", "secret")
    found = room.environment("s3://bucket/home")
    assert [name for name, value in found.items() if value == "secret"] == ["AWS_SECRET_ACCESS_KEY"]


def test_a_lock_is_installed_as_it_is(room):
    make, install = room.plan("/usr/bin/python3")
    assert make == ("/usr/bin/python3", "-m", "venv", f"{room.path}/environment")
    assert install[0] == f"{room.path}/environment/bin/python"
    assert {"--require-hashes", "--no-deps", "--only-binary"} <= set(install)
    assert install[-2:] == ("--requirement", f"{room.path}/lock.txt")


def test_a_lock_that_cannot_be_installed_is_said(room):
    with pytest.raises(NoEnvironmentError, match=r"^The recorded environment cannot be installed: .*hash"):
        room.install(b"numpy==2.4.6\n", f"{RELEASE}.0")


def test_the_interpreter_is_of_the_recorded_release():
    assert interpreter(f"{RELEASE}.99") == sys.executable
    with pytest.raises(NoEnvironmentError, match=r"needs Python 3\.1, and there is no python3\.1 here"):
        interpreter("3.1.4")


def test_an_archive_is_laid_out_as_python_looks_for_it(tmp_path):
    source = tmp_path / "source.py"
    source.write_text("ANSWER = 42\n")
    names = ["__init__.py", "ml/code.py", "mlops_assets_tests.toy", "shop", "rules.of.shop", "rules.of"]
    content = archive(dict.fromkeys(names, source))
    found = as_files(content)
    assert set(found) == {
        "mlops_assets/__init__.py",
        "mlops_assets/ml/code.py",
        "mlops_assets_tests/__init__.py",
        "mlops_assets_tests/toy.py",
        "shop.py",
        "rules/__init__.py",
        "rules/of/__init__.py",
        "rules/of/shop.py",
    }
    assert found["rules/of/__init__.py"] == found["mlops_assets/ml/code.py"] == b"ANSWER = 42\n"
    assert str(tmp_path).encode() not in found["mlops_assets_tests/__init__.py"]
    assert b"mlops_assets_tests" in found["mlops_assets_tests/__init__.py"]
    with ZipFile(tmp_path / "again.zip", "w") as again:
        for name in names:
            again.writestr(name, "ANSWER = 42\n")
    assert digest_of_archive((tmp_path / "again.zip").read_bytes()) == digest_of_archive(content)


def test_modules_are_imported_from_where_they_are(tmp_path, monkeypatch):
    (tmp_path / "lonely.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    [repository] = roots([toy.__name__])
    assert roots(["lonely", toy.__name__, toy.__name__, "sklearn.base"]) == [str(tmp_path), repository]
