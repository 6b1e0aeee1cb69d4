"""What is said of a version that was built anew: when it counts as the same, and who is suspected first."""

from __future__ import annotations

import importlib.metadata

import pytest

from mlops_assets.ml.reproduction import (
    SEED,
    Cause,
    Rebuilt,
    Reproduction,
    causes_of,
    environment_causes,
    environment_now,
    pins,
    same_metrics,
    unpinned,
)
from mlops_assets_tests.evidence import candidate

LOCK = """\
# by make lock
numpy==2.4.1 ; python_full_version < '3.12' \\
    --hash=sha256:00
numpy==2.4.6 ; python_full_version >= '3.12' \\
    --hash=sha256:01
moto[server]==5.1.0 \\
    --hash=sha256:02
    # via numpy==1.0
"""


def rebuilt(**changes) -> Rebuilt:
    told = {"model_sha256": "0", "code": "0", "environment": {}, "contents": {}, "metrics": {}, "fitted_rows": 1}
    return Rebuilt.model_validate({**told, **changes})


@pytest.mark.parametrize(
    ("now", "same"),
    [
        ({"mae": 3.0}, True),
        ({"mae": 3.0 * (1 + 0.9e-6)}, True),
        ({"mae": 3.0 * (1 + 1.1e-6)}, False),
        ({"mae": float("nan")}, False),
        ({"rmse": 3.0}, False),
        ({}, False),
    ],
)
def test_metrics_are_the_same_within_the_tolerance_and_not_beyond_it(now, same):
    beside, found = same_metrics({"mae": 3.0}, now, 1e-6)
    assert found is same
    assert beside["mae"][0] == 3.0


def test_a_metric_of_zero_is_the_same_only_where_it_is_about_zero():
    assert same_metrics({"bias": 0.0}, {"bias": 0.9e-9}, 1e-6)[1]
    assert not same_metrics({"bias": 0.0}, {"bias": 1.1e-9}, 1e-6)[1]


def test_a_report_without_metrics_proves_nothing():
    assert same_metrics({}, {"mae": 3.0}, 1e-6) == ({}, False)


def test_a_lock_may_allow_several_versions_of_a_package():
    assert pins(LOCK) == {"numpy": {"2.4.1", "2.4.6"}, "moto": {"5.1.0"}}


def test_packages_beyond_the_lock_are_named_and_those_not_installed_are_not():
    here = importlib.metadata.version("numpy")
    assert unpinned(f"numpy=={here}\nno-such-package==1.0\n") == {}
    assert unpinned("numpy==1.26.0\n") == {"numpy": f"1.26.0 -> {here}"}


def test_an_environment_is_told_by_python_machine_packages_and_the_rest_of_the_lock():
    recorded = {"python": "3.9.1", "machine": "riscv64", "numpy": "1.26.0", "gone": "1.0", "pandas": "2.3.3"}
    now = {"python": "3.11.2", "machine": "x86_64", "numpy": "2.4.6", "gone": "not installed", "pandas": "2.3.3"}
    found = environment_causes(recorded, now, {"numpy": "1.26.0 -> 2.4.6", "scipy": "1.0 -> 1.1"})
    assert list(map(str, found)) == [
        "python: Python 3.9.1 -> 3.11.2.",
        "machine: the machine is riscv64 -> x86_64.",
        "packages: different environment: numpy 1.26.0 -> 2.4.6, gone 1.0 -> not installed.",
        "lock: different environment: scipy 1.0 -> 1.1.",
    ]
    assert environment_causes(recorded, recorded, {}) == []


def test_the_environment_of_now_answers_for_each_recorded_name():
    found = environment_now({"python": "", "machine": "", "numpy": "", "no-such-package": ""})
    assert found["numpy"] == importlib.metadata.version("numpy")
    assert found["no-such-package"] == "not installed"
    assert found["python"].startswith("3.")


def test_what_is_to_blame_is_told_in_the_order_in_which_to_look():
    manifest = candidate().manifest.model_copy(update={"contents": {"a": "1", "b": "2"}})
    settings = {"estimator__random_state": ("7", "8"), "estimator__depth": ("4", "5")}
    found = causes_of(
        manifest,
        rebuilt(contents={"a": "1", "b": "3"}, settings=settings),
        [Cause(suspect="code", says="other.")],
    )
    assert [cause.suspect for cause in found] == ["code", "seed", "parameters", "table files"]
    assert found[-1].says == "the same raw bytes gave other rows for b."


def test_where_nothing_differs_fitting_itself_is_suspected():
    manifest = candidate().manifest.model_copy(update={"contents": {}})
    assert [cause.suspect for cause in causes_of(manifest, rebuilt(), [])] == ["unknown"]


@pytest.mark.parametrize(
    ("name", "is_seed"),
    [("random_state", True), ("estimator__random_state", True), ("estimator__max_depth", False)],
)
def test_a_seed_is_known_by_its_name(name, is_seed):
    assert bool(SEED.fullmatch(name)) is is_seed


@pytest.mark.parametrize(
    ("verdict", "says", "equal"),
    [
        ("equal digest", "toy v1 was built anew with an equal digest: aaaa.", True),
        ("equal metrics", "is the same within 1e-06 of its size", True),
        ("different", "toy v1 is different: code: other.", False),
    ],
)
def test_the_sentence_says_the_verdict(verdict, says, equal):
    causes = (Cause(suspect="code", says="other."),)
    found = Reproduction(model="toy", version=1, verdict=verdict, expected="aaaa", found="b", causes=causes)
    assert says in found.sentence
    assert found.is_equal is equal
