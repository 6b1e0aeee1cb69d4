"""What a person types: deliver, new and check, and what is said when it cannot be done."""

import re
from datetime import UTC, datetime

import pandas as pd
import pytest
from typer.testing import CliRunner

from mlops_assets.cli import app
from mlops_assets.lifecycle.releasing import Release, release
from mlops_assets.ml.alerts import Alert, name_of
from mlops_assets.ml.ledger import Entry
from mlops_assets.resources.alerts import Alerts
from mlops_assets.resources.channels import Channel
from mlops_assets.resources.ledger import Ledger
from mlops_assets.resources.records import Records
from mlops_assets.resources.registry import Registry
from mlops_assets.simulation.bike import DIRTY_DELIVERY, BikeWorld
from mlops_assets.simulation.delivery import content
from mlops_assets_tests.evidence import candidate, report
from mlops_assets_tests.ml.test_signing import private_text, public_line
from mlops_assets_tests.resources.tracked import logged, tracking_in, trained
from mlops_assets_tests.sinks import http_sink


@pytest.fixture
def type_in(tmp_path, monkeypatch):
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLOPS_LANDING", raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words):
        result = CliRunner().invoke(app, [str(word) for word in words])
        return result.exit_code, result.output

    return run


@pytest.fixture
def landing(tmp_path):
    return tmp_path / "home" / "landing" / "bike_demand"


def test_deliver_sends_the_next_files_in_order(type_in, landing):
    assert type_in("deliver", "bike_demand", "--count", 2)[0] == 0
    status, said = type_in("deliver", "bike_demand")
    assert status == 0
    assert "bike-2011-03.csv" in said
    assert sorted(path.name for path in landing.iterdir()) == [f"bike-2011-0{month}.csv" for month in (1, 2, 3)]


def test_deliver_sends_the_labels_that_are_due_together_with_the_next_rows(type_in, landing):
    market = landing.parent / "electricity_price"
    status, said = type_in("deliver", "electricity_price")
    assert (status, said.count("Delivered")) == (0, 1)
    assert list((market / "labels").iterdir()) == [], "the sensor finds the folder, and in it nothing yet"
    status, said = type_in("deliver", "electricity_price")
    assert (status, said.count("Delivered")) == (0, 2)
    assert "electricity-1996-05-13.csv.gz" in said
    assert [path.name for path in (market / "labels").iterdir()] == ["labels-1996-05-06-1.csv.gz"]


def test_deliver_corrects_a_dirty_delivery_before_it_goes_on(type_in, landing):
    type_in("deliver", "bike_demand", "--count", 12)
    path, world = landing / "bike-2011-12.csv", BikeWorld()
    assert path.read_bytes() == content(world, DIRTY_DELIVERY, attempt=0)
    assert "bike-2011-12.csv" in type_in("deliver", "bike_demand")[1]
    assert path.read_bytes() == content(world, DIRTY_DELIVERY, attempt=1)
    assert "bike-2012-01.csv" in type_in("deliver", "bike_demand")[1]


def test_deliver_says_when_the_world_has_ended(type_in):
    assert type_in("deliver", "bike_demand", "--count", 99)[0] == 0
    status, said = type_in("deliver", "bike_demand")
    assert status == 1
    assert "delivered everything" in said


@pytest.mark.parametrize(
    ("setting", "value", "said"), [("MLOPS_HOME", "s3://bucket/home", "local folders only"), ("X", "", "No world")]
)
def test_deliver_refuses_what_it_cannot_do(type_in, monkeypatch, setting, value, said):
    monkeypatch.setenv(setting, value)
    status, output = type_in("deliver", "bike_demand" if value else "weather")
    assert status == 1
    assert said in output


def test_deliver_leaves_a_folder_alone_that_holds_other_deliveries(type_in, landing):
    landing.mkdir(parents=True)
    (landing / "bike-2011-01.csv").write_text("mine")
    status, said = type_in("deliver", "bike_demand")
    assert status == 1
    assert "is not a delivery of this world" in said
    assert (landing / "bike-2011-01.csv").read_text() == "mine"


@pytest.fixture
def sample(tmp_path):
    path = tmp_path / "sample.csv"
    times = pd.date_range("2024-01-01", periods=900, freq="h")
    frame = pd.DataFrame({"ts": times.astype(str), "load": range(900), "won": ["yes", "no", "no"] * 300})
    frame["load"] %= 7
    frame.to_csv(path, index=False)
    return path


