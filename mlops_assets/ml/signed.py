"""Entries of the ledger that a person signed: what is signed, and why what is said to be theirs does not count."""

from __future__ import annotations

from typing import Any

from mlops_assets.ml.ledger import Entry
from mlops_assets.ml.signing import Signature, SigningError, SigningKey, Trust
from mlops_assets.ml.spec import WEBSERVER

APPROVAL, WAIVER = "approval", "waiver"


def statement(entry: Entry) -> dict[str, Any]:
    """What is signed: all of the entry but its time, which the ledger gives."""
    return entry.model_dump(mode="json", exclude={"when", "key", "signature"})


def signed_by(signer: SigningKey, entry: Entry) -> Entry:
    """The entry with a signature: of the person, or of the web server on the word of the proxy before it."""
    return entry.model_copy(update=signer.sign(_purpose(entry), statement(entry)).model_dump())


def forged(entry: Entry, trust: Trust) -> str | None:
    """Why nobody knows that the entry is of the person whom it names; None where their signature shows it."""
    if entry.key is None or entry.signature is None:
        return f"{entry.who} did not sign it, and keys are configured: only what is signed counts."
    signature = Signature(key=entry.key, signature=entry.signature)
    try:
        signer = trust.person(_purpose(entry), statement(entry), signature)
    except SigningError as error:
        return str(error)
    if signer == (WEBSERVER if entry.via == "proxy" else entry.who):
        return None
    return f"it is said to be by {entry.who}, and the key {entry.key} is {signer}'s."


def _purpose(entry: Entry) -> str:
    return WAIVER if entry.kind == "waived" else APPROVAL
