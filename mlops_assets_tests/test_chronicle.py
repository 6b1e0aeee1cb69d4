"""What a person types to approve or refuse: in whose name it is written, and how little it proves without a key."""

from datetime import UTC, datetime

import pytest

from mlops_assets import chronicle, settings
from mlops_assets.ml.approvals import SignedAnswer
from mlops_assets.resources.keys import KeyUnavailableError
from mlops_assets_tests.approving import PEOPLE, Office, private_key


@pytest.fixture
def office(tmp_path, monkeypatch):
    """An office at MLOPS_HOME, in which version 2 waits; `ana` is who types."""
    for setting in (settings.SIGNING_KEY, settings.TRUSTED_KEYS, settings.TRACKING_URI, settings.LEDGER):
        monkeypatch.delenv(setting.name, raising=False)
    monkeypatch.setenv(settings.HOME.name, str(tmp_path))
    monkeypatch.setenv("LOGNAME", "ana")
    office = Office.open(tmp_path, *PEOPLE)
    office.now = datetime.now(UTC)
    office.ask()
    return office


def with_key(office, monkeypatch, person):
    path = office.home / "key"
    path.write_bytes(private_key(person))
    path.chmod(0o600)
    monkeypatch.setenv(settings.SIGNING_KEY.name, str(path))
    monkeypatch.setenv(settings.TRUSTED_KEYS.name, office.keys.trusted)


def test_it_is_written_in_the_name_of_whose_key_it_is(office, monkeypatch):
    with_key(office, monkeypatch, "ben")
    said = chronicle.answer(office.spec, 2, "approved", "I read the page.")
    assert said == "ben approved v2 of toy. v2 of toy was approved by ben."
    entry = office.ledger.links()[-1].entry
    assert (entry.who, entry.via) == ("ben", "key")
    assert office.desk().settle().who == "ben"


def test_without_a_key_it_is_written_in_the_name_of_the_user_and_said_to_be_weak(office):
    said = chronicle.answer(office.spec, 2, "approved", "I read the page.")
    assert "It is not signed: that it was ana is only what the operating system says." in said
    entry = office.ledger.links()[-1].entry
    assert (entry.who, entry.via, entry.signature) == ("ana", "system", None)
    assert office.desk().standing().state == "waiting"


def test_what_sign_prints_is_written_nowhere(office, monkeypatch):
    with_key(office, monkeypatch, "ana")
    told = SignedAnswer.model_validate_json(chronicle.sign(office.spec, 2, "refused", "No."))
    assert told.who == "ana"
    assert office.kinds() == [("asked", 2)]


def test_without_a_key_there_is_nothing_to_sign_with(office):
    with pytest.raises(KeyUnavailableError, match="There is no key to sign with: set MLOPS_SIGNING_KEY"):
        chronicle.sign(office.spec, 2, "approved", "x")
