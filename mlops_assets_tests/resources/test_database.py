import sqlite3
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import count

import pyarrow as pa
import pytest

from mlops_assets.ml.planning import Memory
from mlops_assets.ml.reading import UnreadableFileError, extract, read
from mlops_assets.ml.spec import SqlSource
from mlops_assets.resources import deliveries as module
from mlops_assets.resources.blobs import Blobs
from mlops_assets.resources.database import Database, _column
from mlops_assets.resources.deliveries import Deliveries
from mlops_assets.resources.landing import UnreachableSourceError
from mlops_assets_tests import toy
from mlops_assets_tests.postgres import postgres_server

QUERY = "SELECT ts, kind, price FROM sales WHERE ts >= :start AND ts < :end"
JANUARY = (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC))
NOW = datetime(2024, 4, 10, tzinfo=UTC)
ROWS = [
    ("2023-12-31 23:59:59", "before", 1.0),
    ("2024-01-01 00:00:00", "first", 2.5),
    ("2024-01-31 23:59:59", "last", None),
    ("2024-02-01 00:00:00", "after", 4.0),
]


@pytest.fixture
def sqlite(tmp_path, monkeypatch):
    """A shop's SQLite database, and a function that changes it."""
    path = tmp_path / "shop.db"

    def change(statement, rows=()):
        with sqlite3.connect(path) as connection:
            connection.executemany(statement, rows) if rows else connection.execute(statement)
        connection.close()

    change("CREATE TABLE sales (ts TEXT, kind TEXT, price REAL)")
    change("INSERT INTO sales VALUES (?, ?, ?)", ROWS)
    monkeypatch.setenv("SHOP_DB", f"sqlite:///{path}")
    return change


@pytest.fixture(scope="module")
def server():
    with postgres_server() as url:
        yield url


@pytest.fixture
def postgres(server, monkeypatch):
    """A shop's PostgreSQL database, with times that know their offset and times that do not."""
    import psycopg2

    monkeypatch.setenv("SHOP_DB", server)
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    connection = psycopg2.connect(server)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SET TIME ZONE 'UTC'")
        cursor.execute("DROP TABLE IF EXISTS sales")
        cursor.execute("CREATE TABLE sales (ts timestamptz, local timestamp, kind text, price numeric(9,2))")
        for ts, kind, price in ROWS:
            cursor.execute("INSERT INTO sales VALUES (%s, %s, %s, %s)", (ts, ts, kind, price))
        yield cursor.execute
    connection.close()


def window(query=QUERY, bounds=JANUARY, timezone="UTC"):
    with Database(SqlSource(url_env="SHOP_DB", query=query), timezone) as database:
        return database.window(*bounds)


def test_a_window_begins_at_its_start_and_ends_before_its_end(sqlite):
    assert window().to_pydict() == {
        "ts": ["2024-01-01 00:00:00", "2024-01-31 23:59:59"],
        "kind": ["first", "last"],
        "price": [2.5, None],
    }


def test_the_same_rows_are_the_same_bytes_in_whatever_order_they_come(sqlite):
    expected = extract(window())
    assert extract(window(f"{QUERY} ORDER BY price DESC")) == expected
    sqlite("UPDATE sales SET price = 2.6 WHERE kind = 'first'")
    assert extract(window()) != expected


def test_cells_of_mixed_kinds_come_as_text(sqlite):
    sqlite("UPDATE sales SET price = 'much' WHERE kind = 'last'")
    assert window()["price"].to_pylist() == ["2.5", "much"]


def test_a_column_of_nothing_can_still_be_stored(sqlite):
    table = window("SELECT ts, NULL AS note FROM sales WHERE ts >= :start AND ts < :end")
    assert table["note"].to_pylist() == [None, None]
    assert extract(table)


def test_columns_of_the_same_name_are_refused(sqlite):
    with pytest.raises(UnreadableFileError, match=r"SHOP_DB gives columns of the same name: ts, ts"):
        window("SELECT ts, ts FROM sales WHERE ts >= :start AND ts < :end")


def test_postgres_honours_offsets_whatever_the_session_says(postgres):
    assert window()["ts"].to_pylist() == [
        datetime(2024, 1, 1, tzinfo=UTC),
        datetime(2024, 1, 31, 23, 59, 59, tzinfo=UTC),
    ]
    assert window()["price"].to_pylist() == [Decimal("2.50"), None]
    berlin = window(timezone="Europe/Berlin")
    assert berlin["ts"].to_pylist() == window()["ts"].to_pylist()
    assert berlin["ts"].type == pa.timestamp("us", "UTC")


def test_postgres_takes_times_without_an_offset_to_be_in_the_declared_zone(postgres):
    query = "SELECT kind FROM sales WHERE local >= :start AND local < :end"
    assert window(query)["kind"].to_pylist() == ["first", "last"]
    assert window(query, timezone="Asia/Tokyo")["kind"].to_pylist() == ["after", "last"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (None, r"SHOP_DB, the database's URL, is not set"),
        ("shop", r"SHOP_DB names no usable database: ArgumentError"),
        ("nothing://u:tiger@h/d", r"SHOP_DB names no usable database: NoSuchModuleError"),
        ("postgresql://u:tiger@127.0.0.1:1/shop", r"SHOP_DB \(127.0.0.1/shop\) did not answer.*refused"),
        ("sqlite:////nowhere/tiger.db", r"SHOP_DB did not answer the query: unable to open"),
    ],
)
def test_a_database_that_cannot_be_reached_is_named_and_its_password_is_not(url, said, monkeypatch):
    monkeypatch.delenv("SHOP_DB", raising=False)
    if url:
        monkeypatch.setenv("SHOP_DB", url)
    with pytest.raises(UnreachableSourceError, match=said) as error:
        window()
    assert "tiger" not in str(error.value)


