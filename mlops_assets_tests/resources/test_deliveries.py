import hashlib
import json
import os
from datetime import UTC, datetime, timedelta
from itertools import chain, count, repeat

import pandas as pd
import pytest

from mlops_assets.ml.planning import Memory
from mlops_assets.ml.reading import read
from mlops_assets.ml.splitting import split
from mlops_assets.resources import deliveries as module
from mlops_assets.resources.blobs import Blobs
from mlops_assets.resources.deliveries import Deliveries
from mlops_assets.resources.landing import ChangedWhileReadError, UnreachableSourceError, landing
from mlops_assets_tests import toy
from mlops_assets_tests.s3 import s3_server

NOW = datetime(2024, 6, 15, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)


class Shop:
    """A landing folder and a store, looked at by a clock of its own."""

    def __init__(self, root, **changes):
        self.folder, self.root, self.changes = root / "landing", root / "home", changes
        self.folder.mkdir()
        self.blobs = Blobs(root=str(self.root))
        self.memory = Memory()

    def source(self, *files, **changes):
        return {"uri": str(self.folder), "files": files or ["shop-{partition:%Y-%m}.csv"], **self.changes, **changes}

    def spec(self, *files, **changes):
        return toy.spec(self.folder, **{"source": self.source(*files), **changes})

    def drop(self, name, content=b"ts,kind\n2024-01-01,a\n", when=LONG_AGO):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (when.timestamp(), when.timestamp()))
        return path

    def look(self, spec=None, now=NOW, **options):
        look = Deliveries(root=str(self.root)).look(spec or self.spec(), self.blobs, now, self.memory, **options)
        self.memory = self.memory.model_copy(update={"growing": look.growing})
        return look

    def fetch(self, *partitions, spec=None, now=NOW):
        return Deliveries(root=str(self.root)).fetch(spec or self.spec(), partitions, self.blobs, now)


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


def test_what_is_seen_is_what_is_fetched_byte_for_byte(shop):
    shop.drop("shop-2024-01.csv")
    shop.drop("shop-2024-02.csv", b"other", LONG_AGO + timedelta(seconds=1))
    seen, fetched = shop.look(), shop.fetch("2024-01-01", "2024-02-01")
    assert fetched.problems == {}
    assert {key: each.version for key, each in fetched.deliveries.items()} == seen.versions
    [file] = fetched.deliveries["2024-02-01"].files
    assert shop.blobs.read(file.sha256) == b"other"
    assert (file.name, file.bytes, file.modified, file.rows) == (
        "shop-2024-02.csv",
        5,
        LONG_AGO + timedelta(seconds=1),
        None,
    )
    assert (seen.files, seen.newest) == (2, "shop-2024-02.csv")


def test_a_file_is_read_again_only_when_its_size_or_time_has_changed(shop):
    shop.drop("shop-2024-01.csv", b"old")
    first = shop.look().versions
    shop.drop("shop-2024-01.csv", b"new")
    assert shop.look().versions == first
    shop.drop("shop-2024-01.csv", b"new", LONG_AGO + timedelta(seconds=1))
    assert shop.look().versions != first


def test_a_file_changed_just_now_is_not_trusted_to_be_known(tmp_path):
    shop = Shop(tmp_path, settle_seconds=0)
    moment = NOW - timedelta(seconds=1)
    shop.drop("shop-2024-01.csv", b"old", moment)
    first = shop.look().versions
    shop.drop("shop-2024-01.csv", b"new", moment)
    assert shop.look().versions != first


def test_a_lost_or_broken_cache_changes_nothing(shop):
    shop.drop("shop-2024-01.csv")
    first = shop.look().versions
    [cache] = (shop.root / "cache" / "deliveries").iterdir()
    cache.write_text('{"shop-2024-01.csv": [1')
    assert shop.look().versions == first
    cache.unlink()
    assert shop.look().versions == first


def test_only_so_many_bytes_are_read_at_one_look_and_the_next_goes_on(shop, monkeypatch):
    monkeypatch.setattr(module, "BYTES_A_LOOK", 10)
    for month in ("01", "02", "03"):
        shop.drop(f"shop-2024-{month}.csv", month.encode() * 4)
    assert [len(shop.look().versions) for _ in range(4)] == [1, 2, 3, 3]
    assert shop.look().waiting == {}


