"""Who wrote a message: JWS compact signatures (RFC 7515) with Ed25519 (RFC 8037), verified before anything is read.

The one place where messages from the cloud are opened, documents, commands and watermarks alike. The broker, and
whoever else stands between the cloud and the site, can hold such a message back, but neither write nor change one.
Written out here, because a general JOSE library costs the daemon 4 MB and takes many algorithms; this takes one.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.cloud.document import printable
from agent.core.admission import Refused

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ALGORITHMS = ("Ed25519", "EdDSA")
"""Two names of one algorithm: RFC 9864 and, for older signers, RFC 8037. Keys are Ed25519, so no other can match."""
MAX_HEADER_BYTES = 512
"""Base64 of the protected header; `{"alg":"Ed25519","kid":"..."}` takes a tenth of it."""
SIGNATURE_BYTES = 64
MAX_SIGNED_BYTES = 1_400_000
"""A document of 1 MiB in base64 with its header and signature; nothing larger is even looked at."""
REASONS = ("unsigned", "bad_signature", "unknown_key")
"""Why a message is not opened; the contract explains each."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message from the cloud: as it came, and what may be read of it, or why nothing may."""

    payload: bytes
    """As it came; its hash names a message that nobody may read."""
    content: bytes | Refused
    """What the cloud wrote, still compressed if it sent it so."""


@dataclass(frozen=True, slots=True)
class KeyChange:
    """What a reload changed in a key ring; a key that is another one under the same id is in both."""

    believed: tuple[str, ...]
    """Ids that count from now on."""
    no_longer: tuple[str, ...]
    required: bool
    """Whether messages must be signed after it."""

    def __str__(self) -> str:
        parts = (("believed from now on", self.believed), ("no longer believed", self.no_longer))
        words = [f"{what}: {', '.join(ids)}" for what, ids in parts if ids]
        if not self.required:
            words.append("NO key is left: whoever may publish commands this site")
        return "; ".join(words)


class KeyRing:
    """The keys of the cloud that this site believes, by their ids. An empty ring believes everything unsigned."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """`keys` are raw Ed25519 public keys of 32 bytes; raises ValueError for what is none."""
        self._keys = _public_keys(keys)

    def replace(self, keys: Mapping[str, bytes]) -> KeyChange | None:
        """These are the keys from the next message on; None where nothing changed. ValueError changes nothing."""
        before, after = self._keys, _public_keys(keys)
        new = tuple(sorted(key_id for key_id, key in after.items() if before.get(key_id) != key))
        gone = tuple(sorted(key_id for key_id, key in before.items() if after.get(key_id) != key))
        self._keys = after
        return KeyChange(new, gone, self.required) if new or gone else None

    @property
    def required(self) -> bool:
        """True where the site takes only signed messages."""
        return bool(self._keys)

    def arrived(self, payload: bytes) -> Arrived:
        """The message as it came from the broker, opened where it may be."""
        return Arrived(payload, self.opened(payload))

    def brought(self, payload: bytes) -> Arrived:
        """A document that an operator of the site brought: it need not be signed, but a signature must hold."""
        signed = self.required and _looks_signed(payload)
        return Arrived(payload, self.opened(payload) if signed else payload)

    def opened(self, payload: bytes) -> bytes | Refused:
        """What was signed, byte for byte; or the payload itself where no signature is asked for. Never raises."""
        if not self._keys:
            return payload
        if len(payload) > MAX_SIGNED_BYTES:
            return Refused("too_large", None, f"{len(payload)} bytes; at most {MAX_SIGNED_BYTES} are taken when signed")
        if not _looks_signed(payload):
            return Refused("unsigned", None, "this site takes only messages signed as a JWS in compact form")
        signing_input, _, signature_part = payload.rpartition(b".")
        header_part, _, content_part = signing_input.partition(b".")
        key = self._key(header_part)
        if isinstance(key, Refused):
            return key
        signature, content = _decoded(signature_part), _decoded(content_part)
        if signature is None or content is None or len(signature) != SIGNATURE_BYTES:
            return Refused("bad_signature", None, "the parts of the JWS are not base64url without padding")
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 (loaded with the keys)

        try:
            key.verify(signature, signing_input)
        except InvalidSignature:
            return Refused("bad_signature", None, "the signature does not belong to this content and this key")
        return content

    def _key(self, header_part: bytes) -> Ed25519PublicKey | Refused:
        header = _header(header_part)
        if isinstance(header, Refused):
            return header
        key_id = header.get("kid")
        key = self._keys.get(key_id) if isinstance(key_id, str) else None
        if key is None:
            found = printable(key_id) if isinstance(key_id, str) else "none"
            return Refused("unknown_key", "kid", f"key id {found}; this site knows {', '.join(sorted(self._keys))}")
        return key


def _public_keys(keys: Mapping[str, bytes]) -> dict[str, Ed25519PublicKey]:
    if not keys:
        return {}
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 (6 MB: only where needed)
        Ed25519PublicKey,
    )

    return {key_id: Ed25519PublicKey.from_public_bytes(raw) for key_id, raw in keys.items()}


def _looks_signed(payload: bytes) -> bool:
    """True for what claims to be a JWS in compact form: three parts, the first of them the base64 of `{`."""
    return payload.startswith(b"e") and payload.count(b".") == 2


def _header(part: bytes) -> dict[str, Any] | Refused:
    """The protected header, if it is one that this agent may act on."""
    raw = _decoded(part) if len(part) <= MAX_HEADER_BYTES else None
    try:
        header = json.loads(raw) if raw is not None else None
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        return Refused("bad_signature", None, "the protected header cannot be read")
    if header.get("alg") not in ALGORITHMS:
        return Refused("bad_signature", "alg", f"alg must be {ALGORITHMS[0]}")
    if "crit" in header or "b64" in header:
        # RFC 7515, section 4.1.11: what a receiver does not understand and must, it has to refuse.
        return Refused("bad_signature", "crit", "no extensions of JWS are taken")
    return header


def _decoded(part: bytes) -> bytes | None:
    """The bytes behind base64url without padding; None where a part has no or no unique meaning."""
    try:
        raw = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        return None
    return raw if base64.urlsafe_b64encode(raw).rstrip(b"=") == part else None