def test_new_writes_a_model_and_says_what_it_inferred(type_in, sample, tmp_path):
    status, said = type_in("new", "wins", "--from", sample, "--target", "won", "--into", tmp_path)
    assert status == 0, said
    assert sorted(path.name for path in (tmp_path / "wins").iterdir()) == ["__init__.py", "contract.py", "defs.yaml"]
    assert "a task of kind binary" in said
    assert "2024-01-01 00:00:00 is 2024-01-01 00:00 UTC" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--target"),
        (["--target", "lost"], "no column 'lost'"),
        (["--target", "won", "--time", "when"], "no column 'when'"),
        (["--target", "won", "--owner", "nobody"], "owner"),
        (["--target", "won", "--task", "guessing"], "task"),
        (["--target", "won", "--timezone", "Mars/Olympus"], "Mars/Olympus"),
    ],
)
def test_new_refuses_what_it_is_not_told_and_cannot_ask(type_in, sample, tmp_path, words, said):
    status, output = type_in("new", "wins", "--from", sample, "--into", tmp_path, *words)
    assert status in {1, 2}
    assert said in output
    assert not (tmp_path / "wins").exists()


def test_new_writes_nothing_into_an_installed_package(type_in, sample, tmp_path):
    into = tmp_path / "site-packages" / "models"
    status, said = type_in("new", "wins", "--from", sample, "--target", "won", "--into", into)
    assert status == 1
    assert "--into" in said
    assert not into.exists()


def test_check_passes_on_the_shipped_models(type_in):
    status, said = type_in("check")
    assert status == 0
    assert re.search(r"\d+ models, 0 with faults", said)


def test_demo_names_the_file_that_is_missing(type_in, tmp_path):
    status, said = type_in("demo", "--data", tmp_path)
    assert status == 1
    assert "hour.csv" in said


def test_alerts_lists_what_is_open_and_over_and_what_became_of_the_messages(type_in, tmp_path, monkeypatch):
    monkeypatch.setenv("MLOPS_ALERTS", "")
    assert type_in("alerts") == (0, "Open alerts: none\n\nMessages: none\n")
    alerts = Alerts(root=str(tmp_path / "home"), ui="http://ui")
    now = datetime(2026, 3, 1, tzinfo=UTC)
    about = {"kind": "drift", "partition": "2026-02", "about": "x", "link": "http://ui/x", "raised": now}
    for model in ("toy", "bike"):
        alerts.raise_(Alert(model=model, sentence=f"[red]{model}[/red] moved.", **about))
    down = [Channel("mail", frozenset(), "json://x")]
    alerts.deliver(lambda: now, to=lambda: down, tell=lambda *_: (False, "connection refused"))
    alerts.resolve([name_of("drift", "bike", "x")], now)
    alerts.deliver(lambda: now, to=lambda: down)
    status, said = type_in("alerts")
    assert status == 0
    assert "[red]toy[/red] moved." in said
    assert "docs/runbooks/drift.md" in said
    assert "bike[/red]" not in said
    assert "mail waiting (connection refused)" in said
    assert "[red]bike[/red] moved." in type_in("alerts", "--past")[1]


def test_alerts_tries_every_channel_and_fails_when_one_does_not_take_it(type_in, monkeypatch):
    monkeypatch.setenv("MLOPS_ALERTS", "")
    assert type_in("alerts", "--test") == (1, "MLOPS_ALERTS names no channel.\n")
    with http_sink() as sink:
        monkeypatch.setenv("MLOPS_ALERTS", f"ops[urgent]={sink.uri}")
        assert type_in("alerts", "--test") == (0, "ops (only urgent): told\n")
        monkeypatch.setenv("MLOPS_ALERTS", f"ops={sink.uri} json://127.0.0.1:9")
        status, said = type_in("alerts", "--test")
    assert (status, len(sink.taken)) == (1, 2)
    assert said.startswith("ops: told\njson: ")


def test_the_ledger_is_shown_and_verified(type_in, tmp_path):
    assert type_in("ledger") == (0, "The ledger has no entry.\n")
    kept = Ledger(uri=f"sqlite:///{tmp_path}/home/ledger.db", anchors=f"{tmp_path}/home/ledger")
    said = {"who": "ada [red]", "why": "It is better.", "when": datetime(2026, 3, 1, tzinfo=UTC)}
    for version in (1, 2):
        kept.append(Entry(kind="released", model="toy", version=version, evidence={"model": "ab" * 32}, **said))
    status, shown = type_in("ledger", "toy")
    assert status == 0
    for text in ("v2 released", "ada [red]: It is better.", "model abababababab", "2026-03-01 00:00:00"):
        assert text in shown
    assert type_in("ledger", "other")[1] == "The ledger has no entry of other.\n"
    assert type_in("ledger", "--verify") == (0, "The ledger is whole: 2 entries.\n")
    (tmp_path / "home" / "ledger.db").unlink()
    status, shown = type_in("ledger", "--verify")
    assert status == 1
    assert "The ledger is broken: entry 1 is missing: the ledger ends before it, and entry 2 was anchored." in shown