@pytest.mark.parametrize(
    ("pattern", "looks"), [("shop-{partition:%Y-%m}.csv", [1, 2, 3, 3]), ("*.csv", [0, 1, 1, 2, 2, 3])]
)
def test_after_some_time_a_look_begins_nothing_new_and_the_next_goes_on(shop, pattern, looks):
    for month in ("01", "02", "03"):
        shop.drop(f"shop-2024-{month}.csv", hours(f"2024-{month}-05"))
    spec = shop.spec(pattern)
    assert [len(shop.look(spec, stopwatch=count(step=21).__next__).versions) for _ in looks] == looks
    assert len(shop.fetch("2024-01-01", "2024-02-01", "2024-03-01", spec=spec).deliveries) == 3


def test_a_look_of_just_the_time_there_is_finishes(shop):
    for month in ("01", "02"):
        shop.drop(f"shop-2024-{month}.csv", hours(f"2024-{month}-05"))
    times = chain([0], repeat(module.SECONDS_A_LOOK))
    assert len(shop.look(stopwatch=times.__next__).versions) == 2


def test_a_look_that_is_ended_from_outside_is_not_lost(shop):
    for month in ("01", "02", "03"):
        shop.drop(f"shop-2024-{month}.csv", hours(f"2024-{month}-05"))
    ended_after_the_second_file = iter([0, 0, 3, 3, 3])
    with pytest.raises(StopIteration):
        shop.look(stopwatch=ended_after_the_second_file.__next__)
    assert len(shop.look(stopwatch=count(step=21).__next__).versions) == 2


def test_a_growing_file_holds_back_its_own_delivery_only(shop):
    shop.drop("shop-2024-01.csv")
    shop.drop("shop-2024-02.csv", when=NOW - timedelta(seconds=9))
    look = shop.look()
    assert [*look.versions] == ["2024-01-01"]
    assert look.waiting == {"shop-2024-02.csv": "it may still grow: changed less than 10 s ago"}
    assert shop.fetch("2024-01-01", "2024-02-01").problems == {
        "2024-02-01": "shop-2024-02.csv: it may still grow: changed less than 10 s ago"
    }
    assert [*shop.look(now=NOW + timedelta(seconds=1)).versions] == ["2024-01-01", "2024-02-01"]


def test_a_done_marker_settles_a_file_at_once(shop):
    shop.drop("shop-2024-01.csv", when=NOW)
    shop.drop("shop-2024-01.csv.done", b"", when=NOW)
    assert [*shop.look().versions] == ["2024-01-01"]


def test_a_file_from_the_future_settles_when_it_stays_the_same(shop):
    ahead = NOW + timedelta(hours=1)
    shop.drop("shop-2024-01.csv", when=ahead)
    assert shop.look().versions == {}
    shop.drop("shop-2024-01.csv", b"grown", when=ahead)
    assert shop.look(now=NOW + timedelta(seconds=10)).versions == {}
    for seconds in (20, 25):
        now = NOW + timedelta(seconds=seconds)
        versions = shop.look(now=now).versions
        assert {key: each.version for key, each in shop.fetch(*versions, now=now).deliveries.items()} == versions
        assert [*versions] == ["2024-01-01"]


def test_a_settled_file_from_the_future_is_read_once_and_again_when_it_changes(shop):
    ahead = NOW + timedelta(hours=1)
    shop.drop("shop-2024-01.csv", b"old", ahead)
    shop.look()
    first = shop.look(now=NOW + timedelta(seconds=10)).versions
    shop.drop("shop-2024-01.csv", b"new", ahead)
    assert shop.look(now=NOW + timedelta(seconds=11)).versions == first
    shop.drop("shop-2024-01.csv", b"new", ahead + timedelta(seconds=1))
    assert shop.look(now=NOW + timedelta(seconds=12)).versions == {}
    assert shop.look(now=NOW + timedelta(seconds=22)).versions not in ({}, first)


def promised(content, **said):
    kept = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "rows": 1}
    return json.dumps({**kept, **said}).encode()


