import hashlib
import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from mlops_assets.resources.blobs import CHUNK, Blobs, CorruptBytesError, write_atomically
from mlops_assets.resources.places import filesystem


@pytest.fixture
def blobs(tmp_path):
    return Blobs(root=str(tmp_path))


def stored(blobs):
    return [path for path in Path(blobs.root).rglob("*") if path.is_file()]


@settings(max_examples=40, deadline=None)
@given(content=st.binary(max_size=200))
def test_what_is_put_comes_back_under_its_sha256(content, tmp_path_factory):
    blobs = Blobs(root=str(tmp_path_factory.mktemp("root")))
    sha256, size = blobs.put(io.BytesIO(content))
    assert (sha256, size) == (hashlib.sha256(content).hexdigest(), len(content))
    assert blobs.read(sha256) == content
    assert blobs.put_bytes(content) == sha256


def test_more_than_one_chunk_is_stored_whole(blobs):
    content = os.urandom(2 * CHUNK + 7)
    sha256, size = blobs.put(io.BytesIO(content))
    assert size == len(content)
    assert blobs.read(sha256) == content


def test_known_bytes_are_not_written_again(blobs):
    sha256 = blobs.put_bytes(b"rows")
    [path] = stored(blobs)
    before = path.stat()
    assert blobs.put(io.BytesIO(b"rows"))[0] == sha256
    assert path.stat().st_ino == before.st_ino
    assert stored(blobs) == [path]


@pytest.mark.parametrize("put", [lambda blobs: blobs.put(io.BytesIO(b"rows")), lambda blobs: blobs.put_bytes(b"rows")])
def test_bytes_that_rotted_are_refused_and_healed_by_the_same_delivery(blobs, put):
    sha256 = blobs.put_bytes(b"rows")
    [path] = stored(blobs)
    path.write_bytes(b"rowz")
    with pytest.raises(CorruptBytesError, match=f"{sha256}.*sent again"), blobs.open(sha256):
        pass
    put(blobs)
    assert blobs.read(sha256) == b"rows"


def test_bytes_that_are_gone_are_named(blobs):
    with pytest.raises(CorruptBytesError, match="is gone"):
        blobs.read("0" * 64)


def test_a_stream_that_breaks_leaves_nothing_behind(blobs):
    class Broken(io.BytesIO):
        def read(self, size=-1):
            if self.tell():
                raise OSError("the cable was pulled")
            return super().read(3)

    with pytest.raises(OSError, match="cable"):
        blobs.put(Broken(b"rows"))
    assert stored(blobs) == []


def test_a_write_that_breaks_leaves_the_old_bytes(tmp_path):
    def broken():
        yield b"new"
        raise OSError("the disk is full")

    write_atomically(str(tmp_path), "record", [b"old"])
    with pytest.raises(OSError, match="full"):
        write_atomically(str(tmp_path), "record", broken())
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_the_stream_given_out_can_be_searched(blobs):
    with blobs.open(blobs.put_bytes(b"rows")) as stream:
        stream.seek(2)
        assert stream.read() == b"ws"


def test_the_client_of_a_store_is_kept_until_something_around_it_changes(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    first, path = filesystem("s3://bucket/home")
    assert path == "bucket/home"
    assert filesystem("s3://bucket/home")[0] is first
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert filesystem("s3://bucket/home")[0].region == "eu-west-1"
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert filesystem("s3://bucket/home")[0] is not first


def test_a_bucket_is_asked_in_the_region_where_it_was_found(monkeypatch):
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    found = fs.S3FileSystem(region="ap-south-1", anonymous=True)
    monkeypatch.setattr(fs, "FileSystem", SimpleNamespace(from_uri=lambda _: (found, "bucket/far")))
    assert filesystem("s3://bucket/far")[0].region == "ap-south-1"
