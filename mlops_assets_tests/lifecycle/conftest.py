"""Where the tests of several stages begin: the toy model as declared, so far on the way to serving."""

import pytest

from mlops_assets_tests.lifecycle.stages import LIFE


@pytest.fixture(autouse=True)
def without_asking_again(monkeypatch):
    """An MLflow that is away in these tests is away for good: nobody waits for it."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture
def trained(lives):
    """A workshop with a candidate of three months that nobody has judged."""
    with lives.begun(*LIFE[:1]) as shop:
        yield shop


@pytest.fixture
def judged(lives):
    """A workshop with a candidate that clears its gates."""
    with lives.begun(*LIFE[:2]) as shop:
        yield shop


@pytest.fixture
def registered(lives):
    """A workshop with a version, and no champion."""
    with lives.begun(*LIFE[:3]) as shop:
        yield shop


@pytest.fixture
def released(lives):
    """A workshop whose first version is champion."""
    with lives.begun(*LIFE) as shop:
        yield shop
