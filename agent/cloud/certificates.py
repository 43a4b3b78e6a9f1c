"""How long certificates are still good: read from the files and from the chain of the broker, told in time.

Only the validity is read, from certificates that TLS itself judges; X.509 in full would cost the daemon 8 MB.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from agent.core.events import Event, EventState, Severity

DAY_S = 86_400.0
TOLD_AT_DAYS = (30.0, 7.0, 0.0)
"""Told at each: time enough to order a new certificate (a warning), time in which somebody must act, and the end."""
EVENT_CODE = "certificate_expires"
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_SEQUENCE, _CONTEXT_0, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
_LONG = 0x80


class NotACertificate(ValueError):  # noqa: N818 - named for what was found
    """The bytes are no X.509 certificate."""


@dataclass(frozen=True, slots=True)
class Validity:
    """When one certificate counts, Unix s."""

    not_before_utc_s: float
    not_after_utc_s: float


def validity(der: bytes) -> Validity:
    """When a certificate (RFC 5280, section 4.1, in DER) counts; raises `NotACertificate`."""
    try:
        certificate, _ = _element(der, _SEQUENCE)
        tbs, _ = _element(certificate, _SEQUENCE)
        if tbs[0] == _CONTEXT_0:
            _, tbs = _element(tbs)  # version
        for _ in ("serialNumber", "signature", "issuer"):
            _, tbs = _element(tbs)
        times, _ = _element(tbs, _SEQUENCE)
        not_before, times = _time(times)
        not_after, _ = _time(times)
    except (IndexError, ValueError) as error:
        raise NotACertificate("these bytes are not a certificate") from error
    return Validity(not_before, not_after)


def _element(data: bytes, tag: int | None = None) -> tuple[bytes, bytes]:
    """The content of the first DER element, and what follows it."""
    if tag is not None and data[0] != tag:
        raise NotACertificate
    length, start = data[1], 2
    if length & _LONG:
        count = length & ~_LONG
        length, start = int.from_bytes(data[2 : 2 + count], "big"), 2 + count
    if start + length > len(data):
        raise NotACertificate
    return data[start : start + length], data[start + length :]


def _time(data: bytes) -> tuple[float, bytes]:
    """The Unix time of the first element, and what follows it."""
    tag = data[0]
    content, rest = _element(data)
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        # Two digits of the year: 50 to 99 are of the last century (RFC 5280, section 4.1.2.5.1).
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise NotACertificate
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp(), rest


def in_pem(text: str) -> list[bytes]:
    """The certificates of a PEM file in DER, in their order; raises `NotACertificate` for one that is damaged."""
    blocks = [_BEGIN + part.split(_END)[0] + _END for part in text.split(_BEGIN)[1:]]
    try:
        return [ssl.PEM_cert_to_DER_cert(block) for block in blocks]
    except ValueError as error:
        raise NotACertificate(f"a certificate in it is damaged: {error}") from error


def first_to_end(chain: Iterable[bytes]) -> float | None:
    """When the first certificate of a chain ends: it is no better than that. None without certificates."""
    return min((validity(der).not_after_utc_s for der in chain), default=None)


def last_to_end(bundle: Iterable[bytes]) -> float | None:
    """When the last certificate of a bundle of CAs ends: old ones may stay in it. None without certificates."""
    return max((validity(der).not_after_utc_s for der in bundle), default=None)


@dataclass(frozen=True, slots=True)
class Expiry:
    """When something that the connection needs ends."""

    subject: str
    """`site certificate`, `CA certificate`, `broker's certificate`."""
    not_after_utc_s: float
    what_to_do: str

    def days_left(self, utc_s: float) -> float:
        """Negative once it has ended."""
        return (self.not_after_utc_s - utc_s) / DAY_S


class ExpiryWatch:
    """Tells once when a certificate comes near its end, again when it comes close, and when it was replaced."""

    def __init__(self) -> None:
        self._levels: Mapping[str, int] = {}

    def events(self, expiries: Iterable[Expiry], utc_s: float) -> list[Event]:
        """What changed since the last look."""
        before, now = self._levels, dict[str, int]()
        told: list[Event] = []
        for expiry in expiries:
            days = expiry.days_left(utc_s)
            level = sum(days <= limit for limit in TOLD_AT_DAYS)
            if level == 0:
                continue
            now[expiry.subject] = level
            if before.get(expiry.subject) != level:
                severity = Severity.WARNING if level == 1 else Severity.ALARM
                when = "has ended" if days <= 0 else f"ends in {days:.0f} days"
                day = datetime.fromtimestamp(expiry.not_after_utc_s, UTC).date().isoformat()
                text = f"the {expiry.subject} {when} ({day}): without it no connection comes about; {expiry.what_to_do}"
                data = {"days_left": round(days, 1)}
                told.append(Event(utc_s, EventState.RAISED, severity, EVENT_CODE, expiry.subject, text, data))
        for subject in sorted(before.keys() - now.keys()):
            text = f"the {subject} was replaced"
            told.append(Event(utc_s, EventState.CLEARED, Severity.INFO, EVENT_CODE, subject, text))
        self._levels = now
        return told
