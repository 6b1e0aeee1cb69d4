"""Signatures: what was signed by whom is known, and nothing else passes for it."""

import base64

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import assume, given
from hypothesis import strategies as st

from mlops_assets.ml.signing import (
    ForgedSignatureError,
    RevokedKeyError,
    Signature,
    SigningError,
    Trust,
    UnknownKeyError,
    read_people,
    read_public_keys,
    read_signing_key,
)

PEM, OPENSSH = serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.OpenSSH
STATEMENT = {"model": "toy", "version": 3, "evidence": {"model": "a" * 64}}


def secret(first=0):
    return ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(first, first + 32)))


def private_text(key=None, form=PEM, encryption=None):
    how = encryption or serialization.NoEncryption()
    return (key or secret()).private_bytes(serialization.Encoding.PEM, form, how)


def public_line(key=None):
    form = serialization.PublicFormat.OpenSSH
    return (key or secret()).public_key().public_bytes(serialization.Encoding.OpenSSH, form).decode()


def public_pem(key=None):
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return (key or secret()).public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def signer(first=0):
    return read_signing_key(private_text(secret(first)), "the test's key")


def trust(text):
    return Trust(keys=read_people(text, "people"))


def flipped(text, bit):
    raw = bytearray(base64.b64decode(text))
    raw[bit // 8 % len(raw)] ^= 1 << bit % 8
    return base64.b64encode(raw).decode()


ANA = trust(f"ana {public_line()}")
SIGNED = signer().sign("approval", STATEMENT)


@pytest.mark.parametrize("form", [PEM, OPENSSH])
def test_a_key_is_read_from_pem_and_openssh_text_and_named_as_ssh_keygen_names_it(form):
    key = read_signing_key(private_text(form=form), "the test's key")
    assert key.fingerprint == "SHA256:lbmsoA0yIEcEiVDRnMWuzm+nV+3ZEEpVIURqFoeSspg"


@pytest.mark.parametrize("text", [public_line(), public_line() + " ana@laptop\n# a comment\n", public_pem()])
def test_a_public_key_is_read_from_a_line_and_from_pem(text):
    [found] = read_public_keys(text, "ana", "ana.pub")
    assert (found.person, found.key.fingerprint, found.revoked) == ("ana", signer().fingerprint, False)


def test_who_signed_is_known_by_the_key():
    assert ANA.person("approval", STATEMENT, SIGNED) == "ana"


@given(bit=st.integers(0, 511))
def test_a_flipped_bit_of_the_signature_is_found(bit):
    forged = Signature(key=SIGNED.key, signature=flipped(SIGNED.signature, bit))
    with pytest.raises(ForgedSignatureError):
        ANA.person("approval", STATEMENT, forged)


@pytest.mark.parametrize("bit", range(4))
def test_a_flipped_bit_of_the_letter_that_ends_a_signature_is_found_too(bit):
    *letters, last, end, ending = SIGNED.signature
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    text = "".join([*letters, alphabet[alphabet.index(last) ^ 1 << bit], end, ending])
    with pytest.raises(ForgedSignatureError):
        ANA.person("approval", STATEMENT, Signature(key=SIGNED.key, signature=text))


@given(statement=st.recursive(st.integers() | st.text(), lambda of: st.lists(of) | st.dictionaries(st.text(), of)))
def test_a_signature_is_of_one_statement_and_one_purpose(statement):
    signed = signer().sign("approval", statement)
    assert ANA.person("approval", statement, signed) == "ana"
    with pytest.raises(ForgedSignatureError, match="not of this approval"):
        ANA.person("approval", [statement], signed)
    with pytest.raises(ForgedSignatureError, match="not of this model"):
        ANA.person("model", statement, signed)


@given(text=st.text())
def test_text_that_is_no_signature_is_refused_as_one_that_does_not_hold(text):
    assume(text != SIGNED.signature)
    with pytest.raises(ForgedSignatureError):
        ANA.person("approval", STATEMENT, Signature(key=SIGNED.key, signature=text))


def test_a_key_of_nobody_is_refused_and_named():
    with pytest.raises(UnknownKeyError, match=signer(1).fingerprint.replace("+", r"\+")):
        ANA.person("approval", STATEMENT, signer(1).sign("approval", STATEMENT))


def test_a_signature_with_the_wrong_key_under_the_right_name_is_refused():
    wrong = signer(1).sign("approval", STATEMENT)
    with pytest.raises(ForgedSignatureError):
        ANA.person("approval", STATEMENT, Signature(key=SIGNED.key, signature=wrong.signature))


@pytest.mark.parametrize(
    "text",
    [f"@revoked ana {public_line()}", f"ana {public_line()}\n@revoked eve {public_line()}"],
    ids=["by its owner's line", "by any line"],
)
def test_a_revoked_key_counts_nowhere(text):
    with pytest.raises(RevokedKeyError, match="of ana was revoked"):
        trust(text).person("approval", STATEMENT, SIGNED)


def test_a_key_that_two_people_share_is_nobodys():
    with pytest.raises(UnknownKeyError, match="stands for ana, eve"):
        trust(f"ana {public_line()}\neve {public_line()}").person("approval", STATEMENT, SIGNED)


def test_a_key_with_a_passphrase_is_refused_and_says_so():
    locked = private_text(encryption=serialization.BestAvailableEncryption(b"x"))
    with pytest.raises(SigningError, match=r"MLOPS_SIGNING_KEY has a passphrase"):
        read_signing_key(locked, "MLOPS_SIGNING_KEY")


@pytest.mark.parametrize("content", [b"", b"nothing", public_pem().encode(), private_text()[:60], b"\xff\x00"])
def test_text_that_is_no_private_key_is_refused_without_showing_it(content):
    with pytest.raises(SigningError) as refused:
        read_signing_key(content, "key.pem")
    assert str(refused.value) == "key.pem holds no private key in PEM or OpenSSH text."
    assert refused.value.__cause__ is None


def test_a_key_of_another_kind_is_refused():
    other = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(SigningError, match="no Ed25519 key"):
        read_signing_key(private_text(other), "key.pem")
    with pytest.raises(SigningError, match=r"people:1 is no Ed25519 key"):
        trust(f"ana {public_line(other)}")
    with pytest.raises(SigningError, match=r"ana.pub is no Ed25519 key"):
        read_public_keys(public_pem(other), "ana", "ana.pub")


@pytest.mark.parametrize("text", ["ana", "ana ssh-ed25519", "ana ssh-ed25519 AAAA", public_line(), "@revoked"])
def test_a_line_that_names_no_person_and_key_is_refused_by_its_number(text):
    with pytest.raises(SigningError, match=r"people:2 is no public key such as `ssh-ed25519 \.\.\.`"):
        trust(f"# who may approve\n{text}")


def test_a_file_that_is_no_public_pem_is_refused():
    with pytest.raises(SigningError, match=r"ana.pub holds no public key in PEM text"):
        read_public_keys(private_text().decode(), "ana", "ana.pub")


def test_a_private_key_shows_its_fingerprint_and_nothing_else():
    key = signer()
    raw = base64.b64encode(bytes(range(32))).decode()
    assert raw not in repr(key)
    assert repr(bytes(range(32))) not in repr(key)
    assert "secret" not in repr(key)
