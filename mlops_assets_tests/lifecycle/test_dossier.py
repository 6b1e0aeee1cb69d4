"""The card and the approver's page of a version, on real MLflow, Dagster and ledger."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlops_assets.lifecycle.approving import Desk
from mlops_assets.lifecycle.dossier import CARD, Dossier
from mlops_assets.ml.card import Card
from mlops_assets.ml.ledger import Entry
from mlops_assets.ml.training import Candidate
from mlops_assets_tests import toy
from mlops_assets_tests.approving import PEOPLE, Office, made
from mlops_assets_tests.evidence import comparison, report
from mlops_assets_tests.homes import instance_at
from mlops_assets_tests.lifecycle.stages import metadata, run, validate, validated
from mlops_assets_tests.toy import Workshop

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
WEAK = {"path": "sklearn.dummy.DummyRegressor"}
GOOD = {"path": "sklearn.ensemble.HistGradientBoostingRegressor", "params": {"max_iter": 20}}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A weak champion v1, and v2 that took its place; with what each run showed."""
    folder = tmp_path_factory.mktemp("dossier")
    with instance_at(folder) as instance:
        weak = validated(Workshop(folder / "home", instance, {"estimator": WEAK, "gates": []}))
        first = run(weak)
        validate(weak, toy.MONTHS[3])
        opened = Workshop(folder / "home", instance, {"estimator": GOOD, "gates": []})
        second = run(opened)
        assert first.success
        assert second.success
        opened.first, opened.second = first, second
        yield opened


def dossier(shop) -> Dossier:
    wired = {name: shop.resources[name] for name in ("ledger", "registry", "records", "blobs", "keys")}
    return Dossier.at(Desk(spec=shop.spec, clock=lambda: NOON, **wired))


def page(shop, kind: str, version: int) -> str:
    return Path(shop.home, "reports", "toy", kind, f"v{version}.html").read_text()


def test_the_card_stands_in_the_metadata_of_the_version_and_both_pages_are_linked(shop):
    shown = metadata(shop.second, "registered_version")
    assert shown["model_card"].startswith("# toy v2\n\n## Purpose\n\nSales of a shop by the hour")
    assert "## Against the champion: better" in shown["model_card"]
    assert shown["model_card_page"].endswith("/toy/card/v2.html")
    assert shown["evidence_page"].endswith("/toy/release/v2.html")
    assert metadata(shop.second, "champion")["evidence_page"].endswith("/toy/release/v2.html")


def test_the_card_of_each_version_is_kept_with_what_it_was_made_of(shop):
    one, two = (shop.resources["records"].get(Card, "toy", CARD, f"v{number}") for number in (1, 2))
    assert (one.version, two.version) == (1, 2)
    assert [part.role for part in two.parts] == ["learned from", "learned from", "learned from", "judged on"]
    assert [part.rows for part in two.parts] == [300] * 4
    assert two.candidate == shop.resources["records"].get(Candidate, "toy", "trained_model")
    assert (two.drift.partition, two.drift.version, two.drift.prediction is None) == ("2024-04-01", 2, False)
    assert two.registered == shop.resources["registry"].version("toy", 2).registered


def test_the_page_says_who_serves_after_the_release_and_shows_the_pictures_of_the_report(shop):
    told = page(shop, "release", 2)
    assert "<h1>toy v2 is champion</h1>" in told
    assert "predicted against actual, unseen rows" in told
    assert "Gain in mae on champion v1, on the same 300 rows" in told
    assert page(shop, "card", 2).count("<h2>") == 10


def test_a_version_that_does_not_serve_any_more_asks_to_serve_instead_of_the_champion(shop):
    assert dossier(shop).refresh(1)["evidence_page"].value.endswith("/toy/release/v1.html")
    told = page(shop, "release", 1)
    assert "<h1>May toy v1 serve, instead of champion v2?</h1>" in told
    assert "The rules advise against it." in told


def test_what_is_said_later_stands_on_the_pages_when_they_are_written_anew(shop):
    candidate = shop.resources["records"].get(Candidate, "toy", "trained_model").model_sha256
    waiver = {"kind": "waived", "candidate": candidate, "gate": "skill", "expires": NOON + timedelta(days=7)}
    shop.resources["ledger"].append(Entry(model="toy", who="ada", why="The fair is on.", when=NOON, **waiver))
    assert "The fair is on." not in page(shop, "release", 2)
    dossier(shop).refresh(2)
    for kind in ("release", "card"):
        assert "The fair is on." in page(shop, kind, 2)
        assert "2030-01-08 12:00" in page(shop, kind, 2)


def test_a_version_without_a_card_has_no_pages(shop):
    assert dossier(shop).refresh(7) == {}


@pytest.fixture
def office(tmp_path):
    """Where version 2 waits for ana and ben, and has a card."""
    office = Office.open(tmp_path, *PEOPLE, approvals_needed=2)
    of = made(2)
    judged = report(of, champion=comparison(1.0), champion_absent=None)
    shown = Dossier.at(office.desk()).open(
        Card(model="toy", version=2, registered=NOON, candidate=of, report=judged, parts=())
    )
    assert "model_card" in shown
    return office


def asked(office) -> str:
    Dossier.at(office.desk()).refresh(2)
    return Path(office.home, "reports/toy/release/v2.html").read_text()


def test_before_anybody_was_asked_the_page_says_so_and_shows_no_command(office):
    told = asked(office)
    assert "nobody has been asked about it yet" in told
    assert "Say yes or no" not in told


def test_while_people_are_asked_the_page_shows_how_to_answer_what_is_missing_and_what_binds(office):
    standing = office.ask()
    told = asked(office)
    assert "<h1>May toy v2 serve, instead of champion v1?</h1>" in told
    assert "mlops-assets approve toy 2 --reason &quot;...&quot;" in told
    assert "mlops-assets refuse toy 2 --reason &quot;...&quot;" in told
    assert "waits for the approval of 2 of ana, ben until" in told
    evidence = standing.question.entry.evidence
    assert [digest for digest in evidence.values() if digest not in told] == []


def test_an_answer_stands_on_the_page_with_how_the_person_is_known_and_until_when(office):
    office.ask()
    office.says("ana", why="I read it all.")
    told = asked(office)
    assert "I read it all." in told
    assert "key SHA256:" in told
    assert "waits for the approval of 1 of ben" in told
    office.says("ben")
    office.desk().settle()
    told = asked(office)
    assert "<h1>toy v2 is champion</h1>" in told
    assert "Say yes or no" not in told
