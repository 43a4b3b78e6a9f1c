"""Takes secrets out of texts: those that are known word for word, and what looks like one wherever it stands."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from urllib.parse import quote

REMOVED = "[removed]"
SHORTEST = 4
"""A known secret of fewer characters is not looked for: it would be found everywhere."""
_PATTERNS = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), REMOVED),
    # In a URL: everything before the @.
    (re.compile(r"(?<=://)[^/\s@\"']+(?=@)"), REMOVED),
    (
        re.compile(r"(?i)((?:proxy-)?authorization[\"']?\s*[:=]\s*[\"']?)(?:basic |bearer )?[^\s\"',;]+"),
        rf"\1{REMOVED}",
    ),
    (re.compile(r"(?i)(\bbearer )[A-Za-z0-9._~+/=-]+"), rf"\1{REMOVED}"),
    (
        re.compile(r"(?i)(\b(?:password|passwd|passphrase|secret|token|api[_-]?key)\b[\"']?\s*[=:]\s*)(?!\[removed\])(?:\"[^\"]*\"|'[^']*'|[^\s\"',;}]+)"),
        rf"\1{REMOVED}",
    ),
    # Header, payload and signature of a JSON Web Token.
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+"), REMOVED),
)  # fmt: skip


class Redactor:
    """Cleans texts, one after another, and counts."""

    def __init__(self, secrets: Iterable[str]) -> None:
        """`secrets` are never in a cleaned text, nor as they look in JSON, in a URL or in base64."""
        spellings = {one for secret in secrets if len(secret) >= SHORTEST for one in _spellings(secret)}
        # The longest first, so that one that holds another goes whole.
        found = "|".join(re.escape(one) for one in sorted(spellings, key=len, reverse=True))
        self._known = re.compile(found) if found else None

    def cleaned(self, text: str) -> tuple[str, int]:
        """The text without secrets, and how many were taken out."""
        text, count = self.without_known(text)
        for pattern, instead in _PATTERNS:
            text, more = pattern.subn(instead, text)
            count += more
        return text, count

    def without_known(self, text: str) -> tuple[str, int]:
        """The same for a text of our own words, in which nothing only looks like a secret."""
        return self._known.subn(REMOVED, text) if self._known is not None else (text, 0)


def user_info(text: str) -> list[str]:
    """What stands before the @ of each URL in a text, whole and in its two parts."""
    whole = re.findall(r"://([^/\s@\"']+)@", text)
    return [part for one in whole for part in (one, *one.split(":")[1:])]


def _spellings(secret: str) -> Iterable[str]:
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield quote(secret, safe="")
    yield base64.b64encode(secret.encode()).decode().rstrip("=")
