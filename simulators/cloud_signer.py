"""The cloud's signature: JWS in compact form with Ed25519, as docs/contract.md describes it; written from there."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class BadKeyError(Exception):
    """The file holds no key to sign with; the text says what is wanted."""


class Signer:
    """Signs what one cloud sends."""

    def __init__(self, key: Ed25519PrivateKey, key_id: str) -> None:
        self.key_id = key_id
        self._key = key

    @property
    def public_key(self) -> str:
        """As it stands in the site file: raw, in base64url without padding."""
        return _b64(self._key.public_key().public_bytes_raw()).decode()

    def signed(self, content: bytes) -> bytes:
        """The message on the wire; `content` may be compressed."""
        header = json.dumps({"alg": "Ed25519", "kid": self.key_id}, separators=(",", ":")).encode()
        signing_input = _b64(header) + b"." + _b64(content)
        return signing_input + b"." + _b64(self._key.sign(signing_input))

    def impostor(self) -> Signer:
        """Somebody else, with a key of his own, who claims to be this one."""
        return new_signer(self.key_id)


def new_signer(key_id: str) -> Signer:
    """A signer with a key that nobody knows yet."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 (only where something is signed)
        Ed25519PrivateKey,
    )

    return Signer(Ed25519PrivateKey.generate(), key_id)


def read_signer(path: Path, key_id: str) -> Signer:
    """The signer of a key file: PEM (`openssl genpkey -algorithm ed25519`), or the 32 bytes of the seed in base64."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 (as above)
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 (as above)
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 (as above)

    wanted = "make one with: openssl genpkey -algorithm ed25519 -out FILE"
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadKeyError(f"{path}: {error.strerror}; {wanted}") from error
    try:
        if raw.lstrip().startswith(b"-----BEGIN"):
            key = load_pem_private_key(raw, password=None)
        else:
            text = raw.strip().translate(bytes.maketrans(b"-_", b"+/"))
            seed = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
            key = Ed25519PrivateKey.from_private_bytes(seed)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadKeyError(f"{path}: no private key that can be read ({error}); {wanted}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BadKeyError(f"{path}: holds a key of another kind than Ed25519; {wanted}")
    return Signer(key, key_id)


def content_of(payload: bytes) -> bytes:
    """What stands in a message that this cloud sent once, signed or not; its own word is not verified."""
    parts = payload.split(b".")
    if not payload.startswith(b"e") or len(parts) != 3:
        return payload
    return base64.urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4))


def _b64(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
