"""Checkpoints as bytes: what is read is what was written, of the very fit that is meant, and never a pickle."""

import io

import numpy as np
import pytest

from mlops_assets.ml.checkpoints import NOBODY, CheckpointError, Snapshot, differences, keeper, kept_by, read, written

WHOSE = {
    "model": "toy",
    "manifest": "m",
    "estimator": "e",
    "parameters": "{}",
    "rows": "r",
    "torch": "2",
    "device": "d",
}
STATE = Snapshot({"weights.a": np.arange(6, dtype=np.float32).reshape(2, 3), "step": np.float32(3)}, {"epoch": 2})


def test_what_is_read_is_what_was_written():
    found = read(written(WHOSE, STATE), WHOSE)
    assert found.values == {"epoch": 2}
    assert found.arrays.keys() == STATE.arrays.keys()
    assert np.array_equal(found.arrays["weights.a"], STATE.arrays["weights.a"])
    assert found.arrays["weights.a"].dtype == np.float32


@pytest.mark.parametrize("field", WHOSE)
def test_one_of_another_fit_is_refused_with_the_field_that_differs(field):
    with pytest.raises(CheckpointError, match=f"it is of another fit: its {field} is other, not {WHOSE[field]}$"):
        read(written({**WHOSE, field: "other"}, STATE), WHOSE)


def test_a_field_that_one_of_them_lacks_differs_too():
    assert differences({"a": "1"}, {"a": "1", "b": "2"}) == "its b is absent, not 2"
    assert differences({"a": "1"}, {"a": "1"}) == ""


def pickled():
    target = io.BytesIO()
    np.savez(target, header=np.array([object()], dtype=object))
    return target.getvalue()


@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint", written(WHOSE, STATE)[:-30], pickled()], ids=["none", "text", "cut", "pickle"]
)
def test_bytes_that_are_no_checkpoint_are_refused(content):
    with pytest.raises(CheckpointError, match="it is no checkpoint"):
        read(content, WHOSE)


def test_who_keeps_a_fit_is_known_inside_the_block_only():
    assert keeper() is NOBODY
    other = type(NOBODY)()
    with kept_by(other):
        assert keeper() is other
    assert keeper() is NOBODY
