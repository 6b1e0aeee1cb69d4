"""Where keys come from: files that the environment names, read when they are needed, and shown nowhere."""

import base64

import pytest

from mlops_assets import settings
from mlops_assets.ml.signing import RevokedKeyError
from mlops_assets.resources.keys import Keys, KeyUnavailableError, keys_here
from mlops_assets_tests.ml.test_signing import private_text, public_line, public_pem, secret


@pytest.fixture
def private(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(private_text())
    path.chmod(0o600)
    return path


def test_without_settings_there_is_no_key_and_nothing_needs_to_be_signed(monkeypatch):
    for setting in (settings.SIGNING_KEY, settings.TRUSTED_KEYS):
        monkeypatch.delenv(setting.name, raising=False)
    assert (keys_here().signer(), keys_here().trust()) == (None, None)


def test_the_environment_names_both(monkeypatch, private, tmp_path):
    (tmp_path / "people").write_text(f"ana {public_line()}\n")
    monkeypatch.setenv(settings.SIGNING_KEY.name, str(private))
    monkeypatch.setenv(settings.TRUSTED_KEYS.name, str(tmp_path / "people"))
    keys = keys_here()
    assert keys.trust().person("approval", 1, keys.signer().sign("approval", 1)) == "ana"


def test_a_folder_holds_a_file_a_person_and_what_lies_in_revoked_counts_no_more(private, tmp_path):
    folder = tmp_path / "people"
    (folder / "revoked").mkdir(parents=True)
    (folder / "ana@example.org.pub").write_text(public_pem())
    (folder / "ben.pub").write_text(public_line(secret(1)) + " ben@laptop\n" + public_line(secret(2)))
    keys = Keys(signing=str(private), trusted=str(folder))
    signed = keys.signer().sign("approval", 1)
    assert keys.trust().person("approval", 1, signed) == "ana@example.org"
    assert [each.person for each in keys.trust().keys] == ["ana@example.org", "ben", "ben"]

    (folder / "ana@example.org.pub").rename(folder / "revoked" / "ana@example.org.pub")
    with pytest.raises(RevokedKeyError):
        keys.trust().person("approval", 1, signed)


def test_an_empty_folder_trusts_nobody(tmp_path):
    assert Keys(trusted=str(tmp_path)).trust().keys == ()


@pytest.mark.parametrize("what", ["signing", "trusted"])
def test_a_file_that_is_not_there_is_named_with_its_setting(what, tmp_path):
    keys = Keys(**{what: str(tmp_path / "gone")})
    with pytest.raises(KeyUnavailableError, match=r"MLOPS_\w+ \(.*gone\) cannot be read: No such file"):
        keys.signer() if what == "signing" else keys.trust()


@pytest.mark.parametrize(("mode", "refused"), [(0o600, False), (0o640, False), (0o644, True), (0o604, True)])
def test_a_private_key_that_everybody_can_read_is_refused(private, mode, refused):
    private.chmod(mode)
    if not refused:
        assert Keys(signing=str(private)).signer() is not None
        return
    with pytest.raises(KeyUnavailableError, match=r"can be read by everybody on this machine\. chmod 600 it"):
        Keys(signing=str(private)).signer()


def test_a_file_of_something_else_is_refused_without_showing_it(tmp_path):
    path = tmp_path / "key"
    path.write_text("token-1234")
    path.chmod(0o600)
    for read in (Keys(signing=str(path)).signer, Keys(trusted=str(path)).trust):
        with pytest.raises(KeyUnavailableError) as refused:
            read()
        assert "token-1234" not in str(refused.value)


def test_the_resource_shows_paths_and_no_key(private):
    keys = Keys(signing=str(private))
    keys.signer()
    assert base64.b64encode(bytes(range(32))).decode() not in repr(keys)
    assert private_text().decode().splitlines()[1] not in repr(keys)
