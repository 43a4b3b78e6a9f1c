"""The keys of the cloud that a site believes, as the site file states them."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from pydantic import Field, field_validator

from agent.site_file.section import Section

MOST_KEYS = 4
"""Two are active while one replaces the other; two more leave room for a key kept for emergencies."""
RAW_BYTES = 32
DER_PREFIX = bytes.fromhex("302a300506032b6570032100")
"""What stands before the raw key in a PEM file of an Ed25519 public key (RFC 8410, section 4)."""


class SigningKeySection(Section):
    """One public key with which the cloud signs."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    public_key: str

    @field_validator("public_key")
    @classmethod
    def _a_key(cls, text: str) -> str:
        raw_key(text)
        return text

    @property
    def raw(self) -> bytes:
        """The 32 bytes of the key."""
        return raw_key(self.public_key)


def raw_key(text: str) -> bytes:
    """The 32 bytes of an Ed25519 public key in base64, raw or as the body of its PEM file; ValueError with words."""
    what = "an Ed25519 public key in base64 is wanted: 43 characters, or the one line inside its PEM file"
    try:
        raw = base64.b64decode(text.translate(str.maketrans("-_", "+/")) + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{what} ({error})") from error
    raw = raw.removeprefix(DER_PREFIX)
    if len(raw) != RAW_BYTES:
        raise ValueError(f"{what}; this is {len(raw)} bytes")
    if raw[1:] == bytes(RAW_BYTES - 1):
        # Points of small order: a signature that anybody can make would hold.
        raise ValueError("this is a placeholder, not a key: ask the cloud operator for the public key")
    return raw
