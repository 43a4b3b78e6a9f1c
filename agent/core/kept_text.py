"""Texts that the agent kept for itself on the disk, as JSON: read back with mistrust, for a disk garbles what it likes.

Everything here raises `ValueError` on what cannot be, and nothing else. A start must get past any text.
"""

from __future__ import annotations

import json
import math
from typing import Any

LONGEST_NUMBER = 32
"""Digits; a number of more is none that was written here."""
LATEST_UTC_S = 253_402_300_799.0
"""The end of the year 9999: later times have no date."""


def read_back(text: str) -> Any:
    """What the text says; every number in it is one that a float holds."""
    try:
        return json.loads(text, parse_constant=_no_number, parse_int=_whole, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def number(value: object) -> float:
    """The value as a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a number is wanted")  # noqa: TRY004 (one kind of error for whoever reads)
    try:
        found = float(value)
    except OverflowError as error:
        raise ValueError("a number of this size was not written here") from error
    if not math.isfinite(found):
        raise ValueError("a finite number is wanted")
    return found


def moment(value: object) -> float:
    """The value as a Unix time that has a date."""
    utc_s = number(value)
    if not 0.0 <= utc_s <= LATEST_UTC_S:
        raise ValueError("a time is wanted")
    return utc_s


def text_of(value: object) -> str:
    """The value as a text."""
    if not isinstance(value, str):
        raise ValueError("a text is wanted")  # noqa: TRY004 (one kind of error for whoever reads)
    return value


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def _whole(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError("a number of so many digits was not written here")
    return int(digits)


def _finite(digits: str) -> float:
    return number(float(digits))
