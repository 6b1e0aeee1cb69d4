import pytest

from mlops_assets.doctor.examination import examine
from mlops_assets_tests.doctor.writing import found, marked, write

LOOSE = """
    -r other.txt
    numpy==2.4.6
    dagster>=1.13  # <-
    pandas
    """
HASHED = "dagster==1.13.27 \\\n    --hash=sha256:00\nnumpy==2.4.6 \\\n    --hash=sha256:11\n"


def places(tmp_path, files: dict[str, str], *, without: tuple[str, ...] = ("uv.lock",)) -> list[str]:
    write(tmp_path, files)
    for path in without:
        (tmp_path / path).unlink()
    return [
        f"{each.found.path}:{each.found.line}" for each in examine(tmp_path).findings if each.rule.name == "unpinned"
    ]


def test_a_declaration_without_a_lock_is_found(tmp_path):
    assert places(tmp_path, {}) == ["pyproject.toml:4"]


@pytest.mark.parametrize("lock", ["uv.lock", "poetry.lock", "pdm.lock", "pylock.toml", "Pipfile.lock"])
def test_any_lock_will_do(tmp_path, lock):
    assert places(tmp_path, {lock: ""}, without=()) == []


@pytest.mark.parametrize("path", ["requirements.txt", "requirements/runtime.txt", "requirements-lock.txt"])
def test_requirements_with_hashes_are_a_lock(tmp_path, path):
    assert places(tmp_path, {path: HASHED}) == []


def test_requirements_without_exact_versions_are_found_once_a_file(tmp_path):
    files = {
        "requirements.txt": LOOSE,
        "small/exact-requirements.txt": "dagster==1.13.27\npandas == 2.3.3 ; python_version > '3'\n-e .\n",
    }
    assert places(tmp_path, files, without=("uv.lock", "pyproject.toml")) == ["requirements.txt:3"]


def test_a_lock_covers_what_lies_below_it_only(tmp_path):
    files = {
        "a/pyproject.toml": '[project]\ndependencies = ["dagster"]\n',
        "b/requirements.txt": LOOSE,
        "b/uv.lock": "",
    }
    assert places(tmp_path, files, without=("uv.lock", "pyproject.toml")) == ["a/pyproject.toml:2"]


def test_a_library_that_does_not_need_dagster_is_not(tmp_path):
    assert places(tmp_path, {"lib/pyproject.toml": '[project]\ndependencies = ["numpy"]\n'}, without=()) == []


def test_a_project_that_states_nothing_is_found(tmp_path):
    files = {"small/assets.py": "import dagster as dg\n\n@dg.asset\ndef rows(): ...\n"}
    assert places(tmp_path, files, without=("uv.lock", "pyproject.toml")) == ["small/assets.py:1"]


def test_an_image_whose_tag_can_move_is_found(tmp_path):
    files = {
        "Dockerfile": """
            ARG BASE=python:3.12-slim
            FROM python:latest AS build
            FROM ${BASE} AS run
            FROM build
            FROM ${UNKNOWN}
            FROM scratch
            FROM --platform=linux/amd64 python:3.12.8-slim@sha256:00aa
            """,
        "docker/train.Dockerfile": "FROM registry.example:5000/base\n",
        "docker/Dockerfile.gpu": "FROM nvidia/cuda:12.4.1-base\n",
    }
    images = ["Dockerfile:2", "Dockerfile:3", "docker/Dockerfile.gpu:1", "docker/train.Dockerfile:1"]
    assert found(tmp_path, files) == [("unpinned", place) for place in images]


def test_marked_lines_agree_with_the_file(tmp_path):
    assert marked("unpinned", {"requirements.txt": LOOSE}) == [("unpinned", "requirements.txt:3")]
