"""Row 5: a file that is still being written, or changed while it is read."""

import hashlib
import json
import threading
import time
from datetime import UTC, datetime

import pytest

from mlops_assets.ml.planning import Memory
from mlops_assets.resources.blobs import Blobs
from mlops_assets.resources.deliveries import Deliveries
from mlops_assets_tests import toy

TRIALS = {"done": 90, "manifest": 90, "quiet": 20}
SETTLE = {"done": 3600, "manifest": 0, "quiet": 0.3}
NAME, PARTITION = "shop-2024-01.csv", "2024-01-01"
CHUNKS = [f"2024-01-{day:02},a,{'9' * 200}\n".encode() * 20 for day in range(1, 13)]
WHOLE = b"".join(CHUNKS)


class Writer(threading.Thread):
    """A producer that appends to a file in the landing folder, and marks its end where it is to."""

    def __init__(self, folder, ending):
        super().__init__()
        self.folder, self.ending, self.longest_pause = folder, ending, 0.0
        self.begun = threading.Event()

    def run(self):
        with (self.folder / NAME).open("wb", buffering=0) as stream:
            before = time.monotonic()
            for chunk in CHUNKS:
                stream.write(chunk)
                self.begun.set()
                time.sleep(0.0005)
                self.longest_pause = max(self.longest_pause, time.monotonic() - before)
                before = time.monotonic()
        if self.ending == "done":
            (self.folder / f"{NAME}.done").touch()


def ingest(folder, home, settle):
    """Look and fetch until a delivery is published; its bytes, and how often it had to wait."""
    source = {"uri": str(folder), "files": ["shop-{partition:%Y-%m}.csv"], "settle_seconds": settle}
    spec, blobs, resource = toy.spec(folder, source=source), Blobs(root=str(home)), Deliveries(root=str(home))
    memory, waits = Memory(), 0
    while True:
        look = resource.look(spec, blobs, datetime.now(UTC), memory)
        memory = Memory(growing=look.growing)
        if PARTITION in look.versions:
            fetched = resource.fetch(spec, [PARTITION], blobs, datetime.now(UTC))
            if delivery := fetched.deliveries.get(PARTITION):
                return blobs.read(delivery.files[0].sha256), waits
        waits += 1


def trial(tmp_path, ending, number):
    folder = tmp_path / f"{ending}-{number}"
    folder.mkdir()
    if ending == "manifest":
        (folder / f"{NAME}.manifest.json").write_text(
            json.dumps({"bytes": len(WHOLE), "sha256": hashlib.sha256(WHOLE).hexdigest()})
        )
    writer = Writer(folder, ending)
    writer.start()
    writer.begun.wait()
    at_once = (folder / NAME).read_bytes()
    published, waits = ingest(folder, tmp_path / "home", SETTLE[ending])
    writer.join()
    return writer, at_once, published, waits


@pytest.mark.fault(5)
@pytest.mark.parametrize("ending", TRIALS)
def test_no_half_written_file_is_ever_published(ending, tmp_path, record_figure):
    torn = torn_unguarded = waited = number = tried = 0
    while tried < TRIALS[ending]:
        writer, at_once, published, waits = trial(tmp_path, ending, number)
        number += 1
        if ending == "quiet" and writer.longest_pause >= SETTLE[ending]:
            continue  # the machine stopped the writer for so long that it was quiet by the rule
        tried += 1
        torn += published != WHOLE
        torn_unguarded += at_once != WHOLE
        waited += waits > 0
    record_figure(settled_by=ending, trials=tried, torn=torn, torn_when_read_at_once=torn_unguarded, waited=waited)
    assert torn == 0
    assert torn_unguarded > tried / 2


@pytest.mark.fault(5)
def test_a_file_that_changes_while_it_is_copied_is_not_published(tmp_path):
    folder, stop = tmp_path / "landing", threading.Event()
    folder.mkdir()
    path = folder / NAME
    path.write_bytes(b"A" * 4_000_000)
    written = []

    def rewrite():
        letter = 65
        while not stop.is_set():
            letter = 65 + (letter - 64) % 26
            with path.open("r+b", buffering=0) as stream:
                for _ in range(4):
                    written.append(letter)
                    stream.write(bytes([letter]) * 1_000_000)
                    written.append(letter)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        source = {"uri": str(folder), "files": ["shop-{partition:%Y-%m}.csv"], "settle_seconds": 0}
        spec, blobs = toy.spec(folder, source=source), Blobs(root=str(tmp_path / "home"))
        resource = Deliveries(root=str(tmp_path / "home"))
        fetched, during = [], []
        for _ in range(30):
            before = len(written)
            fetched.append(resource.fetch(spec, [PARTITION], blobs, datetime.now(UTC)))
            during.append(len(written) > before)
    finally:
        stop.set()
        writer.join()
    published = [
        blobs.read(each.deliveries[PARTITION].files[0].sha256)
        for each, changed in zip(fetched, during, strict=True)
        if each.deliveries and changed  # a writer that stands still meanwhile is what settle_seconds is for
    ]
    assert any(during)
    assert [content for content in published if len(set(content)) > 1] == []
    problems = [each.problems[PARTITION] for each in fetched if each.problems]
    assert problems
    assert all("was written to while it was read" in problem for problem in problems)
