"""The ledger's table, on real SQLite and PostgreSQL: appended to by one at a time, changed by nobody unseen."""

import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError

from mlops_assets.ml.ledger import Entry
from mlops_assets.resources import ledger as tables
from mlops_assets.resources.ledger import TABLE, BrokenLedgerError, Ledger, LedgerUnavailableError
from mlops_assets_tests.postgres import postgres_server

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def server():
    with postgres_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request, tmp_path):
    if request.param == "sqlite":
        yield Ledger(uri=f"sqlite:///{tmp_path}/new/ledger.db", anchors=str(tmp_path / "anchors"))
        return
    url = request.getfixturevalue("server")
    yield Ledger(uri=url, anchors=str(tmp_path / "anchors"))
    with tables._engine(url).begin() as connection:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {TABLE}")


def entry(version=1, **changes):
    said = {"who": "ada", "why": "It is better.", "when": NOON + timedelta(minutes=version)}
    return Entry.model_validate({"kind": "released", "model": "toy", "version": version, **said, **changes})


def execute(ledger, statement):
    with tables._engine(ledger.uri).connect() as connection:
        connection.exec_driver_sql(statement)
        connection.commit()


def unprotect(ledger):
    """What somebody does who owns the table: take the triggers off."""
    if ledger.uri.startswith("sqlite"):
        for name in ("no_update", "no_delete", "in_order"):
            execute(ledger, f"DROP TRIGGER {TABLE}_{name}")
    else:
        execute(ledger, f"ALTER TABLE {TABLE} DISABLE TRIGGER ALL")


def filled(ledger, count=5):
    for number in range(1, count + 1):
        ledger.append(entry(number))
    return ledger


def test_a_ledger_that_nobody_wrote_to_is_empty_and_whole(ledger):
    assert ledger.links() == ()
    assert ledger.verify() is None


def test_what_is_appended_is_read_in_order_and_by_model(ledger):
    ledger.append(entry(1))
    ledger.append(entry(1, model="other"))
    ledger.append(entry(2))
    assert [link.sequence for link in ledger.links()] == [1, 2, 3]
    assert [link.entry for link in ledger.links("toy")] == [entry(1), entry(2)]
    assert ledger.verify() is None


def test_a_turn_sees_what_it_appended_and_an_error_in_it_leaves_nothing(ledger):
    with ledger.turn() as turn:
        turn.append(entry(1))
        turn.append(entry(2))
        assert [link.entry.version for link in turn.links("toy")] == [1, 2]
    with pytest.raises(ZeroDivisionError), ledger.turn() as turn:
        turn.append(entry(3 // (turn.append(entry(3)).sequence - 3)))
    assert [link.entry.version for link in ledger.links()] == [1, 2]
    assert ledger.append(entry(4)).sequence == 3
    assert ledger.verify() is None


def test_what_is_in_a_turn_is_seen_by_others_when_it_has_ended(ledger):
    ledger.append(entry(1))
    with ledger.turn() as turn:
        turn.append(entry(2))
        assert len(ledger.links()) == 1
    assert len(ledger.links()) == 2


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE {TABLE} SET payload = 'x' WHERE sequence = 2",
        f"DELETE FROM {TABLE} WHERE sequence = 5",
        f"DELETE FROM {TABLE}",
        f"INSERT INTO {TABLE} VALUES (7, 'toy', 'x', 'x')",
        f"INSERT INTO {TABLE} VALUES (3, 'toy', 'x', 'x')",
    ],
)
def test_the_database_itself_refuses_to_change_what_was_written(ledger, statement):
    filled(ledger)
    with pytest.raises(DBAPIError, match="the ledger is append-only"):
        execute(ledger, statement)
    assert len(ledger.links()) == 5
    assert ledger.verify() is None


@pytest.mark.parametrize(
    ("ledger", "statement"),
    [
        ("sqlite", f"INSERT OR REPLACE INTO {TABLE} VALUES (3, 'toy', 'x', 'x')"),
        ("postgres", f"TRUNCATE {TABLE}"),
        (
            "postgres",
            f"INSERT INTO {TABLE} VALUES (3, 'toy', 'x', 'x') ON CONFLICT (sequence) DO UPDATE SET model = 'x'",
        ),
    ],
    indirect=["ledger"],
)
def test_the_back_doors_of_each_database_are_closed_too(ledger, statement):
    filled(ledger)
    with pytest.raises(DBAPIError, match="the ledger is append-only"):
        execute(ledger, statement)
    assert ledger.verify() is None


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (f"UPDATE {TABLE} SET payload = replace(payload, 'ada', 'eve') WHERE sequence = 2", "entry 2 is not what was"),
        (f"UPDATE {TABLE} SET model = 'other' WHERE sequence = 4", "entry 4 is not what was written"),
        (f"DELETE FROM {TABLE} WHERE sequence = 3", "entry 3 is missing"),
        (f"DELETE FROM {TABLE} WHERE sequence > 3", "entry 4 is missing: the ledger ends before it, and entry 5 was"),
        (f"DELETE FROM {TABLE}", "entry 1 is missing"),
        (f"DROP TABLE {TABLE}", "entry 1 is missing"),
        (f"INSERT INTO {TABLE} VALUES (6, 'toy', 'x', 'x')", "entry 6 is not what was written"),
    ],
)
def test_who_takes_the_triggers_off_is_found_out(ledger, statement, named):
    unprotect(filled(ledger))
    execute(ledger, statement)
    assert named in ledger.verify()