def test_a_manifest_is_believed_only_when_it_is_true(shop):
    content = b"ts\n2024-01-01\n"
    shop.drop("shop-2024-01.csv", content)
    shop.drop("shop-2024-01.csv.manifest.json", promised(content))
    shop.drop("shop-2024-02.csv", content + b"x")
    shop.drop("shop-2024-02.csv.manifest.json", promised(content))
    shop.drop("shop-2024-03.csv", b"")
    shop.drop("shop-2024-03.csv.manifest.json", b"nonsense")
    look = shop.look()
    assert [*look.versions] == ["2024-01-01"]
    assert "its manifest promises 14" in look.refused["shop-2024-02.csv"]
    assert "cannot be understood" in look.refused["shop-2024-03.csv"]
    assert look.files == 3
    fetched = shop.fetch("2024-01-01", "2024-02-01")
    assert fetched.deliveries["2024-01-01"].files[0].rows == 1
    assert "its manifest promises 14" in fetched.problems["2024-02-01"]
    shop.drop("shop-2024-02.csv", content + b"y", LONG_AGO + timedelta(seconds=1))
    shop.drop("shop-2024-02.csv.manifest.json", promised(content + b"y"), LONG_AGO + timedelta(seconds=1))
    assert [*shop.look().versions] == ["2024-01-01", "2024-02-01"]


def test_equal_files_of_one_delivery_count_once(shop):
    spec = shop.spec("{partition:%Y-%m}/*.csv")
    for name in ("a b.csv", "données.csv", "other.csv"):
        shop.drop(f"2024-01/{name}", b"other" if name == "other.csv" else b"same")
    delivery = shop.fetch("2024-01-01", spec=spec).deliveries["2024-01-01"]
    assert [file.name for file in delivery.files] == ["2024-01/a b.csv", "2024-01/other.csv"]
    assert delivery.also_named == ("2024-01/données.csv",)
    assert shop.look(spec).versions == {"2024-01-01": delivery.version}


def test_a_partition_without_a_file_is_named_with_what_was_there(shop):
    shop.drop("shop-2024-01.csv")
    problem = shop.fetch("2024-02-01").problems["2024-02-01"]
    assert problem == f"nothing is delivered for it among 1 files in {shop.folder}"


def test_a_file_above_the_limit_is_refused_before_it_is_read(tmp_path):
    shop = Shop(tmp_path, max_bytes=4)
    shop.drop("shop-2024-01.csv", b"12345")
    shop.drop("shop-2024-02.csv", b"1234")
    look = shop.look()
    assert [*look.versions] == ["2024-02-01"]
    assert look.refused == {"shop-2024-01.csv": "it has 5 bytes; source.max_bytes is 4"}


def hours(*texts):
    return b"ts,kind,price\n" + b"".join(f"{text},a,{number}.50\n".encode() for number, text in enumerate(texts))


def test_a_file_without_a_partition_in_its_name_is_split_by_time(shop):
    spec = shop.spec("*.csv")
    content = hours("2024-02-03", "2024-01-05", "soon", "2023-01-01")
    shop.drop("hour.csv", content)
    seen = shop.look(spec)
    assert [*seen.versions] == ["2024-01-01", "2024-02-01"]
    assert seen.notes == {"hour.csv": "1 rows lie before the declared start 2024-01-01"}
    fetched = shop.fetch(*seen.versions, spec=spec)
    assert {key: each.version for key, each in fetched.deliveries.items()} == seen.versions
    january = fetched.deliveries["2024-01-01"]
    assert [origin.name for origin in january.origins] == ["hour.csv"]
    assert shop.blobs.read(january.origins[0].sha256) == content
    [part] = january.files
    with shop.blobs.open(part.sha256) as stream:
        rows = read(stream, part.name, spec.source).to_pydict()
    assert rows == {"ts": ["2024-01-05", "soon"], "kind": ["a", "a"], "price": [1.5, 2.5]}


def test_a_longer_file_changes_only_the_windows_whose_rows_changed(shop):
    spec = shop.spec("*.csv")
    shop.drop("hour.csv", hours("2024-01-05", "2024-02-03"))
    first = shop.look(spec).versions
    shop.drop("hour.csv", hours("2024-01-05", "2024-02-03", "2024-03-01"), LONG_AGO + timedelta(seconds=1))
    second = shop.look(spec).versions
    assert {key: second[key] for key in first} == first
    assert [*second] == ["2024-01-01", "2024-02-01", "2024-03-01"]


