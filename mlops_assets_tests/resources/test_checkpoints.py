"""Stored checkpoints: the newest sound one is gone on from, what is not sound is named, and an end waits for one."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from mlops_assets.ml.checkpoints import Snapshot
from mlops_assets.resources.checkpoints import Checkpoints
from mlops_assets_tests.s3 import s3_server

WHOSE = {"estimator": "e", "parameters": "{}", "rows": "r" * 64, "torch": "2", "device": "cpu"}


class EndedError(Exception):
    """What the process's own handler raises."""


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def __call__(self):
        return self.now


def state(epoch):
    return Snapshot({"weights": np.full(4, epoch, np.float32)}, {"epoch": epoch})


def keeper(folder, model="toy", manifest="a" * 64, clock=None, seconds=10.0, whose=WHOSE):
    made = Checkpoints(root=str(folder), seconds=seconds).keeper(model, manifest, clock or Clock())
    return made, made.newest(whose)


def keep(folder, *epochs, **more):
    made, _ = keeper(folder, **more)
    for epoch in epochs:
        made.keep(state(epoch))
    return made


def found(folder, **more):
    made, snapshot = keeper(folder, **more)
    return (None if snapshot is None else snapshot.values["epoch"]), " ".join(made.said)


def files(folder):
    (slot,) = folder.glob("checkpoints/*/*/*")
    newest = json.loads((slot / "newest.json").read_text())["newest"]
    return [slot / sha256 for sha256 in newest]


def test_the_newest_state_is_gone_on_from_and_no_more_than_two_are_kept(tmp_path):
    assert found(tmp_path) == (None, "")
    keep(tmp_path, 1, 2, 3)
    epoch, said = found(tmp_path)
    assert epoch == 3
    assert said.startswith("It goes on from checkpoints/toy/")
    assert {path.name for path in files(tmp_path)[0].parent.iterdir()} == {
        "newest.json",
        *(path.name for path in files(tmp_path)),
    }
    assert len(files(tmp_path)) == 2


def test_a_corrupt_state_is_named_by_its_digest_and_the_older_one_is_taken(tmp_path):
    keep(tmp_path, 1, 2)
    newest, older = files(tmp_path)
    newest.write_bytes(newest.read_bytes()[:-1] + b"\x01")
    epoch, said = found(tmp_path)
    assert epoch == 1
    assert f"/{newest.name} was not used: it holds other bytes than were stored: SHA-256" in said
    assert f"expected {newest.name}" in said
    older.unlink()
    epoch, said = found(tmp_path)
    assert epoch is None
    assert said.endswith("No checkpoint is sound, so it begins at the start.")


@pytest.mark.parametrize("content", ["", "[]", '{"newest": ["../../ledger.db"], "sha256": "0"}'])
def test_a_pointer_that_was_changed_is_not_followed(tmp_path, content):
    keep(tmp_path, 1)
    pointer = files(tmp_path)[0].with_name("newest.json")
    pointer.write_text(content)
    epoch, said = found(tmp_path)
    assert epoch is None
    assert "newest.json was changed after it was written" in said
    assert "It begins at the start." in said


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"model": "other"}, "model is toy, not other"),
        ({"manifest": "b" * 64}, f"manifest is {'a' * 64}, not {'b' * 64}"),
        ({"whose": {**WHOSE, "parameters": '{"epochs": 9}'}}, 'parameters is {}, not {"epochs": 9}'),
        ({"whose": {**WHOSE, "torch": "3"}}, "torch is 2, not 3"),
        ({"whose": {**WHOSE, "device": "NVIDIA"}}, "device is cpu, not NVIDIA"),
    ],
)
def test_a_foreign_state_is_refused_with_the_field_that_differs(tmp_path, more, field):
    keep(tmp_path, 1)
    (slot,) = tmp_path.glob("checkpoints/*/*/*")
    there = tmp_path / "checkpoints" / more.get("model", "toy") / more.get("manifest", "a" * 64)[:16] / slot.name
    if there != slot:
        shutil.copytree(slot, there)
    epoch, said = found(tmp_path, **more)
    assert epoch is None
    assert f"it is of another fit: its {field}" in said


def test_a_state_is_kept_when_its_interval_has_passed_and_not_before(tmp_path):
    clock = Clock()
    made, _ = keeper(tmp_path, clock=clock)
    clock.now = 9.9
    made.offer(lambda: state(1))
    assert made.count == 0
    clock.now = 10.0
    made.offer(lambda: state(2))
    clock.now = 19.9
    made.offer(lambda: state(3))
    assert (made.count, found(tmp_path)[0]) == (1, 2)


def test_what_ends_the_process_waits_for_the_step_and_for_the_state_to_be_kept(tmp_path):
    before = signal.signal(signal.SIGTERM, _end)
    made, _ = keeper(tmp_path)
    steps = []
    try:
        with pytest.raises(EndedError):
            fit(made, steps)
        assert signal.getsignal(signal.SIGTERM) is _end
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (steps, found(tmp_path)[0]) == ([0, 1, 2], 2)
    assert "The process was asked to end, and the state was kept first." in made.said


def test_what_ends_the_process_after_the_last_step_ends_it_all_the_same(tmp_path):
    before = signal.signal(signal.SIGTERM, _end)
    made, _ = keeper(tmp_path)
    try:
        with pytest.raises(EndedError), made.watching():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_where_a_state_cannot_be_written_the_training_goes_on_and_says_so(tmp_path):
    (tmp_path / "checkpoints").write_text("a file where a folder should be")
    made = keep(tmp_path, 1)
    assert made.count == 0
    assert "could not be written, and the training went on without" in made.said[-1]


def test_states_lie_in_an_object_store_too(monkeypatch):
    with s3_server(monkeypatch, "states") as bucket:
        assert found(bucket) == (None, "")
        Checkpoints(root=bucket).forget("toy")
        keep(bucket, 1, 2, 3)
        assert found(bucket)[0] == 3
        Checkpoints(root=bucket).forget("toy")
        assert found(bucket) == (None, "")


def test_what_a_model_has_learned_needs_no_states_any_more(tmp_path):
    keep(tmp_path, 1)
    keep(tmp_path, 1, manifest="b" * 64)
    keep(tmp_path, 1, model="other")
    Checkpoints(root=str(tmp_path)).forget("toy")
    Checkpoints(root=str(tmp_path)).forget("toy")
    assert [path.name for path in Path(tmp_path, "checkpoints").iterdir()] == ["other"]


def fit(made, steps):
    """Five steps; at the third one somebody asks the process to end."""
    with made.watching():
        for step in range(5):
            if step == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            steps.append(step)
            made.offer(lambda: state(steps[-1]))


def _end(number, frame):
    raise EndedError