def test_nothing_is_appended_to_a_ledger_whose_end_was_cut_off(ledger):
    filled(ledger)
    unprotect(ledger)
    execute(ledger, f"DELETE FROM {TABLE} WHERE sequence > 3")
    with pytest.raises(BrokenLedgerError, match="ends at entry 3, and entry 5 was anchored"):
        ledger.append(entry(9))
    elsewhere = Ledger(uri=ledger.uri, anchors=f"{ledger.anchors}-of-an-outsider")
    elsewhere.append(entry(9))
    elsewhere.append(entry(9))
    assert "entry 4 is another than was anchored" in ledger.verify()


def test_heads_that_contradict_each_other_are_both_kept_and_found(ledger):
    filled(ledger, 2)
    forked = Ledger(uri=ledger.uri, anchors=ledger.anchors)
    forked._anchor(ledger.links()[1].model_copy(update={"hash": "0" * 64}))
    assert "entry 2 is another than was anchored" in ledger.verify()


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A ledger in SQLite whose triggers somebody has taken off."""
    folder = tmp_path_factory.mktemp("kept")
    ledger = filled(Ledger(uri=f"sqlite:///{folder}/ledger.db", anchors=str(folder / "anchors")))
    unprotect(ledger)
    return folder


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(1, 5), column=st.sampled_from(["model", "payload", "hash"]), bit=st.integers(0, 4000))
def test_one_flipped_bit_in_the_database_is_found_and_its_entry_named(kept, tmp_path, place, column, bit):
    shutil.copy(kept / "ledger.db", tmp_path / "ledger.db")
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.text_factory = bytes
        (stored,) = connection.execute(f"SELECT {column} FROM {TABLE} WHERE sequence = ?", (place,)).fetchone()
        turned = bytearray(stored)
        turned[bit // 8 % len(turned)] ^= 1 << bit % 8
        connection.execute(f"UPDATE {TABLE} SET {column} = CAST(? AS TEXT) WHERE sequence = ?", (bytes(turned), place))
    connection.close()
    changed = Ledger(uri=f"sqlite:///{tmp_path}/ledger.db", anchors=str(kept / "anchors"))
    assert f"entry {place} is not what was written" in changed.verify()


def test_an_entry_whose_anchor_cannot_be_kept_is_said_and_stands(tmp_path):
    ledger = Ledger(uri=f"sqlite:///{tmp_path}/ledger.db", anchors="/proc/nowhere")
    with pytest.raises(LedgerUnavailableError, match=r"Entry 1 stands .* MLOPS_LEDGER_ANCHORS"):
        ledger.append(entry(1))
    assert len(ledger.links()) == 1


def test_nothing_is_appended_where_anchors_cannot_be_read(tmp_path):
    (tmp_path / "anchors").write_text("a file, not a folder")
    ledger = Ledger(uri=f"sqlite:///{tmp_path}/ledger.db", anchors=str(tmp_path / "anchors"))
    with pytest.raises(LedgerUnavailableError, match=r"anchors cannot be read .* MLOPS_LEDGER_ANCHORS"):
        ledger.append(entry(1))
    assert ledger.links() == ()


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("postgresql://nobody@127.0.0.1:9/ledger", "did not take its turn"),
        ("sqlite:///s3://bucket/home/ledger.db", "SQLite cannot live in an object store"),
        ("sqlite:////proc/ledger.db", "did not take its turn"),
    ],
)
def test_a_database_that_cannot_be_used_is_said_with_the_setting(tmp_path, uri, said):
    with pytest.raises(LedgerUnavailableError, match=said) as caught:
        Ledger(uri=uri, anchors=str(tmp_path)).append(entry(1))
    assert "MLOPS_LEDGER" in str(caught.value)


def test_a_role_that_may_only_read_and_append_suffices(server, tmp_path):
    owner = filled(Ledger(uri=server, anchors=str(tmp_path / "anchors")), 1)
    execute(owner, "CREATE ROLE clerk LOGIN")
    execute(owner, f"GRANT SELECT, INSERT ON {TABLE} TO clerk")
    url = sqlalchemy.make_url(server).set(username="clerk").render_as_string()
    clerk = Ledger(uri=url, anchors=str(tmp_path / "anchors"))
    clerk.append(entry(2))
    assert clerk.verify() is None
    with pytest.raises(DBAPIError, match="permission denied"):
        execute(clerk, f"DELETE FROM {TABLE}")
    execute(owner, f"DROP TABLE {TABLE}")
    execute(owner, "DROP ROLE clerk")


def test_two_that_open_a_fresh_ledger_at_once_make_one_table(ledger):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        found = sorted(link.sequence for link in pool.map(lambda number: ledger.append(entry(number)), range(1, 9)))
    assert found == list(range(1, 9))
    assert ledger.verify() is None
    anchored = sorted(path.name for path in Path(ledger.anchors).iterdir())
    assert anchored == [f"{link.sequence:09d}-{link.hash}" for link in ledger.links()]