def test_rows_of_a_window_that_is_not_over_wait(shop):
    spec = shop.spec("*.csv")
    shop.drop("hour.csv", hours("2024-05-05", "2024-06-03"))
    look = shop.look(spec)
    assert [*look.versions] == ["2024-05-01"]
    assert look.waiting == {"2024-06-01": "its window is not over"}
    assert [*shop.look(spec, now=datetime(2024, 7, 1, tzinfo=UTC)).versions] == ["2024-05-01", "2024-06-01"]


def test_lost_extracts_are_cut_again(shop):
    spec = shop.spec("*.csv")
    shop.drop("hour.csv", hours("2024-01-05"))
    first = shop.fetch("2024-01-01", spec=spec).deliveries["2024-01-01"]
    sha256 = first.files[0].sha256
    (shop.root / "raw" / sha256[:2] / sha256).unlink()
    assert shop.fetch("2024-01-01", spec=spec).deliveries["2024-01-01"] == first
    assert shop.blobs.exists(sha256)


def test_an_unreadable_file_to_split_is_refused_and_another_goes_on(shop):
    spec = shop.spec("*.csv")
    shop.drop("bad.csv", b"ts\n\xff\n")
    shop.drop("good.csv", hours("2024-01-05"))
    look = shop.look(spec)
    assert [*look.versions] == ["2024-01-01"]
    assert look.refused == {"bad.csv": "is not UTF-8 in line 2. Save it as UTF-8 text."}
    assert "bad.csv: is not UTF-8" in shop.fetch("2024-02-01", spec=spec).problems["2024-02-01"]


def test_an_unreadable_file_to_split_is_parsed_again_only_when_it_or_how_it_is_read_changes_or_later(shop, monkeypatch):
    parsed = []

    def counted(stream, name, *rest):
        parsed.append(name)
        return split(stream, name, *rest)

    monkeypatch.setattr(module, "split", counted)
    shop.drop("bad.csv", b"ts|kind\n2024-01-05|a\n")
    comma, bar = shop.spec("*.csv"), shop.spec("*.csv", source=shop.source("*.csv", delimiter="|"))
    refusals = [shop.look(comma, now=NOW + timedelta(seconds=5 * number)).refused for number in range(3)]
    assert refusals == [{"bad.csv": "lacks the time column 'ts'. Have the producer send it again."}] * 3
    assert len(parsed) == 1
    assert [*shop.look(bar).versions] == ["2024-01-01"]
    assert len(parsed) == 2
    for minutes, times in ((9, 2), (10, 3), (11, 3)):
        assert shop.look(comma, now=NOW + timedelta(minutes=minutes)).refused == refusals[0]
        assert len(parsed) == times
    shop.drop("bad.csv", hours("2024-01-05", "2024-01-06"))
    assert [*shop.look(comma, now=NOW + timedelta(minutes=11)).versions] == ["2024-01-01"]


def test_a_folder_that_is_not_there_is_named(shop):
    spec = shop.spec(source={"uri": str(shop.folder / "gone"), "files": ["*.csv"]})
    with pytest.raises(UnreachableSourceError, match=r"landing/gone cannot be listed: No such file"):
        shop.look(spec)


def test_links_are_not_followed_and_nothing_else_than_files_is_read(shop, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "shop-2024-02.csv").write_text("secret")
    shop.drop("shop-2024-01.csv")
    (shop.folder / "shop-2024-02.csv").symlink_to(secret / "shop-2024-02.csv")
    (shop.folder / "linked").symlink_to(secret)
    os.mkfifo(shop.folder / "shop-2024-03.csv")
    look = shop.look(shop.spec("shop-{partition:%Y-%m}.csv", "*/shop-{partition:%Y-%m}.csv"))
    assert [*look.versions] == ["2024-01-01"]
    reason = "it is a symbolic link, and links are not followed"
    assert look.refused == {"linked": reason, "shop-2024-02.csv": reason}


