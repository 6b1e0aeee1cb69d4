"""Row 27: an object store that refuses, breaks off, dawdles, lists what was, or takes part of an upload."""

import hashlib
import json
import os
import random
import time

import pytest
from deltalake.exceptions import DeltaError

from mlops_assets import settings
from mlops_assets.resources.blobs import write_atomically
from mlops_assets_tests.faults.flaky_store import flaky_store
from mlops_assets_tests.faults.publishing import Store
from mlops_assets_tests.s3 import s3_server

pytestmark = [pytest.mark.fault(27), pytest.mark.timeout(300)]
PUBLICATIONS = int(os.environ.get("MLOPS_PUBLICATIONS", "2"))
PART = b"0" * (6 << 20)
WRONG = {
    "refused, one in five": {"refuse": 0.2},
    "broken off, one in five": {"cut": 0.2},
    "slow to write": {"seconds": 0.3, "what": "writes"},
    "stale listings, for a while": {"stale": True, "what": "lists", "before": 12},
}


@pytest.fixture(scope="module")
def store():
    """A store on S3, and the proxy before it."""
    with pytest.MonkeyPatch.context() as patch, s3_server(patch, "bucket") as uri, flaky_store(patch) as proxy:
        made = Store(f"{uri}/home")
        made.publish(0)
        yield made, proxy


@pytest.mark.parametrize("wrong", WRONG)
def test_every_publication_gets_through_to_a_store_that_is_unwell_and_none_is_torn(store, wrong, record_figure):
    made, proxy = store
    begun, torn, done = time.perf_counter(), 0, {}
    for version in range(1, PUBLICATIONS + 1):
        proxy.go_wrong(**WRONG[wrong], seed=version)
        made.publish(version)
        done = {name: done.get(name, 0) + count for name, count in proxy.go_wrong().items()}
        torn += made.readable() != version
    seconds = round((time.perf_counter() - begun) / PUBLICATIONS, 1)
    times = sum(count for name, count in done.items() if name != "seen")
    record_figure(wrong=wrong, publications=PUBLICATIONS, lost_or_torn=torn, faults=times, seconds_each=seconds)
    assert torn == 0
    assert times > 0


@pytest.fixture
def impatient(monkeypatch):
    """A store that is away for good is given up soon."""
    monkeypatch.setenv(settings.STORE_ATTEMPTS.name, "2")


@pytest.mark.usefixtures("impatient")
def test_a_store_that_stays_away_in_the_middle_leaves_what_was_published_before(store, record_figure):
    made, proxy = store
    made.publish(1)
    torn, tried = 0, range(3)
    for writes in tried:
        proxy.go_wrong(refuse=1, what="writes", after=writes)
        with pytest.raises((OSError, DeltaError)):
            made.publish(2)
        assert proxy.go_wrong()["refused"] >= 2
        torn += made.readable() != 1
    record_figure(wrong="away from the n-th write on", publications=len(tried), lost_or_torn=torn)
    assert torn == 0
    made.publish(2)
    assert made.readable() == 2


@pytest.mark.usefixtures("impatient")
def test_an_upload_of_which_only_a_part_arrives_is_not_there_at_all(store):
    made, proxy = store
    write_atomically(made.root, "big", [b"before"])
    proxy.go_wrong(refuse=1, what="parts", after=1)
    with pytest.raises(OSError, match="UploadPart"):
        write_atomically(made.root, "big", [PART, PART, PART])
    proxy.go_wrong()
    assert content(made, "big") == b"before"


def test_a_writer_that_fails_between_two_chunks_publishes_nothing(store):
    made, _ = store
    write_atomically(made.root, "cut", [b"before"])

    def failing():
        yield PART
        raise EOFError

    with pytest.raises(EOFError):
        write_atomically(made.root, "cut", failing())
    assert content(made, "cut") == b"before"


def content(made, name):
    """What a reader gets, by another client."""
    import boto3

    bucket, _, prefix = made.root.removeprefix("s3://").partition("/")
    return boto3.client("s3").get_object(Bucket=bucket, Key=f"{prefix}/{name}")["Body"].read()


def test_a_pointer_that_is_written_first_by_a_client_that_never_asks_again_is_torn(store, record_figure):
    made, proxy = store
    naive, torn, lost = Naive(made.root), 0, 0
    naive.publish(0)
    for version in range(1, 21):
        proxy.go_wrong(refuse=0.2, what="writes", seed=version)
        lost += not naive.publish(version)
        proxy.go_wrong()
        torn += not naive.is_readable()
    record_figure(control=True, wrong="refused, one in five", publications=20, lost=lost, torn=torn)
    assert lost > 0
    assert torn > 0


class Naive:
    """The positive control: the pointer first, then what it points to, each asked for once."""

    def __init__(self, root):
        import boto3
        from botocore.config import Config

        self.bucket, _, self.prefix = root.removeprefix("s3://").partition("/")
        self.client = boto3.client("s3", config=Config(retries={"total_max_attempts": 1}))

    def publish(self, version):
        """Whether all of it arrived."""
        from botocore.exceptions import ClientError

        body = random.Random(version).randbytes(1000)
        pointer = {"name": f"naive-{version}", "sha256": hashlib.sha256(body).hexdigest()}
        try:
            for name, said in (("naive", json.dumps(pointer).encode()), (pointer["name"], body)):
                self.client.put_object(Bucket=self.bucket, Key=f"{self.prefix}/{name}", Body=said)
        except ClientError:
            return False
        return True

    def is_readable(self):
        """Whether what the pointer names is there."""
        from botocore.exceptions import ClientError

        def get(name):
            return self.client.get_object(Bucket=self.bucket, Key=f"{self.prefix}/{name}")["Body"].read()

        pointer = json.loads(get("naive"))
        try:
            return hashlib.sha256(get(pointer["name"])).hexdigest() == pointer["sha256"]
        except ClientError:
            return False
