"""A real S3 server on loopback, in a process of its own: Delta Lake waits for it without letting other threads run."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from urllib.request import Request, urlopen

SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(*server.get_host_and_port(), flush=True)
sys.stdin.read()
"""


@contextmanager
def s3_server(monkeypatch, bucket: str) -> Iterator[str]:
    """The URI of an empty bucket, the only one there is, with the environment set for every client."""
    import boto3

    _, address = _server()
    with urlopen(Request(f"{address}/moto-api/reset", method="POST")):
        pass
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket=bucket)
    yield f"s3://{bucket}"


@cache
def _server() -> tuple[subprocess.Popen, str]:
    """The server of this process, which ends with it, and its address."""
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    host, port = server.stdout.readline().split()[-2:]
    return server, f"http://{host}:{port}"
