"""Row 34: secrets in the environment, in connection strings and in URIs, looked for in every byte that runs leave."""

import gzip
import io
import os
import secrets
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from mlops_assets import settings
from mlops_assets.defs.resources import resources
from mlops_assets_tests import toy
from mlops_assets_tests.homes import instance_at

VARIABLES = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "PGPASSWORD",
    "DAGSTER_PG_PASSWORD",
    "SMTP_PASSWORD",
    "GITHUB_TOKEN",
)
QUERY = "SELECT ts, kind, price, wind, sales FROM shop WHERE ts >= :start AND ts < :end"
MONTHS = toy.MONTHS[:4]
BEFORE_A_CHAMPION = (
    "raw_data",
    "validated_features",
    "quarantined_rows",
    "trained_model",
    "evaluation_report",
    "registered_version",
    "champion",
)


@pytest.fixture
def planted(monkeypatch) -> list[str]:
    """Tokens that stand in the environment wherever secrets do. A test adds those that it plants elsewhere."""
    tokens = [f"canary{secrets.token_hex(12)}" for _ in VARIABLES]
    for name, token in zip(VARIABLES, tokens, strict=True):
        monkeypatch.setenv(name, token)
    return tokens


def plant(planted: list[str]) -> str:
    """One more token."""
    planted.append(f"canary{secrets.token_hex(12)}")
    return planted[-1]


def texts(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """A file's bytes, and those inside it where it is packed."""
    yield name, content
    if zipfile.is_zipfile(io.BytesIO(content)):
        archive = zipfile.ZipFile(io.BytesIO(content))
        for member in archive.namelist():
            yield from texts(f"{name}!{member}", archive.read(member))
    elif content.startswith(b"\x1f\x8b"):
        yield from texts(f"{name}!", gzip.decompress(content))
    elif content.startswith(b"PAR1"):
        table = pq.read_table(io.BytesIO(content))
        yield f"{name}!", f"{table.schema.metadata}{table.to_pydict()}".encode()


def found(planted: list[str], folder: Path, said: str) -> list[tuple[str, str]]:
    """Where a token stands: in a file below `folder`, or in what was printed."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    places = [("printed", said.encode())]
    for path in files:
        places.extend(texts(str(path.relative_to(folder)), path.read_bytes()))
    return [(token, place) for place, content in places for token in planted if token.encode() in content]


def sell(path: Path) -> None:
    """A database with the toy's rows."""
    with sqlite3.connect(path) as connection:
        for month in MONTHS:
            toy.rows(month).to_sql("shop", connection, if_exists="append", index=False)


def sql(url_env: str) -> dict:
    return {"source": {"url_env": url_env, "query": QUERY}}


@pytest.mark.fault(34)
def test_a_whole_lifecycle_writes_no_secret(workshop, planted, tmp_path, capfd, monkeypatch, record_figure):
    database = tmp_path.parent / f"{tmp_path.name}.db"
    sell(database)
    url = "sqlite:///file:{path}?mode=ro&uri=true&token={secret}"
    monkeypatch.setenv("SHOP_URL", url.format(path=database, secret=plant(planted)))
    opened = workshop(**sql("SHOP_URL"))
    assert opened.run(MONTHS[:3], BEFORE_A_CHAMPION).success
    assert opened.run(MONTHS[3:]).success
    assert found(planted, tmp_path, "".join(capfd.readouterr())) == []
    record_figure(tokens_planted=len(planted), tokens_found=0)


@pytest.mark.fault(34)
def test_failures_to_connect_write_no_secret(workshop, planted, tmp_path, capfd, monkeypatch, record_figure):
    refusing = f"postgresql://shop:{plant(planted)}@127.0.0.1:1/shop"
    for number, url in enumerate((refusing, f"postgresql://shop:{plant(planted)}@127.0.0.1:port/shop", plant(planted))):
        monkeypatch.setenv(f"SHOP_{number}", url)
        assert not workshop(**sql(f"SHOP_{number}")).run(MONTHS[:1], ["raw_data"]).success
    bucket = f"s3://key:{plant(planted)}@bucket/shop?endpoint_override=127.0.0.1:1&scheme=http"
    with pytest.raises(ValueError, match="uri holds a password") as refused:
        toy.spec("landing", source={"uri": bucket, "files": ["shop-{partition:%Y-%m}.csv"]})
    assert planted[-1] not in str(refused.value)
    assert found(planted, tmp_path, "".join(capfd.readouterr())) == []
    record_figure(tokens_planted=len(planted), tokens_found=0)


@pytest.mark.fault(34)
def test_an_unreachable_tracking_server_writes_no_secret(workshop, planted, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    opened = workshop()
    for month in MONTHS:
        toy.deliver(opened.landing, month)
    opened.resources.update(resources(str(opened.home), "http://127.0.0.1:9"))
    assert opened.run(MONTHS, BEFORE_A_CHAMPION[:3]).success
    assert not opened.run(assets=["trained_model"]).success
    assert found(planted, tmp_path, "".join(capfd.readouterr())) == []


@pytest.mark.fault(34)
@pytest.mark.parametrize(
    ("setting", "read", "uri"),
    [
        (settings.TRACKING_URI, settings.tracking_uri, "https://user:{secret}@mlflow.example"),
        (settings.TRACKING_URI, settings.tracking_uri, "postgresql://user:{secret}@127.0.0.1/mlflow"),
        (settings.HOME, settings.home, "s3://key:{secret}@bucket/prefix"),
        (settings.LANDING, settings.landing, "s3://key:{secret}@bucket/prefix"),
    ],
)
def test_a_uri_that_would_carry_a_password_everywhere_is_refused_without_telling_it(
    planted, monkeypatch, setting, read, uri
):
    monkeypatch.setenv(setting.name, uri.format(secret=plant(planted)))
    with pytest.raises(settings.SecretInUriError, match=f"^{setting.name} holds a password") as refused:
        read()
    assert planted[-1] not in str(refused.value)
    monkeypatch.setenv(setting.name, uri.replace(":{secret}", ""))
    assert read() == uri.replace(":{secret}", "")


@pytest.mark.fault(34)
def test_the_search_finds_secrets_that_are_told(planted, tmp_path, capfd, record_figure):
    logged, noted, raised, printed, packed = (plant(planted) for _ in range(5))

    @dg.asset
    def careless(context: dg.AssetExecutionContext):
        context.log.info(f"connecting with {logged}")
        context.log_event(dg.AssetObservation(context.asset_key, metadata={"url": noted}))
        os.write(1, printed.encode())
        with gzip.open(tmp_path / "kept.gz", "wt") as stream:
            stream.write(packed)
        raise ValueError(f"cannot connect with {raised}")

    with instance_at(tmp_path) as instance:
        assert not dg.materialize([careless], instance=instance, raise_on_error=False).success
    told = {token for token, _ in found(planted, tmp_path, "".join(capfd.readouterr()))}
    assert told == {logged, noted, raised, printed, packed}
    record_figure(control=True, tokens_told=5, tokens_found=len(told))
