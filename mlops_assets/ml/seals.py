"""Seals: who vouches for a version. A signed statement that names model, number and record, and stands for no other."""

from __future__ import annotations

from pydantic import ValidationError

from mlops_assets.ml.signing import Signature, SigningError, SigningKey, Trust
from mlops_assets.ml.spec import Value, canonical

PURPOSE = "registration"


class BrokenSealError(ValueError):
    """A version is not vouched for by anybody whose signature counts, and why."""


class Statement(Value):
    """What is signed: that this number of this model is this candidate, in the record of this SHA-256.

    The record names the digests of every file and of the golden rows, so that one signature covers them all.
    """

    model: str
    version: int
    candidate: str
    record: str


class Seal(Value):
    """A statement and its signature, as they are kept with a version."""

    statement: Statement
    signature: Signature

    def text(self) -> str:
        """The one text that stands for it."""
        return canonical(self.model_dump(mode="json"))


def seal(statement: Statement, key: SigningKey) -> str:
    """The statement, signed."""
    return Seal(statement=statement, signature=key.sign(PURPOSE, statement.model_dump(mode="json"))).text()


def voucher(text: str | None, expected: Statement, trust: Trust) -> str:
    """Who vouches for what the registry says of a version. Raises BrokenSealError where nobody does who counts."""
    if text is None:
        raise BrokenSealError("it is not signed, and keys are configured: what is unsigned is not loaded.")
    try:
        found = Seal.model_validate_json(text)
    except ValidationError as error:
        raise BrokenSealError("its signed statement cannot be read: it was changed.") from error
    if found.text() != text:
        raise BrokenSealError("its signed statement is not written as it was: it was changed.")
    said = found.statement
    try:
        person = trust.person(PURPOSE, said.model_dump(mode="json"), found.signature)
    except SigningError as error:
        raise BrokenSealError(str(error)) from error
    if (said.model, said.version) != (expected.model, expected.version):
        raise BrokenSealError(
            f"what {person} signed is {said.model} v{said.version}: it was put in the place of "
            f"{expected.model} v{expected.version}."
        )
    if said != expected:
        raise BrokenSealError(
            f"{person} signed the record {said.record}, and the registry names {expected.record}: somebody changed "
            "the registry by hand."
        )
    return person