@pytest.mark.parametrize(
    "name", ["../secret/a.csv", "linked/a.csv", "a-link.csv", "/etc/passwd", "inner/../../secret/a.csv", ".", "pipe"]
)
def test_a_name_never_opens_anything_outside_the_folder(name, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.csv").write_text("secret")
    inside = tmp_path / "landing"
    (inside / "inner").mkdir(parents=True)
    (inside / "linked").symlink_to(tmp_path / "secret")
    (inside / "a-link.csv").symlink_to(tmp_path / "secret" / "a.csv")
    os.mkfifo(inside / "pipe")
    with pytest.raises(UnreachableSourceError), landing(str(inside)).opened(name) as stream:
        stream.read()


def test_a_file_written_to_while_it_is_read_is_noticed(shop):
    path = shop.drop("shop-2024-01.csv")
    opened = landing(str(shop.folder)).opened(path.name)
    assert opened.__enter__().read() == path.read_bytes()
    path.write_bytes(b"more")
    with pytest.raises(ChangedWhileReadError):
        opened.__exit__(None, None, None)


def test_a_file_replaced_while_it_is_read_is_read_whole_as_it_was(shop):
    path = shop.drop("shop-2024-01.csv", b"old" * 1000)
    with landing(str(shop.folder)).opened(path.name) as stream:
        begin = stream.read(10)
        (shop.folder / "new").write_bytes(b"new")
        (shop.folder / "new").rename(path)
        assert begin + stream.read() == b"old" * 1000


@pytest.mark.parametrize(
    ("uri", "where"),
    [
        ("s3://key:secret@bucket/in/?endpoint_override=host", "s3://bucket/in/"),
        ("s3://bucket/in", "s3://bucket/in"),
        ("file:///data/in", "/data/in"),
        ("/data/in", "/data/in"),
    ],
)
def test_a_source_is_named_without_its_credentials(uri, where):
    assert landing(uri).where == where


@pytest.fixture(scope="module")
def bucket():
    with pytest.MonkeyPatch.context() as patch, s3_server(patch, "landing") as uri:
        yield uri


def test_an_object_store_is_a_source_and_a_store_like_a_folder(bucket):
    import boto3

    client = boto3.client("s3")
    frame = pd.DataFrame({"ts": ["2024-01-01"], "kind": ["a"]})
    for key in ("in/a b/shop-2024-01.csv", "in/été/shop-2024-02.csv", "in/notes.txt", "outside/shop-2024-03.csv"):
        client.put_object(Bucket="landing", Key=key, Body=frame.assign(key=key).to_csv(index=False))
    spec = toy.spec(".", source={"uri": f"{bucket}/in", "files": ["*/shop-{partition:%Y-%m}.csv"]})
    blobs, resource = Blobs(root=f"{bucket}/home"), Deliveries(root=f"{bucket}/home")
    now = datetime.now(UTC) + timedelta(minutes=1)
    seen = resource.look(spec, blobs, now, Memory())
    assert [*seen.versions] == ["2024-01-01", "2024-02-01"]
    assert (seen.where, seen.others, seen.refused) == (f"{bucket}/in", ["notes.txt"], {})
    fetched = resource.fetch(spec, ["2024-01-01", "2024-02-01", "2024-03-01"], blobs, now)
    assert {key: each.version for key, each in fetched.deliveries.items()} == seen.versions
    assert [*fetched.problems] == ["2024-03-01"]
    [file] = fetched.deliveries["2024-02-01"].files
    assert file.name == "été/shop-2024-02.csv"
    assert blobs.read(file.sha256).decode() == frame.assign(key="in/été/shop-2024-02.csv").to_csv(index=False)
    assert resource.look(spec, blobs, now, Memory()).versions == seen.versions
    client.put_object(Bucket="landing", Key="in/été/shop-2024-02.csv", Body=b"corrected and longer")
    assert resource.look(spec, blobs, now, Memory()).versions["2024-02-01"] != seen.versions["2024-02-01"]


def test_an_object_replaced_while_it_is_read_is_noticed(bucket):
    import boto3

    client = boto3.client("s3")
    client.put_object(Bucket="landing", Key="swap/a.csv", Body=b"old")
    opened = landing(f"{bucket}/swap").opened("a.csv")
    assert opened.__enter__().read() == b"old"
    client.put_object(Bucket="landing", Key="swap/a.csv", Body=b"newer")
    with pytest.raises(ChangedWhileReadError):
        opened.__exit__(None, None, None)


def test_a_bucket_that_is_not_there_is_named(bucket):
    spec = toy.spec(".", source={"uri": "s3://nowhere/in", "files": ["*.csv"]})
    with pytest.raises(UnreachableSourceError, match=r"^s3://nowhere/in cannot be listed"):
        Deliveries(root="/tmp").look(spec, Blobs(root="/tmp"), NOW, Memory())  # noqa: S108
