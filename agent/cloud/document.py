"""Bytes from the cloud, made into one JSON object or refused: sizes, compression, encoding, depth, double keys."""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass
from typing import Any

import orjson

from agent.core.admission import Refused

MAX_DOCUMENT_BYTES = 1024 * 1024
"""Before and after decompression (docs/contract.md)."""
MAX_NESTED = 10_000
"""Objects and lists in one document; a thousand awards have as many. More would only cost memory."""
NAMED_UP_TO_BYTES = 512 * 1024
"""Up to here the slower parser says what is wrong with a document; it holds up the whole process for its 15 ms."""
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_WINDOW = 8 * 1024 * 1024
_ZSTD_BITE = 64
"""Bytes at a time: three of them can stand for 128 kB, so that a bomb is noticed after 3 MB."""
_GZIP_WINDOW = 31  # zlib's largest window, with a gzip header and trailer


@dataclass(frozen=True, slots=True)
class _Refusal(Exception):  # noqa: N818 - carries a value out of the JSON parser
    refused: Refused


def decompressed(payload: bytes) -> bytes | Refused:
    """The document's bytes, at most `MAX_DOCUMENT_BYTES` of them; a bomb costs no more memory than that."""
    if len(payload) > MAX_DOCUMENT_BYTES:
        return Refused("too_large", None, f"{len(payload)} bytes; at most {MAX_DOCUMENT_BYTES} are taken")
    if payload.startswith(_ZSTD):
        return _from_zstd(payload)
    if not payload.startswith(_GZIP):
        return payload
    stream = zlib.decompressobj(_GZIP_WINDOW)
    try:
        document = stream.decompress(payload, MAX_DOCUMENT_BYTES + 1)
    except zlib.error as error:
        return Refused("bad_compression", None, f"the gzip data is damaged: {error}")
    if len(document) > MAX_DOCUMENT_BYTES:
        return Refused("too_large", None, f"more than {MAX_DOCUMENT_BYTES} bytes after decompression")
    if not stream.eof:
        return Refused("bad_compression", None, "the gzip data ends too early")
    if stream.unused_data:
        return Refused("bad_compression", None, "there is something after the end of the gzip data")
    return document


def _from_zstd(payload: bytes) -> bytes | Refused:
    """What one zstd frame holds."""
    import zstandard  # noqa: PLC0415 - only for those that use it

    too_large = Refused("too_large", None, f"more than {MAX_DOCUMENT_BYTES} bytes after decompression")
    try:
        if zstandard.frame_content_size(payload) > MAX_DOCUMENT_BYTES:
            return too_large
        stream = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
        document, fed = bytearray(), 0
        while fed < len(payload) and not stream.eof and len(document) <= MAX_DOCUMENT_BYTES:
            document += stream.decompress(payload[fed : fed + _ZSTD_BITE])
            fed += _ZSTD_BITE
    except zstandard.ZstdError as error:
        return Refused("bad_compression", None, f"the zstd data is damaged: {error}")
    if len(document) > MAX_DOCUMENT_BYTES:
        return too_large
    if not stream.eof:
        return Refused("bad_compression", None, "the zstd data ends too early")
    if stream.unused_data or fed < len(payload):
        return Refused("bad_compression", None, "there is something after the end of the zstd data")
    return bytes(document)


def json_object(document: bytes) -> dict[str, Any] | Refused:
    """The one JSON object of the document. NaN and infinities pass here: they are refused with their place later."""
    nested = document.count(b"{") + document.count(b"[")
    if nested > MAX_NESTED:
        return Refused("too_large", None, f"{nested} objects and lists; at most {MAX_NESTED} are taken")
    try:
        content = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        if len(document) > NAMED_UP_TO_BYTES:
            return Refused("not_json", None, f"{error}")
        return _named(document)
    if not isinstance(content, dict):
        return Refused("not_json", None, f"a JSON object is wanted, this is a {type(content).__name__}")
    members = len(content) if document.count(b"{") == 1 else _members(content)
    if members != document.count(b":") - sum(text.count(b":") for text in _STRING.findall(document)):
        # The parser keeps the last of two equal keys: then there are more colons than members.
        found = _named(document)
        return found if isinstance(found, Refused) else Refused("not_json", None, "a key comes twice")
    return content


def _members(content: Any) -> int:
    """How many keys all objects in it have."""
    count, waiting = 0, [content]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            count += len(found)
            found = found.values()
        waiting += [inner for inner in found if isinstance(inner, dict | list)]
    return count


def _named(document: bytes) -> dict[str, Any] | Refused:
    """The object as the slower parser reads it, which names double keys and takes NaN; or what is wrong with it."""
    try:
        content = json.loads(document.decode("utf-8"), object_pairs_hook=_without_double_keys)
    except _Refusal as refusal:
        return refusal.refused
    except UnicodeDecodeError as error:
        return Refused("not_json", None, f"byte {error.start} is not UTF-8")
    except RecursionError:
        return Refused("not_json", None, "nested too deep")
    except ValueError as error:
        return Refused("not_json", None, f"{error}")
    if not isinstance(content, dict):
        return Refused("not_json", None, f"a JSON object is wanted, this is a {type(content).__name__}")
    return content


def _without_double_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    for key in content:
        if not key.isascii() and _LONE_SURROGATE.search(key):
            raise _Refusal(Refused("not_json", printable(key), "no text: half of a surrogate pair is in this key"))
    if len(content) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Refusal(Refused("not_json", printable(key), "this key comes twice"))
            seen.add(key)
    return content


def printable(text: str, longest: int = 80) -> str:
    """The text as it can be told back: valid UTF-8, no control characters, not endless."""
    clean = "".join(c if c.isprintable() else "?" for c in text[: longest + 1])
    return clean if len(clean) <= longest else f"{clean[:longest]}..."
