import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_assets.ml.sources import Delivery
from mlops_assets.resources.landing import UnreachableSourceError, landing
from mlops_assets.resources.records import Records
from mlops_assets_tests import toy
from mlops_assets_tests.resources.test_deliveries import LONG_AGO, Shop

CLIMBS = [
    "..",
    "../x",
    "../../x",
    "/etc/x",
    "//x",
    "a/../../x",
    "./x",
    "~/x",
    "C:\\x",
    "..\\x",
    "..\\..\\x",
    "file:///x",
]
CODED = [
    "%2e%2e%2fx",
    "..%2fx",
    "%252e%252e%252fx",
    "..%c0%afx",
    "..;/x",
    "\uff0e\uff0e/x",
    "..\u2215x",
    "..\u2044x",
    "\u2025/x",
]
SQL = ["x' OR '1'='1", "x'; DROP TABLE runs; --", 'x" OR ""="', "x) OR 1=1", "partition = 'x'", "x\\'; --"]
SHELL = [
    "$(id)",
    "`id`",
    "x;id",
    "x|id",
    "x&&id",
    "$HOME",
    "${HOME}",
    "x\nid",
    "*",
    "?",
    "[a]",
    "{a,b}",
    "-rf",
    "--help",
]
ODD = [
    "",
    " ",
    ".",
    "...",
    "a...b",
    ".hidden",
    "a b",
    " a",
    "a ",
    "a\tb",
    "a\0b",
    "a\rb",
    "a\x1b[31m",
    "con:",
    "nul\0.csv",
]
LETTERS = ["é", "ü", "\u0435", "日本", "\u202excsv", "\u200bx", "\ufeffx", "a\u0301", "ﬁ", "🚲", "\ud800"]
LONG = ["x" * 129, "x" * 255, "../" * 40 + "x", "a" * 300, "x/" * 60]
TEMPLATES = ["{{ env.HOME }}", "{partition}", "%(x)s", "%s", "{0}", "<script>", "=cmd()", "@x", "+x", "#x", "x\u2028y"]
MIXED = [f"{climb}.csv" for climb in CLIMBS] + [f"b-{each}" for each in SQL + SHELL[:8]]
PAYLOADS = CLIMBS + CODED + SQL + SHELL + ODD + LETTERS + LONG + TEMPLATES + MIXED


def files_under(root, without):
    return {path for path in Path(root).rglob("*") if path.is_file() and without not in path.parents}


def drop(shop, name):
    """Put a file of this name into the landing folder, where the file system can hold it."""
    try:
        path = shop.folder / os.fsdecode(os.fsencode(f"b-{name}.csv")).lstrip("/")
        if shop.folder not in path.resolve().parents:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode("utf-8", "replace"))
    except (OSError, ValueError):
        return False
    os.utime(path, (LONG_AGO.timestamp(), LONG_AGO.timestamp()))
    return True


@pytest.mark.fault(15)
def test_no_payload_in_a_file_name_writes_outside_the_root_and_good_files_go_on(tmp_path, record_figure):
    shop = Shop(tmp_path)
    records = Records(root=str(shop.root))
    dropped = sum(drop(shop, payload) for payload in PAYLOADS)
    drop(shop, "good")
    before = files_under(tmp_path, without=shop.root)
    spec = shop.spec("b-{partition}.csv", "*/b-{partition}.csv", "*/*.csv", partitions={"every": "batch"})
    look = shop.look(spec)
    fetched = shop.fetch(*look.versions, spec=spec)
    for partition, delivery in fetched.deliveries.items():
        records.put("toy", "raw_data", delivery, partition)
    outside = files_under(tmp_path, without=shop.root) - before
    record_figure(payloads=len(PAYLOADS), dropped=dropped, refused=len(look.refused), writes_outside=len(outside))
    assert outside == set()
    assert "good" in fetched.deliveries
    assert len(PAYLOADS) >= 100
    assert len(look.refused) + len(look.others) > dropped / 2


@pytest.mark.fault(15)
@pytest.mark.parametrize("payload", sorted(set(CLIMBS + CODED + SQL + ODD + LETTERS[:10] + LONG)), ids=ascii)
def test_no_payload_becomes_the_name_of_a_record(payload, tmp_path):
    records = Records(root=str(tmp_path))
    with pytest.raises(ValueError, match="is not a partition key"):
        records.put("toy", "raw_data", Delivery(model="toy", partition="x", files=()), payload)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault(15)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.text(st.sampled_from("./\\~a\0é-%"), min_size=1, max_size=12))
def test_no_name_reads_outside_the_landing_folder(name, tmp_path):
    inside = tmp_path / "landing"
    (inside / "a").mkdir(parents=True, exist_ok=True)
    (tmp_path / "a").write_bytes(b"secret")
    (inside / "a" / "a").write_bytes(b"public")
    try:
        with landing(str(inside)).opened(name) as stream:
            assert stream.read() == b"public"
    except (UnreachableSourceError, ValueError):
        pass


@pytest.mark.fault(15)
def test_the_same_name_joined_naively_does_write_outside(tmp_path):
    root = tmp_path / "records"
    root.mkdir()
    (root / "../escaped.json").write_text("{}")
    assert (tmp_path / "escaped.json").exists()
    with pytest.raises(ValueError, match="is not a partition key"):
        Records(root=str(root)).put("toy", "raw_data", Delivery(model="toy", partition="x", files=()), "../escaped")


@pytest.mark.fault(15)
@pytest.mark.parametrize("name", ["../toy", "toy/..", "Toy", "toy.x", "", "t" * 64, "toy'--"])
def test_no_payload_becomes_the_name_of_a_model(name, tmp_path):
    with pytest.raises(ValueError, match="name"):
        toy.spec(tmp_path, name=name)


@pytest.mark.fault(15)
@pytest.mark.parametrize("pattern", ["../*.csv", "/etc/*", "a/../../{partition}.csv", ".."])
def test_no_pattern_leaves_the_folder(pattern, tmp_path):
    with pytest.raises(ValueError, match="leaves the folder"):
        toy.spec(tmp_path, source={"uri": str(tmp_path), "files": [pattern]})