def test_a_query_that_the_database_refuses_is_told(sqlite):
    with pytest.raises(UnreachableSourceError, match="did not answer the query: no such column: cost"):
        window("SELECT cost FROM sales WHERE ts >= :start AND ts < :end")


@pytest.fixture(params=["sqlite", "postgres"])
def shop(request, tmp_path):
    """A model on each database, and a function that changes a row."""
    change = request.getfixturevalue(request.param)
    source = {"url_env": "SHOP_DB", "query": QUERY, "lookback": 1}
    return toy.spec(tmp_path, source=source), change


def looked(spec, root, memory=None, again=frozenset(), **options):
    return Deliveries(root=str(root)).look(spec, Blobs(root=str(root)), NOW, memory or Memory(), again, **options)


def test_windows_with_rows_are_deliveries_and_only_the_newest_are_looked_at_again(shop, tmp_path):
    spec, change = shop
    first = looked(spec, tmp_path)
    assert [*first.versions] == ["2024-01-01", "2024-02-01"]
    assert first.looked_to == "2024-03-01"
    memory = Memory(looked_to=first.looked_to)
    assert looked(spec, tmp_path, memory).versions == {}
    assert looked(spec, tmp_path, memory, again=frozenset(["2024-01-01"])).versions == {
        "2024-01-01": first.versions["2024-01-01"]
    }
    change("UPDATE sales SET ts = '2024-03-05 00:00:00' WHERE kind = 'after'")
    assert [*looked(spec, tmp_path, memory).versions] == ["2024-03-01"]


def test_a_new_window_is_read_however_many_rows_are_looked_at_again(sqlite, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROWS_A_LOOK", 0)
    spec = toy.spec(tmp_path, source={"url_env": "SHOP_DB", "query": QUERY, "lookback": 2})
    sqlite("INSERT INTO sales VALUES ('2024-03-05 00:00:00', 'new', 1.0)")
    look = looked(spec, tmp_path, Memory(looked_to="2024-02-01"))
    assert (look.looked_to, look.newest) == ("2024-03-01", "2024-03-01")
    assert [*look.versions] == ["2024-03-01"]
    assert "2024-02-01" in look.waiting


def test_looks_with_a_small_budget_reach_the_newest_window(sqlite, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROWS_A_LOOK", 0)
    spec = toy.spec(tmp_path, source={"url_env": "SHOP_DB", "query": QUERY, "lookback": 3})
    sqlite("INSERT INTO sales VALUES ('2024-03-05 00:00:00', 'new', 1.0)")
    memory, reached = Memory(), []
    for _ in range(3):
        memory = Memory(looked_to=looked(spec, tmp_path, memory).looked_to)
        reached.append(memory.looked_to)
    assert reached == ["2024-01-01", "2024-02-01", "2024-03-01"]


def test_windows_that_a_look_had_no_time_for_are_the_first_of_the_next(sqlite, tmp_path):
    spec = toy.spec(tmp_path, source={"url_env": "SHOP_DB", "query": QUERY, "lookback": 3})
    sqlite("INSERT INTO sales VALUES ('2024-03-05 00:00:00', 'new', 1.0)")
    memory = Memory(looked_to="2024-03-01")
    looks = [looked(spec, tmp_path, memory, stopwatch=count(step=21).__next__) for _ in range(4)]
    assert [[*look.versions] for look in looks] == [["2024-01-01"], ["2024-02-01"], ["2024-03-01"], ["2024-01-01"]]
    assert len(looked(spec, tmp_path, memory).versions) == 3


def test_what_is_fetched_is_what_was_seen_and_reads_back(shop, tmp_path):
    spec, _ = shop
    blobs = Blobs(root=str(tmp_path))
    fetched = Deliveries(root=str(tmp_path)).fetch(spec, ["2024-01-01", "2024-03-01"], blobs, NOW)
    assert fetched.problems == {"2024-03-01": "the query of SHOP_DB gives no rows for it"}
    delivery = fetched.deliveries["2024-01-01"]
    assert delivery.version == looked(spec, tmp_path).versions["2024-01-01"]
    with blobs.open(delivery.files[0].sha256) as stream:
        table = read(stream, delivery.files[0].name, spec.source, {"price": pa.float64(), "ts": pa.string()})
    assert table["price"].to_pylist() == [2.5, None]
    assert table.num_rows == 2


def test_offsets_are_honoured_although_pandera_tells_arrow_to_ignore_them(monkeypatch):
    monkeypatch.setenv("PYARROW_IGNORE_TIMEZONE", "1")
    noon = datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert pa.array([noon]).cast(pa.timestamp("us", "UTC")).to_pylist() == [noon.replace(tzinfo=UTC)]  # the trap
    assert _column([noon, None]).to_pylist() == [noon, None]


def test_a_window_that_cannot_be_queried_leaves_the_others(postgres, tmp_path):
    postgres("UPDATE sales SET price = 0 WHERE kind = 'after'")
    query = "SELECT ts, 1 / price AS share FROM sales WHERE ts >= :start AND ts < :end"
    spec = toy.spec(tmp_path, source={"url_env": "SHOP_DB", "query": query})
    fetched = Deliveries(root=str(tmp_path)).fetch(spec, ["2024-01-01", "2024-02-01"], Blobs(root=str(tmp_path)), NOW)
    assert [*fetched.deliveries] == ["2024-01-01"]
    assert "division by zero" in fetched.problems["2024-02-01"]
