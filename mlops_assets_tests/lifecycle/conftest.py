"""Where the tests of several stages begin: the toy model as declared, so far on the way to serving."""

import pytest

from mlops_assets_tests.lifecycle.stages import run, validated

STAGES = ("trained_model", "evaluation_report", "registered_version", "champion")


def train(shop):
    assert run(validated(shop), *STAGES[:1]).success


def judge(shop):
    assert run(validated(shop), *STAGES[:2]).success


def register(shop):
    assert run(validated(shop), *STAGES[:3]).success


def release(shop):
    assert run(validated(shop), *STAGES).success


@pytest.fixture
def trained(lives):
    """A workshop with a candidate of three months that nobody has judged."""
    with lives.begun(train) as shop:
        yield shop


@pytest.fixture
def judged(lives):
    """A workshop with a candidate that clears its gates."""
    with lives.begun(judge) as shop:
        yield shop


@pytest.fixture
def registered(lives):
    """A workshop with a version, and no champion."""
    with lives.begun(register) as shop:
        yield shop


@pytest.fixture
def released(lives):
    """A workshop whose first version is champion."""
    with lives.begun(release) as shop:
        yield shop
