"""Ed25519 signatures over canonical text: who signed what. A key is named by its fingerprint, and never shown.

A fingerprint is the one that `ssh-keygen -l` prints. What is signed begins with its purpose, so that a signature of
one kind of statement is none of another.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mlops_assets.ml.spec import Value, canonical

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

REVOKED = "@revoked"
SSH = "ssh-ed25519"
PEM = "-----BEGIN "
RAW_BYTES = 32


class SigningError(ValueError):
    """A key cannot be used, or a signature does not hold. Says which key by file or fingerprint."""


class UnknownKeyError(SigningError):
    """A signature is by a key that nobody is known to have."""


class RevokedKeyError(SigningError):
    """A signature is by a key that was taken back."""


class ForgedSignatureError(SigningError):
    """A signature is not of this statement by this key."""


class PublicKey(Value):
    """An Ed25519 public key: 32 bytes, in base64."""

    raw: str

    @cached_property
    def fingerprint(self) -> str:
        """The name of the key, as `ssh-keygen -l` prints it."""
        kind, raw = SSH.encode(), base64.b64decode(self.raw)
        wire = b"".join(len(part).to_bytes(4, "big") + part for part in (kind, raw))
        return "SHA256:" + base64.b64encode(hashlib.sha256(wire).digest()).decode().rstrip("=")


class Signature(Value):
    """A signature in base64, and the fingerprint of the key that made it."""

    key: str
    signature: str


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 private key. What is shown of it is its fingerprint."""

    secret: Ed25519PrivateKey = field(repr=False, compare=False)
    public: PublicKey

    @property
    def fingerprint(self) -> str:
        """The name of the key."""
        return self.public.fingerprint

    def sign(self, purpose: str, statement: Any) -> Signature:
        """The signature of anything JSON can hold, for one purpose."""
        made = self.secret.sign(_message(purpose, statement))
        return Signature(key=self.fingerprint, signature=base64.b64encode(made).decode())


class TrustedKey(Value):
    """Whose key it is, and whether it was taken back."""

    person: str
    key: PublicKey
    revoked: bool = False


class Trust(Value):
    """Whose signatures count. A key that was taken back anywhere counts nowhere."""

    keys: tuple[TrustedKey, ...] = ()

    def person(self, purpose: str, statement: Any, signature: Signature) -> str:
        """Who signed a statement. Raises a SigningError where nobody did whose signature counts."""
        held = [each for each in self.keys if each.key.fingerprint == signature.key]
        if not held:
            raise UnknownKeyError(f"the key {signature.key} is nobody's: it is not among the {len(self.keys)} trusted.")
        if any(each.revoked for each in held):
            raise RevokedKeyError(f"the key {signature.key} of {held[0].person} was revoked.")
        if len({each.person for each in held}) > 1:
            people = ", ".join(sorted({each.person for each in held}))
            raise UnknownKeyError(f"the key {signature.key} stands for {people}: it is of one person, or of nobody.")
        verify(held[0].key, purpose, statement, signature)
        return held[0].person

    def owner(self, fingerprint: str) -> str | None:
        """Whose key it is, None where it is nobody's."""
        return next((each.person for each in self.keys if each.key.fingerprint == fingerprint), None)


def verify(key: PublicKey, purpose: str, statement: Any, signature: Signature) -> None:
    """Raises ForgedSignatureError unless the signature is of this statement, for this purpose, by this key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.raw))
    try:
        made = base64.b64decode(signature.signature, validate=True)
        if base64.b64encode(made).decode() != signature.signature:
            raise ValueError("the last letter of base64 has bits that say nothing, and they were changed")
        public.verify(made, _message(purpose, statement))
    except (InvalidSignature, binascii.Error, ValueError) as error:
        raise ForgedSignatureError(
            f"the signature is not of this {purpose} by the key {key.fingerprint}: one of them was changed."
        ) from error


def read_signing_key(content: bytes, named: str) -> SigningKey:
    """A private key from PEM or OpenSSH text without a passphrase. `named` says in errors which it was."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    load = serialization.load_pem_private_key
    if b"OPENSSH PRIVATE KEY" in content:
        load = serialization.load_ssh_private_key
    try:
        secret = load(content, password=None)
    except TypeError:
        raise SigningError(f"{named} has a passphrase. Take it off (ssh-keygen -p), or name a key without.") from None
    except (ValueError, UnsupportedAlgorithm):
        raise SigningError(f"{named} holds no private key in PEM or OpenSSH text.") from None
    if not isinstance(secret, Ed25519PrivateKey):
        raise SigningError(f"{named} is no Ed25519 key. Make one: ssh-keygen -t ed25519 -N '' -f <file>.")
    return SigningKey(secret, PublicKey(raw=base64.b64encode(secret.public_key().public_bytes_raw()).decode()))


def read_public_keys(text: str, person: str, named: str, *, revoked: bool = False) -> tuple[TrustedKey, ...]:
    """A person's public keys: OpenSSH, one a line, or one in PEM. Lines that begin with @revoked are taken back."""
    if PEM in text:
        return (TrustedKey(person=person, key=_from_pem(text, named), revoked=revoked),)
    return tuple(
        TrustedKey(
            person=person,
            key=_from_ssh(line.removeprefix(REVOKED).split(), f"{named}:{number}"),
            revoked=revoked or line.startswith(REVOKED),
        )
        for number, line in _lines(text)
    )


def read_people(text: str, named: str) -> tuple[TrustedKey, ...]:
    """The keys of many: a line `person ssh-ed25519 ...` each, after @revoked where it was taken back."""
    found = []
    for number, line in _lines(text):
        person, *words = line.removeprefix(REVOKED).split() or [""]
        key = _from_ssh(words, f"{named}:{number}")
        found.append(TrustedKey(person=person, key=key, revoked=line.startswith(REVOKED)))
    return tuple(found)


def _lines(text: str) -> Iterable[tuple[int, str]]:
    """The lines that say something, with their numbers."""
    stripped = ((number, line.strip()) for number, line in enumerate(text.splitlines(), start=1))
    return [(number, line) for number, line in stripped if line and not line.startswith("#")]


def _from_ssh(words: list[str], named: str) -> PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        loaded = serialization.load_ssh_public_key(" ".join(words[:2]).encode())
    except (ValueError, UnsupportedAlgorithm):
        raise SigningError(f"{named} is no public key such as `{SSH} ...`.") from None
    return _of_ed25519(loaded, named)


def _from_pem(text: str, named: str) -> PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        loaded = serialization.load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise SigningError(f"{named} holds no public key in PEM text.") from None
    return _of_ed25519(loaded, named)


def _of_ed25519(loaded: object, named: str) -> PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if not isinstance(loaded, Ed25519PublicKey):
        raise SigningError(f"{named} is no Ed25519 key.")
    return PublicKey(raw=base64.b64encode(loaded.public_bytes_raw()).decode())


def _message(purpose: str, statement: Any) -> bytes:
    """The bytes that are signed."""
    return f"mlops_assets {purpose} 1\n{canonical(statement)}".encode()