def test_a_gate_is_waived_by_a_command_that_says_what_it_did_and_the_ledger_shows_it(type_in, tmp_path):
    words = ("waive", "bike_demand", "artifact_is_small_enough", "--until", "2999-12-31")
    status, said = type_in(*words, "--reason", "x")
    assert (status, "bike_demand has no evaluation_report yet" in said) == (1, True)
    home = tmp_path / "home"
    judged = report(candidate(model="bike_demand"), model="bike_demand")
    Records(root=str(home)).put("bike_demand", "evaluation_report", judged)
    status, said = type_in(*words, "--reason", "It is [red] large.")
    assert status == 0
    assert (
        "Gate artifact_is_small_enough of bike_demand, candidate cccccccccccc, is waived until 3000-01-01 00:00" in said
    )
    status, shown = type_in("ledger")
    assert all(text in shown for text in ("cccccccccccc waived", "gate artifact_is_small_enough", "It is [red] large."))
    for changed, why in (
        (
            ("waive", "bike_demand", "nothing", "--until", "2999-12-31"),
            "bike_demand has no gate 'nothing'.",
        ),
        (("waive", "nobody", "nothing", "--until", "2999-12-31"), "There is no model 'nobody'"),
        ((*words[:4], "2020-12-31"), "has expired already"),
        ((*words, "--candidate", "f" * 12), "is not the candidate that the newest report"),
    ):
        status, said = type_in(*changed, "--reason", "x")
        assert (status, why in said) == (1, True), said
    assert type_in(*words)[0] == 2, "a reason is asked for"


@pytest.fixture
def two_champions(tmp_path):
    """A home with two real versions, of which the second serves: its registry."""
    home = tmp_path / "home"
    home.mkdir()
    tracking = tracking_in(home)
    registry = Registry(root=str(home), tracking_uri=tracking.tracking_uri)
    kept = Ledger(uri=f"sqlite:///{home}/ledger.db", anchors=f"{home}/ledger")
    for number in (1, 2):
        registry.register(logged(tracking, trained(seed=number), f"run-{number}"))
        said = {"who": "ada", "why": "It is better.", "evidence": {}, "judged_against": number - 1 or None}
        release(Release(model="toy", version=number, **said), kept, registry, lambda: datetime.now(UTC))
    return registry


def test_a_champion_is_rolled_back_and_an_alias_restored_by_commands_that_say_what_they_did(type_in, two_champions):
    registry = two_champions
    assert type_in("rollback", "toy", "--reason", "Worse") == (
        0,
        "v1 of toy is champion again, instead of v2 (entry 5).\n",
    )
    assert registry.holder("toy") == 1
    registry._set_alias("toy", "champion", 2)
    assert type_in("restore", "toy", "--reason", "By accident")[1] == "The alias champion of toy is on v1 again.\n"
    assert registry.holder("toy") == 1
    status, said = type_in("rollback", "toy", "--to", 7, "--reason", "x")
    assert status == 1
    assert "toy cannot go back to v7: its champion is v1" in said
    assert type_in("ledger", "--verify") == (0, "The ledger is whole: 8 entries.\n")


def test_what_cannot_serve_is_not_rolled_back_to_and_is_named(type_in, two_champions, tmp_path):
    folder = two_champions.candidate(two_champions.version("toy", 1)).model_uri.removeprefix("models:/")
    next(path for path in tmp_path.rglob(f"{folder}/artifacts/MLmodel")).write_text("loader_module: innocent")
    status, said = type_in("rollback", "toy", "--reason", "Worse")
    assert status == 1
    assert "toy v1 cannot serve: models:/" in said
    assert "MLmodel has SHA-256" in said
    assert two_champions.holder("toy") == 2


def test_a_version_from_before_there_were_keys_is_signed_by_a_command(type_in, two_champions, tmp_path, monkeypatch):
    assert type_in("vouch", "toy", 1) == (1, "MLOPS_SIGNING_KEY names no key to sign with.\n")
    (tmp_path / "key").write_bytes(private_text())
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "people").write_text(f"ada {public_line()}\n")
    monkeypatch.setenv("MLOPS_SIGNING_KEY", str(tmp_path / "key"))
    monkeypatch.setenv("MLOPS_TRUSTED_KEYS", str(tmp_path / "people"))
    status, said = type_in("rollback", "toy", "--reason", "Worse")
    assert (status, "toy v1 is not loaded: it is not signed" in said) == (1, True)
    assert type_in("vouch", "toy", 1)[1].startswith("v1 of toy is signed with the key SHA256:")
    assert type_in("rollback", "toy", "--reason", "Worse")[0] == 0
