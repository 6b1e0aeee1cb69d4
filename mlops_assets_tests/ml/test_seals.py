"""Seals: a version is vouched for by name and number, and a signature of one is none of another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.ml.seals import BrokenSealError, Seal, Statement, seal, voucher
from mlops_assets_tests.ml.test_signing import public_line, secret, signer, trust

V2 = Statement(model="toy", version=2, candidate="c" * 64, record="d" * 64)
SEALED = seal(V2, signer())
ANA = trust(f"ana {public_line()}")


def test_who_signed_a_version_is_known():
    assert voucher(SEALED, V2, ANA) == "ana"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"version": 3}, "what ana signed is toy v2: it was put in the place of toy v3"),
        ({"version": 1}, "what ana signed is toy v2: it was put in the place of toy v1"),
        ({"model": "bike"}, "what ana signed is toy v2: it was put in the place of bike v2"),
        ({"record": "e" * 64}, f"ana signed the record {'d' * 64}, and the registry names {'e' * 64}"),
        ({"candidate": "e" * 64}, "somebody changed the registry by hand"),
    ],
)
def test_a_signature_in_the_place_of_another_is_refused_and_named(changes, why):
    with pytest.raises(BrokenSealError, match=why):
        voucher(SEALED, V2.model_copy(update=changes), ANA)


def test_what_is_unsigned_is_refused():
    with pytest.raises(BrokenSealError, match="it is not signed, and keys are configured"):
        voucher(None, V2, ANA)


def test_a_signature_by_a_key_of_nobody_and_by_a_revoked_one_is_refused():
    with pytest.raises(BrokenSealError, match="is nobody's"):
        voucher(seal(V2, signer(1)), V2, ANA)
    revoked = trust(f"@revoked ben {public_line(secret(1))}")
    with pytest.raises(BrokenSealError, match="of ben was revoked"):
        voucher(seal(V2, signer(1)), V2, revoked)


def test_a_statement_that_was_changed_after_it_was_signed_is_refused():
    found = Seal.model_validate_json(SEALED)
    forged = found.model_copy(update={"statement": V2.model_copy(update={"version": 3})})
    with pytest.raises(BrokenSealError, match="not of this registration"):
        voucher(forged.text(), V2.model_copy(update={"version": 3}), ANA)


def test_the_same_statement_written_otherwise_is_refused():
    with pytest.raises(BrokenSealError, match="not written as it was"):
        voucher(f" {SEALED}", V2, ANA)


@given(place=st.integers(0, 8 * len(SEALED) - 1))
def test_a_flipped_bit_anywhere_is_found(place):
    content = bytearray(SEALED.encode())
    content[place // 8] ^= 1 << place % 8
    with pytest.raises(BrokenSealError):
        voucher(content.decode("utf-8", "replace"), V2, ANA)
