"""Row 19: the disk is full, a file may not grow, the file system is read-only, or any one write fails."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_assets.resources.blobs import Blobs, write_atomically

PROGRAM = [sys.executable, "-m", "mlops_assets_tests.faults.publishing"]
IN_A_MOUNT = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
SMALL_DISK = 'mount -t tmpfs -o size=4m tmpfs "$1" && shift && exec "$@"'


def lines(command: list[str]) -> list[dict]:
    """What the program says, one line a try."""
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return [json.loads(line) for line in finished.stdout.splitlines()]


@pytest.fixture
def small_disk(tmp_path):
    """The start of a command that runs in a mount namespace where `tmp_path` is a disk of 4 MB."""
    command = [*IN_A_MOUNT, SMALL_DISK, "sh", str(tmp_path)]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let its user mount a small file system (unshare --mount --map-root-user)")
    return command


@pytest.mark.fault(19)
def test_a_file_that_may_not_grow_leaves_the_older_delivery_readable(tmp_path, record_figure):
    tried = lines([*PROGRAM, "limits", str(tmp_path)])
    failed = [line for line in tried if line["error"]]
    assert len(failed) > 40
    assert {line["published"] for line in failed} == {0}
    assert tried[-1] == {**tried[-1], "published": 1, "error": None}
    lost = sum(line["naive_lost"] for line in tried)
    assert lost > 40
    record_figure(failed_writes=len(failed), published_but_unreadable=0, lost_when_written_in_place=lost)


@pytest.mark.fault(19)
def test_a_full_disk_leaves_the_older_delivery_readable_and_serves_again_when_freed(
    tmp_path, small_disk, record_figure
):
    *tried, recovered, read_only = lines([*small_disk, *PROGRAM, "space", str(tmp_path)])
    failed = [line for line in tried if line["error"]]
    assert len(failed) >= 3
    assert {line["published"] for line in failed} == {0}
    assert recovered["refused"]
    assert recovered["recovered"]
    assert read_only == {"read_only": "OSError", "published": 2}
    seconds = round(recovered["recovery_seconds"], 3)
    record_figure(failed_writes=len(failed) + 2, published_but_unreadable=0, recovery_seconds=seconds)


def failing(chunks: list[bytes], at: int):
    """The chunks, of which the one numbered `at` cannot be had."""
    for number, chunk in enumerate(chunks):
        if number == at:
            raise OSError(errno.ENOSPC, "No space left on device")
        yield chunk


@pytest.mark.fault(19)
def test_whichever_write_fails_readers_keep_the_old_bytes_and_nothing_is_left_beside_them(tmp_path, record_figure):
    old, new = [b"old"] * 50, [b"new"] * 50
    write_atomically(str(tmp_path), "file", iter(old))
    for at in range(len(new)):
        with pytest.raises(OSError, match="No space left"):
            write_atomically(str(tmp_path), "file", failing(new, at))
        assert (tmp_path / "file").read_bytes() == b"".join(old)
        assert [path.name for path in tmp_path.iterdir()] == ["file"]
    write_atomically(str(tmp_path), "file", iter(new))
    assert (tmp_path / "file").read_bytes() == b"".join(new)
    record_figure(failed_writes=len(new), published_but_unreadable=0)


class Dying:
    """A stream that gives some bytes and then fails."""

    def __init__(self, whole: int) -> None:
        self.left = whole

    def read(self, size: int) -> bytes:
        """Zeros, until the source is gone."""
        if self.left == 0:
            raise OSError(errno.EIO, "Input/output error")
        self.left -= 1
        return bytes(size)


@pytest.mark.fault(19)
@pytest.mark.parametrize("whole", [0, 1, 2])
def test_bytes_whose_source_dies_are_not_stored(tmp_path: Path, whole):
    with pytest.raises(OSError, match="Input/output error"):
        Blobs(root=str(tmp_path)).put(Dying(whole))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
