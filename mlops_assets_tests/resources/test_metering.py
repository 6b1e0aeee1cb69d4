"""Metering: peaks of memory, cores and a card's memory while something runs, and nothing of what was before."""

import threading
import time

import numpy as np
import pytest

from mlops_assets.resources.metering import Meter, asked_card, resident

MIB = 2**20


def told(tmp_path, text, status=0):
    """A command that stands in for nvidia-smi."""
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\ncat <<'SAID'\n{text}\nSAID\nexit {status}\n")
    command.chmod(0o755)
    return command


def test_memory_that_was_given_back_counts_with_its_peak():
    before = resident()
    with Meter() as meter:
        held = np.ones(150 * MIB // 8)
        deadline = time.monotonic() + 60
        while meter._memory < before + 120 * MIB and time.monotonic() < deadline:
            time.sleep(0.02)
        del held
        took = meter.usage()
    assert took.memory >= before + 120 * MIB
    with Meter() as later:
        calm = later.usage()
    assert calm.memory < took.memory
    assert (took.card_memory, took.devices) == (None, 0)


def test_cpu_and_time_are_those_of_the_block():
    with Meter() as meter:
        spun = time.process_time() + 0.3
        while time.process_time() < spun:
            pass
        took = meter.usage()
    assert took.cpu_seconds >= 0.3
    assert took.cores > 0
    assert took.seconds > 0
    assert "meter" not in [thread.name for thread in threading.enumerate()]


def test_what_nvidia_smi_says_of_the_fullest_card_is_taken(tmp_path):
    card = asked_card(str(told(tmp_path, "NVIDIA L4, 100, 23034\nNVIDIA L4, 2048, 23034")))
    assert card == ("NVIDIA L4", 2048 * MIB, 23034 * MIB)


@pytest.mark.parametrize(
    ("text", "status"), [("", 0), ("no devices were found", 0), ("NVIDIA L4, [N/A], 1", 0), ("x", 9)]
)
def test_where_it_says_nothing_of_use_nothing_is_known(tmp_path, text, status):
    assert asked_card(str(told(tmp_path, text, status))) is None
    assert asked_card(str(tmp_path / "absent")) is None


def test_a_card_is_looked_at_only_where_the_profile_has_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{told(tmp_path, 'NVIDIA L4, 2048, 23034').parent}:/usr/bin:/bin")
    with Meter(devices=1) as meter:
        deadline = time.monotonic() + 60
        while meter._card is None and time.monotonic() < deadline:
            time.sleep(0.02)
        took = meter.usage()
    assert (took.card, took.card_memory, took.devices) == ("NVIDIA L4", 2048 * MIB, 1)
    with Meter() as none:
        assert none._smi is None
